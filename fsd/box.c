/*
 * box - the supervisor through which every kernel starts.
 *
 *   box --lifeline=FD --report=FD [--cwd=DIR] -- PROGRAM ARG...
 *
 * Runs PROGRAM (the driver) as leader of a session of its own, tells the report pipe how it ended,
 * and sees to it that nothing which it started outlives it. The report has one line a write:
 *
 *   started PID
 *   exited CODE | signaled SIG | failed TEXT     exactly one, when PROGRAM has ended
 *
 * Box exits 0 when the last descendant is gone, so its own end means "all gone". SIGINT to box goes
 * to PROGRAM's process group. SIGTERM, or the end of file on the lifeline (whoever holds its other
 * end closed it or died), kills everything now.
 *
 * PROGRAM gets fds 0 to 6 as box got them, and no other; the environment is passed on as it is.
 *
 * What it does not know: cells, the protocol, limits, and the isolation (yet: namespaces, mounts,
 * rlimits and seccomp belong into become(), between the session and the exec). Until there is a
 * pid namespace, code of the same user can SIGKILL box: PROGRAM then dies with it, other
 * descendants do not. Needs /proc; a setuid descendant of an unprivileged box cannot be killed and
 * keeps it waiting.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef PROC_CHILDREN /* the tests build one that must do without CONFIG_PROC_CHILDREN */
#define PROC_CHILDREN "/proc/thread-self/children"
#endif

enum {
	OWN_FD = 7,          /* fds below are PROGRAM's, those from here on are box's */
	PID_SPACE = 1 << 22, /* PID_MAX_LIMIT of 64-bit Linux */
	HERD_MAX = 1 << 16,  /* more than that take another round */
	FIRST_ROUND_MS = 20,
	LAST_ROUND_MS = 1000,
};

/* The descendants met in one search; zero pages as long as nobody has to be killed. */
struct herd {
	int n;
	pid_t pids[HERD_MAX];
	unsigned char met[PID_SPACE / 8];
};

struct box {
	const char *cwd;
	char **argv;
	int lifeline, report;
	int signals;   /* signalfd */
	int failure;   /* PROGRAM's side writes here why it could not be started */
	pid_t program; /* 0 once it has been reaped: its number may be somebody else's then */
	struct herd herd;
};

/* --- the report --- */

/* One write; a daemon that does not read, or is gone, loses the line and holds up nothing. */
__attribute__((format(printf, 2, 3))) static void report(struct box *b, const char *fmt, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(line, sizeof(line) - 1, fmt, ap);
	va_end(ap);
	if (n > (int)sizeof(line) - 2)
		n = sizeof(line) - 2;
	for (int i = 0; i < n; i++) /* a program's name may hold a newline */
		if ((unsigned char)line[i] < ' ')
			line[i] = '?';
	line[n++] = '\n';
	if (write(b->report, line, n) < 0)
		return;
}

static void report_end(struct box *b, int status)
{
	char why[400];
	ssize_t n = read(b->failure, why, sizeof(why)); /* all writers are gone: never blocks */

	if (n > 0)
		report(b, "failed %.*s", (int)n, why);
	else if (WIFSIGNALED(status))
		report(b, "signaled %d", WTERMSIG(status));
	else
		report(b, "exited %d", WEXITSTATUS(status));
}

/* --- finding and killing the descendants --- */

static bool is_met(const struct herd *h, pid_t pid)
{
	return pid > 0 && pid < PID_SPACE && h->met[pid / 8] >> pid % 8 & 1;
}

/*
 * Stops whom it has not met yet, and only then looks at its children: fork() cannot complete with
 * a signal pending, so a list read after it is final, but for orphans that still move.
 */
static void meet(struct herd *h, pid_t pid)
{
	if (pid <= 0 || pid >= PID_SPACE || h->n == HERD_MAX || is_met(h, pid))
		return;
	h->met[pid / 8] |= 1 << pid % 8;
	h->pids[h->n++] = pid;
	kill(pid, SIGSTOP);
}

static void meet_listed(struct herd *h, int fd)
{
	char buf[4096];
	pid_t pid = 0;
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0)
		for (ssize_t i = 0; i < n; i++) {
			if (buf[i] >= '0' && buf[i] <= '9') {
				pid = pid * 10 + (buf[i] - '0');
			} else {
				meet(h, pid);
				pid = 0;
			}
		}
}

/* The children of a process are listed by the thread that made them. */
static void meet_children(struct herd *h, pid_t pid)
{
	char path[64];
	struct dirent *e;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	DIR *d = opendir(path);
	while (d && (e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%.20s/children", e->d_name);
		int fd = openat(dirfd(d), path, O_RDONLY | O_CLOEXEC);
		if (fd >= 0) {
			meet_listed(h, fd);
			close(fd);
		}
	}
	if (d)
		closedir(d);
}

static pid_t parent_of(int proc, const char *pid)
{
	char path[64], stat[512], *p;
	int ppid = 0;

	snprintf(path, sizeof(path), "%.20s/stat", pid);
	int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t n = read(fd, stat, sizeof(stat) - 1);
	close(fd);
	stat[n > 0 ? n : 0] = 0;
	p = strrchr(stat, ')'); /* the name before it may hold anything, parentheses too */
	return p && sscanf(p + 1, " %*c %d", &ppid) == 1 ? ppid : 0;
}

/* Where the kernel keeps no lists: all processes, oldest numbers first, so mostly parents first. */
static void meet_by_parent(struct herd *h)
{
	DIR *d = opendir("/proc");
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (atoi(e->d_name) > 0 && is_met(h, parent_of(dirfd(d), e->d_name)))
			meet(h, atoi(e->d_name));
	if (d)
		closedir(d);
}

/* Stops every descendant; done when a whole pass has met no new one. */
static void freeze(struct herd *h)
{
	bool listed = access(PROC_CHILDREN, R_OK) == 0;
	pid_t box = getpid();
	int before;

	for (int i = 0; i < h->n; i++)
		h->met[h->pids[i] / 8] = 0;
	h->met[box / 8] |= 1 << box % 8; /* the root of the search: met, and not stopped */
	h->pids[0] = box;
	h->n = 1;
	do {
		before = h->n;
		if (!listed)
			meet_by_parent(h);
		for (int i = 0; listed && i < h->n; i++)
			meet_children(h, h->pids[i]);
	} while (h->n != before);
}

/* Takes the ended children; false if there are none left at all, ended or alive. */
static bool reap(struct box *b)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		if (pid == b->program) {
			b->program = 0;
			report_end(b, status);
		}
	return pid == 0;
}

static long now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Reaps for at most `ms`; true when no child is left, so no descendant. */
static bool reap_for(struct box *b, long ms)
{
	long until = now_ms() + ms, left;
	sigset_t chld;

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	while (reap(b)) {
		left = until - now_ms();
		if (left <= 0)
			return false;
		sigtimedwait(&chld, NULL, &(struct timespec){ left / 1000, left % 1000 * 1000000 });
	}
	return true;
}

/*
 * Freeze first: were a fork bomb killed one by one, the living would fill the places of the dead.
 * Also, nobody but box can reap then, so no number met can have become another process's. Children
 * before parents: a process group left without one is sent a SIGCONT by the kernel.
 * One round is enough but for processes that moved to another parent under our eyes, or that sit
 * in an uninterruptible call; those are looked for again, ever more seldom.
 */
static void end_all(struct box *b)
{
	long ms = FIRST_ROUND_MS;

	while (reap(b)) {
		freeze(&b->herd);
		for (int i = b->herd.n - 1; i > 0; i--)
			kill(b->herd.pids[i], SIGKILL);
		if (reap_for(b, ms))
			return;
		ms = ms * 2 < LAST_ROUND_MS ? ms * 2 : LAST_ROUND_MS;
	}
}

/* --- events; a handler returns true when it is time to end --- */

static bool on_child(struct box *b)
{
	reap(b);
	return b->program == 0;
}

/* ESRCH: it has no group yet, so it runs nothing yet. Never kill(-0), that is our own group. */
static bool on_interrupt(struct box *b)
{
	if (b->program > 0)
		kill(-b->program, SIGINT);
	return false;
}

static bool on_terminate(struct box *b)
{
	(void)b;
	return true;
}

static bool (*const on_signal[])(struct box *b) = {
	[SIGCHLD] = on_child,
	[SIGINT] = on_interrupt,
	[SIGTERM] = on_terminate,
};

enum { N_SIGNALS = sizeof(on_signal) / sizeof(on_signal[0]) };

static bool take_signals(struct box *b)
{
	struct signalfd_siginfo si[8];
	ssize_t n = read(b->signals, si, sizeof(si));
	bool end = false;

	for (size_t i = 0; n > 0 && i < n / sizeof(si[0]); i++)
		end |= on_signal[si[i].ssi_signo](b);
	return end;
}

static bool lifeline_ended(struct box *b, short revents)
{
	char ignored[64];

	return revents & POLLIN ? read(b->lifeline, ignored, sizeof(ignored)) == 0 : revents != 0;
}

static void loop(struct box *b)
{
	struct pollfd p[] = {
		{ .fd = b->signals, .events = POLLIN },
		{ .fd = b->lifeline, .events = POLLIN },
	};
	bool end = false;

	while (!end) {
		if (ppoll(p, 2, NULL, NULL) < 0)
			break;
		if (p[0].revents)
			end |= take_signals(b);
		end |= lifeline_ended(b, p[1].revents);
	}
}

/* --- start --- */

/* In the new process, and never back: PROGRAM, or a text for the report and the end. */
static void become(struct box *b, pid_t box, int failure)
{
	sigset_t none;
	const char *what = "enter", *whom = b->cwd;

	setsid();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != box) /* it died before the line above */
		_exit(127);
	if (!b->cwd || chdir(b->cwd) == 0) {
		what = "run";
		whom = b->argv[0];
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		execvp(b->argv[0], b->argv);
	}
	dprintf(failure, "cannot %s %.300s: %s", what, whom, strerror(errno));
	_exit(127);
}

/* Everything inherited goes: an ignored SIGCHLD would reap for us, a blocked one reach PROGRAM. */
static void reset_signals(struct box *b)
{
	const unsigned long dfl[8] = { 0 }; /* a kernel's struct sigaction: SIG_DFL, no flags */
	sigset_t all, ours;

	for (int sig = 1; sig <= 64; sig++) /* raw, for libc refuses the two that it keeps */
		syscall(SYS_rt_sigaction, sig, dfl, NULL, 8);
	signal(SIGXFSZ, SIG_IGN); /* a full file shall be EFBIG, not the kernel's death */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	sigemptyset(&ours);
	for (int sig = 1; sig < N_SIGNALS; sig++)
		if (on_signal[sig])
			sigaddset(&ours, sig);
	b->signals = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void close_strangers(struct box *b)
{
	unsigned lo = b->lifeline < b->report ? b->lifeline : b->report;
	unsigned hi = b->lifeline < b->report ? b->report : b->lifeline;

	if (lo > OWN_FD)
		close_range(OWN_FD, lo - 1, 0);
	if (hi > lo + 1)
		close_range(lo + 1, hi - 1, 0);
	close_range(hi + 1, ~0U, 0);
	fcntl(lo, F_SETFD, FD_CLOEXEC);
	fcntl(hi, F_SETFD, FD_CLOEXEC);
	fcntl(b->report, F_SETFL, fcntl(b->report, F_GETFL) | O_NONBLOCK);
}

/* The user's pipes and the protocol's must end with the processes that use them, not with box. */
static void let_go(void)
{
	if (chdir("/") < 0) /* nor may it keep a directory busy; but it can live with that */
		errno = 0;
	close_range(0, OWN_FD - 1, 0);
	if (open("/dev/null", O_RDWR) == 0) {
		dup2(0, 1);
		dup2(0, 2);
	}
}

static int start(struct box *b)
{
	pid_t box = getpid();
	int failure[2];

	if (b->signals < 0 || pipe2(failure, O_CLOEXEC) < 0)
		return -errno;
	b->failure = failure[0];
	b->program = fork();
	if (b->program < 0)
		return -errno;
	if (b->program == 0)
		become(b, box, failure[1]);
	close(failure[1]);
	return 0;
}

static bool parse_fd(const char *text, int *fd)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (end == text || *end || n < OWN_FD || n > 1 << 30 || fcntl(n, F_GETFD) < 0)
		return false;
	*fd = n;
	return true;
}

static bool parse(struct box *b, int argc, char **argv)
{
	static const struct option options[] = {
		{ "lifeline", required_argument, NULL, 'l' },
		{ "report", required_argument, NULL, 'r' },
		{ "cwd", required_argument, NULL, 'c' },
		{ 0 },
	};
	bool ok = true;
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		if (c == 'c')
			b->cwd = optarg;
		else
			ok &= c != '?' && parse_fd(optarg, c == 'l' ? &b->lifeline : &b->report);
	}
	for (int fd = 0; fd < OWN_FD; fd++) /* our own would land in a gap, let_go() close them */
		ok &= fcntl(fd, F_GETFD) >= 0;
	b->argv = argv + optind;
	return ok && b->lifeline && b->report && b->lifeline != b->report && b->argv[0];
}

int main(int argc, char **argv)
{
	static struct box box;
	struct box *b = &box;

	if (!parse(b, argc, argv)) {
		fputs("usage: box --lifeline=FD --report=FD [--cwd=DIR] -- PROGRAM ARG...\n"
		      "       (file descriptors from 7 on; 0 to 6, for PROGRAM, are open too)\n",
		      stderr);
		return 2;
	}
	close_strangers(b);
	setsid(); /* fails where the daemon has done it already */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	prctl(PR_SET_DUMPABLE, 0); /* its memory and /proc entries are not the cells' to read */
	setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
	reset_signals(b);
	int err = start(b);
	if (err) {
		report(b, "failed cannot start a process: %s", strerror(-err));
		return 0;
	}
	let_go();
	report(b, "started %d", b->program);
	loop(b);
	end_all(b);
	return 0;
}
