#: must: a cell that asks for input gets an error or an end of file at once
#: must not: hang
#: within: 5
from attack import *

try:
    input("? ")
    leak("input() answered")
except (EOFError, RuntimeError, OSError) as e:
    ok(f"input(): {type(e).__name__}")
check(sys.stdin.read() == "" if sys.stdin else True, "sys.stdin.read() is empty")
check(os.read(0, 10) == b"", "fd 0 is at its end")
import subprocess
check(subprocess.run(["cat"], capture_output=True).stdout == b"", "cat has nothing to read")
refused("/dev/tty", os.open, "/dev/tty", os.O_RDWR)
