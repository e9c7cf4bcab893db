#: must: nothing of the network is reached, neither the host's loopback nor beyond; the own loopback works
#: must not: come to a listener of the host (its visits are counted)
#: within: 20
from attack import *
import socket, threading


def tcp(address, port, family=socket.AF_INET, seconds=1):
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.settimeout(seconds)
        s.connect((address, port))
        return s.recv(100)


refused("host's loopback", tcp, "127.0.0.1", canary["tcp4"])
if canary["tcp6"]:
    refused("host's loopback v6", tcp, "::1", canary["tcp6"], socket.AF_INET6)
for address in canary["addresses"] + ["169.254.169.254", "8.8.8.8", "1.1.1.1", "10.0.0.1", "172.17.0.1", "192.168.0.1"]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for port in (canary["tcp4"], 80, 22):
        refused(f"tcp {address}:{port}", tcp, address, port, family)
for address in ("8.8.8.8", "169.254.169.254", "224.0.0.1", "255.255.255.255"):
    def udp():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            return s.sendto(b"x", (address, 53))
    refused(f"udp {address}", udp)
refused("DNS", lambda: socket.getaddrinfo("example.com", 80))
F = socket
for name, args in {"raw": (F.AF_INET, F.SOCK_RAW, 1), "packet": (17, F.SOCK_RAW, 0x300), "packet dgram": (17, F.SOCK_DGRAM, 0x300), "vsock": (40, F.SOCK_STREAM),
                   "alg": (38, F.SOCK_SEQPACKET), "netfilter": (16, F.SOCK_RAW, 12), "audit": (16, F.SOCK_RAW, 9), "uevent": (16, F.SOCK_RAW, 15),
                   "generic netlink": (16, F.SOCK_RAW, 16), "bluetooth": (31, F.SOCK_RAW, 1), "can": (29, F.SOCK_RAW, 1), "xdp": (44, F.SOCK_RAW, 0),
                   "tipc": (30, F.SOCK_STREAM, 0), "rds": (21, 5, 0), "kcm": (41, 2, 0), "x25": (9, 5, 0), "ax25": (3, 2, 0), "smc": (43, 1, 0), "mptcp raw": (F.AF_INET6, F.SOCK_RAW, 58)}.items():
    refused("socket " + name, lambda: F.socket(*args))
refused("socketpair inet", lambda: syscall(53 if X86 else 199, 2, 1, 0, ctypes.create_string_buffer(8)))
for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    with socket.create_server((address, 0), family=family) as server:
        t = threading.Thread(target=lambda: server.accept()[0].sendall(b"hello"))
        t.start()
        check(tcp(address, server.getsockname()[1], family, 15) == b"hello", f"own loopback {address}")
        t.join()
routes = [r.split() for r in read("/proc/net/route").decode().splitlines()[1:]]
check(all(int(r[3], 16) & 0x200 for r in routes), f"no route but such as refuse: {routes}")
refused("bring up an interface", lambda: __import__("fcntl").ioctl(socket.socket(), 0x8914, b"eth0" + bytes(36)))
