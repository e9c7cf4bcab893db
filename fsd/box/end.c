/* The supervisor of one kernel: the parent of its driver, and the subreaper of all that came of it.
 *
 * Its report has one line a write:
 *
 *   started PID                                  with a pidfd of the driver, where the report is a socket
 *   exited CODE | signaled SIG | failed TEXT     exactly one, when the driver has ended
 *
 * It exits 0 when the last descendant is gone, so its own end means "all gone". SIGTERM, or the end of
 * file on the lifeline (whoever holds its other end closed it or died), kills everything now.
 *
 * In a box the driver is in a Landlock domain of its own, from which, on Linux 6.12 and later, nobody can
 * signal the supervisor. Before, code of its own uid can SIGKILL it: the driver dies with it, and pid 1 of
 * the box gets the other descendants, and ends them when the daemon tells it to.
 * Without a box these live on. Needs /proc. */
#include "box.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef PROC_CHILDREN /* the tests build one that must do without CONFIG_PROC_CHILDREN */
#define PROC_CHILDREN "/proc/thread-self/children"
#endif

enum {
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

static struct herd herd;

/* --- the report --- */

/* A user may have no more descriptors on their way in sockets, in all boxes, than the sender may open: who
 * floods them with his must not hold up ours, so a cell has a lower limit than we can take. */
static void raise_files(void)
{
	struct rlimit r;

	if (!getrlimit(RLIMIT_NOFILE, &r) && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

int box_say(int report, const int *fds, int nfds, const char *fmt, ...)
{
	char line[BOX_LINE];
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(16 * sizeof(int))];
	} c;
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
	struct iovec v = { line, n };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	if (nfds) {
		raise_files();
		m.msg_control = c.space;
		m.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		c.h = (struct cmsghdr){ CMSG_LEN(nfds * sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
		memcpy(CMSG_DATA(&c.h), fds, nfds * sizeof(int));
	}
	if (sendmsg(report, &m, MSG_NOSIGNAL) >= 0 || (errno == ENOTSOCK && write(report, line, n) >= 0))
		return 0;
	return -errno;
}

static void report_end(struct box *b, int status)
{
	char why[400];
	ssize_t n = read(b->failure, why, sizeof(why)); /* all writers are gone: never blocks */

	if (n > 0)
		box_say(b->report, NULL, 0, "failed %.*s", (int)n, why);
	else if (WIFSIGNALED(status))
		box_say(b->report, NULL, 0, "signaled %d", WTERMSIG(status));
	else
		box_say(b->report, NULL, 0, "exited %d", WEXITSTATUS(status));
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
void box_end_all(struct box *b)
{
	long ms = FIRST_ROUND_MS;

	while (reap(b)) {
		freeze(&herd);
		for (int i = herd.n - 1; i > 0; i--)
			kill(herd.pids[i], SIGKILL);
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

static bool on_terminate(struct box *b)
{
	(void)b;
	return true;
}

static bool (*const on_signal[])(struct box *b) = {
	[SIGCHLD] = on_child,
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

static const char *confine(struct box *b)
{
	int err = 0;

	if (b->joined || b->weak)
		err = box_limit(RLIMIT_NOFILE, b->limits.files);
	if (!err && b->joined)
		err = box_lock_domain();
	else if (!err && b->weak)
		err = box_lock_files(b->ro, b->rw, b->tcp);
	errno = -err;
	return err ? "confine" : NULL;
}

/* What execve() would do for the driver of a fork server. Before: the report would be its to write, its children
 * would hold open the pipe of failures, and the daemon of an ordinary user could not see its memory's size. */
static void as_after_exec(void)
{
	close_range(BOX_OWN, ~0U, 0);
	prctl(PR_SET_DUMPABLE, 1);
}

/* Of a pipe that nobody writes to. All signals are blocked. */
static void wait_for_end(int fd)
{
	char none;

	while (read(fd, &none, 1) > 0) {
	}
}

/* In the new process: becomes the driver, or leaves a text for the report. Returns for a fork server only. */
static void become(struct box *b, pid_t supervisor, int failure, int go)
{
	sigset_t none;
	const char *what = "enter", *whom = b->cwd;

	setsid();
	umask(022); /* the daemon's is 0 */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != supervisor) /* it died before the line above */
		_exit(127);
	if (!b->cwd || chdir(b->cwd) == 0) {
		whom = b->argv ? b->argv[0] : "the kernel";
		what = confine(b);
		if (!what) {
			what = "run";
			wait_for_end(go);
			sigemptyset(&none);
			sigprocmask(SIG_SETMASK, &none, NULL);
			if (!b->argv) {
				as_after_exec();
				return;
			}
			execvp(b->argv[0], b->argv);
		}
	}
	dprintf(failure, "cannot %s %.300s: %s", what, whom, strerror(errno));
	_exit(127);
}

/* Everything inherited goes: an ignored SIGCHLD would reap for us, a blocked one reach the driver. */
static void reset_signals(struct box *b)
{
	const unsigned long dfl[8] = { 0 }; /* a kernel's struct sigaction: SIG_DFL, no flags */
	sigset_t all, ours;

	for (int sig = 1; sig <= 64; sig++) /* raw, for libc refuses the two that it keeps */
		syscall(SYS_rt_sigaction, sig, dfl, NULL, 8);
	sigaction(SIGXFSZ, &(struct sigaction){ .sa_handler = SIG_IGN }, NULL); /* EFBIG, not the kernel's death */
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

	if (lo > BOX_OWN)
		close_range(BOX_OWN, lo - 1, 0);
	if (hi > lo + 1)
		close_range(lo + 1, hi - 1, 0);
	close_range(hi + 1, ~0U, 0);
	fcntl(lo, F_SETFD, FD_CLOEXEC);
	fcntl(hi, F_SETFD, FD_CLOEXEC);
	fcntl(b->report, F_SETFL, fcntl(b->report, F_GETFL) | O_NONBLOCK);
}

/* The user's pipes and the protocol's must end with the processes that use them, not with the supervisor. */
static void let_go(void)
{
	if (chdir("/") < 0) /* nor may it keep a directory busy; but it can live with that */
		errno = 0;
	close_range(0, BOX_OWN - 1, 0);
	if (open("/dev/null", O_RDWR) == 0) {
		dup2(0, 1);
		dup2(0, 2);
	}
}

/* 0 in the supervisor, 1 in the driver of a fork server, or -errno. The driver runs when *GO is closed. */
static int start(struct box *b, int *go_on)
{
	pid_t supervisor = getpid();
	int failure[2], go[2];

	if (b->signals < 0 || pipe2(failure, O_CLOEXEC) < 0 || pipe2(go, O_CLOEXEC) < 0)
		return -errno;
	b->failure = failure[0];
	b->program = fork();
	if (b->program < 0)
		return -errno;
	if (b->program == 0) {
		close(go[1]);
		become(b, supervisor, failure[1], go[0]);
		return 1;
	}
	close(failure[1]);
	close(go[0]);
	*go_on = go[1];
	return 0;
}

static void say_started(struct box *b)
{
	int fd = syscall(SYS_pidfd_open, b->program, 0);

	box_say(b->report, &fd, fd >= 0, "started %d", b->program);
	if (fd >= 0)
		close(fd);
}

int box_supervise(struct box *b)
{
	close_strangers(b);
	setsid(); /* fails where the daemon has done it already */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	prctl(PR_SET_DUMPABLE, 0); /* its memory and /proc entries are not the cells' to read */
	setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
	reset_signals(b);
	int go = -1;
	int err = start(b, &go);
	if (err > 0)
		return 0;
	if (err) {
		box_say(b->report, NULL, 0, "failed cannot start a process: %s", strerror(-err));
		_exit(0);
	}
	let_go();
	say_started(b);
	close(go); /* who hears of the driver has heard its number already */
	loop(b);
	box_end_all(b);
	_exit(0);
}
