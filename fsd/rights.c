#include "rights.h"

#include "util.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

enum { GROUPS_MAX = 65536, LINKS_MAX = 40 };

/* glibc's functions change all threads of a process; these change one. */
#ifdef SYS_setgroups32
enum { SET_GROUPS = SYS_setgroups32, SET_FSGID = SYS_setfsgid32, SET_FSUID = SYS_setfsuid32 };
#else
enum { SET_GROUPS = SYS_setgroups, SET_FSGID = SYS_setfsgid, SET_FSUID = SYS_setfsuid };
#endif

/* ---- another's rights ---- */

struct rights {
	gid_t *groups;
	int ngroups;
	uid_t fsuid;
	gid_t fsgid;
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];
};

static int get_caps(struct __user_cap_data_struct *caps)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };

	return syscall(SYS_capget, &head, caps);
}

static int set_caps(const struct __user_cap_data_struct *caps)
{
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };

	return syscall(SYS_capset, &head, caps);
}

/* setfsuid and setfsgid never fail in words: they tell what was. */
static bool set_fs_id(int call, unsigned id)
{
	syscall(call, id);
	return (unsigned)syscall(call, -1) == id;
}

static int save(struct rights *r)
{
	r->ngroups = getgroups(0, NULL);
	if (r->ngroups < 0)
		return -errno;
	r->groups = xcalloc(r->ngroups + 1, sizeof(*r->groups));
	if (getgroups(r->ngroups, r->groups) < 0 || get_caps(r->caps) < 0)
		return -errno;
	r->fsuid = syscall(SET_FSUID, -1);
	r->fsgid = syscall(SET_FSGID, -1);
	return 0;
}

/* The text after NAME at the beginning of a line. */
static const char *field(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at && (at == text || at[-1] == '\n') ? at + strlen(name) : NULL;
}

/* The groups of WHO's thread, if that is what it is: a thread with these ids. */
static int groups_of(const struct who *who, gid_t **groups)
{
	char path[40], *end;
	auto_buf struct buf b = { 0 };
	unsigned uid;
	int n = 0, cap = 0;

	*groups = NULL;
	snprintf(path, sizeof(path), "/proc/%d/status", who->pid);
	if (!who->pid || read_file(AT_FDCWD, path, 1 << 20, &b))
		return 0;
	const char *uids = field(b.s, "Uid:"), *s = field(b.s, "Groups:");
	if (!uids || !s || sscanf(uids, "%*u %*u %*u %u", &uid) != 1 || uid != who->uid)
		return 0;
	for (; n < GROUPS_MAX; s = end) {
		s += strspn(s, " \t");
		gid_t gid = strtoul(s, &end, 10);
		if (end == s)
			break;
		if (n == cap) {
			cap = cap ? 2 * cap : 16;
			*groups = xrealloc(*groups, cap * sizeof(**groups));
		}
		(*groups)[n++] = gid;
	}
	return n;
}

static bool assume(const struct who *who)
{
	auto_free gid_t *groups = NULL;
	int n = groups_of(who, &groups);
	struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];

	if (syscall(SET_GROUPS, n, groups) < 0 || !set_fs_id(SET_FSGID, who->gid) ||
	    !set_fs_id(SET_FSUID, who->uid) || get_caps(caps) < 0)
		return false;
	/* Those of files are gone with the uid; the others open doors too, such as /proc/PID/root. */
	for (size_t i = 0; i < ARRAY_SIZE(caps); i++)
		caps[i].effective = 0;
	return set_caps(caps) == 0;
}

/* A daemon that is half another user must not go on. */
static void restore(const struct rights *r)
{
	if (set_caps(r->caps) < 0 || !set_fs_id(SET_FSUID, r->fsuid) || !set_fs_id(SET_FSGID, r->fsgid) ||
	    syscall(SET_GROUPS, r->ngroups, r->groups) < 0 || set_caps(r->caps) < 0)
		abort();
}

int as_user(const struct who *who, int (*fn)(void *), void *arg)
{
	struct rights was = { 0 };
	int dumpable, err;

	if (who->uid == geteuid())
		return fn(arg);
	if (geteuid() != 0)
		return -EACCES;
	dumpable = prctl(PR_GET_DUMPABLE);
	err = save(&was);
	if (!err) {
		err = assume(who) ? fn(arg) : -EPERM;
		restore(&was);
		if (dumpable >= 0) /* a change of the uid took it */
			prctl(PR_SET_DUMPABLE, dumpable);
	}
	free(was.groups);
	return err;
}

/* ---- a path ---- */

struct walk {
	const char *path;
	dev_t *shut; /* file systems that are not entered */
	size_t nshut;
};

/* Which file systems of the mount table are served by a program: ours, and with OTHERS all. */
static void find_shut(struct walk *w, bool others)
{
	auto_buf struct buf b = { 0 };
	char *rest, *line;

	if (read_file(AT_FDCWD, "/proc/self/mountinfo", 64 << 20, &b))
		return;
	rest = b.s;
	while ((line = strsep(&rest, "\n"))) {
		const char *type = strstr(line, " - ");
		unsigned major, minor;
		if (!type || sscanf(line, "%*d %*d %u:%u", &major, &minor) != 2)
			continue;
		type += 3;
		if (strncmp(type, others ? "fuse" : "fuse.cellfs ", others ? 4 : 12))
			continue;
		w->shut = xrealloc(w->shut, (w->nshut + 1) * sizeof(*w->shut));
		w->shut[w->nshut++] = makedev(major, minor);
	}
}

/* The type of FD's object, without a word to whoever serves its file system; -EDEADLK if that is shut. */
static int look(const struct walk *w, int fd)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0)
		return -errno;
	for (size_t i = 0; i < w->nshut; i++)
		if (w->shut[i] == makedev(st.stx_dev_major, st.stx_dev_minor))
			return -EDEADLK;
	return st.stx_mode & S_IFMT;
}

/* The target of link FD before what is left of the path. */
static int put_before(int fd, char **left)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(fd, "", target, sizeof(target) - 1);

	if (n < 0)
		return -errno;
	target[n] = 0;
	char *longer = xasprintf("%s/%s", target, *left);
	free(*left);
	*left = longer;
	return strlen(longer) >= 2 * PATH_MAX ? -ENAMETOOLONG : 0;
}

/* Name by name, so that each mount is seen before anything in it is asked for. */
static int walk_path(void *arg)
{
	const struct walk *w = arg;
	auto_free char *left = xstrdup(w->path);
	auto_close int at = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int links = 0;

	for (;;) {
		char name[NAME_MAX + 1];
		size_t slashes = strspn(left, "/"), n = strcspn(left + slashes, "/");
		if (!n)
			return at < 0 ? -errno : take(&at);
		if (n > NAME_MAX)
			return -ENAMETOOLONG;
		memcpy(name, left + slashes, n);
		name[n] = 0;
		memmove(left, left + slashes + n, strlen(left + slashes + n) + 1);
		auto_close int next = openat(at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0)
			return -errno;
		int type = look(w, next);
		if (type < 0)
			return type;
		if (type != S_IFLNK) {
			drop_fd(&at);
			at = take(&next);
			continue;
		}
		int err = ++links > LINKS_MAX ? -ELOOP : put_before(next, &left);
		if (err)
			return err;
		if (*left == '/') {
			drop_fd(&at);
			at = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
		}
	}
}

int open_as(const struct who *who, const char *path)
{
	struct walk w = { .path = path };

	if (*path != '/')
		return -EINVAL;
	find_shut(&w, who->uid != geteuid());
	int fd = as_user(who, walk_path, &w);
	free(w.shut);
	return fd;
}

char *resolve_as(const struct who *who, const char *path)
{
	auto_close int fd = open_as(who, path);
	char link[40], name[PATH_MAX];

	if (fd < 0) {
		errno = -fd;
		return NULL;
	}
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(link, name, sizeof(name));
	if (n < 0)
		return NULL;
	if (n == sizeof(name)) {
		errno = ENAMETOOLONG;
		return NULL;
	}
	return xstrndup(name, n);
}

/* Not access(2): it asks for the real uid, which is the daemon's. */
static int may_execute_fd(void *arg)
{
	return syscall(SYS_faccessat2, *(int *)arg, "", X_OK, AT_EMPTY_PATH | AT_EACCESS) < 0 ? -errno : 0;
}

int may_execute(const struct who *who, const char *path)
{
	auto_close int fd = open_as(who, path);
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode) ? as_user(who, may_execute_fd, &fd) : -EACCES;
}
