#: must: no socket of the host is reached, neither by an abstract name nor by a path
#: must not: come to a listener of the host
from attack import *
import socket


def connect(address, kind=socket.SOCK_STREAM):
    with socket.socket(socket.AF_UNIX, kind) as s:
        s.connect(address)
        return s.recv(100)


for name in [canary["name"], "/tmp/.X11-unix/X0", "/containerd-shim/", "/org/kernel/udev/udevd"]:
    refused("abstract " + name, connect, "\0" + name)
for path in ["/tmp/" + canary["name"] + ".sock", "/run/dbus/system_bus_socket", "/var/run/docker.sock", "/run/docker.sock", "/tmp/.X11-unix/X0",
             "/run/user/0/bus", "/run/user/1000/bus", "/run/systemd/private", "/run/systemd/notify", "/run/containerd/containerd.sock", "/dev/log"]:
    refused(path, connect, path)
for name in ("SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "XDG_RUNTIME_DIR", "NOTIFY_SOCKET"):
    check(name not in os.environ, f"no {name}")
check(len(read("/proc/net/unix").splitlines()) <= 3, "/proc/net/unix is its own")
mine = socket.socket(socket.AF_UNIX)
mine.bind("\0own")
mine.listen()
s = socket.socket(socket.AF_UNIX)
s.connect("\0own")
ok("own abstract sockets work")
