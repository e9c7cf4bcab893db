/* Enters a box that is up, and becomes the supervisor of one kernel in it.
 *
 * The process that enters (it must have one thread) stays outside of the box's pid namespace; the supervisor
 * is its child by clone3(CLONE_PARENT), so it is the daemon's own. It is told as "joined PID", PID being its
 * number outside; that comes before anything else of it. A failure before that is "failed TEXT". */
#include "box.h"

#include "filter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <linux/securebits.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

const struct box_ns box_ns[BOX_NS] = {
	{ "user", CLONE_NEWUSER }, { "mnt", CLONE_NEWNS }, { "pid", CLONE_NEWPID }, [NS_NET] = { "net", CLONE_NEWNET },
	{ "ipc", CLONE_NEWIPC }, { "uts", CLONE_NEWUTS }, { "cgroup", CLONE_NEWCGROUP },
};

int box_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return -errno;
	int err = write(fd, text, strlen(text)) < 0 ? -errno : 0;
	close(fd);
	return err;
}

int box_drop_rights(bool sets)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { 0 };

	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (int cap = 0; sets && cap < 64; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) && errno != EINVAL)
			return -errno;
	if (sets && prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
		  SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
		  SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED, 0, 0, 0))
		return -errno;
	if (syscall(SYS_capset, &head, none))
		return -errno;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? -errno : 0;
}

int box_filter(void)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	int err = filter_load(BOX_FILTERS);
	return err ? err : filter_load(BOX_FILTERS + 1);
}

int box_limit(int what, int64_t value)
{
	struct rlimit now;

	if (value < 0 || getrlimit(what, &now))
		return 0;
	if (now.rlim_max != RLIM_INFINITY && (rlim_t)value > now.rlim_max)
		value = now.rlim_max; /* ours are at most those of who mounted */
	return setrlimit(what, &(struct rlimit){ value, value }) ? -errno : 0;
}

int box_set_limits(const struct box_limits *l)
{
	const struct {
		int what;
		int64_t value;
	} all[] = {
		{ RLIMIT_DATA, l->data }, { RLIMIT_FSIZE, l->fsize },
		{ RLIMIT_CORE, 0 }, { RLIMIT_MSGQUEUE, 1 << 20 }, { RLIMIT_SIGPENDING, 4096 },
		{ RLIMIT_MEMLOCK, 8 << 20 }, { RLIMIT_RTPRIO, 0 }, { RLIMIT_NICE, 0 },
		{ RLIMIT_NPROC, l->processes },
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		int err = box_limit(all[i].what, all[i].value);
		if (err)
			return err;
	}
	return 0;
}

/* A group that cannot be entered is another daemon's or gone: its limits are missed, the box holds. */
void box_enter_cgroups(struct clone_args *args)
{
	struct stat st;

	for (int fd = BOX_CGROUPS; fd < BOX_CGROUP; fd++)
		if (write(fd, "0", 1) < 0)
			errno = 0;
	if (!fstat(BOX_CGROUP, &st) && S_ISDIR(st.st_mode)) {
		args->flags |= CLONE_INTO_CGROUP;
		args->cgroup = BOX_CGROUP;
	}
}

/* A box without a network of its own has the one that we are in, and nobody may join that. */
static bool is_ours(int fd, const char *name)
{
	struct stat theirs, ours;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
	return !fstat(fd, &theirs) && !stat(path, &ours) && theirs.st_ino == ours.st_ino &&
	       theirs.st_dev == ours.st_dev;
}

static int enter_namespaces(char why[BOX_LINE])
{
	bool same_net = is_ours(BOX_NAMESPACES + NS_NET, "net");

	for (int i = 0; i < NS_CGROUP; i++) {
		if (i == NS_NET && same_net)
			continue;
		if (setns(BOX_NAMESPACES + i, 0)) {
			snprintf(why, BOX_LINE, "enter the %s namespace: %s", box_ns[i].name, strerror(errno));
			return -errno;
		}
	}
	return 0;
}

static int become_user(void)
{
	/* Denied where an ordinary user made the namespace: who is in groups stays in them. */
	if (setgroups(0, NULL) && errno != EPERM)
		return -errno;
	if (setresgid(BOX_ID, BOX_ID, BOX_ID) || setresuid(BOX_ID, BOX_ID, BOX_ID))
		return -errno;
	return 0;
}

static void failed(const struct box *b, const char *what, int err)
{
	if (!err)
		return;
	box_say(b->report, NULL, 0, "failed %s: %s", what, strerror(-err));
	_exit(0);
}

/* Made before anything is given up: the right to a group of cgroup v2 is that of the caller's uid. */
int box_enter(struct box *b, char why[BOX_LINE])
{
	struct clone_args args = { .flags = CLONE_PARENT };
	int err, go[2];
	char c;

	box_enter_cgroups(&args);
	box_write("/proc/self/oom_score_adj", "500"); /* the host's OOM killer takes a cell before the daemon */
	if ((err = enter_namespaces(why)))
		return err;
	if ((err = box_set_limits(&b->limits))) {
		snprintf(why, BOX_LINE, "set limits: %s", strerror(-err));
		return err;
	}
	prctl(PR_SET_DUMPABLE, 0); /* its child is seen in the box before it has given up everything */
	pid_t pid = pipe2(go, O_CLOEXEC) ? -1 : syscall(SYS_clone3, &args, sizeof(args));
	if (pid < 0) {
		snprintf(why, BOX_LINE, "start a process in the box: %s", strerror(errno));
		return -errno;
	}
	if (pid) {
		box_say(b->report, NULL, 0, "joined %d", pid);
		_exit(write(go[1], "g", 1) != 1);
	}
	/* Who was told of the supervisor's end before its number would not reap it, and so never end the box. */
	close(go[1]);
	if (read(go[0], &c, 1) != 1)
		_exit(1);
	close(go[0]);
	b->joined = true;
	/* Not before: from inside, the group that we came from is not there, and CLONE_INTO_CGROUP fails. */
	failed(b, "enter the cgroup namespace", setns(BOX_NAMESPACES + NS_CGROUP, 0) ? -errno : 0);
	failed(b, "become its user", become_user());
	failed(b, "give up capabilities", box_drop_rights(true));
	failed(b, "seccomp", box_filter());
	return 0;
}

int box_join(const char *cwd, const struct box_limits *limits, int lifeline, int report, char why[BOX_LINE])
{
	static struct box b;

	b = (struct box){ .cwd = cwd, .limits = *limits, .lifeline = lifeline, .report = report };
	int err = box_enter(&b, why);
	return err ? err : box_supervise(&b);
}
