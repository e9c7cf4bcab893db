/* The user's files of a context: cells, drafts, values; and the results that go by a cell's name. */
#include "context.h"

#include "box.h"
#include "kernel.h"
#include "packages.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>

enum { VALUE_MAX = 64 << 10 };

static const char *const real_dirs[B_COUNT] = {
	[B_CELLS] = "cells", [B_CONTEXT] = "drafts",	    [B_CONFIG] = "config",
	[B_ENV] = "config/env", [B_KERNEL] = "config/kernel",
};

const char *body_dir_name(enum body_dir dir)
{
	return real_dirs[dir];
}

static char *body_path(const struct context *c, enum body_dir dir, const char *name)
{
	return xasprintf("%s/%s/%s", c->uuid, real_dirs[dir], name);
}

static bool name_ok(const char *name)
{
	return *name && strlen(name) <= 255 && !strchr(name, '/') && strcmp(name, ".") && strcmp(name, "..");
}

static struct body *body_new(struct context *c, enum body_dir dir, const char *name)
{
	struct body *b = xcalloc(1, sizeof(*b));

	b->ctx = c;
	b->dir = dir;
	b->name = xstrdup(name);
	list_init(&b->handles);
	list_init(&b->loose);
	b->cut = -1;
	b->id = object_new(c->world, O_BODY, c, b);
	map_put(&c->files[dir], b->name, b);
	return b;
}

struct body *body_find(struct context *c, enum body_dir dir, const char *name)
{
	struct body *b = map_get(&c->files[dir], name);
	struct stat st;

	if (b || !name_ok(name) || value_name(c, dir, name))
		return b;
	auto_free char *path = body_path(c, dir, name);
	if (fstatat(c->world->contexts_dir, path, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
		return NULL;
	b = body_new(c, dir, name);
	/* A draft that has bytes has never run. What a cell's bytes did is known from its mark. */
	b->dirty = !body_is_cell(b) && st.st_size > 0;
	return b;
}

/* B leaves its name. It lives on while it is open. */
static void body_leave(struct body *b)
{
	map_del(&b->ctx->files[b->dir], b->name);
	b->unlinked = true;
	if (b->opens) {
		list_append(&b->ctx->loose, &b->loose);
		return;
	}
	object_drop(b->ctx->world, b->id);
	free(b->name);
	free(b);
}

bool body_is_cell(const struct body *b)
{
	return b->dir == B_CELLS && kernel_is_cell(b->ctx, b->name);
}

int queue_admit(struct context *c, const char *name)
{
	if ((int64_t)c->nqueued < c->world->opt.queue)
		return 0;
	context_log(c, "cell %s is refused: the queue holds %lld runs, which is its limit (option queue)", name,
		    (long long)c->world->opt.queue);
	return -ENOSPC;
}

int body_admit(struct context *c, enum body_dir dir, const char *name)
{
	int err = !name_ok(name) ? -EINVAL : c->doomed ? -ENOENT : world_admit(c->world);

	if (err) {
		if (err == -ENOSPC)
			context_log(c, "%s is refused: the disk of STATE_DIR is full", name);
		return err;
	}
	if (dir != B_CELLS || !kernel_is_cell(c, name))
		return 0;
	struct speaker s = kernel_speaker(c, name);
	if (!s.lang || (!s.interpreter && !s.lang->interpreter)) {
		context_log(c, "cell %s is refused: the language %s is not on this host: %s", name,
			    s.lang ? s.lang->name : "?", s.lang ? s.lang->install : "");
		return -EINVAL;
	}
	return queue_admit(c, name);
}

int body_create(struct context *c, enum body_dir dir, const char *name, mode_t mode, struct body **out)
{
	int err = body_admit(c, dir, name);

	if (err)
		return err;
	auto_free char *path = body_path(c, dir, name);
	auto_close int fd = openat(c->world->contexts_dir, path,
				   O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, (mode & 0777) | 0600);
	if (fd < 0)
		return -errno;
	*out = body_new(c, dir, name);
	return 0;
}

int body_open_fd(struct body *b, int flags)
{
	auto_free char *path = body_path(b->ctx, b->dir, b->name);
	int err = body_settle(b);

	if (err)
		return err;
	if (flags & O_TRUNC)
		b->refused = 0;
	int fd = openat(b->ctx->world->contexts_dir, path,
			(flags & (O_ACCMODE | O_TRUNC | O_APPEND)) | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int body_stat(struct body *b, struct stat *st)
{
	auto_free char *path = body_path(b->ctx, b->dir, b->name);

	if (fstatat(b->ctx->world->contexts_dir, path, st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (b->cut >= 0)
		st->st_size = 0;
	return 0;
}

void body_cut(struct body *b, int fd)
{
	b->cut = fd;
	b->refused = 0;
}

int body_settle(struct body *b)
{
	if (b->cut < 0)
		return 0;
	if (ftruncate(b->cut, 0) < 0) {
		int err = -errno;
		body_refused(b, err);
		return err;
	}
	b->cut = -1;
	return 0;
}

int body_put(struct body *b, int fd, const char *p, size_t n, off_t off)
{
	bool first = b->cut >= 0 && !off && n;
	struct stat was = { 0 };
	int err = !first ? body_settle(b) : fstat(fd, &was) < 0 ? -errno : 0;

	if (!err)
		err = pwrite_all(fd, p, n, off);
	if (!err && was.st_size > (off_t)n && ftruncate(fd, n) < 0)
		err = -errno;
	if (!err)
		b->cut = -1;
	return err;
}

void body_opened(struct body *b, struct writer *w, pid_t pid)
{
	*w = (struct writer){ .pid = pid };
	list_append(&b->handles, &w->link);
	b->writers++;
}

void body_refused(struct body *b, int err)
{
	b->refused = err;
}

int body_write(struct body *b, struct writer *w, off_t end)
{
	struct context *c = b->ctx;

	if (end > CELL_MAX) {
		if (c)
			context_log(c, "%s: a cell is at most 16 MiB", b->name);
		return -EFBIG;
	}
	if (c && !b->dirty && !b->unlinked) {
		if (body_is_cell(b)) {
			int err = queue_admit(c, b->name);
			if (!err)
				err = store_mark(&c->store, b->name, true);
			if (err)
				return err;
		}
		b->dirty = true;
	}
	if (w)
		w->wrote = true;
	b->killed = 0;
	return 0;
}

/* Has the task given up its memory, as it does before its files when it exits? */
static bool is_exiting(pid_t pid)
{
	char path[40];
	auto_buf struct buf b = { 0 };

	snprintf(path, sizeof(path), "/proc/%d/statm", pid);
	return pid > 0 && !read_file(AT_FDCWD, path, 4096, &b) && !strncmp(b.s, "0 0 ", 4);
}

/* A task that is being killed closes its files on the way: then field 52 of its stat, exit_code, has the
 * signal (right in 10 of 10 cases, where the flag PF_SIGNALED was right in 9).
 *
 * Only of a task that exits: an execve closes files too (close-on-exec), holds the task's exec_update_lock
 * while it waits for our answer, and reading stat waits for that lock: measured on Linux 6.18, a deadlock
 * that not even SIGKILL ends. statm takes no such lock. */
static int killing_signal(pid_t pid)
{
	char path[40];
	auto_buf struct buf b = { 0 };
	int code = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (!is_exiting(pid) || read_file(AT_FDCWD, path, 65536, &b))
		return 0;
	char *p = strrchr(b.s, ')');
	for (int field = 2; p && field < 52; field++)
		p = strchr(p + 1, ' ');
	if (p)
		code = atoi(p);
	return code & 0x7f;
}

void body_flushed(struct body *b, struct writer *w, pid_t pid)
{
	if (w->wrote && b->dirty)
		b->killed = killing_signal(pid);
}

static void process_name(pid_t pid, char name[32])
{
	char path[40];
	auto_buf struct buf b = { 0 };

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	name[0] = 0;
	if (!read_file(AT_FDCWD, path, 64, &b))
		snprintf(name, 32, "%.*s", (int)strcspn(b.s, "\n"), b.s);
}

static void tell_still_open(struct body *b)
{
	struct writer *w = container_of(b->handles.next, struct writer, link);
	char name[32];

	process_name(w->pid, name);
	notice(b->ctx, NULL, "cell %s does not run yet: process %d (%s) still has it open for writing", b->name,
	       w->pid, name);
}

/* A new cell that was closed with nothing written: nobody waits for a run of it. */
static void drop_writing(struct context *c, const char *name)
{
	struct cell *cell = cell_find(c, name);
	struct run *r = cell ? cell->writing : NULL;

	if (!r)
		return;
	cell->writing = NULL;
	object_drop(c->world, r->id);
	waitq_wake(&r->change, -ENOENT);
	run_free(r);
	if (!cell->newest)
		cell_detach(c, cell);
}

static void run_body(struct body *b)
{
	struct context *c = b->ctx;
	int killed = b->killed, refused = b->refused;
	struct run *r;

	b->killed = b->refused = 0;
	if (context_submit(c, b->name, &r))
		return;
	if (killed || refused) {
		auto_free char *why =
			killed ? xasprintf("its writer was killed by signal %d (%s)", killed, strsignal(killed)) :
				 xasprintf("a write of it was refused: %s", strerror(-refused));
		run_finish(r, ST_ABORTED, why);
	}
	context_schedule(c);
}

void body_closed(struct body *b, struct writer *w)
{
	struct context *c = b->ctx;

	if (w) {
		list_del(&w->link);
		b->writers--;
	}
	b->opens--;
	if (c && w && !b->writers && !b->unlinked && b->dir == B_CELLS && !body_is_cell(b)) {
		/* It was one when it was opened: config/kernel has changed since. */
		if (b->dirty)
			store_mark(&c->store, b->name, false);
		drop_writing(c, b->name);
	} else if (c && w && !b->unlinked && body_is_cell(b)) {
		if (b->dirty && !b->writers)
			run_body(b);
		else if (b->dirty && w->wrote)
			tell_still_open(b);
		else if (!b->writers)
			drop_writing(c, b->name);
	}
	if (b->opens || (c && !b->unlinked))
		return;
	if (c)
		object_drop(c->world, b->id);
	list_del(&b->loose);
	free(b->name);
	free(b);
}

/* ---- cells: what results/ knows ---- */

struct cell *cell_find(struct context *c, const char *name)
{
	return map_get(&c->cell_names, name);
}

struct cell *cell_at(struct context *c, uint32_t i)
{
	return i && i <= c->ncells ? c->cells[i - 1] : NULL;
}

struct cell *cell_latest(struct context *c)
{
	struct cell *latest = NULL;

	for (size_t i = 0; i < c->ncells; i++)
		if (c->cells[i]->newest && (!latest || c->cells[i]->newest > latest->newest))
			latest = c->cells[i];
	return latest;
}

uint32_t cell_index(struct context *c, const struct cell *cell)
{
	(void)c;
	return cell->index;
}

struct cell *cell_make(struct context *c, const char *name)
{
	struct cell *cell = cell_find(c, name);

	if (cell)
		return cell;
	cell = xcalloc(1, sizeof(*cell));
	cell->name = xstrdup(name);
	cell->id = object_new(c->world, O_CELL, c, cell);
	if (c->ncells % 16 == 0)
		c->cells = xrealloc(c->cells, (c->ncells + 16) * sizeof(*c->cells));
	c->cells[c->ncells++] = cell;
	cell->index = c->ncells;
	map_put(&c->cell_names, cell->name, cell);
	return cell;
}

void cell_detach(struct context *c, struct cell *cell)
{
	if (!cell->name)
		return;
	map_del(&c->cell_names, cell->name);
	object_drop(c->world, cell->id);
	free(cell->name);
	cell->name = NULL;
	cell->id = 0;
	cell->newest = 0;
	context_touch_names(c);
}

struct run *cell_writing(struct context *c, const char *name)
{
	struct body *b = map_get(&c->files[B_CELLS], name);
	struct cell *cell = cell_find(c, name);

	if (!b || !b->writers || !body_is_cell(b) || (cell && cell->newest))
		return NULL;
	if (!cell)
		cell = cell_make(c, name);
	if (!cell->writing) {
		cell->writing = run_new(c, cell, name);
		cell->writing->id = object_new(c->world, O_RUN, c, cell->writing);
	}
	return cell->writing;
}

static int journal_cell(struct context *c, const char *op, const char *from, const char *to)
{
	auto_buf struct buf b = { 0 };

	event_begin(c, &b, "cell", NULL);
	buf_printf(&b, ",\"op\":\"%s\",\"from\":", op);
	buf_json_str(&b, from);
	if (to) {
		buf_str(&b, ",\"to\":");
		buf_json_str(&b, to);
	}
	int err = event_end(c, &b, NULL);
	if (!err)
		err = index_note(c, to ? IDX_MOVED : IDX_GONE, from, to, 0);
	if (!err)
		context_touch(c);
	return err;
}

/* rm of a cell: its runs end, its results go when they have. */
static void cell_remove(struct context *c, const char *name)
{
	struct cell *cell = cell_find(c, name);
	bool live = false;

	if (!cell)
		return;
	drop_writing(c, name);
	if (!(cell = cell_find(c, name)))
		return;
	journal_cell(c, "removed", name, NULL);
	list_for_safe(it, tmp, &c->live) {
		struct run *r = container_of(it, struct run, link);
		if (r->cell != cell)
			continue;
		r->detached = true;
		if (r->state == R_QUEUED) {
			run_cancel(r, "its cell was removed");
		} else {
			live = true;
			run_interrupt(r, ST_INTERRUPTED, "its cell was removed");
		}
	}
	cell = cell_find(c, name);
	if (cell && !live)
		cell_detach(c, cell);
}

/* A clean cell goes by another name of its language: its results go with it. */
static int cell_move(struct context *c, const char *from, const char *to)
{
	struct cell *cell = cell_find(c, from), *old = cell_find(c, to);

	if (!cell)
		return 0;
	int err = journal_cell(c, "moved", from, to);
	if (err)
		return err;
	if (old)
		cell_detach(c, old);
	map_del(&c->cell_names, cell->name);
	free(cell->name);
	cell->name = xstrdup(to);
	map_put(&c->cell_names, cell->name, cell);
	context_touch_names(c);
	return 0;
}

int body_unlink(struct body *b)
{
	struct context *c = b->ctx;
	auto_free char *path = body_path(c, b->dir, b->name);

	if (unlinkat(c->world->contexts_dir, path, 0) < 0)
		return -errno;
	if (body_is_cell(b)) {
		auto_free char *name = xstrdup(b->name);
		store_mark(&c->store, name, false);
		body_leave(b);
		cell_remove(c, name);
		context_schedule(c);
	} else {
		body_leave(b);
	}
	return 0;
}

/* B goes by the name TO, on disk and here; what had that name is replaced. */
static int move_body(struct body *b, const char *to, bool noreplace)
{
	struct context *c = b->ctx;
	auto_free char *from_path = body_path(c, b->dir, b->name);
	auto_free char *to_path = body_path(c, b->dir, to);
	struct body *old = body_find(c, b->dir, to);

	if (old && noreplace)
		return -EEXIST;
	if (renameat(c->world->contexts_dir, from_path, c->world->contexts_dir, to_path) < 0)
		return -errno;
	if (old && old != b)
		body_leave(old);
	map_del(&c->files[b->dir], b->name);
	free(b->name);
	b->name = xstrdup(to);
	map_put(&c->files[b->dir], b->name, b);
	return 0;
}

static int rename_cell(struct body *b, const char *to, bool noreplace)
{
	struct context *c = b->ctx;
	const struct lang *was = kernel_speaker(c, b->name).lang, *is = kernel_speaker(c, to).lang;
	auto_free char *from = xstrdup(b->name);
	bool dirty = b->dirty, fresh = is && was != is;

	if (fresh || (is && dirty)) {
		int err = body_admit(c, B_CELLS, to);
		if (err)
			return err;
	}
	int err = move_body(b, to, noreplace);
	if (err)
		return err;
	if (was && was != is && is)
		cell_remove(c, from); /* in another language it is another cell */
	if (was && was == is) {
		struct cell *cell = cell_find(c, from);
		if (!dirty || (cell && cell->newest) || (cell && cell->writing))
			err = cell_move(c, from, to);
	}
	if (was && dirty)
		store_mark(&c->store, from, false);
	if (is && (dirty || fresh)) {
		struct stat st;
		b->dirty = b->dirty || (!body_stat(b, &st) && st.st_size > 0);
		if (b->dirty)
			store_mark(&c->store, to, true);
		if (b->dirty && !b->writers)
			run_body(b);
	}
	return err;
}

static int take_packages(struct context *c, const char *text, size_t n, bool *gone)
{
	(void)gone;
	return packages_write(c, text, n);
}

static const struct taker {
	const char *name;
	int (*take)(struct context *c, const char *text, size_t n, bool *gone);
	bool holds;
} takers[] = {
	{ "ctl", context_ctl, false },
	{ "packages", take_packages, true },
};

static const struct taker *taker_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(takers); i++)
		if (!strcmp(takers[i].name, name))
			return &takers[i];
	return NULL;
}

bool context_takes(const char *name)
{
	return taker_find(name);
}

bool context_holds(const char *name)
{
	const struct taker *t = taker_find(name);

	return t && t->holds;
}

int context_take(struct context *c, const char *name, const char *text, size_t n, bool *gone)
{
	const struct taker *t = taker_find(name);

	return t ? t->take(c, text, n, gone) : -ENOENT;
}

/* A draft is renamed over a file that the tree makes: one write of its text. */
static int write_by_rename(struct body *b, const char *to)
{
	struct context *c = b->ctx;
	auto_free char *path = body_path(c, b->dir, b->name);
	auto_buf struct buf text = { 0 };
	bool gone = false;
	int err = body_settle(b);

	if (!err)
		err = read_file(c->world->contexts_dir, path, VALUE_MAX, &text);
	if (err)
		return err;
	if (b->dir == B_CONTEXT)
		err = context_take(c, to, text.s ? text.s : "", text.n, &gone);
	else
		err = value_write(c, b->dir, to, text.s ? text.s : "", text.n);
	if (err || gone)
		return err;
	unlinkat(c->world->contexts_dir, path, 0);
	body_leave(b);
	return 0;
}

int body_rename(struct body *b, enum body_dir dir, const char *to, bool noreplace)
{
	if (b->dir != dir)
		return -EXDEV;
	if (!name_ok(to))
		return -EINVAL;
	if (!strcmp(b->name, to))
		return 0;
	if (dir == B_CELLS)
		return rename_cell(b, to, noreplace);
	if ((dir == B_CONTEXT && context_takes(to)) || value_name(b->ctx, dir, to))
		return noreplace ? -EEXIST : write_by_rename(b, to);
	return move_body(b, to, noreplace);
}

int context_each_file(struct context *c, enum body_dir dir, void (*fn)(void *, const char *), void *arg)
{
	auto_free char *path = context_path(c, real_dirs[dir]);
	int fd = openat(c->world->contexts_dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d)
		return -errno;
	for (struct dirent *e; (e = readdir(d));)
		if (e->d_type == DT_REG && strcmp(e->d_name, ".cellfs.tmp"))
			fn(arg, e->d_name);
	closedir(d);
	return 0;
}

static void count_file(void *arg, const char *name)
{
	(void)name;
	++*(int *)arg;
}

bool body_dir_empty(struct context *c, enum body_dir dir)
{
	int n = 0;

	context_each_file(c, dir, count_file, &n);
	return !n;
}

/* ---- values ---- */

/* An extension that nothing has, and that config/kernel may give to a language. Longer ones are editors' drafts. */
static bool may_be_ext(const char *name)
{
	enum { EXT_MAX = 8 };
	size_t n = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+-");

	return n && n <= EXT_MAX && !name[n] && !strchr("0123456789_+-", *name);
}

bool value_name(struct context *c, enum body_dir dir, const char *name)
{
	switch (dir) {
	case B_CONFIG:
		return setting_find(name) >= 0;
	case B_ENV:
		return env_name_ok(name);
	case B_KERNEL:
		return lang_for_ext(&c->world->langs, name) || may_be_ext(name);
	default:
		return false;
	}
}

static const char *value_form(enum body_dir dir, const char *name)
{
	if (dir == B_CONFIG)
		return setting_form(setting_find(name));
	return dir == B_ENV ? "text of at most 64 KiB without NUL" :
			      "a language of `languages`, or the absolute path of an executable interpreter";
}

static int check_setting(struct context *c, const char *name, const char *text, size_t n)
{
	struct config scratch;
	auto_buf struct buf why = { 0 };

	config_init(&scratch, &c->world->opt.defaults);
	int err = setting_set(&scratch, setting_find(name), text, n, &c->world->opt.defaults);
	if (!err && setting_find(name) == C_NETWORK && scratch.v[C_NETWORK].v == NETWORK_ON &&
	    net_check(&c->world->net, &why)) {
		context_log(c, "config/network: %s", why.s);
		err = -EINVAL;
	}
	config_clear(&scratch);
	return err;
}

static int check_value(struct context *c, enum body_dir dir, const char *name, const char *text, size_t n)
{
	if (n > VALUE_MAX || (n && memchr(text, 0, n)))
		return -EINVAL;
	if (dir == B_CONFIG)
		return check_setting(c, name, text, n);
	if (dir == B_ENV)
		return 0;
	while (n && text[n - 1] == '\n')
		n--;
	return n ? kernel_check_override(c, name, text, n) : 0;
}

static void set_override(struct context *c, const char *ext, const char *text, size_t n)
{
	char *old = map_get(&c->overrides, ext);

	while (n && text[n - 1] == '\n')
		n--;
	if (old) {
		const char *key = NULL;
		for (size_t i = 0; i < c->overrides.n; i++)
			if (c->overrides.entries[i].value == old)
				key = c->overrides.entries[i].key;
		map_del(&c->overrides, ext);
		free((char *)key);
		free(old);
	}
	if (n)
		map_put(&c->overrides, xstrdup(ext), xstrndup(text, n));
}

/* TEXT is in force from now on. */
static void apply_value(struct context *c, enum body_dir dir, const char *name, const char *text, size_t n)
{
	auto_buf struct buf b = { 0 };

	if (dir == B_CONFIG) {
		setting_set(&c->conf, setting_find(name), text, n, &c->world->opt.defaults);
		box_configured(c);
	}
	if (dir == B_KERNEL)
		set_override(c, name, text, n);
	event_begin(c, &b, "config", NULL);
	buf_str(&b, ",\"key\":");
	auto_free char *key = xasprintf("%s%s", dir == B_ENV ? "env/" : dir == B_KERNEL ? "kernel/" : "", name);
	buf_json_str(&b, key);
	event_end(c, &b, NULL);
	context_touch(c);
	context_schedule(c);
}

int value_create(struct context *c, enum body_dir dir, const char *name)
{
	auto_free char *path = body_path(c, dir, name);

	return write_file(c->world->contexts_dir, path, "", 0, 0600);
}

int value_write(struct context *c, enum body_dir dir, const char *name, const char *text, size_t n)
{
	int err = check_value(c, dir, name, text, n);

	if (err) {
		context_log(c, "%s/%s: not accepted: %.*s; allowed: %s", real_dirs[dir], name,
			    (int)MIN(strcspn(text, "\n"), 100), text, value_form(dir, name));
		return err;
	}
	auto_free char *path = body_path(c, dir, name);
	err = write_file(c->world->contexts_dir, path, text, n, 0600);
	if (!err)
		apply_value(c, dir, name, text, n);
	return err;
}

int value_read(struct context *c, enum body_dir dir, const char *name, struct buf *out, struct stat *st)
{
	auto_free char *path = body_path(c, dir, name);

	if (fstatat(c->world->contexts_dir, path, st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return read_file(c->world->contexts_dir, path, VALUE_MAX, out);
}

int value_remove(struct context *c, enum body_dir dir, const char *name)
{
	auto_free char *path = body_path(c, dir, name);

	if (unlinkat(c->world->contexts_dir, path, 0) < 0)
		return errno == ENOENT && dir == B_CONFIG ? 0 : -errno;
	apply_value(c, dir, name, "", 0);
	return 0;
}
