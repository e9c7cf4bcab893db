/* For the cells that load native code into their own kernel: what a C program in the box may not do, it may not either. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static void refused(const char *what, int refusal)
{
	dprintf(1, "%s native %s\n", refusal ? "ok:" : "LEAK:", what);
}

__attribute__((constructor)) static void loaded(void)
{
	char byte = 0;
	struct iovec here = { &byte, 1 }, there = { (void *)0x10000, 1 };
	int parent = getppid();

	refused("unshare", unshare(CLONE_NEWUSER) < 0);
	refused("mount", mount("x", "/tmp", "tmpfs", 0, 0) < 0);
	refused("core_pattern", open("/proc/sys/kernel/core_pattern", O_WRONLY) < 0);
	refused("ptrace of pid 1", ptrace(PTRACE_ATTACH, 1, 0, 0) < 0);
	refused("ptrace of the supervisor", ptrace(PTRACE_ATTACH, parent, 0, 0) < 0);
	refused("memory of the supervisor", process_vm_readv(parent, &here, 1, &there, 1, 0) < 0);
	refused("bpf", syscall(SYS_bpf, 0, 0, 0) < 0);
	refused("io_uring", syscall(SYS_io_uring_setup, 8, &byte) < 0);
	refused("setuid", setuid(0) < 0);
}
