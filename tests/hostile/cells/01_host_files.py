#: must: files of the host cannot be opened, by root's cells or by a user's
#: must not: give a byte of a secret, or the host's accounts
from attack import *

for path in canary["files"] + canary["dirs"]:
    if path not in ("/home",):
        refused("read " + path, lambda: os.listdir(path) if os.path.isdir(path) else read(path), errors=(errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR))
check(os.listdir("/home") == ["user"], f"/home: {os.listdir('/home')}")
for path in """/etc/shadow /etc/gshadow /etc/shadow- /etc/ssh /etc/sudoers /etc/machine-id /etc/crontab /root/.ssh /root/.bashrc
        /run/systemd /run/docker.sock /run/dbus /var/log /var/run/docker.sock /boot /sys/kernel /sys/fs /sys/class /dev/mem /dev/kmem
        /dev/port /dev/vda /dev/sda /dev/nvme0n1 /dev/fuse /dev/kvm /dev/kmsg /dev/loop-control /dev/mapper /dev/vsock /dev/net/tun
        /dev/userfaultfd /dev/vhost-net""".split():
    forbidden(path)
for path in "/proc/kcore /proc/kmsg /proc/kpagecount /proc/kpageflags /proc/vmallocinfo /proc/1/environ /proc/1/maps".split():
    forbidden(path)
try:
    lines = read("/proc/kallsyms").splitlines()[:1000]
    check(all(int(l.split()[0], 16) == 0 for l in lines[:-1]), "/proc/kallsyms has no addresses")
except OSError as e:
    ok(f"/proc/kallsyms: {e}")
names = [l.split(b":")[0] for l in read("/etc/passwd").splitlines()]
check(set(names) <= {b"user", b"root", b"nobody"}, f"/etc/passwd is not the host's: {names[:5]}")
check(not any(os.access(p, os.W_OK) for p in ("/etc", "/usr", "/", "/etc/passwd")), "nothing of the system can be written")
