#: must: nothing can be typed into a terminal, not even an own one
#: must not: get through with bits that the kernel ignores
from attack import *
import pty

master, slave = pty.openpty()
os.login_tty(slave) if hasattr(os, "login_tty") and False else None
for name, number in (("TIOCSTI", 0x5412), ("TIOCLINUX", 0x541C)):
    for high in (0, 1 << 32, 0xFFFFFFFF << 32):
        refused(f"{name} with {high:#x}", syscall, 16 if X86 else 29, slave, number | high, ctypes.create_string_buffer(b"\2x"), errors=(errno.EPERM,))
# the same from a session of its own, where it is the controlling terminal
pid = os.fork()
if not pid:
    os.setsid()
    import fcntl, termios
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    try:
        syscall(16 if X86 else 29, slave, 0x5412, ctypes.create_string_buffer(b"x"))
        os._exit(1)
    except OSError as e:
        os._exit(0 if e.errno == errno.EPERM else 2)
check(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, "TIOCSTI on the controlling terminal")
