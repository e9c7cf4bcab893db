#: must: system calls that open the kernel or other processes are refused with EPERM or ENOSYS
#: must not: succeed, not even with empty arguments
from attack import *

CALLS = {  # x86-64: (number, arguments); all of them would at most fail with another error if they got through
    "ptrace": (101, 0, 0, 0, 0), "syslog": (103, 3, 0, 0), "acct": (163, 0), "swapon": (167, b"/tmp/x", 0), "swapoff": (168, b"/tmp/x"),
    "reboot": (169, 0, 0, 0), "sethostname": (170, b"x", 1), "setdomainname": (171, b"x", 1), "iopl": (172, 3), "ioperm": (173, 0, 1, 1),
    "init_module": (175, 0, 0, b""), "delete_module": (176, b"x", 0), "quotactl": (179, 0, 0, 0, 0), "vhangup": (153,),
    "modify_ldt": (154, 0, 0, 0), "lookup_dcookie": (212, 0, 0, 0), "mbind": (237, 0, 0, 0, 0, 0, 0), "set_mempolicy": (238, 0, 0, 0),
    "kexec_load": (246, 0, 0, 0, 0), "add_key": (248, b"user", b"x", b"y", 1, -3), "request_key": (249, b"user", b"x", 0, -3),
    "keyctl": (250, 0, -3, 0, 0, 0), "migrate_pages": (256, 0, 0, 0, 0), "move_pages": (279, 0, 0, 0, 0, 0, 0), "perf_event_open": (298, 0, 0, -1, -1, 0),
    "fanotify_init": (300, 0, 0), "name_to_handle_at": (303, -100, b"/", 0, 0, 0), "open_by_handle_at": (304, -100, 0, 0),
    "process_vm_readv": (310, 1, 0, 0, 0, 0, 0), "process_vm_writev": (311, 1, 0, 0, 0, 0, 0), "kcmp": (312, 1, 1, 0, 0, 0),
    "finit_module": (313, 0, b"", 0), "kexec_file_load": (320, 0, 0, 0, b"", 0), "bpf": (321, 0, 0, 0), "userfaultfd": (323, 0),
    "io_uring_setup": (425, 8, 0), "io_uring_enter": (426, 0, 0, 0, 0, 0, 0), "io_uring_register": (427, 0, 0, 0, 0), "pidfd_getfd": (438, 0, 0, 0),
    "process_madvise": (440, 0, 0, 0, 0, 0), "quotactl_fd": (443, 0, 0, 0, 0), "memfd_secret": (447, 0), "process_mrelease": (448, 0, 0),
    "nfsservctl": (180, 0, 0, 0), "settimeofday": (164, 0, 0), "clock_settime": (227, 0, 0), "adjtimex": (159, 0), "clock_adjtime": (305, 0, 0),
    "one of tomorrow": (799,),
}
if not X86:
    CALLS = {"keyctl": (219, 0, -3, 0, 0, 0), "bpf": (280, 0, 0, 0), "perf_event_open": (241, 0, 0, -1, -1, 0), "io_uring_setup": (425, 8, 0)}
for name, args in CALLS.items():
    refused(name, syscall, *args, errors=(errno.EPERM, errno.ENOSYS))
check(syscall(135, 0xFFFFFFFF) >= 0 if X86 else True, "personality can be asked")
refused("personality ADDR_NO_RANDOMIZE|READ_IMPLIES_EXEC", syscall, 135 if X86 else 92, 0x0400000 | 0x40000, errors=(errno.EPERM, errno.ENOSYS))
status = read("/proc/self/status").decode()
for line in ("CapInh:\t0000000000000000", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000",
             "CapAmb:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
    check(line in status, line)
