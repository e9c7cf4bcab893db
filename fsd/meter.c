#include "meter.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

enum {
	MS = 1000,
	PERIOD = 250 * MS,
	SECOND = 1000 * MS,
	SLICE = 10 * MS,       /* of the worker, for one job */
	STUCK = 5 * SECOND,    /* a step that takes longer hangs on a lock */
	RESCAN = SECOND,       /* a scan without a reason (others may remove as much as one adds), */
	RESCAN_IDLE = 60 * SECOND, /* and where nothing was written */
	MAX_PIDS = 65536,
	MAX_SCANS = 16,        /* at a time: each holds up to HELD descriptors */
	HELD = 12,
	GRACE = 1 << 20,       /* over the base, see meter_limit */
	GRACE_FILES = 1000,
	FLOOR_GROWTH = 16 << 20,
	FILE_COST = 4096,      /* of a file beside its bytes, where the two are compared */
};

struct fs_state {
	struct meter_usage used, left, floor;
};

struct meter {
	struct loop *loop;
	struct worker *worker;
	int state_dir, njobs, nscans;
	dev_t dev;
	bool dead;           /* freed with its last job */
	meter_fn *fn;
	meter_scanned_fn *scanned; /* NULL: nobody asks */
	void *arg;
	struct list all;     /* those that wait longest for a scan first */
	struct timer timer;
	struct fs_state fs;
	bool low, roomy;     /* below the floor; far above it */
	int64_t floor_at;    /* when somebody may be named again */
	struct news {
		uint64_t id;
		enum meter_over what;
		int64_t amount;
	} *news;             /* to be told when no list is being walked */
	size_t nnews;
	bool telling;
};

/* ---- jobs: steps in the worker until nothing is left to do ---- */

struct meter_job {
	struct meter *m;
	struct metered *x; /* the loop's; NULL: it has gone, the result is for nobody */
	int (*step)(struct meter_job *j); /* in the worker, until UNTIL; 1: not done */
	void (*finish)(struct meter_job *j);
	void (*clear)(struct meter_job *j);
	_Atomic bool stop;
	_Atomic int64_t since; /* begin of the step that runs, or 0 */
	int64_t until, took;
};

static void job_done(void *arg, int more);

static int job_work(void *arg)
{
	struct meter_job *j = arg;
	int64_t begin = mono_us();

	j->until = begin + SLICE;
	atomic_store(&j->since, begin);
	int more = atomic_load(&j->stop) ? 0 : j->step(j);
	atomic_store(&j->since, 0);
	j->took += mono_us() - begin;
	return more;
}

static void job_free(struct meter_job *j)
{
	j->clear(j);
	free(j);
}

static void job_start(struct meter *m, struct meter_job *j, struct metered *x)
{
	j->m = m;
	j->x = x;
	m->njobs++;
	worker_do(m->worker, job_work, job_done, j);
}

static void tell_news(struct meter *m);

static void job_done(void *arg, int more)
{
	struct meter_job *j = arg;
	struct meter *m = j->m;

	if (j->x && more) {
		worker_do(m->worker, job_work, job_done, j);
		return;
	}
	m->njobs--;
	if (j->x)
		j->finish(j);
	job_free(j);
	tell_news(m);
	if (m->dead && !m->njobs)
		free(m);
}

static void job_forget(struct meter_job **j)
{
	if (!*j)
		return;
	(*j)->x = NULL;
	atomic_store(&(*j)->stop, true);
	*j = NULL;
}

/* ---- what is found is told ---- */

static void tell(struct meter *m, struct metered *x, enum meter_over what, int64_t amount)
{
	int64_t now = mono_us();

	if (now < x->told[what])
		return;
	x->told[what] = now + SECOND;
	m->news = xrealloc(m->news, (m->nnews + 1) * sizeof(*m->news));
	m->news[m->nnews++] = (struct news){ x->id, what, amount };
}

static void tell_news(struct meter *m)
{
	if (m->telling)
		return;
	m->telling = true;
	for (size_t i = 0; i < m->nnews; i++) {
		struct news n = m->news[i];
		m->fn(m->arg, n.id, n.what, n.amount);
	}
	m->nnews = 0;
	m->telling = false;
}

/* ---- scan: a walk through directories ----
 *
 * A tree can be 10,000 levels deep and change while it is walked, so there is no recursion and no path. The
 * first HELD levels keep their descriptors and what they have read. Below, only the deepest one is open; the
 * way back is "..", and if that is not where we came from (it was moved), the walk goes on at the deepest
 * level that is held. */

struct level {
	int fd, at, n;
	int64_t off; /* of the directory, behind the entry at AT */
	char entries[8192] __attribute__((aligned(8)));
};

struct scan {
	struct meter_job job;
	int roots[METER_DIRS];
	size_t root; /* the next one */
	struct meter_usage stop, got, begin_fs, begin_beside;
	int64_t begin_written;
	bool opaque, failed; /* FAILED: not even the root could be read */
	dev_t dev;
	size_t depth; /* levels that are open; 0: at the next root */
	struct place {
		ino_t ino;
		int64_t off;
	} *deep; /* of the levels from HELD on that are above the deepest */
	size_t cap;
	struct level level[HELD + 1];
};

static struct level *top(struct scan *s)
{
	return &s->level[MIN(s->depth, HELD + 1) - 1];
}

static void level_set(struct level *l, int fd, int64_t off)
{
	l->fd = fd;
	l->at = l->n = 0;
	l->off = off;
}

/* The next entry of the deepest level, or NULL. */
static struct dirent64 *next_entry(struct level *l)
{
	if (l->at == l->n) {
		l->at = 0;
		l->n = syscall(SYS_getdents64, l->fd, l->entries, sizeof(l->entries));
		if (l->n <= 0) {
			l->n = 0;
			return NULL;
		}
	}
	struct dirent64 *e = (struct dirent64 *)(l->entries + l->at);
	l->at += e->d_reclen;
	l->off = e->d_off;
	return e;
}

static void go_down(struct scan *s, int fd, const struct stat *parent)
{
	if (s->depth > HELD) {
		size_t n = s->depth - HELD;
		if (n > s->cap) {
			s->cap = MAX(64, s->cap * 2);
			s->deep = xrealloc(s->deep, s->cap * sizeof(*s->deep));
		}
		s->deep[n - 1] = (struct place){ parent->st_ino, top(s)->off };
		close(top(s)->fd);
	}
	s->depth++;
	level_set(top(s), fd, 0);
}

static void go_up(struct scan *s)
{
	auto_close int below = top(s)->fd;

	top(s)->fd = -1;
	if (--s->depth <= HELD)
		return;
	struct place *p = &s->deep[s->depth - HELD - 1];
	auto_close int fd = openat(below, "..", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;
	if (fd >= 0 && fstat(fd, &st) == 0 && st.st_dev == s->dev && st.st_ino == p->ino &&
	    lseek(fd, p->off, SEEK_SET) >= 0)
		level_set(top(s), take(&fd), p->off);
	else
		s->depth = HELD;
}

static void visit(struct scan *s, const char *name)
{
	int dir = top(s)->fd;
	struct stat st, parent = { 0 };

	if (!strcmp(name, ".") || !strcmp(name, ".."))
		return;
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) < 0) {
		s->opaque |= errno == EACCES;
		return;
	}
	if (st.st_dev != s->dev)
		return;
	bool is_dir = S_ISDIR(st.st_mode);
	s->got.files++;
	s->got.bytes += st.st_blocks * 512 / (is_dir ? 1 : MAX(st.st_nlink, 1));
	if (!is_dir)
		return;
	auto_close int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		s->opaque |= errno == EACCES;
	else if (fstat(fd, &st) == 0 && st.st_dev == s->dev &&
		 (s->depth <= HELD || fstat(dir, &parent) == 0))
		go_down(s, take(&fd), &parent);
}

static bool next_root(struct scan *s)
{
	struct stat st;

	if (s->root == ARRAY_SIZE(s->roots))
		return false;
	int root = s->roots[s->root++];
	if (root < 0)
		return true;
	/* Anew: it may be O_PATH, and has an offset of its own. */
	auto_close int fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &st) == 0) {
		s->dev = st.st_dev;
		s->depth = 1;
		level_set(top(s), take(&fd), 0);
	} else {
		s->failed = true;
	}
	return true;
}

/* Who is over the limit is so however much more there is. */
static bool scan_enough(const struct scan *s)
{
	return s->got.bytes > s->stop.bytes || s->got.files > s->stop.files;
}

static int scan_step(struct meter_job *j)
{
	struct scan *s = container_of(j, struct scan, job);

	for (int n = 0; !scan_enough(s); n++) {
		if (n % 64 == 63 && mono_us() > j->until)
			return 1;
		if (!s->depth) {
			if (!next_root(s))
				return 0;
			continue;
		}
		struct dirent64 *e = next_entry(top(s));
		if (e)
			visit(s, e->d_name);
		else
			go_up(s);
	}
	return 0;
}

static void scan_clear(struct meter_job *j)
{
	struct scan *s = container_of(j, struct scan, job);

	if (s->depth > HELD)
		close(s->level[HELD].fd);
	for (size_t i = 0; i < MIN(s->depth, HELD); i++)
		close(s->level[i].fd);
	for (size_t i = 0; i < ARRAY_SIZE(s->roots); i++)
		drop_fd(&s->roots[i]);
	free(s->deep);
	if (j->m)
		j->m->nscans--;
}

static struct scan *scan_new(const int roots[METER_DIRS], struct meter_usage stop)
{
	struct scan *s = xcalloc(1, sizeof(*s));

	s->job = (struct meter_job){ .step = scan_step, .clear = scan_clear };
	s->stop = stop;
	for (size_t i = 0; i < ARRAY_SIZE(s->roots); i++) {
		s->roots[i] = roots[i] < 0 ? -1 : fcntl(roots[i], F_DUPFD_CLOEXEC, 0);
		s->failed |= roots[i] >= 0 && s->roots[i] < 0;
	}
	return s;
}

int meter_scan_once(int dir, int64_t *bytes, int64_t *files)
{
	struct stat st;

	if (fstat(dir, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	struct scan *s = scan_new((int[METER_DIRS]){ dir, -1, -1 }, (struct meter_usage){ INT64_MAX, INT64_MAX });
	s->job.until = INT64_MAX;
	scan_step(&s->job);
	*bytes = s->got.bytes;
	*files = s->got.files;
	int err = s->failed ? -EIO : s->opaque ? -EACCES : 0;
	job_free(&s->job);
	return err;
}

/* ---- the disk of one box ---- */

int64_t meter_max_files(int64_t disk)
{
	return MAX(disk / 4096, 1000000);
}

/* Bytes in a directory that cannot be read are at most those that were written since the box is there. */
static struct meter_usage disk_usage(const struct metered *x)
{
	return (struct meter_usage){ x->scanned.bytes + x->pinned.bytes + (x->opaque ? x->written : 0),
				     x->scanned.files + x->pinned.files };
}

/* The most that X may use. */
static struct meter_usage disk_bar(const struct metered *x)
{
	struct meter_usage bar = x->limit;

	if (!bar.bytes)
		return (struct meter_usage){ INT64_MAX, INT64_MAX };
	if (x->known) {
		bar.bytes = MAX(bar.bytes, x->base.bytes + GRACE);
		bar.files = MAX(bar.files, x->base.files + GRACE_FILES);
	}
	return bar;
}

static void scan_finish(struct meter_job *j);

static bool has_dirs(const struct metered *x)
{
	bool any = false;

	for (size_t i = 0; i < METER_DIRS; i++)
		any |= x->dirs[i] >= 0;
	return any;
}

static void scan_start(struct meter *m, struct metered *x)
{
	struct meter_usage stop = { INT64_MAX, INT64_MAX };

	if (x->scan || !has_dirs(x))
		return;
	if (x->known && x->limit.bytes)
		stop = disk_bar(x);
	struct scan *s = scan_new(x->dirs, stop);
	s->job.finish = scan_finish;
	s->begin_fs = m->fs.used;
	s->begin_beside = x->beside;
	s->begin_written = x->written;
	x->scan = &s->job;
	m->nscans++;
	list_del(&x->link);
	list_append(&m->all, &x->link);
	job_start(m, &s->job, x);
}

/* What was there before X was watched: what there is now without what the whole file system has grown by. */
static void disk_first(struct meter *m, struct metered *x)
{
	x->base.bytes = MAX(x->disk.bytes - MAX(m->fs.used.bytes - x->add_fs.bytes, 0), 0);
	x->base.files = MAX(x->disk.files - MAX(m->fs.used.files - x->add_fs.files, 0), 0);
	x->calm = x->base;
	if (x->disk.bytes <= x->limit.bytes && x->disk.files <= x->limit.files)
		x->base = (struct meter_usage){ 0 }; /* a limit that is lowered later is in force */
	x->known = true;
}

static void disk_check(struct meter *m, struct metered *x)
{
	x->disk = disk_usage(x);
	if (!x->known)
		return;
	struct meter_usage bar = disk_bar(x);
	bool over = x->disk.bytes > bar.bytes || x->disk.files > bar.files;
	if (over && x->scan) {
		return; /* looked at again when that has ended */
	} else if (over && !x->confirm) {
		/* Not yet: what was moved or removed while it was counted was seen twice. */
		x->confirm = true;
		scan_start(m, x);
	} else {
		bool bytes = x->disk.bytes > bar.bytes;
		if (over)
			tell(m, x, bytes ? OVER_DISK : OVER_FILES, bytes ? x->disk.bytes : x->disk.files);
		x->confirm = false; /* the next one is not to be blamed for files that are gone by then */
	}
}

static void fs_look(struct meter *m);

static void scan_finish(struct meter_job *j)
{
	struct scan *s = container_of(j, struct scan, job);
	struct metered *x = j->x;
	struct meter *m = j->m;

	x->scan = NULL;
	x->scan_end = mono_us();
	if (s->failed)
		return;
	x->scanned = s->got;
	x->beside.bytes -= s->begin_beside.bytes;
	x->beside.files -= s->begin_beside.files;
	x->opaque = s->opaque;
	x->scan_fs = s->begin_fs;
	x->scan_written = s->begin_written;
	x->scan_took = j->took;
	x->disk = disk_usage(x);
	x->seen = true;
	if (!x->known) {
		fs_look(m);
		disk_first(m, x);
	}
	x->base.bytes = MIN(x->base.bytes, x->disk.bytes);
	x->base.files = MIN(x->base.files, x->disk.files);
	if (m->roomy) {
		x->calm = x->disk;
		x->calm_written = x->written;
	}
	disk_check(m, x);
	if (m->scanned)
		m->scanned(m->arg, x->id);
}

static bool scan_due(const struct meter *m, const struct metered *x, int64_t now)
{
	struct meter_usage bar = disk_bar(x), used = x->disk;
	int64_t age = now - x->scan_end, slack = bar.bytes - used.bytes;

	if (!has_dirs(x))
		return false;
	if (!x->known)
		return true;
	if (age < 2 * x->scan_took)
		return false;
	if (m->fs.used.bytes - x->scan_fs.bytes >= slack || x->written - x->scan_written >= slack ||
	    m->fs.used.files - x->scan_fs.files >= bar.files - used.files)
		return true;
	if (m->low && age >= SECOND)
		return true;
	int64_t rest = x->written == x->scan_written && x->proc >= 0 ? RESCAN_IDLE : RESCAN;
	return age >= MAX(rest, 20 * x->scan_took);
}

/* ---- look: the processes of one box ----
 *
 * In the worker, because other processes hold locks that smaps_rollup, io and fd/ need for as long as they
 * like (mmap_lock, exec_update_lock). statm takes none of them, so the sum of RSS is known even if the
 * rest hangs, and then it counts. */

struct look {
	struct meter_job job;
	int proc, shm;
	dev_t dev;
	DIR *dir;
	int64_t limit;
	enum { LOOK_LIST, LOOK_FDS, LOOK_PSS } phase;
	bool fds, pss; /* to be done, and then: was done */
	struct process {
		int pid;
		int64_t rss;
	} *processes;
	size_t n, cap, at;
	_Atomic int64_t rss;
	int64_t private, shared, memfd, written;
	struct meter_usage pinned;
	ino_t *seen; /* memfds and removed files that were counted: open addressing, 0 is free */
	size_t nseen, seen_cap;
};

static ssize_t read_proc(const struct look *k, int pid, const char *name, char *to, size_t size)
{
	char path[48];

	snprintf(path, sizeof(path), "%d/%s", pid, name);
	auto_close int fd = openat(k->proc, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = read(fd, to, size - 1);
	if (n < 0)
		return -errno;
	to[n] = 0;
	return n;
}

static int64_t read_rss(const struct look *k, int pid)
{
	char s[256];
	long long rss;

	if (read_proc(k, pid, "statm", s, sizeof(s)) <= 0 || sscanf(s, "%*s %lld", &rss) != 1)
		return 0;
	return rss * sysconf(_SC_PAGESIZE);
}

static int look_list(struct look *k)
{
	if (!k->dir) {
		auto_close int fd = openat(k->proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0 || !(k->dir = fdopendir(fd)))
			return 0;
		take(&fd);
	}
	while (mono_us() < k->job.until) {
		struct dirent *e = readdir(k->dir);
		if (!e || k->n == MAX_PIDS)
			return 0;
		if (*e->d_name < '1' || *e->d_name > '9')
			continue;
		if (k->n == k->cap) {
			k->cap = MAX(16, k->cap * 2);
			k->processes = xrealloc(k->processes, k->cap * sizeof(*k->processes));
		}
		struct process p = { atoi(e->d_name), 0 };
		p.rss = read_rss(k, p.pid);
		k->rss += p.rss;
		k->processes[k->n++] = p;
	}
	return 1;
}

static bool seen_before(struct look *k, ino_t ino)
{
	if (2 * k->nseen >= k->seen_cap) {
		ino_t *old = k->seen;
		size_t n = k->seen_cap;
		k->seen_cap = MAX(64, n * 2);
		k->seen = xcalloc(k->seen_cap, sizeof(*k->seen));
		k->nseen = 0;
		for (size_t i = 0; i < n; i++)
			if (old[i])
				seen_before(k, old[i]);
		free(old);
	}
	size_t i = ino * 0x9e3779b97f4a7c15u % k->seen_cap;
	while (k->seen[i] && k->seen[i] != ino)
		i = (i + 1) % k->seen_cap;
	if (k->seen[i])
		return true;
	k->seen[i] = ino;
	k->nseen++;
	return false;
}

/* A file without a name that descriptor NAME of a process keeps: a memfd, or one on the disk. */
static void look_fd(struct look *k, int dir, const char *name)
{
	char link[8];
	struct stat st;

	if (fstatat(dir, name, &st, AT_NO_AUTOMOUNT) < 0 || !S_ISREG(st.st_mode) || st.st_nlink ||
	    !st.st_blocks)
		return;
	bool disk = st.st_dev == k->dev;
	if (!disk && (readlinkat(dir, name, link, sizeof(link)) != sizeof(link) || memcmp(link, "/memfd:", 7)))
		return;
	if (seen_before(k, st.st_ino ^ (disk ? 1ull << 63 : 0)))
		return;
	if (disk) {
		k->pinned.bytes += st.st_blocks * 512;
		k->pinned.files++;
	} else {
		k->memfd += st.st_blocks * 512;
	}
}

static void look_fds(struct look *k, const struct process *p)
{
	char s[1024], path[32];
	long long n;

	if (read_proc(k, p->pid, "io", s, sizeof(s)) > 0) {
		const char *at = strstr(s, "\nwrite_bytes: ");
		if (at && sscanf(at, " write_bytes: %lld", &n) == 1)
			k->written += n;
	}
	snprintf(path, sizeof(path), "%d/fd", p->pid);
	auto_close int fd = openat(k->proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	if (!d)
		return;
	take(&fd);
	for (struct dirent *e; (e = readdir(d)) && !atomic_load(&k->job.stop);)
		if (*e->d_name != '.')
			look_fd(k, dirfd(d), e->d_name);
	closedir(d);
}

static int64_t rollup_field(const char *s, const char *name)
{
	const char *at = strstr(s, name);
	long long kib = 0;

	if (at)
		sscanf(at + strlen(name), " %lld", &kib);
	return kib * 1024;
}

static void look_pss(struct look *k, const struct process *p)
{
	char s[4096];

	if (!p->rss)
		return;
	if (read_proc(k, p->pid, "smaps_rollup", s, sizeof(s)) <= 0) {
		k->private += read_rss(k, p->pid); /* it has ended, or hides: then all of it counts */
		return;
	}
	int64_t shmem = rollup_field(s, "\nPss_Shmem:");
	k->private += rollup_field(s, "\nPss:") - shmem + rollup_field(s, "\nSwapPss:");
	k->shared += shmem;
}

static int look_each(struct look *k, void (*fn)(struct look *, const struct process *))
{
	while (k->at < k->n) {
		if (mono_us() > k->job.until)
			return 1;
		fn(k, &k->processes[k->at++]);
	}
	k->at = 0;
	return 0;
}

/* Segments of System V's shared memory outlive who made them, and need not be mapped: lines of 16 columns, the
 * last two are the bytes in memory and in swap. */
static void look_shm(struct look *k)
{
	char text[8192];
	size_t have = 0;
	off_t at = 0;
	ssize_t n;

	while (k->shm >= 0 && (n = pread(k->shm, text + have, sizeof(text) - 1 - have, at)) > 0) {
		at += n;
		have += n;
		text[have] = 0;
		char *line = text, *nl;
		for (; (nl = strchr(line, '\n')); line = nl + 1) {
			long long rss = 0, swap = 0;
			*nl = 0;
			if (sscanf(line, "%*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %lld %lld", &rss,
				   &swap) == 2)
				k->memfd += rss + swap;
		}
		have -= line - text;
		memmove(text, line, have);
		if (have > sizeof(text) / 2)
			break;
	}
}

static int look_step(struct meter_job *j)
{
	struct look *k = container_of(j, struct look, job);

	if (k->phase == LOOK_LIST) {
		if (look_list(k))
			return 1;
		k->phase = LOOK_FDS;
		if (k->fds)
			k->memfd = 0;
	}
	if (k->phase == LOOK_FDS) {
		if (k->fds && look_each(k, look_fds))
			return 1;
		if (k->fds)
			look_shm(k);
		k->phase = LOOK_PSS;
		k->pss = k->pss && k->limit && k->rss + k->memfd > k->limit;
	}
	return k->pss && look_each(k, look_pss);
}

static void look_finish(struct meter_job *j)
{
	struct look *k = container_of(j, struct look, job);
	struct metered *x = j->x;
	int64_t now = mono_us(), took = j->took;

	x->look = NULL;
	x->look_at = now + (x->memory_limit ? PERIOD - 10 * MS : SECOND);
	x->rss = k->rss;
	x->rss_peak = MAX(x->rss_peak, x->rss);
	if (k->fds) {
		x->memfd = k->memfd;
		x->pinned = k->pinned;
		x->written = MAX(x->written, k->written);
		x->fds_at = now + MAX(SECOND, 20 * took);
		disk_check(j->m, x);
	}
	/* A memfd's pages are shared memory where they are mapped. Whichever is more, so that none counts
	 * twice; half of it is missed if none of them is mapped and as much of other shared memory is. */
	if (k->pss) {
		x->memory = k->private + MAX(k->shared, x->memfd);
		x->pss_at = now + 4 * took;
	} else if (x->rss + x->memfd <= x->memory_limit || !x->memory_limit) {
		x->memory = x->rss + x->memfd;
	}
	x->memory_peak = MAX(x->memory_peak, x->memory);
	if (k->pss && x->memory > k->limit && x->memory_limit)
		tell(j->m, x, OVER_MEMORY, x->memory);
}

static void look_clear(struct meter_job *j)
{
	struct look *k = container_of(j, struct look, job);

	if (k->dir)
		closedir(k->dir);
	drop_fd(&k->proc);
	drop_fd(&k->shm);
	free(k->processes);
	free(k->seen);
}

static void look_start(struct meter *m, struct metered *x, int64_t now)
{
	struct look *k = xcalloc(1, sizeof(*k));

	k->job = (struct meter_job){ .step = look_step, .finish = look_finish, .clear = look_clear };
	k->proc = fcntl(x->proc, F_DUPFD_CLOEXEC, 0);
	k->shm = x->shm < 0 ? -1 : fcntl(x->shm, F_DUPFD_CLOEXEC, 0);
	k->dev = m->dev;
	k->limit = x->memory_limit;
	k->memfd = x->memfd;
	k->fds = now >= x->fds_at;
	k->pss = now >= x->pss_at;
	x->look = &k->job;
	job_start(m, &k->job, x);
}

static void look_stuck(struct meter *m, struct metered *x, int64_t now)
{
	struct look *k = container_of(x->look, struct look, job);
	int64_t since = atomic_load(&x->look->since), rss = atomic_load(&k->rss);

	if (since && now - since > STUCK && x->memory_limit && rss > x->memory_limit)
		tell(m, x, OVER_MEMORY, rss);
}

/* ---- the file system ---- */

static void fs_look(struct meter *m)
{
	struct statvfs f;
	struct fs_state *s = &m->fs;

	if (fstatvfs(m->state_dir, &f) < 0)
		return;
	int64_t unit = f.f_frsize, files = f.f_files; /* some have no number of files: 0 */
	s->used = (struct meter_usage){ (int64_t)(f.f_blocks - f.f_bfree) * unit, files - (int64_t)f.f_ffree };
	s->left = (struct meter_usage){ (int64_t)f.f_bavail * unit, files ? (int64_t)f.f_favail : INT64_MAX };
	s->floor = (struct meter_usage){ MIN(1LL << 30, (int64_t)f.f_blocks * unit / 20),
					 MIN(1LL << 16, files / 20) };
	m->low = s->left.bytes < s->floor.bytes || s->left.files < s->floor.files;
	m->roomy = s->left.bytes / 4 >= s->floor.bytes && s->left.files / 4 >= s->floor.files;
}

/* By how much X has grown since there was space. A rewritten file is written and does not grow: what was
 * written counts only if nobody is seen to grow (a removed file that was mapped and closed, for one). */
static int64_t growth(const struct metered *x, bool written)
{
	if (written)
		return x->written - x->calm_written;
	return x->disk.bytes - x->calm.bytes + MAX(x->disk.files - x->calm.files, 0) * FILE_COST;
}

static struct metered *grown_most(struct meter *m, bool written)
{
	struct metered *most = NULL;

	list_for(it, &m->all) {
		struct metered *x = container_of(it, struct metered, link);
		if (x->known && growth(x, written) >= FLOOR_GROWTH &&
		    (!most || growth(x, written) > growth(most, written)))
			most = x;
	}
	return most;
}

static void floor_check(struct meter *m, const struct fs_state *before, int64_t now)
{
	bool falls = m->fs.left.bytes < before->left.bytes || m->fs.left.files < before->left.files;

	if (!m->low || !falls || now < m->floor_at)
		return;
	bool written = false;
	struct metered *x = grown_most(m, false);
	if (!x)
		x = grown_most(m, written = true);
	if (!x)
		return;
	tell(m, x, OVER_FLOOR, growth(x, written));
	x->calm = x->disk;
	x->calm_written = x->written;
	m->floor_at = now + SECOND;
}

static void on_tick(void *arg)
{
	struct meter *m = arg;
	int64_t now = mono_us();
	struct fs_state before = m->fs;

	fs_look(m);
	floor_check(m, &before, now);
	list_for_safe(it, next, &m->all) { /* scan_start moves it to the end */
		struct metered *x = container_of(it, struct metered, link);
		if (x->look)
			look_stuck(m, x, now);
		else if (x->proc >= 0 && now >= x->look_at)
			look_start(m, x, now);
		if (!x->scan && m->nscans < MAX_SCANS && scan_due(m, x, now))
			scan_start(m, x);
	}
	timer_set(m->loop, &m->timer, PERIOD, on_tick, m);
	tell_news(m);
}

/* ---- the whole ---- */

struct meter *meter_new(struct loop *loop, struct worker *worker, int state_dir, meter_fn *fn, void *arg)
{
	struct meter *m = xcalloc(1, sizeof(*m));
	struct stat st;

	*m = (struct meter){ .loop = loop, .worker = worker, .state_dir = state_dir, .fn = fn, .arg = arg };
	list_init(&m->all);
	if (fstat(state_dir, &st) == 0)
		m->dev = st.st_dev;
	fs_look(m);
	return m;
}

void meter_on_scan(struct meter *m, meter_scanned_fn *fn)
{
	m->scanned = fn;
}

void meter_free(struct meter *m)
{
	if (!m)
		return;
	while (!list_empty(&m->all))
		meter_del(m, container_of(m->all.next, struct metered, link));
	timer_stop(m->loop, &m->timer);
	free(m->news);
	m->news = NULL;
	m->dead = true;
	if (!m->njobs)
		free(m);
}

void metered_init(struct metered *x, uint64_t id)
{
	*x = (struct metered){ .id = id, .proc = -1, .shm = -1, .dirs = { -1, -1, -1 } };
	list_init(&x->link);
}

void meter_add(struct meter *m, struct metered *x, int proc, const int dirs[METER_DIRS])
{
	meter_del(m, x);
	x->proc = proc < 0 ? -1 : fcntl(proc, F_DUPFD_CLOEXEC, 0);
	for (size_t i = 0; i < ARRAY_SIZE(x->dirs); i++)
		x->dirs[i] = dirs[i] < 0 ? -1 : fcntl(dirs[i], F_DUPFD_CLOEXEC, 0);
	x->pinned = (struct meter_usage){ 0 };
	x->rss = x->rss_peak = x->memory = x->memory_peak = x->memfd = 0;
	x->written = x->scan_written = x->calm_written = 0;
	if (proc >= 0 && !x->peopled)
		x->known = false; /* what its first process finds there is its base */
	x->peopled |= proc >= 0;
	x->look_at = x->fds_at = x->pss_at = 0;
	memset(x->told, 0, sizeof(x->told));
	x->confirm = false;
	if (list_empty(&m->all))
		timer_set(m->loop, &m->timer, PERIOD, on_tick, m);
	list_append(&m->all, &x->link);
	fs_look(m);
	x->add_fs = x->scan_fs = m->fs.used;
	scan_start(m, x);
}

void meter_shm(struct metered *x, int shm)
{
	drop_fd(&x->shm);
	x->shm = shm < 0 ? -1 : fcntl(shm, F_DUPFD_CLOEXEC, 0);
}

void meter_del(struct meter *m, struct metered *x)
{
	if (list_empty(&x->link))
		return;
	drop_fd(&x->shm);
	list_del(&x->link);
	job_forget(&x->look);
	job_forget(&x->scan);
	drop_fd(&x->proc);
	for (size_t i = 0; i < ARRAY_SIZE(x->dirs); i++)
		drop_fd(&x->dirs[i]);
	if (list_empty(&m->all))
		timer_stop(m->loop, &m->timer);
}

void meter_limit(struct metered *x, int64_t memory, int64_t disk)
{
	x->memory_limit = memory;
	x->limit = (struct meter_usage){ disk, meter_max_files(disk) };
	x->confirm = false;
}

void meter_beside(struct metered *x, int64_t bytes, int64_t files)
{
	x->beside.bytes += bytes;
	x->beside.files += files;
}

struct meter_usage meter_left(const struct metered *x)
{
	struct meter_usage bar = disk_bar(x);

	return (struct meter_usage){ bar.bytes - x->disk.bytes - x->beside.bytes,
				     bar.files - x->disk.files - x->beside.files };
}
