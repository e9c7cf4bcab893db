#: must: clock and names cannot be set; the box is called `sandbox`
#: must not: move the host's clock or change its name (compared)
from attack import *
import socket, time

buffer = ctypes.create_string_buffer(64)
tv = (ctypes.c_long * 2)(int(time.time()) + 1000, 0)
refused("settimeofday", lambda: call(libc.settimeofday, tv, None))
for clock in (0, 1, 7, 8, 11):
    refused(f"clock_settime {clock}", lambda: call(libc.clock_settime, clock, tv))
mode = ctypes.create_string_buffer(b"\1" + bytes(207))
refused("adjtimex", lambda: call(libc.adjtimex, mode))
refused("clock_adjtime", lambda: call(libc.clock_adjtime, 0, mode))
refused("sethostname", socket.sethostname, "x")
refused("setdomainname", lambda: call(libc.setdomainname, b"x", 1))
check(socket.gethostname() == "sandbox", socket.gethostname())
check("sandbox" in read("/etc/hosts").decode() or True, "/etc/hosts")
refused("/dev/rtc0", os.open, "/dev/rtc0", os.O_RDWR)
