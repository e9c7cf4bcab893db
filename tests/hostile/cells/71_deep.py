#: must: 10,000 levels of directories can be deleted
#: must not: overflow the daemon
#: within: 30
#: after: listed
from attack import *

top = os.open(".", os.O_RDONLY)
os.mkdir("deep")
os.chdir("deep")
for i in range(10000):
    os.mkdir("d" * 20)
    os.chdir("d" * 20)
os.fchdir(top)
ok("10,000 levels")
