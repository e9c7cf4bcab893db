#include "watcher.h"

#include "gate.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <search.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

enum {
	DIRS_MAX = 16384,       /* watched at most, of what the host gives to all of a user */
	FOUND_MAX = 262144,     /* names that one walk tells of */
	FOUND_BYTES = 64 << 20, /* of their paths */
	LOOK_US = 3000,         /* what was found is told in as long a turn of the loop */
	ENTRIES = 1000,         /* of a directory between looks at the clock */
	BATCH = 8 << 10,        /* bytes of news that are read in one turn of the loop */
	PAUSE_US = 3000,        /* then others have theirs, and equal news become one */
	WALK_US = 10000,        /* a job of the worker */
	ALL_AGAIN_US = 1000000, /* between walks of all that nobody waits for */
	ROUNDS = 4,
};

#define NEWS (IN_CREATE | IN_MODIFY | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE | IN_ONLYDIR | IN_EXCL_UNLINK)

/* A directory that is watched. */
struct dir {
	struct list link;
	int wd;
	char *path;
	unsigned round; /* the walk that saw it last */
};

struct paths {
	struct path {
		char *path;
		bool fresh;
		int wd;
	} *v;
	size_t n, cap, bytes;
};

/* On its way through the worker. */
struct walk {
	struct watcher *w; /* NULL: it is gone */
	const struct watcher_ops *ops;
	int root, inotify;
	bool all, more;
	int64_t since;
	size_t room;
	int err;
	DIR *dir;            /* that is being read, IN */
	struct path in;
	bool placed;         /* the loop has its directories, and TOLD of what was found */
	size_t told;
	struct paths todo, dirs, found;
};

struct watcher {
	struct loop *loop;
	struct worker *worker;
	const struct watcher_ops *ops;
	void *arg;
	int root, fd, err;
	struct watch watch;
	struct timer pause, again;
	struct list dirs;
	void *by_wd;
	size_t ndirs;
	struct paths todo;
	bool all, settling;
	int rounds;
	unsigned round;
	int64_t since, walked_at;
	struct walk *walk;
};

static void paths_add(struct paths *p, char *path, bool fresh, int wd)
{
	if (p->n == p->cap) {
		p->cap = p->cap ? 2 * p->cap : 16;
		p->v = xrealloc(p->v, p->cap * sizeof(*p->v));
	}
	p->v[p->n++] = (struct path){ path, fresh, wd };
	p->bytes += strlen(path) + sizeof(*p->v);
}

static bool paths_full(const struct paths *p)
{
	return p->n >= FOUND_MAX || p->bytes >= FOUND_BYTES;
}

static void paths_clear(struct paths *p)
{
	for (size_t i = 0; i < p->n; i++)
		free(p->v[i].path);
	free(p->v);
	*p = (struct paths){ 0 };
}

/* NULL if that is too long to be of interest. */
static char *join(const char *dir, const char *name)
{
	if (strlen(dir) + 1 + strlen(name) >= PATH_MAX)
		return NULL;
	return *dir ? xasprintf("%s/%s", dir, name) : xstrdup(name);
}

/* From now on news are taken, or wait. */
static void listen_to(struct watcher *w, bool on)
{
	if (w->watch.fn)
		watch_mod(w->loop, &w->watch, on ? EPOLLIN : 0);
}

/* ---- directories ---- */

static int cmp_wd(const void *a, const void *b)
{
	const struct dir *x = a, *y = b;

	return (x->wd > y->wd) - (x->wd < y->wd);
}

static struct dir *dir_find(struct watcher *w, int wd)
{
	struct dir **d = tfind(&(struct dir){ .wd = wd }, &w->by_wd, cmp_wd);

	return d ? *d : NULL;
}

static void dir_forget(struct watcher *w, struct dir *d)
{
	tdelete(d, &w->by_wd, cmp_wd);
	list_del(&d->link);
	free(d->path);
	free(d);
	w->ndirs--;
}

/* WD is, or has become, PATH's, which is taken over. */
static void dir_set(struct watcher *w, int wd, char *path)
{
	struct dir *d = dir_find(w, wd);

	if (!d) {
		d = xcalloc(1, sizeof(*d));
		d->wd = wd;
		if (!tsearch(d, &w->by_wd, cmp_wd))
			die("out of memory");
		list_append(&w->dirs, &d->link);
		w->ndirs++;
	}
	free(d->path);
	d->path = path;
	d->round = w->round;
}

/* ---- walking: in the worker ---- */

static bool changed_since(int dir, const char *name, int64_t since)
{
	struct stat st;

	return !fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) && ts_to_us(st.st_ctim) >= since;
}

static void walk_entry(struct walk *k, int dir, const struct path *in, const struct dirent *e)
{
	struct stat st;
	unsigned char type = e->d_type;

	if (type == DT_UNKNOWN && !fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW))
		type = IFTODT(st.st_mode);
	if ((type != DT_DIR && type != DT_REG && type != DT_LNK) || k->ops->skip(e->d_name, type == DT_DIR))
		return;
	if (type != DT_DIR && !in->fresh && !changed_since(dir, e->d_name, k->since))
		return;
	struct paths *to = type == DT_DIR ? &k->todo : &k->found;
	char *path = paths_full(to) ? NULL : join(in->path, e->d_name);
	if (path)
		paths_add(to, path, in->fresh, -1);
	else
		k->err = k->err ? k->err : -E2BIG;
}

static int watch_dir(struct walk *k, int fd)
{
	if (k->inotify < 0)
		return -1;
	int wd = k->room ? inotify_add_watch(k->inotify, gate_name(fd).s, NEWS) : -1;
	if (wd < 0)
		k->err = k->room ? -errno : -ENOSPC;
	else
		k->room--;
	return wd;
}

static void walk_leave(struct walk *k)
{
	if (k->dir)
		closedir(k->dir);
	k->dir = NULL;
	if (k->in.wd >= 0)
		paths_add(&k->dirs, k->in.path, k->in.fresh, k->in.wd);
	else
		free(k->in.path);
	k->in.path = NULL;
}

static void walk_enter(struct walk *k)
{
	k->in = k->todo.v[--k->todo.n];
	k->todo.bytes -= strlen(k->in.path) + sizeof(*k->todo.v);
	auto_close int fd = gate_open_dir(k->root, *k->in.path ? k->in.path : ".");
	if (fd < 0) {
		if (fd != -ENOENT && fd != -ENOTDIR && fd != -ELOOP && fd != -EACCES)
			k->err = fd;
		walk_leave(k);
		return;
	}
	k->in.wd = watch_dir(k, fd);
	k->dir = fdopendir(fd);
	if (k->dir)
		take(&fd);
	else
		walk_leave(k);
}

static int walk_work(void *arg)
{
	struct walk *k = arg;
	int64_t end = mono_us() + WALK_US;

	while ((k->dir || k->todo.n) && mono_us() < end) {
		struct dirent *e = NULL;
		if (!k->dir)
			walk_enter(k);
		for (int i = 0; k->dir && i < ENTRIES && (e = readdir(k->dir)); i++)
			if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
				walk_entry(k, dirfd(k->dir), &k->in, e);
		if (k->dir && !e)
			walk_leave(k);
	}
	k->more = k->dir || k->todo.n;
	return 0;
}

/* ---- walking: in the loop ---- */

static void walk_free(struct walk *k)
{
	if (k->dir)
		closedir(k->dir);
	free(k->in.path);
	drop_fd(&k->root);
	drop_fd(&k->inotify);
	paths_clear(&k->todo);
	paths_clear(&k->dirs);
	paths_clear(&k->found);
	free(k);
}

static bool has_work(const struct watcher *w)
{
	return w->all || w->todo.n;
}

static void walk_done(void *arg, int err);

static void walk_start(struct watcher *w)
{
	struct walk *k = xcalloc(1, sizeof(*k));

	*k = (struct walk){ .w = w, .ops = w->ops, .root = fcntl(w->root, F_DUPFD_CLOEXEC, 0), .inotify = -1, .all = w->all,
			    .since = w->since, .room = w->all ? DIRS_MAX : DIRS_MAX - MIN(w->ndirs, (size_t)DIRS_MAX) };
	if (w->fd >= 0)
		k->inotify = fcntl(w->fd, F_DUPFD_CLOEXEC, 0);
	k->todo = w->todo;
	w->todo = (struct paths){ 0 };
	if (k->all) /* last in, first out: what came by itself is new, whatever the walk of all thinks */
		paths_add(&k->todo, xstrdup(""), false, -1);
	w->all = false;
	w->round++;
	w->walk = k;
	timer_stop(w->loop, &w->pause);
	listen_to(w, false);
	worker_do(w->worker, walk_work, walk_done, k);
}

/* What was not seen by a walk of all is not there any more. */
static void forget_unseen(struct watcher *w)
{
	list_for_safe(it, tmp, &w->dirs) {
		struct dir *d = container_of(it, struct dir, link);
		if (d->round == w->round)
			continue;
		inotify_rm_watch(w->fd, d->wd);
		dir_forget(w, d);
	}
}

static void on_again(void *arg)
{
	struct watcher *w = arg;

	if (!w->walk && w->all)
		walk_start(w);
}

static bool settle_step(struct watcher *w);

/* The directories of K are watched. */
static void walk_place(struct watcher *w, struct walk *k)
{
	k->placed = true;
	for (size_t i = 0; i < k->dirs.n; i++) {
		dir_set(w, k->dirs.v[i].wd, k->dirs.v[i].path);
		k->dirs.v[i].path = NULL;
	}
	if (k->all) {
		if (!k->err)
			forget_unseen(w);
		w->walked_at = mono_us();
		w->err = w->fd < 0 ? w->err : k->err;
	} else if (k->err) {
		w->err = k->err;
	}
}

static void walk_done(void *arg, int err)
{
	struct walk *k = arg;
	struct watcher *w = k->w;

	(void)err;
	if (w && k->more) {
		worker_do(w->worker, walk_work, walk_done, k);
		return;
	}
	if (!w) {
		walk_free(k);
		return;
	}
	if (!k->placed)
		walk_place(w, k);
	for (int64_t end = mono_us() + LOOK_US; k->told < k->found.n && mono_us() < end; k->told++)
		w->ops->look(w->arg, k->found.v[k->told].path, k->found.v[k->told].fresh ? W_NEW : W_FOUND);
	if (k->told < k->found.n) { /* by way of the worker, so that others have their turn, and it ends with it */
		worker_do(w->worker, walk_work, walk_done, k);
		return;
	}
	w->walk = NULL;
	walk_free(k);
	listen_to(w, true);
	if (w->settling && settle_step(w)) {
		w->settling = false;
		w->ops->settled(w->arg);
	} else if (!w->walk && w->todo.n) {
		walk_start(w);
	}
}

/* ---- news ---- */

static void on_dir(struct watcher *w, uint32_t mask, char *path)
{
	if (mask & (IN_CREATE | IN_MOVED_TO)) {
		if (!paths_full(&w->todo)) {
			paths_add(&w->todo, path, w->ops->is_fresh(w->arg, path), -1);
			return;
		}
		w->all = true;
	} else if (mask & (IN_MOVED_FROM | IN_DELETE)) {
		w->ops->dir_gone(w->arg, path);
	}
	free(path);
}

static void on_news(struct watcher *w, const struct inotify_event *e)
{
	struct dir *d = dir_find(w, e->wd);

	if (e->mask & IN_Q_OVERFLOW)
		w->all = true;
	if (!d)
		return;
	if (e->mask & IN_IGNORED) {
		dir_forget(w, d);
		return;
	}
	bool is_dir = e->mask & IN_ISDIR;
	if (!e->len || w->ops->skip(e->name, is_dir))
		return;
	char *path = join(d->path, e->name);
	if (!path)
		return;
	if (is_dir) {
		on_dir(w, e->mask, path);
		return;
	}
	w->ops->look(w->arg, path, e->mask & (IN_CREATE | IN_MODIFY) ? W_BEGUN : e->mask & IN_MOVED_TO ? W_NEW : W_CLOSED);
	free(path);
}

/* Returns how many bytes there were. */
static ssize_t read_batch(struct watcher *w)
{
	char buf[BATCH] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t n = w->fd < 0 ? 0 : read(w->fd, buf, sizeof(buf));

	for (ssize_t at = 0; at < n;) {
		const struct inotify_event *e = (const struct inotify_event *)(buf + at);
		on_news(w, e);
		at += sizeof(*e) + e->len;
	}
	if (n > 0 && w->ops->read)
		w->ops->read(w->arg);
	return n;
}

static void on_pause_over(void *arg)
{
	struct watcher *w = arg;

	if (!w->walk)
		listen_to(w, true);
}

static void start_what_is_due(struct watcher *w)
{
	if (w->walk)
		return;
	if (w->todo.n)
		walk_start(w);
	else if (w->all && !w->again.slot)
		timer_set(w->loop, &w->again, MAX(w->walked_at + ALL_AGAIN_US - mono_us(), 0), on_again, w);
}

static void on_readable(void *arg, uint32_t mask)
{
	struct watcher *w = arg;

	(void)mask;
	if (w->walk || read_batch(w) <= 0)
		return;
	listen_to(w, false);
	timer_set(w->loop, &w->pause, PAUSE_US, on_pause_over, w);
	start_what_is_due(w);
}

/* What is there now, not what comes meanwhile. */
static void read_all(struct watcher *w)
{
	int left = 0;

	if (w->fd < 0 || ioctl(w->fd, FIONREAD, &left) < 0)
		return;
	for (ssize_t n; left > 0 && (n = read_batch(w)) > 0;)
		left -= n;
}

void watcher_read(struct watcher *w)
{
	if (w->walk)
		return;
	read_all(w);
	start_what_is_due(w);
}

static bool settle_step(struct watcher *w)
{
	while (!w->walk) {
		read_all(w);
		if (!has_work(w) || w->rounds++ >= ROUNDS)
			return true;
		walk_start(w);
	}
	return false;
}

bool watcher_settle(struct watcher *w)
{
	w->rounds = 0;
	w->settling = !settle_step(w);
	return !w->settling;
}

void watcher_walk_all(struct watcher *w)
{
	w->all = true;
}

bool watcher_has_work(const struct watcher *w)
{
	return w->walk || has_work(w);
}

bool watcher_is_walking(const struct watcher *w)
{
	return w->all || (w->walk && w->walk->all);
}

int watcher_blind(const struct watcher *w)
{
	return w->err;
}

int watcher_root(const struct watcher *w)
{
	return w->root;
}

void watcher_since(struct watcher *w, int64_t since)
{
	w->since = since;
}

/* ---- life ---- */

struct watcher *watcher_new(struct loop *loop, struct worker *worker, int root, const struct watcher_ops *ops, void *arg)
{
	struct watcher *w = xcalloc(1, sizeof(*w));

	*w = (struct watcher){ .loop = loop, .worker = worker, .ops = ops, .arg = arg, .root = root, .since = INT64_MAX,
			       .all = true };
	list_init(&w->dirs);
	w->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (w->fd < 0)
		w->err = -errno;
	else
		watch_add(loop, &w->watch, w->fd, 0, on_readable, w);
	walk_start(w);
	return w;
}

void watcher_free(struct watcher *w)
{
	if (!w)
		return;
	if (w->walk)
		w->walk->w = NULL;
	timer_stop(w->loop, &w->pause);
	timer_stop(w->loop, &w->again);
	watch_del(w->loop, &w->watch);
	while (!list_empty(&w->dirs))
		dir_forget(w, container_of(w->dirs.next, struct dir, link));
	paths_clear(&w->todo);
	drop_fd(&w->fd);
	drop_fd(&w->root);
	free(w);
}
