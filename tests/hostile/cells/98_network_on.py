#: must: with network=on the outside is there as from any machine, and the host's own services are not
#: must not: reach the host's loopback by any address, its abstract sockets, or its files
#: config: network=on
#: needs: pasta
#: within: 30
from attack import *
import socket, struct


def tcp(address, port, family=socket.AF_INET):
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.settimeout(0.7)
        s.connect((address, port))
        return s.recv(100)


routes = [l.split() for l in read("/proc/net/route").decode().splitlines()[1:]]
print(routes)
gateways = {socket.inet_ntoa(struct.pack("<I", int(r[2], 16))) for r in routes if r[2] != "00000000"}
for address in {"127.0.0.1", "127.0.0.2", "0.0.0.0", "10.0.2.2", "10.0.2.3", "10.0.2.100", "169.254.1.1", "169.254.169.254", "localhost"} | gateways:
    refused(f"host's loopback by {address}", tcp, address, canary["tcp4"])
for address in ["::1", "::", "::ffff:127.0.0.1"]:
    for port in (canary["tcp6"], canary["tcp4"]):
        if port:
            refused(f"host's loopback by {address}:{port}", tcp, address, port, socket.AF_INET6)
for line in read("/proc/net/ipv6_route").decode().splitlines():
    gate = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line.split()[4]))
    if gate != "::" and canary["tcp6"]:
        refused(f"host's loopback by {gate}", tcp, gate, canary["tcp6"], socket.AF_INET6)
for address in canary["addresses"]:
    # What listens on the loopback alone does not answer at the host's other addresses either.
    refused(f"host's loopback by {address}", tcp, address, canary["tcp4"], socket.AF_INET6 if ":" in address else socket.AF_INET)


def abstract():
    with socket.socket(socket.AF_UNIX) as s:
        s.connect("\0" + canary["name"])


refused("abstract socket", abstract)
for name, args in {"raw": (socket.AF_INET, socket.SOCK_RAW, 1), "packet": (17, socket.SOCK_RAW, 0x300), "vsock": (40, socket.SOCK_STREAM)}.items():
    refused("socket " + name, lambda: socket.socket(*args))
refused("raise an interface", lambda: __import__("fcntl").ioctl(socket.socket(), 0x8914, b"lo" + bytes(38)))
