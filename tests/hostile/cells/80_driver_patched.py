#: must: a driver whose own code was replaced harms its kernel alone
#: must not: harm the daemon or another kernel
#: config: timeout=5
#: status: (killed|timeout|ok|error)\b.*
#: within: 12
#: next: any
from attack import *
import gc

ok("begun")
gc.unfreeze()
for o in gc.get_objects():
    if type(o).__name__ == "Wire":
        o.__class__._write = lambda self, line: os.write(self._events, b"]}garbage" + line[::-1] + b"\n")
