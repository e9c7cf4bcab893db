#: must: a tree with every kind of file and name is listed or left out by rule, never followed, and can be deleted
#: must not: hang, fool or outlive the daemon
#: hidden: tree/symlink tree/fifo tree/socket
#: after: walked
#: remove: rm
from attack import *
import socket, stat

os.mkdir("tree")
os.chdir("tree")
for name in (b"new\nline", b"-rf", b"*", b" ", b"a" * 255, b"\xff\xfe\x80", b"\x01\x1b[31mred", "ünï".encode(), b"back\\slash", b"'\"`$(id)", b"..."):
    with open(name, "w") as f:
        f.write("x")
    os.mkdir(b"d" + name[:250])
os.symlink("/etc/shadow", "symlink")
os.mkfifo("fifo")
s = socket.socket(socket.AF_UNIX)
s.bind("socket")
open("setuid", "w").close()
os.chmod("setuid", 0o6777)
open("none", "w").close()
os.chmod("none", 0)
os.mkdir("closed")
open("closed/inside", "w").close()
os.chmod("closed", 0)
os.mkdir("sticky")
os.chmod("sticky", 0o1777)
with open("sparse", "wb") as f:
    os.truncate("sparse", 1 << 30)
os.link("setuid", "hardlink")
os.setxattr("setuid", "user.evil", b"x" * 1000)
os.chdir("/workspace")
ok("the tree stands")
