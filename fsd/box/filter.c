#include "filter.h"

#include <errno.h>
#include <linux/netlink.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#ifndef TIOCLINUX
#define TIOCLINUX 0x541C
#endif

/* What is not named in this file is ENOSYS: programs take that for an old kernel and fall back. So
 * clone3 (its flags are in memory, out of sight), the new mount calls, io_uring, memfd_secret and
 * all that is yet to come are left out on purpose. With EPERM for clone3 no thread starts. */
static const char allowed[] =
	/* memory */
	"brk mmap munmap mremap mprotect madvise mincore msync mlock mlock2 mlockall munlock "
	"munlockall membarrier memfd_create pkey_alloc pkey_free pkey_mprotect "
	/* files by descriptor */
	"read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek close "
	"close_range dup dup2 dup3 fcntl flock ioctl fsync fdatasync syncfs sync_file_range "
	"sync_file_range2 fallocate fadvise64 readahead ftruncate sendfile copy_file_range "
	"splice tee pipe pipe2 getdents getdents64 "
	/* files by name */
	"open openat openat2 creat access faccessat faccessat2 stat lstat fstat newfstatat "
	"statx statfs fstatfs readlink readlinkat getcwd chdir fchdir mkdir mkdirat rmdir "
	"unlink unlinkat rename renameat renameat2 link linkat symlink symlinkat truncate "
	"umask chmod fchmod fchmodat chown lchown fchown fchownat utime utimes futimesat "
	"utimensat getxattr lgetxattr fgetxattr setxattr lsetxattr fsetxattr listxattr "
	"llistxattr flistxattr removexattr lremovexattr fremovexattr "
	/* waiting for many */
	"select pselect6 poll ppoll epoll_create epoll_create1 epoll_ctl epoll_wait "
	"epoll_pwait epoll_pwait2 eventfd eventfd2 signalfd signalfd4 inotify_init "
	"inotify_init1 inotify_add_watch inotify_rm_watch io_setup io_submit io_cancel "
	"io_getevents io_pgetevents io_destroy "
	/* processes and threads */
	"fork vfork execve execveat exit exit_group wait4 waitid pidfd_open pidfd_send_signal "
	"getpid getppid gettid getpgid setpgid getpgrp getsid setsid set_tid_address futex "
	"futex_waitv set_robust_list get_robust_list rseq arch_prctl prctl set_thread_area "
	"get_thread_area sched_yield sched_getaffinity sched_setaffinity sched_getattr "
	"sched_setattr sched_getparam sched_setparam sched_getscheduler sched_setscheduler "
	"sched_get_priority_max sched_get_priority_min sched_rr_get_interval getpriority "
	"ioprio_get getcpu "
	/* signals and time */
	"kill tkill tgkill pause rt_sigaction rt_sigprocmask rt_sigpending rt_sigqueueinfo "
	"rt_tgsigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait sigaltstack "
	"restart_syscall alarm getitimer setitimer time gettimeofday times nanosleep "
	"clock_gettime clock_getres clock_nanosleep timer_create timer_delete "
	"timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime "
	"timerfd_settime "
	/* who and how much: the kernel itself refuses what needs a capability */
	"getuid geteuid getgid getegid getresuid getresgid getgroups setuid setgid setreuid "
	"setregid setresuid setresgid setfsuid setfsgid setgroups capget capset getrlimit "
	"setrlimit getrusage sysinfo uname getrandom "
	/* stricter than this one may become who likes */
	"seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self "
	/* sockets, and IPC, of which a box has a namespace of its own */
	"bind connect listen accept accept4 getsockname getpeername getsockopt setsockopt "
	"shutdown sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg shmget shmat shmctl shmdt "
	"semget semop semtimedop semctl msgget msgsnd msgrcv msgctl mq_open mq_unlink "
	"mq_timedsend mq_timedreceive mq_notify mq_getsetattr";

/* Known, and not for you: a fallback would only hide the reason. */
static const char refused[] =
	"mount umount2 pivot_root chroot setns unshare ptrace process_vm_readv "
	"process_vm_writev process_madvise pidfd_getfd kcmp keyctl add_key request_key bpf "
	"perf_event_open userfaultfd open_by_handle_at name_to_handle_at fanotify_init "
	"fanotify_mark syslog reboot kexec_load kexec_file_load create_module init_module "
	"finit_module delete_module query_module swapon swapoff acct quotactl quotactl_fd "
	"sethostname setdomainname settimeofday clock_settime iopl ioperm modify_ldt mbind "
	"set_mempolicy get_mempolicy set_mempolicy_home_node move_pages migrate_pages vhangup "
	"lookup_dcookie nfsservctl";

/* Allowed too, but younger than the libraries that are about. The numbers are the same everywhere. */
static const struct {
	const char *name;
	int nr;
} young[] = {
	{ "cachestat", 451 },  { "fchmodat2", 452 },  { "map_shadow_stack", 453 },
	{ "futex_wake", 454 }, { "futex_wait", 455 }, { "futex_requeue", 456 },
	{ "mseal", 462 },
};

/* Calls allowed when the bits MASK of argument ARG are one of the N VALUES, with any other an error. The
 * kernel takes these arguments as 32 bits or fewer, and programs may leave anything above them. */
struct only {
	const char *name;
	unsigned arg;
	uint32_t mask;
	int err;
	int n;
	uint32_t values[5];
	int elsewhere; /* the first ELSEWHERE values have a row of their own, ... */
	uint32_t when; /* ... which is for this argument 0 (never 0) */
};

static const struct only onlys[] = {
	{ "clone", 0, 0x7E020000 /* CLONE_NEW* */, EPERM, 1, { 0 } },
	{ "mknod", 1, S_IFMT, EPERM, 4, { 0, S_IFREG, S_IFIFO, S_IFSOCK } },
	{ "mknodat", 2, S_IFMT, EPERM, 4, { 0, S_IFREG, S_IFIFO, S_IFSOCK } },
	/* PER_LINUX, PER_LINUX32, UNAME26 with each; the last one asks */
	{ "personality", 0, UINT32_MAX, EPERM, 5, { 0, 8, 0x20000, 0x20008, UINT32_MAX } },
	/* AF_VSOCK above all: a network namespace does not cut it off */
	{ "socket", 0, UINT32_MAX, EAFNOSUPPORT, 4, { AF_NETLINK, AF_UNIX, AF_INET, AF_INET6 }, 1 },
	{ "socket", 2, UINT32_MAX, EAFNOSUPPORT, 1, { NETLINK_ROUTE }, 0, AF_NETLINK },
	{ "socketpair", 0, UINT32_MAX, EAFNOSUPPORT, 1, { AF_UNIX } },
	/* One's own only: these reach whatever has the same uid, so the supervisors and pid 1 of the box */
	{ "prlimit64", 0, UINT32_MAX, EPERM, 1, { 0 } },
	{ "setpriority", 1, UINT32_MAX, EPERM, 1, { 0 } },
	{ "ioprio_set", 1, UINT32_MAX, EPERM, 1, { 0 } },
};

#define COUNT(a) (sizeof(a) / sizeof *(a))

/* -1 is a name that the library does not know, less than that a call that this machine has not. */
static int add(scmp_filter_ctx ctx, uint32_t action, int nr, unsigned n,
	       const struct scmp_arg_cmp *cmp)
{
	return nr < 0 ? 0 : seccomp_rule_add_array(ctx, action, nr, n, cmp);
}

static int add_names(scmp_filter_ctx ctx, uint32_t action, const char *names)
{
	char name[32];
	int rc = 0;

	for (size_t len; !rc && *names; names += len + (names[len] == ' ')) {
		len = strcspn(names, " ");
		if (len >= sizeof name)
			return -ENAMETOOLONG;
		memcpy(name, names, len);
		name[len] = 0;
		rc = add(ctx, action, seccomp_syscall_resolve_name(name), 0, NULL);
	}
	return rc;
}

/* A rule can only ask for bits that are, not for "none of these". So follow the values bit by bit, from
 * the highest: where no value goes on, one rule refuses all that begins in this way. */
static int add_only(scmp_filter_ctx ctx, const struct only *o, uint32_t seen, uint32_t bits,
		    int bit)
{
	int found = -1;

	for (int i = 0; i < o->n && found < 0; i++)
		if ((o->values[i] & seen) == bits)
			found = i;
	while (bit >= 0 && !(o->mask & 1u << bit))
		bit--;
	if (found >= 0 && bit >= 0) {
		uint32_t b = 1u << bit;
		int rc = add_only(ctx, o, seen | b, bits, bit - 1);

		return rc ? rc : add_only(ctx, o, seen | b, bits | b, bit - 1);
	}
	if (found >= 0 && found < o->elsewhere)
		return 0;
	struct scmp_arg_cmp cmp[] = { SCMP_CMP64(o->arg, SCMP_CMP_MASKED_EQ, seen, bits),
				      SCMP_CMP64(0, SCMP_CMP_MASKED_EQ, UINT32_MAX, o->when) };

	return add(ctx, found >= 0 ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(o->err),
		   seccomp_syscall_resolve_name(o->name), o->when ? 2 : 1, cmp);
}

static int rules_allow(scmp_filter_ctx ctx)
{
	int rc = add_names(ctx, SCMP_ACT_ALLOW, allowed);

	if (!rc)
		rc = add_names(ctx, SCMP_ACT_ERRNO(EPERM), refused);
	/* Succeeds and does nothing: one box shall not make the disk work for all of them. */
	if (!rc)
		rc = add_names(ctx, SCMP_ACT_ERRNO(0), "sync");
	for (size_t i = 0; !rc && i < COUNT(onlys); i++)
		rc = add_only(ctx, &onlys[i], 0, 0, 31);
	for (size_t i = 0; !rc && i < COUNT(young); i++) {
		int nr = seccomp_syscall_resolve_name(young[i].name);

		rc = add(ctx, SCMP_ACT_ALLOW, nr == __NR_SCMP_ERROR ? young[i].nr : nr, 0, NULL);
	}
	return rc;
}

/* What types into a terminal for its owner. The mask is needed: the kernel sees 32 bits of the command.
 * A program of its own, as a rule that allows ioctl would swallow these. */
static int rules_ioctl(scmp_filter_ctx ctx)
{
	static const uint32_t commands[] = { TIOCSTI, TIOCLINUX };
	int rc = 0;

	for (size_t i = 0; !rc && i < COUNT(commands); i++)
		rc = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1,
				      SCMP_A1_64(SCMP_CMP_MASKED_EQ, UINT32_MAX, commands[i]));
	return rc;
}

static int program(int fd, uint32_t otherwise, int (*rules)(scmp_filter_ctx), const char *name,
		   char *why)
{
	const char *what = "be made";
	scmp_filter_ctx ctx = seccomp_init(otherwise);
	int rc = ctx ? 0 : -ENOMEM;

	/* A foreign ABI (int 0x80, x32) has other numbers: nothing of it could be judged. */
	if (!rc)
		rc = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (!rc)
		rc = seccomp_attr_set(ctx, SCMP_FLTATR_API_SYSRAWRC, 1);
	/* A binary tree of the numbers. A list has 955 instructions, not 1046, but takes 410 us to load,
	 * not 210: the kernel runs it for every number to learn which are always allowed. */
	if (!rc)
		rc = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (!rc)
		rc = rules(ctx);
	if (!rc) {
		what = "be written";
		rc = seccomp_export_bpf(ctx, fd);
	}
	if (ctx)
		seccomp_release(ctx);
	if (rc)
		snprintf(why, FILTER_WHY, "The seccomp program \"%s\" cannot %s: %s.", name, what,
			 strerror(-rc));
	return rc;
}

int filter_write(int allow, int ioctl, char why[FILTER_WHY])
{
	int rc = program(allow, SCMP_ACT_ERRNO(ENOSYS), rules_allow, "allow", why);

	return rc ? rc : program(ioctl, SCMP_ACT_ALLOW, rules_ioctl, "ioctl", why);
}
