#: must: a default ACL of the workspace harms nobody but its context, which can be deleted
#: must not: lock out the daemon
#: next: any
#: after: upload
#: remove: rm
from attack import *
import struct

def acl(*entries):
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)

nothing = acl((1, 0, 0xFFFFFFFF), (4, 0, 0xFFFFFFFF), (16, 0, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF))
for path in ("/workspace", "/home/user"):
    for name in ("system.posix_acl_default", "system.posix_acl_access"):
        try:
            os.setxattr(path, name, nothing if name.endswith("default") else acl((1, 7, 0xFFFFFFFF), (4, 7, 0xFFFFFFFF), (16, 7, 0xFFFFFFFF), (32, 7, 0xFFFFFFFF)))
            ok(f"{name} of {path} is set")
        except OSError as e:
            ok(f"{name} of {path}: {e.strerror}")
for name in ("made", "made2"):
    os.mkdir(name)
    open(name + "/f", "w").close() if os.access(name, os.W_OK) else ok("own directories are closed")
