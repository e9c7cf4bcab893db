#include "cgroup.h"

#include <dirent.h>
#include <endian.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/xattr.h>

#define LEAF "daemon"

enum {
	FILE_MAX = 1 << 20,
	LEFT_US = 300000,    /* what an earlier daemon left may take to end */
	SCOPE_US = 3000000,  /* systemd may take to move us */
	PERIOD_US = 100000,  /* of the scheduler's quota */
	NAMES = 100,         /* tries to find one that is free */
	CPUS_MAX = 1 << 20,
};

static const char *const controllers[] = { "memory", "pids", "cpu", "cpuacct" };

/* ---- small files ---- */

static int get(int dir, const char *group, const char *file, struct buf *out)
{
	auto_free char *path = xasprintf("%s/%s", group, file);

	return read_file(dir, path, FILE_MAX, out);
}

static int put(int dir, const char *group, const char *file, const char *text)
{
	auto_free char *path = xasprintf("%s/%s", group, file);
	auto_close int fd = openat(dir, path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

/* A limit; 0 is NONE. */
static int put_limit(int dir, const char *group, const char *file, int64_t v, const char *none)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRId64, v);
	return put(dir, group, file, v ? text : none);
}

static int64_t number(const char *s)
{
	char *end;
	long long v;

	errno = 0;
	v = strtoll(s, &end, 10);
	return end == s || errno ? -1 : v;
}

/* The number in FILE, behind KEY if it has one; -1 if there is none. */
static int64_t get_number(int dir, const char *group, const char *file, const char *key)
{
	auto_buf struct buf b = { 0 };
	size_t n = key ? strlen(key) : 0;

	if (dir < 0 || get(dir, group, file, &b))
		return -1;
	if (!key)
		return number(b.s);
	for (char *rest = b.s, *line; (line = strsep(&rest, "\n"));)
		if (!strncmp(line, key, n) && line[n] == ' ')
			return number(line + n);
	return -1;
}

static bool has_word(const char *list, const char *word, const char *between)
{
	size_t n = strlen(word);

	for (list += strspn(list, between); *list; list += strspn(list, between)) {
		size_t m = strcspn(list, between);
		if (m == n && !memcmp(list, word, n))
			return true;
		list += m;
	}
	return false;
}

static void pause_ms(int ms)
{
	poll(NULL, 0, ms);
}

/* ---- where we are ---- */

/* The path in the line of /proc/self/cgroup for CONTROLLER; malloc. */
static char *own_path(const char *self, const char *controller)
{
	auto_free char *copy = xstrdup(self);

	for (char *rest = copy, *path; (path = strsep(&rest, "\n"));) {
		char *id = strsep(&path, ":"), *list = path ? strsep(&path, ":") : NULL;
		if (path && (controller ? has_word(list, controller, ",") : !strcmp(id, "0") && !*list))
			return xstrdup(path);
	}
	return NULL;
}

/* mountinfo writes blanks and backslashes as \ooo. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++) {
		if (s[0] == '\\' && strspn(s + 1, "01234567") >= 3) {
			*to++ = (s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0');
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = 0;
}

/* If LINE of mountinfo mounts the groups of CONTROLLER: which group is on top, and where. */
static bool mounted_group(char *line, const char *controller, char **root, char **point)
{
	enum { ROOT = 3, POINT = 4, FIXED = 6 };
	char *field[FIXED], *word;

	for (int i = 0; i < FIXED; i++)
		if (!(field[i] = strsep(&line, " ")))
			return false;
	do
		word = strsep(&line, " ");
	while (word && strcmp(word, "-"));
	const char *type = strsep(&line, " ");
	strsep(&line, " ");
	if (!type || !line || strcmp(type, controller ? "cgroup" : "cgroup2"))
		return false;
	if (controller && !has_word(line, controller, ","))
		return false;
	*root = field[ROOT];
	*point = field[POINT];
	unescape(*root);
	unescape(*point);
	return true;
}

int cgroup_find(const char *self, const char *mounts, const char *controller, struct buf *dir)
{
	auto_free char *path = own_path(self, controller), *copy = xstrdup(mounts), *found = NULL;
	char *root, *point;

	/* Above the root of our namespace: no name leads there. */
	if (!path || *path != '/' || !strncmp(path, "/..", 3))
		return -ENOENT;
	for (char *rest = copy, *line; (line = strsep(&rest, "\n"));) {
		if (!mounted_group(line, controller, &root, &point))
			continue;
		size_t n = strcmp(root, "/") ? strlen(root) : 0;
		if (strncmp(path, root, n) || (path[n] && path[n] != '/'))
			continue;
		free(found); /* the last mount covers the ones before */
		found = xasprintf("%s%s", point, strcmp(path + n, "/") ? path + n : "");
	}
	if (!found)
		return -ENOENT;
	buf_str(dir, found);
	return 0;
}

static int find_own(const char *controller, struct buf *dir)
{
	auto_buf struct buf self = { 0 }, mounts = { 0 };
	int err = read_file(AT_FDCWD, "/proc/self/cgroup", FILE_MAX, &self);

	if (!err)
		err = read_file(AT_FDCWD, "/proc/self/mountinfo", 16 * FILE_MAX, &mounts);
	return err ? err : cgroup_find(self.s, mounts.s, controller, dir);
}

/* ---- base groups ---- */

static int open_group(int at, const char *path)
{
	int fd = openat(at, path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* Groups of a daemon that is gone; their processes end with it, which takes a moment. Returns how many
 * are left. */
static int sweep_once(int base, bool kill)
{
	int fd = openat(base, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), left = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d) {
		drop_fd(&fd);
		return 0;
	}
	for (struct dirent *e; (e = readdir(d));) {
		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		if (unlinkat(base, e->d_name, AT_REMOVEDIR) == 0)
			continue;
		left++;
		if (kill)
			put(base, e->d_name, "cgroup.kill", "1");
	}
	closedir(d);
	return left;
}

static void sweep(int base, bool kill)
{
	int64_t until = mono_us() + LEFT_US;

	while (sweep_once(base, kill) && mono_us() < until)
		pause_ms(10);
}

/* The hierarchy that HOME is in, if it has a base group already (`cpu,cpuacct` is one); else -1. */
static int same_home(const struct cgroups *g, int home)
{
	struct stat a, b;

	if (fstat(home, &a))
		return -1;
	for (int i = 0; i < g->n; i++)
		if (fstat(g->home[i], &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
			return i;
	return -1;
}

/* Makes the base group in HOME, which it takes. Returns the number of the hierarchy or -errno. */
static int add_base(struct cgroups *g, int given)
{
	auto_close int home = given;
	int i = same_home(g, home), base;

	if (i >= 0)
		return i;
	if (mkdirat(home, g->name, 0755) && errno != EEXIST)
		return -errno;
	base = open_group(home, g->name);
	if (base < 0)
		return base;
	sweep(base, g->kind == CGROUP_V2);
	i = g->n++;
	g->home[i] = take(&home);
	g->base[i] = base;
	return i;
}

/* ---- v1 ---- */

static int add_v1(struct cgroups *g, int controller)
{
	auto_buf struct buf dir = { 0 };
	int err = find_own(controllers[controller], &dir), home;

	if (err)
		return err;
	home = open_group(AT_FDCWD, dir.s);
	if (home < 0)
		return home;
	if (faccessat(home, ".", W_OK, AT_EACCESS)) {
		err = -errno;
		close(home);
		return err;
	}
	int i = add_base(g, home);
	if (i < 0)
		return i;
	/* Before 5.11 a group counted its children only when told. */
	if (controller == CGROUP_MEMORY)
		put(g->base[i], ".", "memory.use_hierarchy", "1");
	g->at[controller] = i;
	return 0;
}

/* Says in WHY what there is and, for what is not, the cause. */
static void describe(struct cgroups *g, const int err[], struct buf *why)
{
	g->memory = g->at[CGROUP_MEMORY] >= 0;
	g->pids = g->at[CGROUP_PIDS] >= 0;
	g->cpu = g->at[CGROUP_CPU] >= 0;
	buf_printf(why, "cgroup v%d:", g->kind == CGROUP_V1 ? 1 : 2);
	for (int c = 0; c <= CGROUP_CPU; c++)
		if (g->at[c] >= 0)
			buf_printf(why, " %s", controllers[c]);
	for (int c = 0; c <= CGROUP_CPU; c++)
		if (g->at[c] < 0)
			buf_printf(why, "; no %s: %s", controllers[c],
				   err[c] == -ENOENT ? "the machine does not offer it" : strerror(-err[c]));
}

/* Returns false if v1 has none of the controllers that limit. */
static bool open_v1(struct cgroups *g, struct buf *why)
{
	int err[CGROUP_CONTROLLERS];
	bool any = false, there = false;

	g->kind = CGROUP_V1;
	for (int c = 0; c < CGROUP_CONTROLLERS; c++) {
		if (c == CGROUP_CPUACCT && !any)
			break;
		err[c] = add_v1(g, c);
		any |= !err[c];
		there |= err[c] != -ENOENT;
	}
	if (any) {
		describe(g, err, why);
		return true;
	}
	g->kind = CGROUP_NONE;
	if (there)
		buf_printf(why, "none: cgroup v1, and its groups: %s%s", strerror(-err[CGROUP_MEMORY]),
			   geteuid() ? " (only root may use them)" : "");
	return there;
}

/* ---- asking systemd ---- */

/* D-Bus, little endian: every value starts at a multiple of its size, strings of 4, structs of 8. */
static void bus_align(struct buf *b, size_t to)
{
	while (b->n % to)
		buf_char(b, 0);
}

static void bus_u32(struct buf *b, uint32_t v)
{
	bus_align(b, 4);
	v = htole32(v);
	buf_add(b, &v, sizeof(v));
}

static void bus_str(struct buf *b, const char *s)
{
	bus_u32(b, strlen(s));
	buf_add(b, s, strlen(s) + 1);
}

static void bus_signature(struct buf *b, const char *s)
{
	buf_char(b, strlen(s));
	buf_add(b, s, strlen(s) + 1);
}

/* Length of what stands behind AT, which a later call fills in. */
static void bus_set_u32(struct buf *b, size_t at, uint32_t v)
{
	v = htole32(v);
	memcpy(b->s + at, &v, sizeof(v));
}

static uint32_t bus_get_u32(const char *at)
{
	uint32_t v;

	memcpy(&v, at, sizeof(v));
	return le32toh(v);
}

static void bus_body(struct buf *b, const char *scope, pid_t pid)
{
	bus_str(b, scope);
	bus_str(b, "fail");
	bus_u32(b, 0); /* a(sv): its length is without the padding to the first struct */
	size_t length = b->n - 4;
	bus_align(b, 8);
	size_t start = b->n;
	bus_str(b, "Description");
	bus_signature(b, "s");
	bus_str(b, "cellfs, a code interpreter that is a directory");
	bus_align(b, 8);
	bus_str(b, "PIDs");
	bus_signature(b, "au");
	bus_u32(b, 4);
	bus_u32(b, pid);
	bus_align(b, 8);
	bus_str(b, "Delegate");
	bus_signature(b, "b");
	bus_u32(b, 1);
	bus_align(b, 8);
	bus_str(b, "CollectMode");
	bus_signature(b, "s");
	bus_str(b, "inactive-or-failed");
	bus_set_u32(b, length, b->n - start);
	bus_u32(b, 0); /* a(sa(sv)): no other units */
	bus_align(b, 8);
}

static void bus_field(struct buf *b, char code, const char *type, const char *value)
{
	bus_align(b, 8);
	buf_char(b, code);
	bus_signature(b, type);
	if (*type == 'g')
		bus_signature(b, value);
	else
		bus_str(b, value);
}

void cgroup_scope_message(struct buf *b, const char *scope, pid_t pid)
{
	auto_buf struct buf m = { 0 }, body = { 0 };

	bus_body(&body, scope, pid);
	buf_add(&m, "l\1\0\1", 4); /* little endian, a call, no flags, version 1 */
	bus_u32(&m, body.n);
	bus_u32(&m, 1);
	bus_u32(&m, 0);
	size_t start = m.n;
	bus_field(&m, 1, "o", "/org/freedesktop/systemd1");
	bus_field(&m, 2, "s", "org.freedesktop.systemd1.Manager");
	bus_field(&m, 3, "s", "StartTransientUnit");
	bus_field(&m, 6, "s", "org.freedesktop.systemd1");
	bus_field(&m, 8, "g", "ssa(sv)a(sa(sv))");
	bus_set_u32(&m, start - 4, m.n - start);
	bus_align(&m, 8);
	buf_add(b, m.s, m.n);
	buf_add(b, body.s, body.n);
}

/* The socket of systemd's manager of this user or, for root, of the system; malloc, NULL if none. */
static char *manager_path(void)
{
	const char *run = getenv("XDG_RUNTIME_DIR");

	if (geteuid() == 0)
		return access("/run/systemd/system", F_OK) ? NULL : xstrdup("/run/systemd/private");
	return run && *run == '/' ? xasprintf("%s/systemd/private", run) : NULL;
}

/* Connects. A manager that sees other process numbers than we do (its socket was bound into a
 * container) would move a stranger: such a one has no number here. */
static int manager_connect(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	const struct timeval patience = { .tv_sec = 3 };
	struct ucred who;
	socklen_t n = sizeof(who);
	auto_free char *path = manager_path();

	if (!path || strlen(path) >= sizeof(a.sun_path))
		return -ENOENT;
	memcpy(a.sun_path, path, strlen(path));
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) ||
	    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)))
		return -errno;
	if (who.pid <= 0 || who.uid != geteuid())
		return -EPERM;
	return take(&fd);
}

static int send_all(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t w = send(fd, p, n, MSG_NOSIGNAL);
		if (w <= 0)
			return w ? -errno : -EPIPE;
		p += w;
		n -= w;
	}
	return 0;
}

static int recv_all(int fd, char *p, size_t n)
{
	while (n) {
		ssize_t r = recv(fd, p, n, 0);
		if (r <= 0)
			return r ? -errno : -EPIPE;
		p += r;
		n -= r;
	}
	return 0;
}

static int bus_login(int fd)
{
	auto_buf struct buf b = { 0 };
	char uid[16], c = 0;
	int err;

	snprintf(uid, sizeof(uid), "%u", geteuid());
	buf_char(&b, 0);
	buf_str(&b, "AUTH EXTERNAL ");
	for (const char *p = uid; *p; p++)
		buf_printf(&b, "%02x", *p);
	buf_str(&b, "\r\n");
	err = send_all(fd, b.s, b.n);
	buf_reset(&b);
	while (!err && c != '\n' && b.n < 256) {
		err = recv_all(fd, &c, 1);
		buf_char(&b, c);
	}
	if (err)
		return err;
	return strncmp(b.s, "OK ", 3) ? -EACCES : send_all(fd, "BEGIN\r\n", 7);
}

/* Waits for the answer to the only call; WHY gets the text of an error. */
static int bus_answer(int fd, struct buf *why)
{
	enum { CALL_DONE = 2, CALL_FAILED = 3, HEAD = 16, MESSAGE_MAX = 1 << 20 };
	auto_buf struct buf b = { 0 };

	for (;;) {
		char head[HEAD];
		int err = recv_all(fd, head, sizeof(head));
		if (err)
			return err;
		uint32_t body = bus_get_u32(head + 4), fields = bus_get_u32(head + 12);
		if (head[0] != 'l' || body > MESSAGE_MAX || fields > MESSAGE_MAX)
			return -EPROTO;
		size_t skip = (fields + 7) & ~7U;
		buf_reset(&b);
		buf_grow(&b, skip + body);
		err = recv_all(fd, b.s, skip + body);
		if (err || head[1] == CALL_DONE)
			return err;
		if (head[1] != CALL_FAILED)
			continue; /* news that we did not ask for */
		if (body > 4 && bus_get_u32(b.s + skip) < body - 4)
			buf_add(why, b.s + skip + 4, bus_get_u32(b.s + skip));
		return -EREMOTEIO;
	}
}

/* Has systemd put us into a scope, and waits until we are there. WHY gets the cause of a failure. */
static int ask_for_scope(struct buf *why)
{
	auto_buf struct buf message = { 0 }, cause = { 0 }, self = { 0 };
	auto_free char *scope = xasprintf("cellfs-%d.scope", getpid());
	auto_close int fd = manager_connect();
	int64_t until = mono_us() + SCOPE_US;
	int err = fd < 0 ? fd : bus_login(fd);

	cgroup_scope_message(&message, scope, getpid());
	if (!err)
		err = send_all(fd, message.s, message.n);
	if (!err)
		err = bus_answer(fd, &cause);
	while (!err) {
		buf_reset(&self);
		err = read_file(AT_FDCWD, "/proc/self/cgroup", FILE_MAX, &self);
		if (!err && strstr(self.s, scope))
			return 0;
		if (mono_us() > until)
			err = -ETIMEDOUT;
		pause_ms(2);
	}
	if (err == -ENOENT || err == -ECONNREFUSED)
		buf_str(why, "; there is no systemd to delegate one");
	else
		buf_printf(why, "; systemd gave no scope: %s", cause.n ? cause.s : strerror(-err));
	return err;
}

/* ---- v2 ---- */

static bool is_marked(const char *path)
{
	static const char *const marks[] = { "user.delegate", "trusted.delegate" };
	char v[2];

	for (size_t i = 0; i < ARRAY_SIZE(marks); i++)
		if (getxattr(path, marks[i], v, sizeof(v)) == 1 && v[0] == '1')
			return true;
	return false;
}

static bool is_writable(const char *path)
{
	static const char *const files[] = { "", "/cgroup.procs", "/cgroup.subtree_control" };

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		auto_free char *f = xasprintf("%s%s", path, files[i]);
		if (faccessat(AT_FDCWD, f, W_OK, AT_EACCESS))
			return false;
	}
	return true;
}

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && !strcmp(s + n - m, end);
}

/* Is the unit of systemd that PATH lies in a service? (All of a user's lie below user@N.service.) */
static bool in_service(const char *path)
{
	auto_free char *copy = xstrdup(path);
	bool service = false;

	for (char *rest = copy, *part; (part = strsep(&rest, "/"));)
		if (ends_with(part, ".service") || ends_with(part, ".scope"))
			service = ends_with(part, ".service");
	return service;
}

/* The group that is ours: the one we are in, or the one above if we are in its leaf. */
static int find_ours(struct cgroups *g, struct buf *path)
{
	buf_reset(path);
	g->in_leaf = false;
	int err = find_own(NULL, path);
	if (err || !ends_with(path->s, "/" LEAF))
		return err;
	auto_free char *up = xstrndup(path->s, path->n - strlen("/" LEAF));
	if (is_writable(up)) {
		g->in_leaf = true;
		buf_reset(path);
		buf_str(path, up);
	}
	return 0;
}

/* Finds the group, PATH, that may have groups. WHY: why there is none, or may be none. */
static int find_delegated(struct cgroups *g, struct buf *path, struct buf *why)
{
	int err = find_ours(g, path);

	if (!err && !is_marked(path->s)) {
		if (in_service(path->s)) /* who leaves it is no longer the service */
			buf_str(why, "; the unit has no Delegate=yes");
		else if (!ask_for_scope(why))
			err = find_ours(g, path);
	}
	return err ? err : is_writable(path->s) ? 0 : -EACCES;
}

/* Is PID, our parent, this program too? It waits for the mount, and may not stay beside groups. */
static bool is_our_program(pid_t pid)
{
	struct stat a, b;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	return stat(path, &a) == 0 && stat("/proc/self/exe", &b) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

/* Whoever lives in HOME: nobody 0, unknown or invisible -1. */
static int64_t first_process(int home)
{
	auto_buf struct buf b = { 0 };

	if (get(home, ".", "cgroup.procs", &b) || (b.n && number(b.s) <= 0))
		return -1;
	return b.n ? number(b.s) : 0;
}

/* Goes from HOME into the leaf. */
static int enter_leaf(struct cgroups *g, int home, struct buf *why)
{
	char parent[16];

	if (mkdirat(home, LEAF, 0755) && errno != EEXIST) {
		buf_printf(why, "none: a group in our own: %s", strerror(errno));
		return -errno;
	}
	snprintf(parent, sizeof(parent), "%d", getppid());
	int err = put(home, LEAF, "cgroup.procs", "0");
	if (err) {
		unlinkat(home, LEAF, AT_REMOVEDIR);
		buf_printf(why, "none: moving into a group in our own: %s", strerror(-err));
		return err;
	}
	g->in_leaf = true;
	int64_t first = first_process(home);
	if (first == getppid() && is_our_program(first)) {
		put(home, LEAF, "cgroup.procs", parent);
		first = first_process(home);
	}
	if (!first)
		return 0;
	put(home, ".", "cgroup.procs", "0");
	unlinkat(home, LEAF, AT_REMOVEDIR);
	g->in_leaf = false;
	buf_str(why, "none: the daemon's own group has other processes in it");
	if (first > 0)
		buf_printf(why, " (%" PRId64 ")", first);
	return -EBUSY;
}

/* Has the children of GROUP controlled. */
static int enable(int at, const char *group, int controller, bool on)
{
	auto_free char *word = xasprintf("%c%s", on ? '+' : '-', controllers[controller]);

	return put(at, group, "cgroup.subtree_control", word);
}

static int enable_all(struct cgroups *g, int home, struct buf *why)
{
	auto_buf struct buf has = { 0 };
	int err[CGROUP_CONTROLLERS], any = 0;
	int i = add_base(g, home);

	if (i < 0) {
		buf_printf(why, "none: a group for the boxes: %s", strerror(-i));
		return i;
	}
	get(g->home[i], ".", "cgroup.controllers", &has);
	for (int c = 0; c <= CGROUP_CPU; c++) {
		err[c] = has.n && has_word(has.s, controllers[c], " \n") ? 0 : -ENOENT;
		if (!err[c])
			err[c] = enable(g->home[i], ".", c, true);
		if (!err[c])
			err[c] = enable(g->base[i], ".", c, true);
		g->at[c] = err[c] ? -1 : i;
		any += !err[c];
	}
	g->at[CGROUP_CPUACCT] = i; /* v2 counts it in any case */
	if (any) {
		describe(g, err, why);
		return 0;
	}
	buf_printf(why, "none: cgroup v2, but no controller for our group: %s", strerror(-err[CGROUP_MEMORY]));
	return err[CGROUP_MEMORY];
}

static int open_v2(struct cgroups *g, struct buf *why)
{
	auto_buf struct buf path = { 0 }, cause = { 0 };
	int err = find_delegated(g, &path, &cause);
	auto_close int home = err ? err : open_group(AT_FDCWD, path.s);

	if (!path.n) {
		buf_str(why, "none: no cgroups are mounted that show our own group");
		return -ENOENT;
	}
	if (home < 0) {
		buf_printf(why, "none: the group %s: %s%s", path.s, strerror(-home), cause.n ? cause.s : "");
		return home;
	}
	g->kind = CGROUP_V2;
	/* Only the group above all others has no such file, and it may have processes and groups. */
	if (!g->in_leaf && faccessat(home, "cgroup.events", F_OK, 0) == 0)
		err = enter_leaf(g, home, why);
	if (!err)
		err = enable_all(g, take(&home), why);
	if (err && cause.n)
		buf_str(why, cause.s);
	return err;
}

/* ---- all ---- */

void cgroups_open(struct cgroups *g, const char *tag, struct buf *why)
{
	memset(g, 0, sizeof(*g));
	for (int c = 0; c < CGROUP_CONTROLLERS; c++)
		g->home[c] = g->base[c] = g->at[c] = -1;
	g->name = xasprintf("cellfs-%s", tag);
	for (char *p = g->name; *p; p++)
		if (*p == '/' || *p == '\n')
			*p = '_';
	if (open_v1(g, why))
		return;
	if (open_v2(g, why)) {
		cgroups_close(g);
		g->kind = CGROUP_NONE;
	}
}

/* Back to where we came from, if we were the only ones who had groups there. */
static void leave_leaf(struct cgroups *g, int home)
{
	for (int c = CGROUP_CPU; c >= 0; c--)
		enable(home, ".", c, false);
	if (!put(home, ".", "cgroup.procs", "0"))
		unlinkat(home, LEAF, AT_REMOVEDIR);
}

void cgroups_close(struct cgroups *g)
{
	for (int i = 0; i < g->n; i++) {
		drop_fd(&g->base[i]);
		if (unlinkat(g->home[i], g->name, AT_REMOVEDIR) == 0 && g->in_leaf)
			leave_leaf(g, g->home[i]);
		drop_fd(&g->home[i]);
	}
	for (int c = 0; c < CGROUP_CONTROLLERS; c++)
		g->at[c] = -1;
	free(g->name);
	g->name = NULL;
	g->n = 0;
	g->kind = CGROUP_NONE;
	g->memory = g->pids = g->cpu = g->in_leaf = false;
}

/* ---- one group ---- */

static int base_of(const struct cgroup *c, int controller)
{
	return c->in && c->in->at[controller] >= 0 ? c->in->base[c->in->at[controller]] : -1;
}

static bool is_v1(const struct cgroup *c)
{
	return c->in->kind == CGROUP_V1;
}

/* v1 wants limit <= limit with swap at any moment: which is first depends on the direction. */
static int limit_memory_v1(const struct cgroup *c, int base, int64_t v)
{
	static const char alone[] = "memory.limit_in_bytes", both[] = "memory.memsw.limit_in_bytes";
	int err = put_limit(base, c->name, alone, v, "-1"), swap;

	swap = put_limit(base, c->name, both, v, "-1");
	if (err)
		err = put_limit(base, c->name, alone, v, "-1");
	if (swap == -ENOENT) /* swap is not counted, so there shall be none of it */
		put(base, c->name, "memory.swappiness", "0");
	else if (!err)
		err = swap;
	return err;
}

static int limit_memory(const struct cgroup *c, int64_t v)
{
	int base = base_of(c, CGROUP_MEMORY), err;

	if (base < 0)
		return 0;
	if (is_v1(c))
		return limit_memory_v1(c, base, v);
	/* memory.oom.group stays 0: the process that took too much dies, not all of the box. */
	err = put_limit(base, c->name, "memory.max", v, "max");
	if (!err && put(base, c->name, "memory.swap.max", v ? "0" : "max")) { /* a kernel without swap */
	}
	return err;
}

static int limit_processes(const struct cgroup *c, int64_t v)
{
	int base = base_of(c, CGROUP_PIDS);

	return base < 0 ? 0 : put_limit(base, c->name, "pids.max", v, "max");
}

static int limit_cpus(const struct cgroup *c, double cpus)
{
	int base = base_of(c, CGROUP_CPU);
	int64_t quota = cpus > 0 ? MAX(1000, (int64_t)(MIN(cpus, CPUS_MAX) * PERIOD_US)) : 0;
	char text[48];

	if (base < 0)
		return 0;
	if (is_v1(c)) {
		int err = put_limit(base, c->name, "cpu.cfs_period_us", PERIOD_US, "");
		err = err ? err : put_limit(base, c->name, "cpu.cfs_quota_us", quota, "-1");
		return err == -ENOENT && !quota ? 0 : err; /* a kernel without quotas */
	}
	if (quota)
		snprintf(text, sizeof(text), "%" PRId64 " %d", quota, PERIOD_US);
	else
		snprintf(text, sizeof(text), "max");
	int err = put(base, c->name, "cpu.max", text);
	return err == -ENOENT && !quota ? 0 : err;
}

int cgroup_limit(struct cgroup *c, const struct cgroup_limits *l)
{
	struct cgroup_limits *now = &c->limits;
	int err = 0;

	if (!c->in)
		return -ENOSYS;
	if (l->cpus != now->cpus && !(err = limit_cpus(c, l->cpus)))
		now->cpus = l->cpus;
	if (!err && l->processes != now->processes && !(err = limit_processes(c, l->processes)))
		now->processes = l->processes;
	if (!err && l->memory != now->memory && !(err = limit_memory(c, l->memory)))
		now->memory = l->memory;
	return err;
}

/* Makes NAME in every hierarchy, or in none. */
static int make_dirs(const struct cgroups *g, const char *name)
{
	int i = 0, err;

	for (; i < g->n; i++)
		if (mkdirat(g->base[i], name, 0755))
			break;
	if (i == g->n)
		return 0;
	err = -errno;
	while (i-- > 0)
		unlinkat(g->base[i], name, AT_REMOVEDIR);
	return err;
}

static int open_file(const struct cgroup *c, int controller, const char *file, int flags)
{
	auto_free char *path = xasprintf("%s/%s", c->name, file);
	int base = base_of(c, controller);

	return base < 0 ? -1 : openat(base, path, flags | O_CLOEXEC);
}

/* What every run asks for. Each may be missing. */
static void open_counters(struct cgroup *c)
{
	const char *peak = is_v1(c) ? "memory.max_usage_in_bytes" : "memory.peak";

	c->killed = open_file(c, CGROUP_MEMORY, is_v1(c) ? "memory.oom_control" : "memory.events", O_RDONLY);
	c->cpu = open_file(c, CGROUP_CPUACCT, is_v1(c) ? "cpuacct.usage" : "cpu.stat", O_RDONLY);
	c->stat = open_file(c, CGROUP_MEMORY, "memory.stat", O_RDONLY);
	c->peak = open_file(c, CGROUP_MEMORY, peak, O_RDWR);
	if (c->peak < 0) /* an older v2: it cannot be written */
		c->peak = open_file(c, CGROUP_MEMORY, peak, O_RDONLY);
}

static int open_doors(struct cgroup *c)
{
	auto_free char *door = xasprintf("%s/%s", c->name, is_v1(c) ? "tasks" : "cgroup.procs");

	for (int i = 0; i < c->in->n; i++) {
		c->procs[i] = openat(c->in->base[i], door, O_WRONLY | O_CLOEXEC);
		if (c->procs[i] < 0)
			return -errno;
	}
	open_counters(c);
	if (!is_v1(c))
		c->dir = open_group(c->in->base[0], c->name);
	return !is_v1(c) && c->dir < 0 ? c->dir : 0;
}

static void clear(struct cgroup *c)
{
	free(c->name);
	*c = (struct cgroup){ .dir = -1, .killed = -1, .cpu = -1, .peak = -1, .stat = -1 };
	for (int i = 0; i < CGROUP_CONTROLLERS; i++)
		c->procs[i] = -1;
}

int cgroup_make(struct cgroups *g, const char *name, const struct cgroup_limits *l, struct cgroup *out)
{
	struct cgroup c = { 0 };
	int err = -EEXIST;

	if (g->kind == CGROUP_NONE)
		return -ENOSYS;
	if (!*name || *name == '.' || strpbrk(name, "/\n"))
		return -EINVAL;
	clear(&c);
	for (int i = 0; err == -EEXIST && i < NAMES; i++) {
		free(c.name);
		c.name = i ? xasprintf("%s.%d", name, i) : xstrdup(name);
		err = make_dirs(g, c.name);
	}
	if (err) {
		clear(&c);
		return err;
	}
	c.in = g;
	err = cgroup_limit(&c, l);
	if (!err)
		err = open_doors(&c);
	if (err) {
		cgroup_remove(&c);
		clear(&c);
		return err;
	}
	*out = c;
	return 0;
}

int cgroup_remove(struct cgroup *c)
{
	int err = 0;

	if (!c->in)
		return 0;
	for (int i = 0; i < CGROUP_CONTROLLERS; i++)
		drop_fd(&c->procs[i]);
	drop_fd(&c->dir);
	drop_fd(&c->killed);
	drop_fd(&c->cpu);
	drop_fd(&c->peak);
	drop_fd(&c->stat);
	for (int i = 0; i < c->in->n; i++)
		if (unlinkat(c->in->base[i], c->name, AT_REMOVEDIR) && errno != ENOENT)
			err = -errno;
	if (!err)
		clear(c);
	return err;
}

/* ---- what it took ---- */

/* The sum of the numbers behind each of KEYS (NULL: the number alone) in an open file; -1 if there is none. */
static int64_t counter(int fd, const char *const *keys)
{
	char text[8192];
	ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof(text) - 1, 0);
	int64_t sum = -1, v;

	if (n <= 0)
		return -1;
	text[n] = 0;
	if (!keys)
		return number(text);
	for (char *rest = text, *line; (line = strsep(&rest, "\n"));)
		for (const char *const *key = keys; *key; key++) {
			if (strncmp(line, *key, strlen(*key)) || line[strlen(*key)] != ' ')
				continue;
			v = number(line + strlen(*key));
			sum = MAX(sum, 0) + MAX(v, 0);
		}
	return sum;
}

int64_t cgroup_oom_kills(const struct cgroup *c)
{
	/* v1 counts where the victim lived, v2 there and above: the same, as a box cannot make groups. */
	return counter(c->killed, (const char *[]){ "oom_kill", NULL });
}

int64_t cgroup_memory(const struct cgroup *c)
{
	int base = base_of(c, CGROUP_MEMORY);

	return base < 0 ? -1 : get_number(base, c->name,
					  is_v1(c) ? "memory.usage_in_bytes" : "memory.current", NULL);
}

int64_t cgroup_memory_peak(const struct cgroup *c)
{
	int base = base_of(c, CGROUP_MEMORY);

	return base < 0 ? -1 : get_number(base, c->name,
					  is_v1(c) ? "memory.max_usage_in_bytes" : "memory.peak", NULL);
}

int64_t cgroup_cpu_us(const struct cgroup *c)
{
	if (!c->in)
		return -1;
	if (!is_v1(c))
		return counter(c->cpu, (const char *[]){ "usage_usec", NULL });
	int64_t ns = counter(c->cpu, NULL);
	return ns < 0 ? -1 : ns / 1000;
}

int64_t cgroup_cached(const struct cgroup *c)
{
	return MAX(counter(c->stat, (const char *[]){ "inactive_file", "active_file", NULL }), 0);
}

void cgroup_peak_begin(struct cgroup *c)
{
	bool anew = c->peak >= 0 && pwrite(c->peak, "0", 1, 0) > 0;

	c->peak_before = anew ? 0 : counter(c->peak, NULL);
}

int64_t cgroup_peak_end(const struct cgroup *c)
{
	int64_t peak = counter(c->peak, NULL);

	return c->peak_before >= 0 && peak > c->peak_before ? peak : cgroup_memory(c);
}

int64_t cgroup_processes(const struct cgroup *c)
{
	int base = base_of(c, CGROUP_PIDS);

	return base < 0 ? -1 : get_number(base, c->name, "pids.current", NULL);
}
