#: must: no program and no call gives more rights
#: must not: become another user, on the inside or outside
from attack import *
import subprocess

for name, fn, args in (("setuid 0", os.setuid, (0,)), ("setresuid 0", os.setresuid, (0, 0, 0)), ("setgid 0", os.setgid, (0,)), ("setgroups", os.setgroups, ([0],)),
                       ("setuid 65534", os.setuid, (65534,)), ("chown to 0", os.chown, ("/workspace", 0, 0)), ("chown to 1", os.chown, ("/workspace", 1, 1))):
    refused(name, fn, *args)
check(os.getresuid() == (1000,) * 3, f"uid {os.getresuid()}")
check(os.getresgid() == (1000,) * 3, f"gid {os.getresgid()}")
open("f", "w").close()
os.chmod("f", 0o4755)
for name in ("security.capability", "trusted.x"):
    refused("setxattr " + name, os.setxattr, "f", name, b"\1\0\0\2" + bytes(16))
refused("capset", lambda: syscall(126 if X86 else 91, ctypes.create_string_buffer(b"\x22\x05\x08\x20" + bytes(4)), ctypes.create_string_buffer(b"\xff" * 24)))
for argv in (["su", "-c", "id"], ["sudo", "-n", "id"], ["unshare", "-Ur", "id"], ["unshare", "-m", "id"], ["mount", "-t", "tmpfs", "x", "/tmp"], ["nsenter", "-t", "1", "-a", "id"],
             ["newgrp", "root"], ["chroot", "/tmp", "id"], ["fusermount3", "-u", "/workspace"], ["setpriv", "--reuid", "0", "id"], ["ping", "-c1", "-W1", "8.8.8.8"]):
    try:
        got = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=5)
        check(got.returncode != 0 and b"uid=0" not in got.stdout, f"{' '.join(argv)}: {got.returncode} {(got.stderr or got.stdout)[:60]}")
    except (FileNotFoundError, PermissionError) as e:
        ok(f"{argv[0]}: {e.strerror}")
import shutil
shutil.copy("/usr/bin/id", "suid-id")
os.chmod("suid-id", 0o6755)
out = subprocess.run(["./suid-id", "-u"], capture_output=True, text=True).stdout
check(out == "1000\n", f"a setuid copy runs as {out.strip()}")
