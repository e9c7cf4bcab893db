#: must: nothing can be made outside of the workspace, the home, /tmp and /dev/shm
#: must not: change the system trees, the drivers, the code of cells or the shelf
from attack import *

errors = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT)
for d in "/ /usr /usr/bin /usr/local /bin /lib /etc /etc/ssl /dev /var /home /proc /sys /run /kernels /kernels/python /spool /spool/code /artifacts /opt /srv /mnt".split():
    refused("create in " + d, lambda: os.open(d + "/made", os.O_CREAT | os.O_WRONLY), errors=errors)
    refused("mkdir in " + d, os.mkdir, d + "/madedir", errors=errors)
for f in "/usr/bin/id /bin/bash /etc/passwd /etc/hosts /etc/nsswitch.conf /usr/lib/os-release /proc/1/comm".split():
    refused("write " + f, os.open, f, os.O_WRONLY, errors=errors + (errno.ETXTBSY,))
    refused("unlink " + f, os.unlink, f, errors=errors + (errno.EBUSY,))
    refused("chmod " + f, os.chmod, f, 0o777, errors=errors)
    refused("truncate " + f, os.truncate, f, 0, errors=errors + (errno.ETXTBSY,))
for root, dirs, files in os.walk("/kernels"):
    for f in files[:3]:
        refused(f"write {root}/{f}", os.open, os.path.join(root, f), os.O_WRONLY, errors=errors)
refused("rename the workspace", os.rename, "/workspace", "/w")
refused("rename the home", os.rename, "/home/user", "/home/u")
for d in ("/workspace", "/home/user", "/tmp", "/dev/shm"):
    open(d + "/.made", "w").close()
    os.unlink(d + "/.made")
    ok(d + " can be written")
