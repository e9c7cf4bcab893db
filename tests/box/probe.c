/* What a process can do under the two programs of fsd/box/filter.c. For test_filter.py.
 *   probe write ALLOW IOCTL           makes the programs
 *   probe call ALLOW IOCTL            reads calls, "NAME ARG...", and tells of each its number and result
 *   probe ordinary ALLOW IOCTL        does what ordinary programs do, "NAME ERRNO" a line
 *   probe run ALLOW IOCTL PROGRAM...  becomes PROGRAM
 *   probe cost ALLOW IOCTL            nanoseconds of a few calls without and with them, and of loading */
#include "../../fsd/box/filter.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/seccomp.h>
#include <mqueue.h>
#include <pthread.h>
#include <pty.h>
#include <sched.h>
#include <seccomp.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>
#include <utmp.h>

/* What must hold, or the ordinary thing does not work. */
#define OK(x)                                                                                      \
	do {                                                                                       \
		errno = 0;                                                                         \
		if (!(x))                                                                          \
			return errno ? errno : 999;                                                \
	} while (0)

static int programs[2];

static void load(void)
{
	int rc = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);

	for (int i = 0; !rc && i < 2; i++)
		rc = filter_load(programs[i]);
	if (rc) {
		fprintf(stderr, "load: %s\n", strerror(-rc));
		exit(3);
	}
}

static int ended(pid_t pid)
{
	int status;

	OK(pid > 0 && waitpid(pid, &status, 0) == pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

/* ---- calls by name ---- */

static long int80(void)
{
#ifdef __x86_64__
	long r;

	__asm__ volatile("int $0x80" : "=a"(r) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
	return r;
#else
	return -1;
#endif
}

static void one_call(char *line)
{
	char *save, *name = strtok_r(line, " \n", &save), *word;
	long nr, a[6] = { 0 };
	int n = 0, fds[2];

	while (n < 6 && (word = strtok_r(NULL, " \n", &save)))
		a[n++] = *word == '@' ? (long)(word + 1) : (long)strtoull(word, NULL, 0);
	nr = !strcmp(name, "int80")                ? -2
		: name[0] >= '0' && name[0] <= '9' ? (long)strtoul(name, NULL, 0)
						   : seccomp_syscall_resolve_name(name);
	if (nr == -1 || nr < -2) {
		printf("- unknown\n");
		return;
	}
	fflush(stdout);
	if (pipe(fds))
		exit(3);
	pid_t pid = fork();
	if (!pid) {
		pid_t self = getpid();

		errno = 0;
		long r = nr == -2 ? int80() : syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
		int err = r == -1 ? errno : 0;

		if (getpid() == self && write(fds[1], &err, sizeof err) != sizeof err)
			_exit(1);
		_exit(0);
	}
	int err = -1, rc = ended(pid);
	close(fds[1]);
	if (rc > 1000)
		printf("%ld SIG%s\n", nr, sigabbrev_np(rc - 1000));
	else if (read(fds[0], &err, sizeof err) == sizeof err)
		printf("%ld %s\n", nr, err ? strerrorname_np(err) : "OK");
	else
		printf("%ld lost\n", nr);
	close(fds[0]);
}

static int calls(void)
{
	char line[512];

	/* With a hole in the filter a call shall still do no harm. */
	if (!getuid() && (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534)))
		return 3;
	load();
	while (fgets(line, sizeof line, stdin))
		one_call(line);
	return 0;
}

/* ---- ordinary things ---- */

static void *thread_main(void *arg)
{
	return arg;
}

static int o_threads(void)
{
	pthread_t t[8];
	void *back;

	for (long i = 0; i < 8; i++)
		OK(!(errno = pthread_create(&t[i], NULL, thread_main, (void *)i)));
	for (long i = 0; i < 8; i++)
		OK(!pthread_join(t[i], &back) && back == (void *)i);
	return 0;
}

static int o_fork(void)
{
	pid_t pid = fork();

	if (!pid)
		_exit(7);
	return ended(pid) == 7 ? 0 : 999;
}

static int o_vfork(void)
{
	pid_t pid = vfork();

	if (!pid)
		_exit(7);
	return ended(pid) == 7 ? 0 : 999;
}

static int o_spawn(void)
{
	char *argv[] = { "true", NULL }, *envp[] = { NULL };
	pid_t pid;

	OK(!(errno = posix_spawnp(&pid, "true", NULL, NULL, argv, envp)));
	return ended(pid);
}

static int o_popen(void)
{
	FILE *f = popen("echo a | cat", "r");
	char c[4] = "";

	OK(f && fgets(c, sizeof c, f) && !strcmp(c, "a\n") && !pclose(f));
	return 0;
}

static int talk(int fam, struct sockaddr *sa, socklen_t len, int type)
{
	int s = socket(fam, type, 0), c = socket(fam, type, 0), a = s;
	char b[2];

	OK(s >= 0 && c >= 0 && !bind(s, sa, len) && !getsockname(s, sa, &len));
	if (type == SOCK_STREAM)
		OK(!listen(s, 1) && !connect(c, sa, len) &&
		   (a = accept4(s, NULL, NULL, SOCK_CLOEXEC)) >= 0);
	else
		OK(!connect(c, sa, len));
	OK(send(c, "x", 1, 0) == 1 && recv(a, b, 2, 0) == 1);
	return close(s), close(c), 0;
}

static int o_tcp(void)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	return talk(AF_INET, (void *)&sa, sizeof sa, SOCK_STREAM);
}

static int o_udp(void)
{
	struct sockaddr_in sa = { .sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	return talk(AF_INET, (void *)&sa, sizeof sa, SOCK_DGRAM);
}

static int o_inet6(void)
{
	int s = socket(AF_INET6, SOCK_STREAM, 0);

	OK(s >= 0 || errno == EAFNOSUPPORT);
	return 0;
}

static int o_unix(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX, .sun_path = "socket" };

	unlink("socket");
	return talk(AF_UNIX, (void *)&sa, sizeof sa, SOCK_STREAM);
}

static int o_passing_fds(void)
{
	int p[2], fd = 1;
	char b = 0, room[CMSG_SPACE(sizeof fd)] = "";
	struct iovec v = { &b, 1 };
	struct msghdr m = {
		.msg_iov = &v, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(c), &fd, sizeof fd);
	OK(!socketpair(AF_UNIX, SOCK_SEQPACKET, 0, p) && sendmsg(p[0], &m, 0) == 1);
	OK(recvmsg(p[1], &m, 0) == 1 && m.msg_controllen > 0);
	return 0;
}

static int o_interfaces(void)
{
	struct ifaddrs *list;

	OK(!getifaddrs(&list));
	freeifaddrs(list);
	return 0;
}

static int o_inotify(void)
{
	int fd = inotify_init1(IN_CLOEXEC);

	OK(fd >= 0 && inotify_add_watch(fd, ".", IN_CREATE) >= 0);
	return 0;
}

static int o_memfd(void)
{
	int fd = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	OK(fd >= 0 && !ftruncate(fd, 4096) && !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
	OK(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED);
	return 0;
}

static int o_epoll(void)
{
	int e = epoll_create1(0), v = eventfd(1, EFD_NONBLOCK),
	    t = timerfd_create(CLOCK_MONOTONIC, 0);
	struct epoll_event ev = { .events = EPOLLIN }, got[2];
	struct itimerspec in = { .it_value.tv_nsec = 1 };

	OK(e >= 0 && v >= 0 && t >= 0 && !timerfd_settime(t, 0, &in, NULL));
	OK(!epoll_ctl(e, EPOLL_CTL_ADD, v, &ev) && !epoll_ctl(e, EPOLL_CTL_ADD, t, &ev));
	OK(epoll_wait(e, got, 2, 1000) > 0);
	struct timespec ts = { 1, 0 };
	OK(syscall(SYS_epoll_pwait2, e, got, 2, &ts, NULL, 8) > 0 || errno == ENOSYS);
	return 0;
}

static int o_signals(void)
{
	sigset_t set;
	timer_t timer;
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	struct itimerspec in = { .it_value.tv_nsec = 1 };

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	OK(!sigprocmask(SIG_BLOCK, &set, NULL) && signalfd(-1, &set, SFD_NONBLOCK) >= 0);
	OK(!timer_create(CLOCK_REALTIME, &ev, &timer) && !timer_settime(timer, 0, &in, NULL));
	OK(sigwaitinfo(&set, NULL) == SIGUSR1 && !timer_delete(timer));
	OK(!kill(getpid(), SIGUSR1) && sigwaitinfo(&set, NULL) == SIGUSR1);
	OK(!setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL));
	return 0;
}

static int o_pty(void)
{
	int m, s;
	struct winsize w = { 24, 80, 0, 0 };
	struct termios t;

	OK(!openpty(&m, &s, NULL, NULL, &w) && isatty(s) && !tcgetattr(s, &t));
	OK(!tcsetattr(s, TCSANOW, &t) && write(m, "a\n", 2) == 2);
	pid_t pid = fork();
	if (!pid)
		_exit(login_tty(s) ? 1 : 0);
	return ended(pid);
}

static int o_sysv(void)
{
	int id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
	void *p;

	OK(id >= 0 && (p = shmat(id, NULL, 0)) != (void *)-1 && !shmdt(p) &&
	   !shmctl(id, IPC_RMID, NULL));
	return 0;
}

static int o_posix_ipc(void)
{
	mqd_t q = mq_open("/cellfs-probe", O_CREAT | O_RDWR, 0600, NULL);
	sem_t *s = sem_open("/cellfs-probe", O_CREAT, 0600, 1);

	OK(s != SEM_FAILED && !sem_wait(s) && !sem_unlink("/cellfs-probe"));
	OK(q >= 0 && !mq_unlink("/cellfs-probe"));
	return 0;
}

static int o_files(void)
{
	struct stat st;
	struct statx sx;
	int fd, out;

	OK((fd = open("file", O_CREAT | O_RDWR | O_TRUNC, 0644)) >= 0 &&
	   write(fd, "hello", 5) == 5);
	OK(!fchmod(fd, 0600) && !chmod("file", 0644) && !fchown(fd, -1, -1) && !flock(fd, LOCK_EX));
	OK(!fchmodat(AT_FDCWD, "file", 0600, AT_SYMLINK_NOFOLLOW) || errno == EOPNOTSUPP);
	OK(!fsync(fd) && !fdatasync(fd) && !syncfs(fd) && !posix_fallocate(fd, 0, 8192));
	OK(!utimensat(AT_FDCWD, "file", NULL, 0) && !stat("file", &st));
	OK(!statx(AT_FDCWD, "file", 0, STATX_ALL, &sx) &&
	   !faccessat(AT_FDCWD, "file", R_OK, AT_EACCESS));
	OK(!setxattr("file", "user.x", "1", 1, 0) || errno == EOPNOTSUPP);
	OK((out = open("copy", O_CREAT | O_RDWR | O_TRUNC, 0644)) >= 0);
	OK(copy_file_range(fd, &(off_t){ 0 }, out, NULL, 5, 0) == 5 || errno == EOPNOTSUPP ||
	   errno == EXDEV);
	OK(!symlink("file", "link") && !link("file", "hard") && !rename("hard", "hard2"));
	OK(!renameat2(AT_FDCWD, "hard2", AT_FDCWD, "copy", RENAME_EXCHANGE) || errno == EINVAL);
	OK(!mkdir("dir", 0755) && !rmdir("dir") && !unlink("link") && !unlink("hard2") &&
	   !unlink("copy"));
	return 0;
}

static int o_nodes(void)
{
	OK(!mkfifo("fifo", 0600) && !unlink("fifo"));
	OK(!mknod("plain", 0600, 0) && !unlink("plain"));
	OK(!mknod("plain", S_IFREG | 0600, 0) && !unlink("plain"));
	OK(!mknod("sock", S_IFSOCK | 0600, 0) && !unlink("sock"));
	return 0;
}

static int o_pipes(void)
{
	int a[2], b[2];

	OK(!pipe2(a, O_CLOEXEC) && !pipe2(b, O_CLOEXEC) && write(a[1], "abc", 3) == 3);
	OK(tee(a[0], b[1], 3, 0) == 3 && splice(a[0], NULL, b[1], NULL, 3, 0) == 3);
	return 0;
}

static int o_memory(void)
{
	char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	OK(p != MAP_FAILED && !madvise(p, 1 << 20, MADV_DONTNEED) &&
	   !mprotect(p, 4096, PROT_READ) && !mprotect(p, 4096, PROT_READ | PROT_WRITE));
	OK((!mlock(p + 4096, 4096) && !munlock(p + 4096, 4096)) || errno == ENOMEM ||
	   errno == EPERM);
	OK((p = mremap(p, 1 << 20, 1 << 21, MREMAP_MAYMOVE)) != MAP_FAILED && !munmap(p, 1 << 21));
	OK(syscall(SYS_membarrier, 0, 0, 0) >= 0);
	return 0;
}

static int o_schedule(void)
{
	cpu_set_t set;

	OK(!sched_getaffinity(0, sizeof set, &set) && !sched_setaffinity(0, sizeof set, &set));
	OK(sched_getscheduler(0) >= 0 && !sched_yield() && nice(1) != -1 &&
	   getcpu(NULL, NULL) == 0);
	return 0;
}

static int o_pidfd(void)
{
	pid_t pid = fork();
	siginfo_t si;

	if (!pid)
		pause();
	int fd = syscall(SYS_pidfd_open, pid, 0);
	OK(fd >= 0 && !syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0));
	OK(!waitid(P_PIDFD, fd, &si, WEXITED) && si.si_status == SIGKILL);
	return 0;
}

static int o_close_range(void)
{
	OK(!close_range(100, 200, 0));
	return 0;
}

static int o_openat2(void)
{
	struct {
		uint64_t flags, mode, resolve;
	} how = { O_RDONLY, 0, 8 /* RESOLVE_BENEATH */ };

	OK(syscall(SYS_openat2, AT_FDCWD, ".", &how, sizeof how) >= 0);
	return 0;
}

static int o_futex2(void)
{
	static uint32_t word;
	struct timespec ts = { 0, 1 };

	/* futex_wake, futex_wait: newer than the library */
	OK(syscall(454, &word, UINT32_MAX, 1, 2) == 0 || errno == ENOSYS);
	OK(syscall(455, &word, 1UL, 0xffffffffUL, 2, &ts, CLOCK_MONOTONIC) == -1);
	OK(errno == 0 || errno == EAGAIN || errno == ENOSYS);
	return 0;
}

static int o_landlock(void)
{
	OK(syscall(SYS_landlock_create_ruleset, NULL, 0, 1) > 0 || errno == EOPNOTSUPP ||
	   errno == ENOSYS);
	return 0;
}

static int o_filter_of_its_own(void)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);

	OK(ctx && !seccomp_rule_add(ctx, SCMP_ACT_ERRNO(E2BIG), SCMP_SYS(keyctl), 0) &&
	   !seccomp_load(ctx));
	return 0;
}

static int o_sync(void)
{
	struct timespec a, b;

	clock_gettime(CLOCK_MONOTONIC, &a);
	for (int i = 0; i < 1000; i++)
		OK(!syscall(SYS_sync));
	clock_gettime(CLOCK_MONOTONIC, &b);
	return b.tv_sec - a.tv_sec > 1; /* it does nothing, so it takes no time */
}

static int o_names_and_time(void)
{
	struct timespec ts;
	char b[16];

	OK(!clock_gettime(CLOCK_MONOTONIC, &ts) &&
	   !clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){ 0, 1 }, NULL));
	OK(getrandom(b, sizeof b, 0) == sizeof b && sysconf(_SC_NPROCESSORS_ONLN) > 0);
	OK(!prctl(PR_SET_NAME, "probe") && !prctl(PR_SET_PDEATHSIG, SIGTERM));
	return 0;
}

#define O(f)                                                                                       \
	{                                                                                          \
#f, o_##f                                                                          \
	}
static const struct {
	const char *name;
	int (*f)(void);
} things[] = {
	O(threads),
	O(fork),
	O(vfork),
	O(spawn),
	O(popen),
	O(tcp),
	O(udp),
	O(inet6),
	O(unix),
	O(passing_fds),
	O(interfaces),
	O(inotify),
	O(memfd),
	O(epoll),
	O(signals),
	O(pty),
	O(sysv),
	O(posix_ipc),
	O(files),
	O(nodes),
	O(pipes),
	O(memory),
	O(schedule),
	O(pidfd),
	O(close_range),
	O(openat2),
	O(futex2),
	O(landlock),
	O(filter_of_its_own),
	O(sync),
	O(names_and_time),
};

static int ordinary(void)
{
	load();
	for (size_t i = 0; i < sizeof things / sizeof *things; i++) {
		pid_t pid = fork();

		if (!pid) {
			int rc = things[i].f();

			_exit(rc > 255 ? 255 : rc);
		}
		int rc = ended(pid);
		printf("%s %s\n", things[i].name,
		       !rc                 ? "OK"
			       : rc == 255 ? "wrong"
			       : rc > 1000 ? "killed"
					   : strerrorname_np(rc));
		fflush(stdout);
	}
	return 0;
}

/* ---- cost ---- */

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static void costs(const char *when)
{
	static const struct {
		const char *name;
		long nr, a, b;
	} c[] = { { "getppid", SYS_getppid, 0, 0 },
		  { "ioctl", SYS_ioctl, -1, 0 },
		  { "socket", SYS_socket, AF_UNIX, 99 },
		  { "personality", SYS_personality, -1, 0 },
		  { "keyctl", SYS_keyctl, 999, 0 } };

	for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
		double best = 1e18, t;

		for (int r = 0; r < 5; r++) {
			t = now();
			for (int k = 0; k < 50000; k++)
				syscall(c[i].nr, c[i].a, c[i].b, 0, 0, 0, 0);
			t = (now() - t) / 50000;
			best = t < best ? t : best;
		}
		printf("%s %s %.0f\n", when, c[i].name, best);
	}
}

static int cost(void)
{
	costs("without");
	double t = now();
	load();
	printf("load both %.0f\n", now() - t);
	costs("with");
	return 0;
}

int main(int argc, char **argv)
{
	char why[FILTER_WHY];
	int making = argc > 1 && !strcmp(argv[1], "write");

	if (argc < 4)
		return 2;
	for (int i = 0; i < 2; i++)
		if ((programs[i] = open(
			     argv[2 + i],
			     (making ? O_RDWR | O_CREAT | O_TRUNC : O_RDONLY) | O_CLOEXEC, 0644)) <
		    0)
			return 3;
	if (making) {
		int rc = filter_write(programs[0], programs[1], why);

		if (rc)
			puts(why);
		return rc != 0;
	}
	if (!strcmp(argv[1], "call"))
		return calls();
	if (!strcmp(argv[1], "ordinary"))
		return ordinary();
	if (!strcmp(argv[1], "cost"))
		return cost();
	if (strcmp(argv[1], "run") || argc < 5)
		return 2;
	load();
	execvp(argv[4], argv + 4);
	return 127;
}
