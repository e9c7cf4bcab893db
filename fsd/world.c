#include "world.h"

#include "box.h"
#include "kernel.h"
#include "spare.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>

enum { PAGE = 1024, RESERVE = 1 << 20, SYNC_US = 1000000, FDS_FOR_OTHERS = 300 };

/* ---- objects ---- */

uint64_t object_new(struct world *w, enum object_type type, struct context *ctx, void *ptr)
{
	uint64_t id = w->next_id++;
	size_t page = id / PAGE;

	if (page >= w->npages) {
		w->pages = xrealloc(w->pages, (page + 1) * sizeof(*w->pages));
		w->page_live = xrealloc(w->page_live, (page + 1) * sizeof(*w->page_live));
		w->pages[page] = xcalloc(PAGE, sizeof(**w->pages));
		w->page_live[page] = 0;
		w->npages = page + 1;
	}
	w->pages[page][id % PAGE] = (struct object){ .type = type, .ctx = ctx, .ptr = ptr };
	w->page_live[page]++;
	return id;
}

struct object *object_get(const struct world *w, uint64_t id)
{
	size_t page = id / PAGE;

	if (page >= w->npages || !w->pages[page])
		return NULL;
	struct object *o = &w->pages[page][id % PAGE];
	return o->type ? o : NULL;
}

void object_drop(struct world *w, uint64_t id)
{
	struct object *o = id ? object_get(w, id) : NULL;

	if (!o)
		return;
	*o = (struct object){ 0 };
	size_t page = id / PAGE;
	if (--w->page_live[page] || page + 1 == w->npages)
		return;
	free(w->pages[page]);
	w->pages[page] = NULL;
}

/* ---- names ---- */

bool context_name_ok(const char *name)
{
	static const char rest[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
	size_t n = strlen(name);

	return n >= 1 && n <= 64 && name[0] != '.' && name[0] != '-' && strspn(name, rest) == n;
}

struct context *world_context(struct world *w, const char *name)
{
	return map_get(&w->contexts, name);
}

static void make_uuid(char uuid[37])
{
	unsigned char r[16];

	if (getrandom(r, sizeof(r), 0) != sizeof(r))
		die("no random numbers");
	r[6] = (r[6] & 0x0f) | 0x40;
	r[8] = (r[8] & 0x3f) | 0x80;
	for (int i = 0, k = 0; i < 16; i++) {
		k += snprintf(uuid + k, 37 - k, "%02x", r[i]);
		if (i == 3 || i == 5 || i == 7 || i == 9)
			uuid[k++] = '-';
	}
	uuid[36] = 0;
}

int world_mkdir(struct world *w, const char *name, struct context **c)
{
	struct who owner = w->opt.allow_other ? w->caller : (struct who){ getuid(), getgid(), 0 };
	char uuid[37];

	if (!context_name_ok(name)) {
		log_line(&w->log, "mkdir %.100s: a context's name is [A-Za-z0-9_][A-Za-z0-9._-]{0,63}", name);
		return -EINVAL;
	}
	if (world_context(w, name))
		return -EEXIST;
	int err = world_admit(w);
	if (err)
		return err;
	make_uuid(uuid);
	auto_close int tmp = openat(w->state, "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	err = tmp < 0 ? -errno : context_make_files(tmp, uuid, name, &owner);
	if (!err && renameat(tmp, uuid, w->contexts_dir, uuid) < 0)
		err = -errno;
	auto_free char *target = xasprintf("../contexts/%s", uuid);
	if (!err && symlinkat(target, w->names_dir, name) < 0)
		err = -errno;
	if (err) {
		log_line(&w->log, "mkdir %s: %s", name, strerror(-err));
		return err;
	}
	context_new(w, name, uuid, c);
	world_touch(w);
	return context_load(*c);
}

int world_rename(struct world *w, struct context *c, const char *to)
{
	if (!context_name_ok(to))
		return -EINVAL;
	if (world_context(w, to))
		return -EEXIST;
	if (renameat(w->names_dir, c->name, w->names_dir, to) < 0)
		return -errno;
	map_del(&w->contexts, c->name);
	free(c->name);
	c->name = xstrdup(to);
	map_put(&w->contexts, c->name, c);
	context_touch(c);
	return 0;
}

struct trash {
	int dir;
	char name[40];
};

static int empty_trash(void *arg)
{
	struct trash *t = arg;

	return delete_tree(t->dir, t->name);
}

static void trash_emptied(void *arg, int err)
{
	struct trash *t = arg;

	(void)err;
	close(t->dir);
	free(t);
}

static void delete_behind(struct world *w, const char *name)
{
	struct trash *t = xcalloc(1, sizeof(*t));

	snprintf(t->name, sizeof(t->name), "%s", name);
	t->dir = openat(w->state, "trash", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	worker_do(w->worker, empty_trash, trash_emptied, t);
}

/* Its processes may still be dying: what they hold of the trash goes with them. */
void world_remove(struct world *w, struct context *c)
{
	char uuid[40];
	auto_free char *to = xasprintf("trash/%s", c->uuid);

	snprintf(uuid, sizeof(uuid), "%s", c->uuid);
	context_load(c);
	c->scheduling = true;
	context_abandon(c);
	context_stop(c, "removed", true);
	unlinkat(w->names_dir, c->name, 0);
	if (renameat(w->contexts_dir, c->uuid, w->state, to) < 0)
		log_line(&w->log, "context %s: %s", c->name, strerror(errno));
	list_for(it, &w->removed_hooks) {
		struct removed_hook *h = container_of(it, struct removed_hook, link);
		h->fn(h->arg, c->id);
	}
	context_free(c);
	delete_behind(w, uuid);
	world_touch(w);
}

/* ---- the disk ---- */

static bool make_room(void *arg)
{
	struct world *w = arg;

	if (w->reserve < 0)
		return false;
	log_line(&w->log, "the disk of STATE_DIR is full: the reserve is given back; new runs are refused");
	if (ftruncate(w->reserve, 0) < 0)
		return false;
	drop_fd(&w->reserve);
	return true;
}

static void make_reserve(struct world *w)
{
	auto_close int fd = openat(w->state, "reserve", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	w->reserve_retry = mono_us() + 1000000;
	if (fd < 0)
		return;
	int err = posix_fallocate(fd, 0, RESERVE);
	if (err) {
		if (ftruncate(fd, 0) < 0)
			return;
		return;
	}
	w->reserve = take(&fd);
}

int world_admit(struct world *w)
{
	if (w->reserve < 0 && mono_us() >= w->reserve_retry) {
		make_reserve(w);
		if (w->reserve >= 0)
			log_line(&w->log, "the disk of STATE_DIR has room again: runs are accepted");
	}
	return w->reserve < 0 ? -ENOSPC : 0;
}

static void sync_all(void *arg)
{
	struct world *w = arg;

	list_for_safe(it, tmp, &w->stores.open) {
		struct store *s = container_of(it, struct store, lru);
		if (s->unsynced)
			store_sync(s, w->worker, NULL, NULL);
	}
}

void world_dirty(struct world *w)
{
	if (!w->sync_timer.slot)
		timer_set(w->loop, &w->sync_timer, SYNC_US, sync_all, w);
}

void world_touch(struct world *w)
{
	w->changed = MAX(wall_us(), w->changed + 1000);
	waitq_wake(&w->change, 0);
}

/* ---- opening ---- */

static int make_dirs(struct world *w, const char *path, struct buf *why)
{
	static const struct {
		const char *name;
		mode_t mode;
	} subs[] = { { "names", 0700 }, { "contexts", 0700 }, { "trash", 0700 }, { "tmp", 0700 }, { "artifacts", 0755 } };
	auto_free char *p = xstrdup(path);

	for (char *s = p + 1; *s; s++) {
		if (*s != '/')
			continue;
		*s = 0;
		mkdir(p, 0700);
		*s = '/';
	}
	if (mkdir(path, 0700) < 0 && errno != EEXIST) {
		buf_printf(why, "%s: %s", path, strerror(errno));
		return -1;
	}
	w->state = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (w->state < 0) {
		buf_printf(why, "%s: %s", path, strerror(errno));
		return -1;
	}
	for (size_t i = 0; i < ARRAY_SIZE(subs); i++) {
		if (mkdirat(w->state, subs[i].name, subs[i].mode) < 0 && errno != EEXIST) {
			buf_printf(why, "%s/%s: %s", path, subs[i].name, strerror(errno));
			return -1;
		}
	}
	w->contexts_dir = openat(w->state, "contexts", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	w->names_dir = openat(w->state, "names", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return 0;
}

static int lock_state(struct world *w, struct buf *why)
{
	char pid[32];

	w->lock = openat(w->state, "lock", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (w->lock < 0 || flock(w->lock, LOCK_EX | LOCK_NB) < 0) {
		auto_buf struct buf b = { 0 };
		read_file(w->state, "lock", 64, &b);
		buf_printf(why, "%s is in use by the cellfs with pid %.*s", w->opt.state_dir,
			   (int)strcspn(b.s ? b.s : "", "\n"), b.s ? b.s : "");
		return -1;
	}
	int n = snprintf(pid, sizeof(pid), "%d\n", getpid());
	if (ftruncate(w->lock, 0) < 0 || pwrite(w->lock, pid, n, 0) != n)
		log_line(&w->log, "cannot write the lock: %s", strerror(errno));
	return 0;
}

/* Returns 1 for a STATE_DIR that is new, 0 for one of ours, -1 for one that we cannot read. */
static int check_version(struct world *w, struct buf *why)
{
	auto_buf struct buf b = { 0 };
	char text[16];

	if (!read_file(w->state, "version", 64, &b)) {
		long v = strtol(b.s, NULL, 10);
		if (v == STATE_VERSION)
			return 0;
		buf_printf(why, "%s has format version %ld, this cellfs reads version %d: use a newer cellfs",
			   w->opt.state_dir, v, STATE_VERSION);
		return -1;
	}
	int n = snprintf(text, sizeof(text), "%d\n", STATE_VERSION);
	int err = write_file(w->state, "version", text, n, 0600);
	if (err) {
		buf_printf(why, "%s: %s", w->opt.state_dir, strerror(-err));
		return -1;
	}
	return 1;
}

static void read_names(struct world *w)
{
	DIR *d = fdopendir(dup(w->names_dir));
	char target[PATH_MAX];
	struct context *c;

	for (struct dirent *e; d && (e = readdir(d));) {
		ssize_t n = readlinkat(w->names_dir, e->d_name, target, sizeof(target) - 1);
		if (n != 12 + 36 || !context_name_ok(e->d_name))
			continue;
		target[n] = 0;
		context_new(w, e->d_name, target + 12, &c);
	}
	if (d)
		closedir(d);
}

/* What an earlier daemon did not finish deleting or making. */
static void sweep(void *arg)
{
	static const char *const subs[] = { "trash", "tmp" };
	struct world *w = arg;

	for (size_t i = 0; i < ARRAY_SIZE(subs); i++) {
		int fd = openat(w->state, subs[i], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		DIR *d = fd < 0 ? NULL : fdopendir(fd);
		for (struct dirent *e; d && (e = readdir(d));) {
			auto_free char *from = xasprintf("%s/%s", subs[i], e->d_name);
			auto_free char *to = xasprintf("trash/%s", e->d_name);
			if (e->d_name[0] == '.' || strlen(e->d_name) > 39)
				continue;
			if (i && renameat(w->state, from, w->state, to) < 0)
				continue;
			delete_behind(w, e->d_name);
		}
		if (d)
			closedir(d);
	}
}

static int64_t request_timeout_us(void)
{
	static const char *const knobs[] = { "/proc/sys/fs/fuse/default_request_timeout",
					     "/proc/sys/fs/fuse/max_request_timeout" };
	int64_t least = 0;

	for (size_t i = 0; i < ARRAY_SIZE(knobs); i++) {
		auto_buf struct buf b = { 0 };
		if (read_file(AT_FDCWD, knobs[i], 64, &b))
			continue;
		int64_t s = strtoll(b.s, NULL, 10);
		if (s > 0 && (!least || s < least))
			least = s;
	}
	/* The kernel rounds up to its own ticks; ending well before is what counts. */
	return least * 1000000 * 2 / 3;
}

static int64_t file_time(int dir, const char *name)
{
	struct stat st;

	return fstatat(dir, name, &st, 0) < 0 ? wall_us() :
						ts_to_us(st.st_mtim);
}

/* `languages` has the mtime of its last change, also when that was between two mounts. */
static void note_languages(void *arg)
{
	struct world *w = arg;
	auto_buf struct buf was = { 0 }, is = { 0 };

	langs_print(&w->langs, &is);
	bool new = read_file(w->state, "languages", 1 << 20, &was) || was.n != is.n || memcmp(was.s, is.s, is.n);
	if (new)
		write_file(w->state, "languages", is.s ? is.s : "", is.n, 0600);
	w->languages_time = MAX(file_time(w->state, "languages"), w->languages_time + (new ? 1000 : 0));
}

static void find_jupyter(struct world *w)
{
	struct jupyter_host h = { .loop = w->loop, .worker = w->worker, .sandbox = &w->sandbox, .log = &w->log,
				  .state = w->state, .state_dir = w->opt.state_dir, .changed = note_languages, .arg = w };

	w->jupyter = jupyter_find(&h, &w->langs, w->opt.kernelspecs);
}

enum { UID_FIRST = 0x70000000, UID_COUNT = 0x0ffffff0 };

/* The first one is by chance, so that two STATE_DIRs of one host hardly ever meet. */
uid_t world_new_uid(struct world *w)
{
	auto_buf struct buf b = { 0 };
	uint32_t n = 0;
	char text[16];

	if (!read_file(w->state, "next_uid", 64, &b) && b.n)
		n = strtoul(b.s, NULL, 10) - UID_FIRST;
	else if (getrandom(&n, sizeof(n), 0) != sizeof(n))
		die("no random numbers");
	n %= UID_COUNT;
	int k = snprintf(text, sizeof(text), "%u\n", UID_FIRST + (n + 1) % UID_COUNT);
	int err = write_file(w->state, "next_uid", text, k, 0600);
	if (err)
		log_line(&w->log, "next_uid: %s", strerror(-err));
	return UID_FIRST + n;
}

/* The name of the daemon's groups is of STATE_DIR, which it holds locked: a crashed one's are found again. */
static int open_sandbox(struct world *w, struct buf *why)
{
	struct stat st;
	char tag[40];

	fstat(w->state, &st);
	snprintf(tag, sizeof(tag), "%llx-%llx", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	net_find(&w->net);
	if (sandbox_open(&w->sandbox, w->opt.sandbox, w->opt.box, tag, why) < 0)
		return -1;
	if (w->sandbox.mode != SANDBOX_FULL)
		fprintf(stderr, "cellfs: isolation: %s\n", w->sandbox.isolation);
	return 0;
}

/* What context.json says of the disk. */
static void on_scan(void *arg, uint64_t id)
{
	struct object *o = object_get(arg, id);

	if (o && o->type == O_CONTEXT && o->ctx->loaded && usage_see_disk(o->ctx))
		context_touch(o->ctx);
}

int world_open(struct world *w, struct options *opt, struct buf *why)
{
	struct rlimit files;
	struct context *c;

	w->opt = *opt;
	w->next_id = 1;
	w->state = w->contexts_dir = w->names_dir = w->lock = w->reserve = -1;
	list_init(&w->stores.open);
	list_init(&w->removed_hooks);
	waitq_init(&w->change);
	w->stores.make_room = make_room;
	w->stores.arg = w;
	getrlimit(RLIMIT_NOFILE, &files);
	w->stores.max_open = MAX((int64_t)16, ((int64_t)MIN(files.rlim_cur, 65536) - FDS_FOR_OTHERS) / 18);
	if (make_dirs(w, opt->state_dir, why) < 0 || lock_state(w, why) < 0)
		return -1;
	int fresh = check_version(w, why);
	if (fresh < 0)
		return -1;
	int err = log_open(&w->log, w->state, "log");
	if (err)
		log_line(&w->log, "no log file: %s", strerror(-err));
	if (langs_load(&w->langs, opt->kernels_dir, &w->log) < 0) {
		buf_printf(why, "%s: %s: no languages (option kernels=DIR)", opt->kernels_dir,
			   strerror(errno));
		return -1;
	}
	if (open_sandbox(w, why) < 0)
		return -1;
	w->worker = worker_new(w->loop);
	w->keeper = worker_new(w->loop);
	w->mime = mime_new();
	w->prober = worker_new(w->loop);
	w->spares = spares_new(w);
	w->meter = meter_new(w->loop, w->prober, w->state, box_over, w);
	meter_on_scan(w->meter, on_scan);
	w->started = w->changed = wall_us();
	w->cpus = sysconf(_SC_NPROCESSORS_ONLN);
	w->wait_max = request_timeout_us();
	make_reserve(w);
	w->born = file_time(w->state, "version");
	find_jupyter(w);
	note_languages(w);
	read_names(w);
	if (fresh && !opt->allow_other && world_mkdir(w, "main", &c))
		log_line(&w->log, "the context main cannot be made");
	timer_set(w->loop, &w->sweep_timer, 1000, sweep, w);
	return 0;
}

void world_mounted(struct world *w)
{
	jupyter_ask(w->jupyter);
}

void world_stop(struct world *w)
{
	jupyter_stop(w->jupyter);
	spares_stop(w->spares);
	for (size_t i = 0; i < w->contexts.n; i++) {
		struct context *c = w->contexts.entries[i].value;
		if (!c->loaded)
			continue;
		usage_see_disk(c);
		if (c->disk_seen != c->disk_noted)
			index_note(c, IDX_USAGE, NULL, NULL, 0);
		context_stop(c, "daemon stopped", true);
	}
	w->stopping = true;
	for (size_t i = 0; i < w->contexts.n; i++) {
		struct context *c = w->contexts.entries[i].value;
		list_for_safe(it, tmp, &c->live) /* their sync is not awaited: it comes below */
			run_finish(container_of(it, struct run, link), ST_KILLED, "daemon stopped");
	}
	sync_all(w);
}

bool world_quiet(const struct world *w)
{
	return w->kernels_running == 0 && w->boxes_running == 0 && !jupyter_busy(w->jupyter);
}

void world_close(struct world *w)
{
	w->stopping = true;
	if (w->keeper) /* first: a run may still wait for its files */
		worker_free(w->keeper);
	sync_all(w);
	if (w->worker)
		worker_free(w->worker);
	if (w->prober)
		worker_free(w->prober);
	while (w->contexts.n)
		context_free(w->contexts.entries[0].value);
	spares_free(w->spares);
	map_free(&w->contexts);
	timer_stop(w->loop, &w->sync_timer);
	timer_stop(w->loop, &w->sweep_timer);
	meter_free(w->meter);
	mime_free(w->mime);
	net_free(&w->net);
	sandbox_close(&w->sandbox);
	waitq_wake(&w->change, -ESTALE);
	for (size_t i = 0; i < w->npages; i++)
		free(w->pages[i]);
	free(w->pages);
	free(w->page_live);
	jupyter_free(w->jupyter);
	langs_free(&w->langs);
	log_close(&w->log);
	drop_fd(&w->reserve);
	drop_fd(&w->lock);
	drop_fd(&w->names_dir);
	drop_fd(&w->contexts_dir);
	drop_fd(&w->state);
}

void world_print_status(struct world *w, struct buf *out)
{
	buf_printf(out, "version: %s\n", CELLFS_VERSION);
	buf_printf(out, "pid: %d\n", getpid());
	buf_str(out, "started: ");
	buf_time(out, w->started);
	buf_printf(out, "\nstate_dir: %s\n", w->opt.state_dir);
	buf_printf(out, "isolation: %s\n", w->sandbox.isolation);
	buf_printf(out, "limits: %s\n", w->sandbox.limits);
	if (w->sandbox.mode == SANDBOX_FULL)
		buf_printf(out, "network: %s\n", net_name(&w->net) ? net_name(&w->net) :
			   "off only (for config/network: apt-get install passt, or slirp4netns)");
	buf_printf(out, "contexts: %zu\n", w->contexts.n);
	int kernels = 0, boxes = 0;
	spares_count(w->spares, &kernels, &boxes);
	buf_printf(out, "kernels_running: %d\n", w->kernels_running - kernels);
	buf_printf(out, "boxes: %d\n", w->boxes_running - boxes);
	buf_str(out, "spares: ");
	spares_print(w->spares, out);
	buf_char(out, '\n');
	buf_printf(out, "runs_since_start: %llu\n", (unsigned long long)w->runs_total);
	usage_print(&w->usage, out);
	buf_printf(out, "limit_queue: %lld runs a context\n", (long long)w->opt.queue);
	buf_str(out, "limit_cell: 16 MiB\n");
	buf_printf(out, "disk: %s\n", w->reserve < 0 ? "full: new runs are refused" : "ok");
	buf_printf(out, "sync: %s\n", w->opt.sync_always ? "each finished run" : "at most once a second");
	if (w->wait_max)
		buf_printf(out, "longest_wait: %g s (fs.fuse.default_request_timeout or max_request_timeout)\n",
			   w->wait_max / 1e6);
}
