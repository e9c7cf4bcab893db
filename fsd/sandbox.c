#include "sandbox.h"

#include "spawn.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { TEST_MS = 10000 };
_Static_assert((int)BOX_FDS <= SPAWN_FDS, "spawn() can give all that box takes");

static const char *const mode_names[] = { "full", "weak", "none" };

int sandbox_mode_named(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(mode_names); i++)
		if (!strcmp(name, mode_names[i]))
			return i;
	return -1;
}

/* ---- talking to box ---- */

static void put_filters(const struct sandbox *s, const struct cgroup *group, int fds[BOX_FDS])
{
	for (int i = 0; i < 2; i++)
		fds[BOX_FILTERS + i] = s->filters[i];
	if (!group)
		return;
	if (group->dir >= 0)
		fds[BOX_CGROUP] = group->dir;
	else
		for (int i = 0; i < CGROUP_CONTROLLERS; i++)
			fds[BOX_CGROUPS + i] = group->procs[i];
}

static void no_fds(int fds[BOX_FDS])
{
	for (int i = 0; i < BOX_FDS; i++)
		fds[i] = -1;
}

/* [0] is ours. */
static int open_socket(int s[2])
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s) < 0)
		return -errno;
	fcntl(s[0], F_SETFL, O_NONBLOCK);
	return 0;
}

static int run_box(struct sandbox *s, const char *verb, const struct strings *args, char *const envp[],
		   const int fds[BOX_FDS], pid_t *pid, int *pidfd)
{
	char **argv = xcalloc(args->n + 3, sizeof(*argv));
	size_t n = 0;

	argv[n++] = "box";
	if (verb)
		argv[n++] = (char *)verb;
	for (size_t i = 0; i < args->n; i++)
		argv[n++] = args->v[i];
	int err = spawn(s->program, argv, envp, fds, BOX_FDS, pid, pidfd);
	free(argv);
	return err;
}

static char *const no_env[] = { NULL };

int sandbox_up(struct sandbox *s, const struct strings *opts, const struct cgroup *group, int *socket, pid_t *launcher,
	       int *pidfd)
{
	int pair[2], fds[BOX_FDS];
	int err = open_socket(pair);

	if (err)
		return err;
	no_fds(fds);
	fds[BOX_OWN] = pair[1];
	put_filters(s, group, fds);
	err = run_box(s, "up", opts, no_env, fds, launcher, pidfd);
	close(pair[1]);
	if (err)
		close(pair[0]);
	else
		*socket = pair[0];
	return err;
}

int sandbox_bind(struct sandbox *s, const int *box, const struct strings *opts, pid_t *pid, int *pidfd)
{
	int fds[BOX_FDS];

	no_fds(fds);
	memcpy(fds + BOX_NAMESPACES, box, BOX_NS * sizeof(*fds));
	return run_box(s, "bind", opts, no_env, fds, pid, pidfd);
}

int sandbox_run(struct sandbox *s, const int *box, const struct cgroup *group, const int *child,
		const struct strings *args, char *const envp[], pid_t *pid, int *pidfd)
{
	int fds[BOX_FDS];

	no_fds(fds);
	memcpy(fds, child, (BOX_OWN + 2) * sizeof(*fds));
	put_filters(s, group, fds);
	for (int i = 0; box && i < BOX_NS; i++)
		fds[BOX_NAMESPACES + i] = box[i];
	return run_box(s, box ? "join" : NULL, args, envp, fds, pid, pidfd);
}

ssize_t sandbox_recv(int socket, char line[BOX_LINE], int *fds, int *nfds)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(BOX_UP_FDS * sizeof(int))];
	} c;
	struct iovec v = { line, BOX_LINE - 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = fds ? c.space : NULL,
			    .msg_controllen = fds ? sizeof(c.space) : 0 };
	ssize_t n = recvmsg(socket, &m, MSG_CMSG_CLOEXEC);

	if (nfds)
		*nfds = 0;
	if (n < 0)
		return errno == ECONNRESET ? 0 : -errno;
	for (struct cmsghdr *h = fds ? CMSG_FIRSTHDR(&m) : NULL; h; h = CMSG_NXTHDR(&m, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		*nfds = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(h), *nfds * sizeof(int));
	}
	while (n == 0 && nfds && *nfds) /* with nothing said it means nothing */
		close(fds[--*nfds]);
	line[n] = 0;
	line[strcspn(line, "\n")] = 0;
	return n;
}

pid_t sandbox_pid(int pidfd)
{
	char path[48];
	auto_buf struct buf b = { 0 };

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	if (pidfd < 0 || read_file(AT_FDCWD, path, 4096, &b))
		return 0;
	char *p = strstr(b.s, "Pid:");
	long pid = p ? strtol(p + 4, NULL, 10) : 0;
	return pid > 0 ? pid : 0;
}

/* ---- the self-test ---- */

static bool file_says(const char *path, const char *text)
{
	auto_buf struct buf b = { 0 };

	return !read_file(AT_FDCWD, path, 64, &b) && b.n && !strncmp(b.s, text, strlen(text));
}

static bool userns_off(void)
{
	return file_says("/proc/sys/kernel/unprivileged_userns_clone", "0");
}

static bool userns_none(void)
{
	return file_says("/proc/sys/user/max_user_namespaces", "0\n");
}

static bool apparmor(void)
{
	return file_says("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1");
}

static bool container(void)
{
	return access("/.dockerenv", F_OK) == 0 || access("/run/.containerenv", F_OK) == 0 || getenv("container");
}

static bool always(void)
{
	return true;
}

static const char apparmor_cause[] = "AppArmor keeps ordinary programs from using user namespaces "
				     "(kernel.apparmor_restrict_unprivileged_userns=1)";
static const char apparmor_mend[] = "install the profile: make install-apparmor (or: cp examples/apparmor/cellfs-box "
				    "/etc/apparmor.d/ && apparmor_parser -r /etc/apparmor.d/cellfs-box)";
static const char seccomp_mend[] = "start the container with --security-opt seccomp=unconfined, or with a profile that "
				   "allows clone3, mount and setns";

/* What stops a box from being made on the hosts that are known to stop it. The first that fits is told. */
static const struct refusal {
	const char *step; /* of box up; "" any */
	int err;          /* 0 any */
	bool (*when)(void);
	const char *cause, *mend;
} refusals[] = {
	{ "clone", EPERM, userns_off, "user namespaces are switched off for ordinary users (kernel.unprivileged_userns_clone=0)",
	  "sysctl -w kernel.unprivileged_userns_clone=1, or start cellfs as root" },
	{ "clone", ENOSPC, always, "no more user namespaces may be made (user.max_user_namespaces)",
	  "sysctl -w user.max_user_namespaces=10000" },
	{ "clone", 0, userns_none, "no user namespaces may be made (user.max_user_namespaces=0)",
	  "sysctl -w user.max_user_namespaces=10000" },
	{ "", EPERM, apparmor, apparmor_cause, apparmor_mend },
	{ "", EACCES, apparmor, apparmor_cause, apparmor_mend },
	{ "clone", ENOSYS, always, "the system call clone3 is blocked, as by a container's seccomp profile",
	  seccomp_mend },
	{ "clone", EPERM, always, "namespaces are blocked, as by a container's seccomp profile",
	  seccomp_mend },
	{ "proc", 0, always, "a /proc of its own cannot be mounted, as in a container whose /proc is masked",
	  "start the container with --security-opt systempaths=unconfined" },
	{ "seccomp", 0, always, "this kernel has no seccomp filters (CONFIG_SECCOMP_FILTER)", "use a kernel that has them" },
	{ "", 0, container, "this container does not let it", "start it with --security-opt seccomp=unconfined "
	  "--security-opt systempaths=unconfined --security-opt apparmor=unconfined" },
	{ "", 0, always, "this host does not let it", "find out what refuses it; `strace -f` of cellfs shows the call" },
};

static void explain(const char *message, struct buf *why)
{
	char step[32] = "";
	int err = 0;

	sscanf(message, "failed %31s %d", step, &err);
	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
		const struct refusal *r = &refusals[i];
		if ((*r->step && strcmp(r->step, step)) || (r->err && r->err != err) || !r->when())
			continue;
		buf_printf(why, "no kernel can be isolated here, so nothing is mounted.\n"
				"  cause: %s\n  it said: %s\n  mend:  %s\n"
				"  Or give isolation up in writing: -o sandbox=weak (Landlock, seccomp, limits of each process) or "
				"-o sandbox=none.", r->cause, message + (strncmp(message, "failed ", 7) ? 0 : 7), r->mend);
		return;
	}
}

/* Waits for a message that begins with GOOD or `failed`, which is in LINE then; takes the number behind PID_WORD. */
static bool wait_for(int socket, const char *good, char line[BOX_LINE], int *fds, int *nfds, pid_t *pid, const char *pid_word)
{
	int64_t end = mono_us() + TEST_MS * 1000LL;
	size_t k = strlen(pid_word);

	for (;;) {
		struct pollfd p = { .fd = socket, .events = POLLIN };
		int64_t left = (end - mono_us()) / 1000;
		if (left <= 0 || poll(&p, 1, left) < 0) {
			snprintf(line, BOX_LINE, "failed test %d no answer within %d s", ETIMEDOUT, TEST_MS / 1000);
			return false;
		}
		ssize_t n = sandbox_recv(socket, line, fds, nfds);
		if (n == -EAGAIN)
			continue;
		if (n <= 0) {
			snprintf(line, BOX_LINE, "failed test %d it ended without a word", EPIPE);
			return false;
		}
		if (!strncmp(line, pid_word, k))
			*pid = strtol(line + k, NULL, 10);
		if (!strncmp(line, good, strlen(good)))
			return true;
		if (!strncmp(line, "failed", 6))
			return false;
	}
}

static void reap(pid_t pid, int pidfd)
{
	int status;

	if (pidfd >= 0)
		close(pidfd);
	if (pid > 0)
		waitpid(pid, &status, 0);
}

/* Joins the box as a kernel does, and has it looked at from inside. */
static bool check_inside(struct sandbox *s, const int *ns, char line[BOX_LINE])
{
	struct strings args = { 0 };
	int report[2], life[2], fds[BOX_OWN + 2], pidfd = -1;
	pid_t launcher = 0, joined = 0;
	bool ok = false;

	if (open_socket(report) || pipe2(life, O_CLOEXEC))
		return false;
	for (int i = 0; i < BOX_OWN; i++)
		fds[i] = -1;
	fds[BOX_OWN] = life[0];
	fds[BOX_OWN + 1] = report[1];
	strings_addf(&args, "--lifeline=%d", BOX_OWN);
	strings_addf(&args, "--report=%d", BOX_OWN + 1);
	strings_addf(&args, "--check");
	int err = sandbox_run(s, ns, NULL, fds, &args, no_env, &launcher, &pidfd);
	close(report[1]);
	close(life[0]);
	if (err)
		snprintf(line, BOX_LINE, "failed join %d %s", -err, strerror(-err));
	else
		ok = wait_for(report[0], "exited 0", line, NULL, NULL, &joined, "joined ");
	close(life[1]);
	reap(launcher, pidfd);
	close(report[0]);
	reap(joined, -1);
	strings_clear(&args);
	return ok;
}

static int try_box(struct sandbox *s, struct buf *why)
{
	struct strings opts = { 0 };
	char line[BOX_LINE];
	int fds[BOX_UP_FDS], nfds = 0, socket = -1, pidfd = -1;
	pid_t launcher = 0, init = 0;

	if (geteuid() == 0) /* any but root: that of the user nobody has nothing that it could change */
		strings_addf(&opts, "--ids=65534:65534");
	int err = sandbox_up(s, &opts, NULL, &socket, &launcher, &pidfd);
	strings_clear(&opts);
	if (err) {
		buf_printf(why, "%s: %s", s->program, strerror(-err));
		return -1;
	}
	bool ok = wait_for(socket, "up", line, fds, &nfds, &init, "pid ");
	reap(launcher, pidfd);
	if (ok)
		ok = check_inside(s, fds, line);
	for (int i = 0; i < nfds; i++)
		close(fds[i]);
	close(socket);
	reap(init, -1);
	if (!ok)
		explain(line, why);
	return ok ? 0 : -1;
}

/* ---- opening ---- */

static int make_filters(struct sandbox *s, struct buf *why)
{
	struct strings args = { 0 };
	int fds[BOX_FDS], pidfd, status = -1;
	pid_t pid;

	no_fds(fds);
	for (int i = 0; i < 2; i++) {
		s->filters[i] = memfd_create("seccomp", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		if (s->filters[i] < 0) {
			buf_printf(why, "memfd_create: %s", strerror(errno));
			return -1;
		}
		fds[BOX_FILTERS + i] = s->filters[i];
		strings_addf(&args, "%d", BOX_FILTERS + i);
	}
	fds[2] = STDERR_FILENO;
	int err = run_box(s, "filters", &args, no_env, fds, &pid, &pidfd);
	strings_clear(&args);
	if (!err) {
		close(pidfd);
		waitpid(pid, &status, 0);
	}
	for (int i = 0; i < 2; i++)
		if (fcntl(s->filters[i], F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
			err = -errno;
	if (err == -EPERM || err == -ENOSYS) { /* not even libc can start a program: it uses clone3 as well */
		char line[BOX_LINE];
		snprintf(line, sizeof(line), "failed clone %d %s", -err, strerror(-err));
		explain(line, why);
	} else if (err || status) {
		buf_printf(why, "%s filters: %s", s->program, err ? strerror(-err) : "failed");
	}
	return err || status ? -1 : 0;
}

static const char no_groups[] = "each process has limits of its own, and the daemon looks every 250 ms";

int sandbox_open(struct sandbox *s, enum sandbox_mode mode, const char *program, const char *tag, struct buf *why)
{
	static const char *const words[] = {
		[SANDBOX_FULL] = "full: namespaces, seccomp",
		[SANDBOX_WEAK] = "weak: Landlock and seccomp only: no namespaces, no limits of a context, "
				 "the host's processes and network are seen",
		[SANDBOX_NONE] = "none: kernels run as the user who mounted, unconfined",
	};
	auto_buf struct buf groups = { 0 };

	*s = (struct sandbox){ .mode = mode, .program = program, .filters = { -1, -1 } };
	int landlock = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	if (mode == SANDBOX_FULL && landlock > 0)
		s->isolation = xasprintf("%s, Landlock %d", words[mode], landlock);
	else
		s->isolation = xstrdup(words[mode]);
	if (mode == SANDBOX_NONE) {
		s->limits = xstrdup("none");
		return 0;
	}
	if (make_filters(s, why))
		return -1;
	if (mode == SANDBOX_WEAK) {
		s->limits = xstrdup("of each process");
		return 0;
	}
	if (try_box(s, why))
		return -1;
	cgroups_open(&s->cgroups, tag, &groups);
	s->limits = s->cgroups.kind == CGROUP_NONE ? xasprintf("%s (%s)", no_groups, groups.s) : xstrdup(groups.s);
	return 0;
}

void sandbox_close(struct sandbox *s)
{
	cgroups_close(&s->cgroups);
	drop_fd(&s->filters[0]);
	drop_fd(&s->filters[1]);
	free(s->isolation);
	free(s->limits);
}

/* ---- interpreters from elsewhere ---- */

static bool in_system(const char *path)
{
	static const char *const trees[] = { "/usr/", "/bin/", "/sbin/", "/lib/", "/lib64/" };

	for (size_t i = 0; i < ARRAY_SIZE(trees); i++)
		if (!strncmp(path, trees[i], strlen(trees[i])))
			return true;
	return false;
}

/* /opt, /home/USER: more than one installation, the whole of it is nobody's prefix. */
static bool is_crowded(const char *dir)
{
	int depth = 0;

	for (const char *p = dir; *p; p++)
		depth += *p == '/' && p[1];
	return depth < 2 || (depth == 2 && !strncmp(dir, "/home/", 6));
}

char *sandbox_prefix(const char *path)
{
	if (*path != '/' || in_system(path))
		return NULL;
	char *dir = xstrdup(path), *slash = strrchr(dir, '/');
	*slash = 0;
	slash = strrchr(dir, '/');
	if (!slash || strcmp(slash, "/bin"))
		return dir;
	*slash = 0;
	if (is_crowded(dir))
		*slash = '/';
	return dir;
}
