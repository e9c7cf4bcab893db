#: must: 300 levels and a crowd of names can be deleted with rm -r
#: must not: leave anything
#: remove: rm
from attack import *

top = os.open(".", os.O_RDONLY)
for i in range(300):
    os.mkdir("d" * 8)
    os.chdir("d" * 8)
os.fchdir(top)
os.mkdir("many")
for i in range(2000):
    open(f"many/{i}", "w").close()
ok("made")
