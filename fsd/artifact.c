#include "artifact.h"

#include "gate.h"
#include "snapshot.h"
#include "watcher.h"

#include <fcntl.h>
#include <limits.h>
#include <search.h>
#include <stdio.h>
#include <time.h>

enum {
	MADE_MAX = 200000,       /* files of a context */
	NOTES_MAX = 65536,       /* of what the mount did, in one period */
	TELL_MAX = 64,           /* files that one job looks at */
	MADE_BYTES = 32 << 20,   /* of their paths */
	TOLD_MAX = 20000,        /* events of one run */
	TOLD_BYTES = 8 << 20,
	READ_AGAIN_US = 1000,    /* for each name of a directory that is listed the news need not be read */
	TELL_AGAIN_US = 1000000, /* a file that is written again and again is told of as often */
	PATIENCE_US = 1000000,   /* of a run: what the types of its texts may take */
	LOG_SLACK = 1 << 20,     /* bytes of made.log beyond which it is looked whether it can be shorter */
};

/* A file of the workspace that a cell has made or changed. */
struct made {
	char *path;
	struct list changed; /* by the run under way: artifacts->changed */
	struct list due;     /* artifacts->due: it is to be told of */
	struct list open;    /* artifacts->open: nobody was seen to close it */
	uint64_t run;        /* who was the last to change it, 0 nobody */
	struct stat st;      /* as it was seen last; st_ino 0: not yet */
	struct stat told;    /* as it was when MIME was found out */
	char *mime;
	int64_t told_at;
};

struct made_dir {
	char *path;
	size_t n;      /* files at any depth */
	bool emptied;  /* of all, by the mount: it is still there to be removed */
};

/* The state in which the mount has left an object. */
struct note {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec ctime;
	int busy; /* it is being written, so it is not known */
};

struct tell_job {
	struct artifacts *a; /* NULL: it is gone */
	uint64_t run;
	int root;
	struct mime *mime;
	int64_t patience;
	struct snap_file v[TELL_MAX];
	size_t n;
};

struct keep_job {
	struct artifacts *a;
	struct world *world;
	uint64_t run; /* object */
	size_t left;  /* files that are too many */
	struct snapshot s;
};

struct artifacts {
	struct context *c;
	struct watcher *w;     /* NULL: no kernel */
	struct map files;      /* struct made by path */
	struct map dirs;       /* struct made_dir by path */
	struct map gone;       /* paths of directories that went in the news that are being read */
	size_t log_live;       /* bytes that made.log needs */
	off_t log_next;        /* size of made.log at which it is tried to be made shorter */
	bool full, log_failed;
	int64_t read_at;
	size_t told, told_bytes; /* events of the run under way */
	void *notes;           /* struct note by object */
	size_t nnotes;
	int64_t since, before; /* us: when this period and the one before began */
	int64_t tick;          /* us: the notes are of it, while there is no kernel */
	uint64_t run;          /* number of the run under way, 0 none */
	bool began;            /* a run, since there is a kernel */
	bool walk;             /* this period's news are not complete */
	bool told_blind;
	int64_t patience;
	struct list changed, due, open;
	struct timer timer;
	struct tell_job *tell;
	struct keep_job *keep;
};


static char *take_str(char **s)
{
	char *own = *s;

	*s = NULL;
	return own;
}

/* ---- what is of no interest ---- */

static bool skip(const char *name, bool is_dir)
{
	static const char *const dirs[] = {
		"__pycache__", ".ipynb_checkpoints", ".git", ".hg", ".svn", "node_modules", ".venv", "venv", ".cache", ".npm",
		".mypy_cache", ".pytest_cache", ".ruff_cache", ".tox", ".nox", ".eggs", ".gradle", ".m2", ".Rproj.user",
		"renv", ".local", ".config", ".jupyter", ".ipython", ".parcel-cache", ".next", ".terraform", ".matplotlib",
	};
	static const char *const files[] = { ".DS_Store", ".Rhistory", ".python_history", ".bash_history", ".node_repl_history",
					     "package-lock.json", "yarn.lock", "pnpm-lock.yaml", ".package-lock.json" };
	static const char *const ends[] = { ".pyc", ".pyo", ".swp", ".swx" };
	size_t n = strlen(name);

	for (size_t i = 0; is_dir && i < ARRAY_SIZE(dirs); i++)
		if (!strcmp(name, dirs[i]))
			return true;
	for (size_t i = 0; !is_dir && i < ARRAY_SIZE(files); i++)
		if (!strcmp(name, files[i]))
			return true;
	for (size_t i = 0; !is_dir && i < ARRAY_SIZE(ends); i++)
		if (n > strlen(ends[i]) && !strcmp(name + n - strlen(ends[i]), ends[i]))
			return true;
	return false;
}

static bool link_ok(const char *path, const char *target)
{
	unsigned depth = 0;

	for (const char *p = path; *p; p++)
		depth += *p == '/';
	return gate_link_stays(target, depth);
}

/* ---- made.log ----
 * "+path" and "-path", each ended by a NUL, so that a start knows what artifacts/ shows. */

static void log_whole(struct artifacts *a)
{
	auto_buf struct buf b = { 0 };

	for (size_t i = 0; i < a->files.n; i++) {
		buf_char(&b, '+');
		buf_add(&b, a->files.entries[i].key, strlen(a->files.entries[i].key) + 1);
	}
	struct store *s = &a->c->store;
	int err = store_replace(s, L_MADE, b.s ? b.s : "", b.n);
	a->log_next = (err ? s->end[L_MADE] : 0) + LOG_SLACK;
	a->log_live = b.n;
}

static void log_made(struct artifacts *a, char what, const char *path)
{
	struct iovec v[2] = { { &what, 1 }, { (void *)path, strlen(path) + 1 } };
	int err = store_appendv(&a->c->store, L_MADE, v, 2, NULL, false);

	if (err && !a->log_failed)
		context_log(a->c, "artifacts/ will not be complete after a restart: %s", strerror(-err));
	a->log_failed = err;
	a->log_live += what == '+' ? v[1].iov_len + 1 : -(v[1].iov_len + 1);
	if (a->c->store.end[L_MADE] > MAX(a->log_next, LOG_SLACK + 4 * (off_t)a->log_live))
		log_whole(a);
	world_dirty(a->c->world);
}

/* ---- the set ---- */

static void count_dirs(struct artifacts *a, const char *path, int by)
{
	for (const char *slash = path; (slash = strchr(slash, '/')); slash++) {
		auto_free char *dir = xstrndup(path, slash - path);
		struct made_dir *d = map_get(&a->dirs, dir);
		if (!d) {
			d = xcalloc(1, sizeof(*d));
			d->path = take_str(&dir);
			map_put(&a->dirs, d->path, d);
		}
		d->n += by;
		d->emptied = false;
		if (!d->n) {
			map_del(&a->dirs, d->path);
			free(d->path);
			free(d);
		}
	}
}

static struct made *made_new(struct artifacts *a, const char *path)
{
	struct made *m = xcalloc(1, sizeof(*m));

	m->path = xstrdup(path);
	list_init(&m->changed);
	list_init(&m->due);
	list_init(&m->open);
	map_put(&a->files, m->path, m);
	count_dirs(a, path, 1);
	return m;
}

static void made_free(struct made *m)
{
	list_del(&m->changed);
	list_del(&m->due);
	list_del(&m->open);
	free(m->path);
	free(m->mime);
	free(m);
}

static struct made *made_add(struct artifacts *a, const char *path)
{
	if (a->files.n >= MADE_MAX || a->log_live + strlen(path) + 2 > MADE_BYTES) {
		if (!a->full)
			context_log(a->c, "artifacts/ shows no more than %d files, with %d MiB of paths", MADE_MAX, MADE_BYTES >> 20);
		a->full = true;
		return NULL;
	}
	log_made(a, '+', path);
	return made_new(a, path);
}

static void forget_path(struct artifacts *a, struct made *m)
{
	map_del(&a->files, m->path);
	count_dirs(a, m->path, -1);
	a->full = false;
}

static void made_drop(struct artifacts *a, struct made *m)
{
	if (!m)
		return;
	forget_path(a, m);
	log_made(a, '-', m->path);
	made_free(m);
}

static void load(struct artifacts *a)
{
	auto_buf struct buf b = { 0 };
	struct store *s = &a->c->store;
	bool torn = false;

	if (store_read(s, L_MADE, 0, s->end[L_MADE], &b))
		return;
	for (size_t at = 0, len; at < b.n; at += len + 1) {
		len = strnlen(b.s + at, b.n - at);
		torn = len == b.n - at || len < 2;
		if (torn)
			break;
		struct made *m = map_get(&a->files, b.s + at + 1);
		if (b.s[at] == '+' && !m && len < PATH_MAX && gate_is_plain(b.s + at + 1)) {
			made_new(a, b.s + at + 1);
			a->log_live += len + 1;
		} else if (b.s[at] == '-' && m) {
			forget_path(a, m);
			made_free(m);
			a->log_live -= len + 1;
		}
	}
	if (torn)
		log_whole(a);
}

static struct artifacts *artifacts_of(struct context *c)
{
	struct artifacts *a = c->artifacts;

	if (a)
		return a;
	a = c->artifacts = xcalloc(1, sizeof(*a));
	a->c = c;
	list_init(&a->changed);
	list_init(&a->due);
	list_init(&a->open);
	load(a);
	return a;
}

/* ---- notes ---- */

static int cmp_note(const void *p, const void *q)
{
	const struct note *a = p, *b = q;

	if (a->ino != b->ino)
		return a->ino < b->ino ? -1 : 1;
	return a->dev < b->dev ? -1 : a->dev > b->dev;
}

static void forget_notes(struct artifacts *a)
{
	tdestroy(a->notes, free);
	a->notes = NULL;
	a->nnotes = 0;
}

static bool is_own(struct artifacts *a, const struct stat *st)
{
	struct note **n = tfind(&(struct note){ .dev = st->st_dev, .ino = st->st_ino }, &a->notes, cmp_note);

	return n && ((*n)->busy || ((*n)->size == st->st_size && (*n)->ctime.tv_sec == st->st_ctim.tv_sec &&
				    (*n)->ctime.tv_nsec == st->st_ctim.tv_nsec));
}

static void note(struct context *c, int fd, int busy)
{
	struct artifacts *a = artifacts_of(c);
	struct stat st;

	if (fstat(fd, &st) < 0)
		return;
	if (!a->w) { /* a run that begins in the same tick of the clock would not know it from its own */
		int64_t tick = coarse_us();
		if (tick != a->tick)
			forget_notes(a);
		a->tick = tick;
	} else if (a->nnotes >= NOTES_MAX) { /* what was noted so far has been told, unless a walk is still to tell */
		watcher_read(a->w);
		if (!watcher_has_work(a->w) || a->nnotes >= 16 * NOTES_MAX)
			forget_notes(a);
	}
	struct note *n = malloc(sizeof(*n)), **at;
	if (!n)
		return;
	*n = (struct note){ st.st_dev, st.st_ino, st.st_size, st.st_ctim, MAX(busy, 0) };
	at = tsearch(n, &a->notes, cmp_note);
	if (at && *at == n) {
		a->nnotes++;
		return;
	}
	if (at) {
		n->busy = MAX((*at)->busy + busy, 0);
		**at = *n;
	}
	free(n);
}

void artifact_noted(struct context *c, int fd)
{
	note(c, fd, 0);
}

void artifact_writing(struct context *c, int fd, bool on)
{
	note(c, fd, on ? 1 : -1);
}

/* ---- telling ---- */

static void tell_due(struct artifacts *a);

static void on_timer(void *arg)
{
	tell_due(arg);
}

static int tell_work(void *arg)
{
	struct tell_job *t = arg;

	for (size_t i = 0; i < t->n; i++) {
		struct snap_file *f = &t->v[i];
		auto_close int fd = gate_open_file(t->root, f->path, O_RDONLY, 0);
		auto_close int link = fd == -ELOOP ? gate_path(t->root, f->path) : -1;
		if (link >= 0 && fstat(link, &f->st) == 0) {
			f->type = SNAP_LINK;
			snprintf(f->mime, sizeof(f->mime), "inode/symlink");
		} else if (fd >= 0 && fstat(fd, &f->st) == 0) {
			int64_t start = mono_us();
			f->type = SNAP_FILE;
			mime_of(t->mime, fd, t->patience > 0, f->mime);
			t->patience -= mono_us() - start;
		}
		f->size = f->st.st_size;
	}
	return 0;
}

static void tell_free(struct tell_job *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(t->v[i].path);
	drop_fd(&t->root);
	free(t);
}

static void kept_add(struct kept *k, const char *path, char type, off_t off, off_t size, const char *mime);

/* F was looked at: M has that type, and R's events and list say so. */
static void tell(struct artifacts *a, struct run *r, struct made *m, const struct snap_file *f)
{
	auto_buf struct buf b = { 0 };

	m->told = f->st;
	m->told_at = mono_us();
	str_set(&m->mime, f->mime);
	if (a->told < TOLD_MAX && a->told_bytes < TOLD_BYTES) {
		event_begin(a->c, &b, "artifact", r);
		buf_str(&b, ",\"path\":");
		buf_json_str(&b, m->path);
		buf_printf(&b, ",\"size\":%lld,\"mime\":", (long long)f->size);
		buf_json_str(&b, f->mime);
		event_end(a->c, &b, r);
		a->told++;
		a->told_bytes += b.n;
		if (a->told == TOLD_MAX || a->told_bytes >= TOLD_BYTES)
			notice(a->c, r, "no more events of artifacts: too many in one run; its record has the files");
	}
	if (!r->kept) {
		r->kept = xcalloc(1, sizeof(*r->kept));
		r->kept->live = true;
	}
	kept_add(r->kept, m->path, SNAP_LIVE, 0, f->size, f->mime);
}

static void tell_done(void *arg, int err)
{
	struct tell_job *t = arg;
	struct artifacts *a = t->a;
	struct run *r = a ? context_run(a->c, t->run) : NULL;

	(void)err;
	if (a) {
		a->tell = NULL;
		a->patience = t->patience;
	}
	for (size_t i = 0; r && !run_ended(r) && i < t->n; i++) {
		struct made *m = map_get(&a->files, t->v[i].path);
		if (m && m->run == t->run && t->v[i].type != SNAP_GONE)
			tell(a, r, m, &t->v[i]);
	}
	tell_free(t);
	if (a)
		tell_due(a);
}

/* Those that were told of just now have to wait. */
static void tell_due(struct artifacts *a)
{
	int64_t now = mono_us();
	struct tell_job *t = NULL;

	if (a->tell || !a->w)
		return;
	list_for_safe(it, tmp, &a->due) {
		struct made *m = container_of(it, struct made, due);
		if (m->told_at && m->told_at + TELL_AGAIN_US > now)
			continue;
		if (!t)
			t = xcalloc(1, sizeof(*t));
		list_del(&m->due);
		t->v[t->n++].path = xstrdup(m->path);
		t->run = m->run;
		if (t->n == TELL_MAX)
			break;
	}
	timer_stop(a->c->world->loop, &a->timer);
	if (t) {
		t->a = a;
		t->root = fcntl(watcher_root(a->w), F_DUPFD_CLOEXEC, 0);
		t->mime = a->c->world->mime;
		t->patience = a->patience;
		a->tell = t;
		worker_do(a->c->world->keeper, tell_work, tell_done, t);
	} else if (!list_empty(&a->due)) {
		timer_set(a->c->world->loop, &a->timer, TELL_AGAIN_US / 4, on_timer, a);
	}
}

/* ---- news ---- */

static bool is_artifact(int fd, const char *path, const struct stat *st)
{
	char target[PATH_MAX];
	ssize_t n;

	if (!S_ISLNK(st->st_mode))
		return S_ISREG(st->st_mode);
	n = readlinkat(fd, "", target, sizeof(target) - 1);
	if (n < 0 || n == sizeof(target) - 1)
		return false;
	target[n] = 0;
	return link_ok(path, target);
}

static void move_to(struct list *l, struct list *link)
{
	list_del(link);
	list_append(l, link);
}

/* The clock was set back: times of the past would lie before anything that happens now. */
static void mind_clock(struct artifacts *a)
{
	int64_t now = coarse_us();

	if (now < a->since) {
		a->since = a->before = now;
		watcher_since(a->w, now);
	}
}

/* Did it change in this period? Then it is the run's; in the one before, nobody's. */
static bool is_news(struct artifacts *a, const struct made *m, const struct stat *st, enum watcher_how how, uint64_t *run)
{
	/* Who only opens a file for writing closes it too. Then its time is older, or just as old. */
	int64_t changed = ts_to_us(st->st_ctim) - (how == W_CLOSED && !(m && !list_empty(&m->open)));

	*run = how == W_NEW || changed >= a->since ? a->run : 0;
	return how == W_NEW || changed >= a->before;
}

static void look(struct artifacts *a, const char *path, enum watcher_how how)
{
	struct made *m = map_get(&a->files, path);
	uint64_t run;
	struct stat st;
	auto_close int fd = gate_path(watcher_root(a->w), path);
	if (fd < 0 || fstat(fd, &st) < 0 || !is_artifact(fd, path, &st)) {
		made_drop(a, m);
		return;
	}
	mind_clock(a);
	bool same = m && snapshot_same(&m->st, &st);
	if (!same && (is_own(a, &st) || !is_news(a, m, &st, how, &run)))
		return;
	if (!same) {
		if (!m)
			m = made_add(a, path);
		if (!m)
			return;
		m->st = st;
		m->run = run;
		list_del(&m->changed);
		if (m->run)
			list_append(&a->changed, &m->changed);
	}
	if (how != W_BEGUN || S_ISLNK(st.st_mode) || (st.st_nlink > 1 && list_empty(&m->open)))
		list_del(&m->open);
	else if (!same)
		move_to(&a->open, &m->open);
	if (m->run && m->run == a->run && list_empty(&m->open) && !snapshot_same(&m->told, &m->st)) {
		move_to(&a->due, &m->due);
		if (!a->timer.slot)
			timer_set(a->c->world->loop, &a->timer, 0, on_timer, a);
	}
}

static void on_look(void *arg, const char *path, enum watcher_how how)
{
	struct artifacts *a = arg;
	struct made *m = how == W_BEGUN ? map_get(&a->files, path) : NULL;

	/* What is known to change is looked at when it is closed, or the run ends. */
	if (!m || m->run != a->run || list_empty(&m->open))
		look(a, path, how);
}

static bool is_fresh(void *arg, const char *path)
{
	struct artifacts *a = arg;
	auto_close int fd = gate_path(watcher_root(a->w), path);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && !is_own(a, &st);
}

/* Those of the set at PATH and below: the caller frees. */
static struct made **made_below(struct artifacts *a, const char *path, size_t *n)
{
	bool dir = map_get(&a->dirs, path);
	struct made **v = xcalloc(dir ? a->files.n + 1 : 1, sizeof(*v));
	size_t len = strlen(path);
	struct made *one = map_get(&a->files, path); /* a log that was damaged may have both */

	*n = 0;
	if (one)
		v[(*n)++] = one;
	for (size_t i = 0; dir && i < a->files.n; i++) {
		const char *key = a->files.entries[i].key;
		if (!strncmp(key, path, len) && key[len] == '/')
			v[(*n)++] = a->files.entries[i].value;
	}
	return v;
}

static void on_dir_gone(void *arg, const char *path)
{
	struct artifacts *a = arg;

	if (map_get(&a->dirs, path) && !map_get(&a->gone, path))
		map_put(&a->gone, xstrdup(path), a);
}

static bool is_below_gone(const struct artifacts *a, char *path)
{
	bool is = false;

	for (char *slash = path; !is && (slash = strchr(slash, '/')); slash++) {
		*slash = 0;
		is = map_get(&a->gone, path);
		*slash = '/';
	}
	return is;
}

/* Some news have been read. One pass for all the directories that went: there may be thousands, with thousands of files. */
static void on_read(void *arg)
{
	struct artifacts *a = arg;
	struct strings lost = { 0 };

	for (size_t i = 0; a->gone.n && i < a->files.n; i++) {
		struct made *m = a->files.entries[i].value;
		if (is_below_gone(a, m->path))
			strings_add(&lost, xstrdup(m->path));
	}
	while (a->gone.n) {
		char *key = (char *)a->gone.entries[a->gone.n - 1].key;
		map_del(&a->gone, key);
		free(key);
	}
	for (size_t i = 0; i < lost.n; i++) { /* or it is there again */
		auto_close int fd = gate_path(watcher_root(a->w), lost.v[i]);
		if (fd < 0)
			made_drop(a, map_get(&a->files, lost.v[i]));
	}
	strings_clear(&lost);
}

/* ---- a run ---- */

static void settled(void *arg);

static const struct watcher_ops ops = { .skip = skip, .look = on_look, .is_fresh = is_fresh, .dir_gone = on_dir_gone,
					.read = on_read, .settled = settled };

void artifact_start(struct context *c)
{
	struct artifacts *a = artifacts_of(c);

	if (a->w)
		return;
	auto_free char *path = context_path(c, "workspace");
	int root = openat(c->world->contexts_dir, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (root < 0) {
		context_log(c, "artifacts: workspace: %s", strerror(errno));
		return;
	}
	a->since = a->before = coarse_us();
	a->told_blind = a->began = false;
	a->w = watcher_new(c->world->loop, c->world->keeper, root, &ops, a);
}

static void stop(struct artifacts *a)
{
	timer_stop(a->c->world->loop, &a->timer);
	watcher_free(a->w);
	a->w = NULL;
	while (!list_empty(&a->due))
		list_del(a->due.next);
	while (!list_empty(&a->open))
		list_del(a->open.next);
	forget_notes(a);
}

void artifact_rest(struct context *c)
{
	struct artifacts *a = c->artifacts;

	if (!a || !a->w)
		return;
	watcher_read(a->w);
	stop(a);
}

void artifact_free(struct context *c)
{
	struct artifacts *a = c->artifacts;

	if (!a)
		return;
	if (a->tell)
		a->tell->a = NULL;
	if (a->keep)
		a->keep->a = NULL;
	stop(a);
	for (size_t i = 0; i < a->files.n; i++)
		made_free(a->files.entries[i].value);
	for (size_t i = 0; i < a->dirs.n; i++) {
		struct made_dir *d = a->dirs.entries[i].value;
		free(d->path);
		free(d);
	}
	map_free(&a->files);
	map_free(&a->dirs);
	map_free(&a->gone);
	free(a);
	c->artifacts = NULL;
}

void artifact_begin(struct run *r)
{
	struct artifacts *a = r->ctx->artifacts;

	if (!a || !a->w)
		return;
	watcher_read(a->w);
	int64_t now = coarse_us();
	a->before = a->began ? a->since : now; /* before the first one nobody but the mount was there */
	a->since = now;
	a->began = true;
	watcher_since(a->w, a->since);
	while (!list_empty(&a->changed))
		list_del(a->changed.next);
	a->run = r->number;
	a->walk = watcher_is_walking(a->w);
	a->patience = PATIENCE_US;
	a->told = a->told_bytes = 0;
}

static int cmp_path(const void *a, const void *b)
{
	const struct snap_file *x = a, *y = b;

	return strcmp(x->path, y->path);
}

static int keep_work(void *arg)
{
	return snapshot_work(&((struct keep_job *)arg)->s);
}

static struct run *job_run(struct keep_job *k)
{
	struct object *o = object_get(k->world, k->run);

	return o && o->type == O_RUN ? context_run(o->ctx, o->number) : NULL;
}

/* The files of R are kept, or could not be: says so, and has its record written. */
static void keep_done(void *arg, int err)
{
	struct keep_job *k = arg;
	struct snapshot *s = &k->s;
	struct run *r = k->a ? job_run(k) : NULL;

	if (s->more && r) {
		worker_do(k->world->keeper, keep_work, keep_done, k);
		return;
	}
	if (k->a)
		k->a->keep = NULL;
	if (r) {
		struct context *c = r->ctx;
		store_grew(&c->store, L_KEPT, s->end);
		if (err)
			notice(c, r, "its artifacts are not kept: %s", strerror(-err));
		if (k->left)
			notice(c, r, "%zu artifacts are left out: more than %d in one run", k->left, KEPT_MAX / 2);
		size_t n = 0;
		for (size_t i = 0; i < s->n; i++) {
			struct snap_file *f = &s->v[i];
			struct made *m = f->type ? map_get(&k->a->files, f->path) : NULL;
			n += f->type != SNAP_GONE;
			if (m && !snapshot_same(&m->told, &f->st))
				tell(k->a, r, m, f);
		}
		kept_free(r->kept);
		r->kept = NULL;
		if (!err && n) {
			r->kept_at = (struct extent){ s->start, s->end - s->start };
			r->kept_table = s->end - s->start - (s->table - s->start);
			r->kept_bytes = s->copied + s->cloned;
		}
		run_recorded(r);
	}
	snapshot_clear(s);
	free(k);
}

/* All that R did is known. False if it made nothing. */
static bool keep(struct artifacts *a, struct run *r)
{
	struct context *c = a->c;
	size_t n = 0, open = 0;

	/* What is mapped into memory changes without news. Each once: what changes all the time comes last again. */
	list_for(it, &a->open)
		open++;
	while (open-- && !list_empty(&a->open)) {
		struct made *m = container_of(a->open.next, struct made, open);
		auto_free char *path = xstrdup(m->path);
		move_to(&a->open, &m->open);
		look(a, path, W_BEGUN);
	}
	a->run = 0;
	list_for(it, &a->changed)
		n++;
	if (!n)
		return false;
	int log = store_fd(&c->store, L_KEPT);
	struct keep_job *k = xcalloc(1, sizeof(*k));
	*k = (struct keep_job){ .a = a, .world = c->world, .run = run_object(c, r->number),
				.left = n > KEPT_MAX / 2 ? n - KEPT_MAX / 2 : 0 };
	k->s = (struct snapshot){ .root = fcntl(watcher_root(a->w), F_DUPFD_CLOEXEC, 0),
				  .log = log < 0 ? -1 : fcntl(log, F_DUPFD_CLOEXEC, 0), .start = c->store.end[L_KEPT],
				  .end = c->store.end[L_KEPT], .mime = c->world->mime, .patience = a->patience,
				  .link_ok = link_ok, .v = xcalloc(n, sizeof(*k->s.v)) };
	while (!list_empty(&a->changed)) {
		struct made *m = container_of(a->changed.next, struct made, changed);
		list_del(&m->changed);
		list_del(&m->due);
		if (k->s.n == KEPT_MAX / 2)
			continue;
		struct snap_file *f = &k->s.v[k->s.n++];
		f->path = xstrdup(m->path);
		f->known = m->told;
		snprintf(f->mime, sizeof(f->mime), "%s", m->mime ? m->mime : "");
	}
	qsort(k->s.v, k->s.n, sizeof(*k->s.v), cmp_path);
	a->keep = k;
	worker_do(c->world->keeper, keep_work, keep_done, k);
	return true;
}

static void settled(void *arg)
{
	struct artifacts *a = arg;
	struct run *r = a->c->active;

	if (r && r->state == R_ENDING && r->number == a->run && !keep(a, r))
		run_recorded(r);
}

bool artifact_end(struct run *r)
{
	struct artifacts *a = r->ctx->artifacts;

	if (!a || !a->w || a->run != r->number || r->ctx->doomed)
		return false;
	int blind = watcher_blind(a->w);
	if (blind && !a->told_blind)
		context_log(r->ctx, "artifacts: %s: found at the end of each run, by walking through the workspace",
			    blind == -ENOSPC ? "more directories than inotify may watch (fs.inotify.max_user_watches)" :
			    blind == -EMFILE ? "no inotify (fs.inotify.max_user_instances)" : strerror(-blind));
	a->told_blind = blind;
	if (blind || a->walk)
		watcher_walk_all(a->w);
	return !watcher_settle(a->w) || keep(a, r);
}

void artifact_abandon(struct context *c)
{
	struct artifacts *a = c->artifacts;
	struct run *r = c->active;

	if (!a || !r || r->state != R_ENDING || !(a->keep || a->run == r->number))
		return;
	if (a->keep)
		a->keep->a = NULL;
	a->keep = NULL;
	a->run = 0;
	run_recorded(r);
}

/* ---- what is kept of a run ---- */

static uint32_t kept_dir(struct kept *k, const char *path, size_t len);

static uint32_t kept_push(struct kept *k, char *path, char type, uint32_t dir)
{
	const char *slash = strrchr(path, '/');

	if (k->n == k->cap) {
		k->cap = k->cap ? 2 * k->cap : 8;
		k->v = xrealloc(k->v, k->cap * sizeof(*k->v));
	}
	k->v[k->n++] = (struct kept_file){ .path = path, .name = slash ? slash + 1 : path, .dir = dir, .type = type };
	map_put(&k->by_path, path, (void *)(uintptr_t)k->n);
	return k->n;
}

/* The directory of the first LEN bytes of PATH, made if need be; 0 the top. */
static uint32_t kept_dir(struct kept *k, const char *path, size_t len)
{
	uint32_t dir = 0;

	for (size_t i = 0; i <= len && len; i++) {
		if (i < len && path[i] != '/')
			continue;
		auto_free char *sub = xstrndup(path, i);
		uintptr_t at = (uintptr_t)map_get(&k->by_path, sub);
		dir = at ? at : kept_push(k, take_str(&sub), 'd', dir);
	}
	return dir;
}

static void kept_add(struct kept *k, const char *path, char type, off_t off, off_t size, const char *mime)
{
	const char *slash = strrchr(path, '/');
	uintptr_t at = (uintptr_t)map_get(&k->by_path, path);

	if (at && k->v[at - 1].type == 'd')
		return; /* while the run goes on a name may become another thing; its list keeps the first */
	if (!at) {
		size_t dirs = 1;
		for (const char *p = path; *p; p++)
			dirs += *p == '/';
		if (k->n + dirs > KEPT_MAX)
			return;
		uint32_t dir = slash ? kept_dir(k, path, slash - path) : 0;
		if (dir && k->v[dir - 1].type != 'd')
			return;
		at = kept_push(k, xstrdup(path), type, dir);
	}
	struct kept_file *f = &k->v[at - 1];
	f->off = off;
	f->size = size;
	str_set(&f->mime, mime);
}

static void load_line(void *arg, const struct snap_file *f)
{
	kept_add(arg, f->path, f->type, f->off, f->size, f->mime);
}

void kept_free(struct kept *k)
{
	if (!k)
		return;
	for (size_t i = 0; i < k->n; i++) {
		free(k->v[i].path);
		free(k->v[i].mime);
	}
	map_free(&k->by_path);
	free(k->v);
	free(k);
}

/* Runs that have ended keep no long list in memory when another's is wanted. */
static void forget_others(struct run *r)
{
	size_t n = 0;

	for (struct list *it = r->ctx->recent.prev; it != &r->ctx->recent; it = it->prev) {
		struct run *other = container_of(it, struct run, link);
		n += other->kept ? other->kept->n : 0;
		if (other != r && n > KEPT_MAX) {
			kept_free(other->kept);
			other->kept = NULL;
		}
	}
}

const struct kept *run_kept(struct run *r)
{
	static const struct kept none;
	auto_buf struct buf b = { 0 };

	if (r->kept || !r->kept_at.len)
		return r->kept ? r->kept : &none;
	forget_others(r);
	r->kept = xcalloc(1, sizeof(*r->kept));
	off_t table = r->kept_at.off + r->kept_at.len - r->kept_table;
	int err = store_read(&r->ctx->store, L_KEPT, table, r->kept_table, &b);
	if (!err)
		err = snapshot_read(b.s, b.n, load_line, r->kept);
	for (size_t i = 0; i < r->kept->n; i++) { /* what is not there is not served */
		struct kept_file *f = &r->kept->v[i];
		if ((f->type == SNAP_FILE || f->type == SNAP_LINK) &&
		    (f->off < r->kept_at.off || f->off > table || f->size > table - f->off))
			f->size = 0;
	}
	if (err)
		context_log(r->ctx, "run %llu: the list of its artifacts cannot be read: %s",
			    (unsigned long long)r->number, strerror(-err));
	return r->kept;
}

uint32_t kept_find(const struct kept *k, uint32_t dir, const char *name)
{
	auto_free char *path = dir ? xasprintf("%s/%s", k->v[dir - 1].path, name) : NULL;

	return (uintptr_t)map_get(&k->by_path, path ? path : name);
}

bool kept_is_there(const struct run *r, const struct kept_file *f)
{
	struct artifacts *a = r->ctx->artifacts;

	return !r->kept || !r->kept->live || (a && map_get(f->type == 'd' ? &a->dirs : &a->files, f->path));
}

void run_json_kept(struct run *r, struct buf *b)
{
	const struct kept *k = run_kept(r);
	bool first = true;

	buf_char(b, '[');
	for (size_t i = 0; i < k->n; i++) {
		const struct kept_file *f = &k->v[i];
		if (f->type == 'd')
			continue;
		buf_str(b, first ? "{\"path\":" : ",{\"path\":");
		first = false;
		buf_json_str(b, f->path);
		buf_printf(b, ",\"size\":%lld,\"mime\":", (long long)f->size);
		buf_json_str(b, f->mime);
		buf_str(b, f->type == SNAP_LIVE ? ",\"live\":true}" : "}");
	}
	buf_char(b, ']');
}

/* ---- artifacts/ ---- */

bool artifact_shown(struct context *c, const char *path, bool is_dir)
{
	struct artifacts *a = artifacts_of(c);

	if (a->w && mono_us() - a->read_at > READ_AGAIN_US) { /* what is there is shown at once */
		watcher_read(a->w);
		a->read_at = mono_us();
	}
	return map_get(is_dir ? &a->dirs : &a->files, path);
}

int artifact_rmdir(struct context *c, const char *path)
{
	struct artifacts *a = artifacts_of(c);
	struct made_dir *d = map_get(&a->dirs, path);

	if (!d)
		return -ENOENT;
	if (d->n)
		return -ENOTEMPTY;
	map_del(&a->dirs, d->path);
	free(d->path);
	free(d);
	return 0;
}

/* ---- the mount ---- */

void artifact_uploaded(struct context *c, const char *path)
{
	struct artifacts *a = c->artifacts || c->store.end[L_MADE] ? artifacts_of(c) : NULL;

	if (a)
		made_drop(a, map_get(&a->files, path));
}

/* Its directories stay until they are removed, or a file comes: `rm -r` wants to find them. */
void artifact_removed(struct context *c, const char *path)
{
	struct artifacts *a = c->artifacts || c->store.end[L_MADE] ? artifacts_of(c) : NULL;
	struct made *m = a ? map_get(&a->files, path) : NULL;

	if (!m)
		return;
	made_drop(a, m);
	for (const char *slash = path; (slash = strchr(slash, '/')); slash++) {
		auto_free char *dir = xstrndup(path, slash - path);
		if (map_get(&a->dirs, dir))
			continue;
		struct made_dir *d = xcalloc(1, sizeof(*d));
		d->path = take_str(&dir);
		d->emptied = true;
		map_put(&a->dirs, d->path, d);
	}
}

static void move_all(struct artifacts *a, const char *from, const char *to)
{
	size_t n, len = strlen(from);
	auto_free struct made **v = made_below(a, from, &n);

	for (size_t i = 0; i < n; i++) {
		auto_free char *path = xasprintf("%s%s", to, v[i]->path + len);
		forget_path(a, v[i]);
		log_made(a, '-', v[i]->path);
		str_set(&v[i]->path, path);
		map_put(&a->files, v[i]->path, v[i]);
		count_dirs(a, path, 1);
		log_made(a, '+', path);
	}
}

void artifact_moved(struct context *c, const char *from, const char *to, bool swap)
{
	struct artifacts *a = c->artifacts || c->store.end[L_MADE] ? artifacts_of(c) : NULL;
	static const char aside[] = "\001aside";
	size_t n;

	if (!a || !strcmp(from, to))
		return;
	if (swap) {
		move_all(a, to, aside);
	} else {
		auto_free struct made **v = made_below(a, to, &n);
		for (size_t i = 0; i < n; i++)
			made_drop(a, v[i]);
	}
	move_all(a, from, to);
	if (swap)
		move_all(a, aside, from);
}
