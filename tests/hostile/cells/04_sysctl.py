#: must: no setting of the kernel can be opened for writing
#: must not: change one (compared on the host)
from attack import *

for name in """kernel/core_pattern kernel/hostname kernel/domainname kernel/modprobe kernel/hotplug kernel/randomize_va_space kernel/sysrq
        kernel/pid_max kernel/yama/ptrace_scope kernel/unprivileged_bpf_disabled kernel/shmmax kernel/sem kernel/msgmax
        vm/drop_caches vm/swappiness vm/overcommit_memory vm/panic_on_oom fs/suid_dumpable fs/binfmt_misc/register
        fs/mqueue/queues_max fs/pipe-max-size net/ipv4/ip_forward net/ipv4/ip_unprivileged_port_start net/ipv4/ping_group_range
        user/max_user_namespaces user/max_inotify_instances user/max_mnt_namespaces""".split():
    refused("write " + name, os.open, "/proc/sys/" + name, os.O_WRONLY, errors=(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT))
for path in ("/proc/sysrq-trigger", "/proc/irq/1/smp_affinity", "/proc/irq/default_smp_affinity", "/proc/kcore", "/proc/1/oom_score_adj",
             "/proc/1/mem", "/proc/scsi/scsi", "/proc/mtrr", "/proc/timer_list", "/proc/sys/kernel/core_pattern"):
    refused("write " + path, os.open, path, os.O_RDWR)
refused("write kernel/ns_last_pid", lambda: write("/proc/sys/kernel/ns_last_pid", read("/proc/sys/kernel/ns_last_pid")))
for path in ("uid_map", "gid_map", "setgroups"):  # projid_map is anybody's, and does nothing in a namespace: see 24
    refused("write " + path, write, "/proc/self/" + path, b"0 0 1\n")
refused("lower oom_score_adj", write, "/proc/self/oom_score_adj", b"-1000")
