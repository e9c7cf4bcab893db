#include "context.h"

#include "artifact.h"
#include "box.h"
#include "kernel.h"
#include "packages.h"

#include <fcntl.h>
#include <stdio.h>

enum { RECENT_MAX = 64 };

static const char *const dirs[] = { "cells", "config", "config/env", "config/kernel", "drafts",
				    "workspace", "home", "packages", "spool", "spool/code",
				    "spool/install", "spool/out" };

char *context_path(const struct context *c, const char *sub)
{
	return xasprintf("%s/%s", c->uuid, sub);
}

char *context_abspath(const struct context *c, const char *sub)
{
	return xasprintf("%s/contexts/%s/%s", c->world->opt.state_dir, c->uuid, sub);
}

char *context_inside(const struct context *c, const char *sub)
{
	if (c->world->sandbox.mode != SANDBOX_FULL)
		return context_abspath(c, sub);
	return strcmp(sub, "home") ? xasprintf("/%s", sub) : xstrdup("/home/user");
}

static void print_facts(const char *name, const struct who *owner, int64_t created, int64_t changed, int64_t listed,
			uid_t box_uid, struct buf *b)
{
	buf_printf(b, "{\"version\":%d,\"created\":%lld,\"changed\":%lld,\"listed\":%lld,", STATE_VERSION,
		   (long long)created, (long long)changed, (long long)listed);
	buf_printf(b, "\"owner\":%u,\"group\":%u,\"box_uid\":%u,\"name\":", owner->uid, owner->gid, box_uid);
	buf_json_str(b, name);
	buf_str(b, "}\n");
}

static int save_facts(struct context *c)
{
	auto_free char *path = context_path(c, "context");
	auto_buf struct buf b = { 0 };

	print_facts(c->name, &(struct who){ c->owner, c->group, 0 }, c->created, c->changed, c->listed, c->box_uid, &b);
	return write_file(c->world->contexts_dir, path, b.s, b.n, 0600);
}

void context_box_ids(struct context *c, uid_t *uid, gid_t *gid)
{
	bool own = geteuid() == 0 && c->world->sandbox.mode == SANDBOX_FULL;

	if (own && !c->box_uid) {
		c->box_uid = world_new_uid(c->world);
		save_facts(c);
	}
	*uid = own ? c->box_uid : geteuid();
	*gid = own ? c->box_uid : getegid();
}

void context_take_ids(struct context *c, uid_t uid)
{
	if (geteuid() || c->box_uid == uid)
		return;
	c->box_uid = uid;
	save_facts(c);
}

/* What its kernels may read. */
static const char *const shown[] = { "spool/code", "spool/install" };
/* What its kernels may write. */
static const char *const given[] = { "workspace", "home", "packages", "spool/out" };

int context_make_dirs(struct context *c, bool *foreign)
{
	uid_t uid;
	gid_t gid;
	struct stat st;

	*foreign = false;
	context_box_ids(c, &uid, &gid);
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		auto_free char *path = context_path(c, dirs[i]);
		if (mkdirat(c->world->contexts_dir, path, 0700) < 0 && errno != EEXIST)
			return -errno;
	}
	for (size_t i = 0; i < ARRAY_SIZE(shown); i++) {
		auto_free char *path = context_path(c, shown[i]);
		if (fchmodat(c->world->contexts_dir, path, 0755, 0) < 0)
			return -errno;
	}
	for (size_t i = 0; i < ARRAY_SIZE(given) && geteuid() == 0; i++) {
		auto_free char *path = context_path(c, given[i]);
		if (fstatat(c->world->contexts_dir, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return -errno;
		if (st.st_uid == uid && st.st_gid == gid)
			continue;
		*foreign = true;
		/* With a box they are given with all that is in them, which says so when it is done. */
		if (c->world->sandbox.mode != SANDBOX_FULL &&
		    fchownat(c->world->contexts_dir, path, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
			return -errno;
	}
	return 0;
}

int context_give_files(int contexts, const char *uuid, uid_t uid, gid_t gid)
{
	int r = 0;
	bool any = false;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(given); i++) {
		auto_free char *path = xasprintf("%s/%s", uuid, given[i]);
		r = own_tree(contexts, path, uid, gid);
		any |= r > 0;
	}
	return r < 0 ? r : any;
}

int context_new(struct world *w, const char *name, const char *uuid, struct context **out)
{
	struct context *c = xcalloc(1, sizeof(*c));

	c->world = w;
	c->name = xstrdup(name);
	snprintf(c->uuid, sizeof(c->uuid), "%s", uuid);
	store_init(&c->store, &w->stores, w->contexts_dir, uuid);
	list_init(&c->live);
	list_init(&c->loose);
	list_init(&c->recent);
	list_init(&c->kernels);
	waitq_init(&c->flow);
	waitq_init(&c->change);
	c->log.fd = -1;
	c->oldest = 1;
	c->id = object_new(w, O_CONTEXT, c, c);
	metered_init(&c->metered, c->id);
	map_put(&w->contexts, c->name, c);
	*out = c;
	return 0;
}

int context_make_files(int tmp, const char *uuid, const char *name, const struct who *owner)
{
	auto_buf struct buf b = { 0 };

	if (mkdirat(tmp, uuid, 0700) < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		auto_free char *path = xasprintf("%s/%s", uuid, dirs[i]);
		if (mkdirat(tmp, path, 0700) < 0)
			return -errno;
	}
	auto_free char *facts = xasprintf("%s/context", uuid);
	print_facts(name, owner, wall_us(), 0, 0, 0, &b);
	return write_file(tmp, facts, b.s, b.n, 0600);
}

static int load_facts(struct context *c)
{
	auto_free char *path = context_path(c, "context");
	auto_buf struct buf b = { 0 };
	int64_t owner = getuid(), group = getgid(); /* facts of before there were owners name none */
	int64_t box_uid = 0;
	int err = read_file(c->world->contexts_dir, path, 65536, &b);

	if (err)
		return err;
	auto_json struct json *j = json_parse(b.s, b.n, NULL);
	json_int(j, "created", &c->created);
	json_int(j, "changed", &c->saved_changed);
	json_int(j, "listed", &c->saved_listed);
	json_int(j, "box_uid", &box_uid);
	json_int(j, "owner", &owner);
	json_int(j, "group", &group);
	c->owner = owner;
	c->group = group;
	c->box_uid = box_uid;
	c->changed = MAX(c->created, c->saved_changed);
	c->listed = MAX(c->created, c->saved_listed);
	return 0;
}

static void load_override(void *arg, const char *name)
{
	struct context *c = arg;
	struct buf b = { 0 };
	struct stat st;

	if (!value_name(c, B_KERNEL, name) || value_read(c, B_KERNEL, name, &b, &st)) {
		buf_free(&b);
		return;
	}
	b.s[strcspn(b.s, "\n")] = 0;
	map_put(&c->overrides, xstrdup(name), b.s);
}

static void load_config(struct context *c)
{
	config_init(&c->conf, &c->world->opt.defaults);
	for (int k = 0; k < C_COUNT; k++) {
		auto_free char *sub = xasprintf("config/%s", setting_names[k]);
		auto_free char *path = context_path(c, sub);
		auto_buf struct buf b = { 0 };
		if (!read_file(c->world->contexts_dir, path, 65536, &b))
			setting_set(&c->conf, k, b.s, b.n, &c->world->opt.defaults);
	}
	context_each_file(c, B_KERNEL, load_override, c);
}

/* Cells that were being written when the daemon died: nothing of them ran. */
static void abort_dirty(struct context *c)
{
	if (store_marks_load(&c->store))
		return;
	for (size_t i = 0; i < c->store.ndirty; i++) {
		struct run *r;
		auto_free char *name = xstrdup(c->store.dirty[i]);
		if (!*name)
			continue;
		if (body_find(c, B_CELLS, name) && !context_submit(c, name, &r))
			run_finish(r, ST_ABORTED, "the daemon ended while it was being written");
		store_mark(&c->store, name, false);
	}
}

int context_load(struct context *c)
{
	if (c->loaded)
		return 0;
	int err = load_facts(c);
	if (!err)
		err = store_size(&c->store);
	if (err) {
		log_line(&c->world->log, "context %s cannot be read: %s", c->name, strerror(-err));
		return err;
	}
	c->loaded = true;
	c->scheduling = true; /* nothing is to start while its past is read */
	load_config(c);
	packages_forget_settings(c); /* of a daemon that crashed */
	err = index_load(c);
	if (err)
		context_log(c, "its history cannot be read: %s", strerror(-err));
	abort_dirty(c);
	c->scheduling = false;
	context_schedule(c);
	return 0;
}

static void free_map(struct map *m)
{
	for (size_t i = 0; i < m->n; i++) {
		free((char *)m->entries[i].key);
		if (m->entries[i].value != m->entries[i].key)
			free(m->entries[i].value);
	}
	map_free(m);
}

static void free_bodies(struct context *c)
{
	for (int d = 0; d < B_COUNT; d++) {
		for (size_t i = 0; i < c->files[d].n; i++) {
			struct body *b = c->files[d].entries[i].value;
			object_drop(c->world, b->id);
			b->ctx = NULL;
			b->id = 0;
			if (b->opens)
				continue; /* its last handle frees it */
			free(b->name);
			free(b);
		}
		map_free(&c->files[d]);
	}
	while (!list_empty(&c->loose)) {
		struct body *b = container_of(c->loose.next, struct body, loose);
		object_drop(c->world, b->id);
		list_del(&b->loose);
		b->ctx = NULL;
	}
}

/* So that CHANGED is the same after the next mount. */
static void save_changed(struct context *c)
{
	if (!c->loaded || (c->changed == c->saved_changed && c->listed == c->saved_listed) ||
	    (c->changed == c->created && c->listed == c->created))
		return;
	save_facts(c);
}

bool context_allows(const struct context *c, uid_t uid)
{
	return !c->world->opt.allow_other || uid == 0 || uid == c->owner;
}

void context_owner(const struct context *c, uid_t *uid, gid_t *gid)
{
	bool own = c && c->world->opt.allow_other;

	*uid = own ? c->owner : getuid();
	*gid = own ? c->group : getgid();
}

struct who context_namer(const struct context *c)
{
	struct who who = { .pid = 0 };

	if (c->world->opt.allow_other && c->world->caller.uid == c->owner)
		return c->world->caller;
	context_owner(c, &who.uid, &who.gid);
	return who;
}

void context_free(struct context *c)
{
	struct world *w = c->world;

	save_changed(c);
	c->scheduling = true;
	while (!list_empty(&c->kernels))
		kernel_free(container_of(c->kernels.next, struct kernel, link));
	artifact_free(c);
	box_forget(c);
	while (!list_empty(&c->live))
		run_free(container_of(c->live.next, struct run, link));
	while (!list_empty(&c->recent))
		run_free(container_of(c->recent.next, struct run, link));
	free_bodies(c);
	for (size_t i = 0; i < c->ncells; i++) {
		struct cell *cell = c->cells[i];
		object_drop(w, cell->id);
		if (cell->writing)
			run_free(cell->writing);
		free(cell->name);
		free(cell);
	}
	for (uint64_t i = 0; i < c->nruns; i++)
		object_drop(w, c->recs[i].id);
	waitq_wake(&c->flow, -ESTALE);
	waitq_wake(&c->change, -ESTALE);
	timer_stop(w->loop, &c->idle_timer);
	if (map_get(&w->contexts, c->name) == c)
		map_del(&w->contexts, c->name);
	object_drop(w, c->id);
	store_free(&c->store);
	log_close(&c->log);
	config_clear(&c->conf);
	map_free(&c->cell_names);
	free_map(&c->overrides);
	free_map(&c->slots);
	free(c->cells);
	free(c->recs);
	free(c->name);
	free(c);
}

void context_log(struct context *c, const char *fmt, ...)
{
	va_list ap;
	auto_buf struct buf b = { 0 };

	va_start(ap, fmt);
	buf_vprintf(&b, fmt, ap);
	va_end(ap);
	log_line(&c->world->log, "context %s: %s", c->name, b.s);
	if (c->log.fd < 0) {
		auto_free char *path = context_path(c, "log");
		if (log_open(&c->log, c->world->contexts_dir, path))
			return;
	}
	log_line(&c->log, "%s", b.s);
	log_close(&c->log); /* rare; an fd for each context would be too many */
}

void context_touch(struct context *c)
{
	c->changed = MAX(wall_us(), c->changed + 1000);
	waitq_wake(&c->change, 0);
	world_touch(c->world);
}

void context_touch_names(struct context *c)
{
	c->listed = MAX(wall_us(), c->listed + 1000);
}

bool context_busy(const struct context *c)
{
	return !list_empty(&c->live);
}

static bool any_kernel(struct context *c, enum kernel_state a, enum kernel_state b)
{
	list_for(it, &c->kernels) {
		struct kernel *k = container_of(it, struct kernel, link);
		if (k->state == a || k->state == b)
			return true;
	}
	return false;
}

static bool any_alive(struct context *c)
{
	list_for(it, &c->kernels)
		if (kernel_alive(container_of(it, struct kernel, link)))
			return true;
	return false;
}

void context_print_status(struct context *c, struct buf *out)
{
	if (c->active && c->active->state == R_RUNNING)
		buf_printf(out, "busy %s\n", c->active->cell_name);
	else if (c->active)
		buf_str(out, c->active->state == R_ENDING ? "idle\n" : "starting\n");
	else if (any_kernel(c, K_STARTING, K_STARTING))
		buf_str(out, "starting\n");
	else
		buf_str(out, any_kernel(c, K_IDLE, K_BUSY) ? "idle\n" : "stopped\n");
}

/* ---- the queue ---- */

static void on_idle(void *arg)
{
	struct context *c = arg;

	if (!context_busy(c))
		context_stop(c, "idle_timeout", false);
}

static void watch_idle(struct context *c)
{
	int64_t limit = c->conf.v[C_IDLE].v;

	timer_stop(c->world->loop, &c->idle_timer);
	if (limit && !c->active && any_kernel(c, K_IDLE, K_STARTING))
		timer_set(c->world->loop, &c->idle_timer, limit, on_idle, c);
}

static void start_run(struct context *c, struct run *r)
{
	c->active = r;
	if (r->opt.problem) {
		run_error(r, "OptionError", r->opt.problem);
		run_finish(r, ST_ERROR, r->opt.problem);
	} else if (r->opt.eval_false) {
		run_finish(r, ST_CANCELLED, "option eval: false");
	} else {
		struct kernel *k = kernel_for(c, r->cell_name);
		artifact_start(c);
		if (k)
			kernel_run(k, r);
		else
			run_finish(r, ST_ERROR, "no language has its extension any more");
	}
}

/* A failed run of `run all` takes those behind it along. */
static void fail_group(struct context *c, const struct run *r)
{
	if (!r->then_of || r->status == ST_OK)
		return;
	list_for_safe(it, tmp, &c->live) {
		struct run *other = container_of(it, struct run, link);
		if (other->then_of == r->then_of)
			run_cancel(other, "a cell before it failed");
	}
}

void context_schedule(struct context *c)
{
	if (c->scheduling || c->world->stopping)
		return;
	c->scheduling = true;
	for (;;) {
		if (!list_empty(&c->recent))
			fail_group(c, container_of(c->recent.prev, struct run, link));
		if (c->active || list_empty(&c->live))
			break;
		start_run(c, container_of(c->live.next, struct run, link));
	}
	c->scheduling = false;
	context_keep(c);
	watch_idle(c);
	if (!c->active && !any_alive(c))
		artifact_rest(c);
}

void context_cancel_all(struct context *c, const char *reason)
{
	list_for_safe(it, tmp, &c->live) {
		struct run *r = container_of(it, struct run, link);
		if (r->state == R_QUEUED)
			run_cancel(r, reason);
	}
}

void context_abandon(struct context *c)
{
	list_for(it, &c->live) {
		struct run *r = container_of(it, struct run, link);
		waitq_wake(&r->change, -ESTALE);
		waitq_wake(&r->more, -ESTALE);
	}
	waitq_wake(&c->flow, -ESTALE);
}

void context_stop(struct context *c, const char *reason, bool cancel)
{
	bool was = c->scheduling;

	c->scheduling = true;
	if (cancel)
		context_cancel_all(c, reason);
	list_for_safe(it, tmp, &c->kernels)
		kernel_kill(container_of(it, struct kernel, link), reason);
	box_end(c);
	c->scheduling = was;
	context_schedule(c);
}

/* With ERR it is not queued for that. */
static int queue(struct context *c, const char *name, const char *code, size_t n, int err, struct run **out)
{
	struct cell *cell = cell_make(c, name);
	struct run *r = cell->writing ? cell->writing : run_new(c, cell, name);

	cell->writing = NULL;
	if (!err)
		err = run_queue(r, code, n);
	if (err) {
		context_log(c, "cell %s cannot be queued: %s", name, strerror(-err));
		if (r->id)
			object_drop(c->world, r->id);
		run_free(r);
		return err;
	}
	cell->newest = r->number;
	if (!cell->first)
		cell->first = r->number;
	context_touch_names(c);
	*out = r;
	return 0;
}

int context_queue(struct context *c, const char *name, const char *code, size_t n, struct run **out)
{
	int err = queue_admit(c, name);

	return err ? err : queue(c, name, code, n, 0, out);
}

int context_submit(struct context *c, const char *name, struct run **out)
{
	struct body *b = body_find(c, B_CELLS, name);
	auto_buf struct buf code = { 0 };
	auto_free char *sub = xasprintf("cells/%s", name);
	auto_free char *path = context_path(c, sub);

	if (!b)
		return -ENOENT;
	int err = body_settle(b);
	if (!err)
		err = read_file(c->world->contexts_dir, path, CELL_MAX, &code);
	err = queue(c, name, code.s ? code.s : "", code.n, err, out);
	if (err)
		return err;
	b->dirty = false;
	store_mark(&c->store, name, false);
	return 0;
}

/* ---- the journal ---- */

void event_begin(struct context *c, struct buf *b, const char *type, const struct run *r)
{
	buf_grow(b, 512);
	buf_printf(b, "{\"seq\":%llu,\"type\":\"%s\",\"time\":\"", (unsigned long long)c->seq + 1, type);
	buf_time(b, wall_us());
	buf_char(b, '"');
	if (!r)
		return;
	buf_printf(b, ",\"run\":%llu,\"cell\":", (unsigned long long)r->number);
	buf_json_str(b, r->cell_name);
	buf_str(b, ",\"language\":");
	buf_json_str(b, r->lang_name ? r->lang_name : "");
}

int event_end(struct context *c, struct buf *b, struct run *r)
{
	off_t off;

	buf_str(b, "}\n");
	int err = store_append(&c->store, L_JOURNAL, b->s, b->n, &off, true);
	if (err) {
		log_line(&c->world->log, "context %s: the journal cannot be written: %s", c->name,
			 strerror(-err));
		return err;
	}
	c->seq++;
	world_dirty(c->world);
	if (r) {
		extents_add(&r->events, off, b->n);
		waitq_wake(&r->more, 0);
	}
	waitq_wake(&c->flow, 0);
	return 0;
}

void notice(struct context *c, struct run *r, const char *fmt, ...)
{
	auto_buf struct buf b = { 0 }, text = { 0 };
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(&text, fmt, ap);
	va_end(ap);
	while (text.n && text.s[text.n - 1] == '\n')
		text.n--;
	event_begin(c, &b, "notice", r);
	buf_str(&b, ",\"text\":");
	buf_json(&b, text.s, text.n);
	event_end(c, &b, r);
}

/* ---- records ---- */

struct rec *context_rec(struct context *c, uint64_t number)
{
	return number && number <= c->nruns ? &c->recs[number - 1] : NULL;
}

struct rec *context_new_rec(struct context *c, uint64_t number)
{
	while (c->nruns < number) {
		if (c->nruns == c->runs_cap) {
			c->runs_cap = c->runs_cap ? c->runs_cap + c->runs_cap / 2 : 8;
			c->recs = xrealloc(c->recs, c->runs_cap * sizeof(*c->recs));
		}
		c->recs[c->nruns++] = (struct rec){ 0 };
	}
	return &c->recs[number - 1];
}

uint64_t run_object(struct context *c, uint64_t number)
{
	struct rec *rec = context_rec(c, number);

	if (!rec)
		return 0;
	if (!rec->id) {
		rec->id = object_new(c->world, O_RUN, c, NULL);
		object_get(c->world, rec->id)->number = number;
	}
	return rec->id;
}

/* Is everything there that R's record names? A copy of STATE_DIR may lack the end of a log. */
static bool extents_exist(const struct context *c, const struct run *r)
{
	static const enum store_log logs[] = { L_OUT, L_ERR };

	for (int i = 0; i < 2; i++)
		for (size_t k = 0; k < r->flow[i].x.n; k++) {
			const struct extent *e = extents_at(&r->flow[i].x, k);
			if (e->off + e->len > c->store.end[logs[i]])
				return false;
		}
	const struct extent *k = &r->kept_at;
	return k->off >= 0 && k->len >= 0 && r->kept_table >= 0 && r->kept_table <= k->len &&
	       k->len <= c->store.end[L_KEPT] && k->off <= c->store.end[L_KEPT] - k->len;
}

static void forget_recent(struct context *c)
{
	for (struct list *it = c->recent.next; c->nrecent > RECENT_MAX && it != &c->recent;) {
		struct run *r = container_of(it, struct run, link);
		it = it->next;
		if (!context_rec(c, r->number)->size)
			continue; /* its record is in memory only */
		c->nrecent--;
		run_free(r);
	}
}

static struct run *load_run(struct context *c, uint64_t number, const struct rec *rec)
{
	auto_buf struct buf b = { 0 };

	if (store_read(&c->store, L_RES, rec->off, rec->size, &b))
		return NULL;
	auto_json struct json *j = json_parse(b.s, b.n, NULL);
	struct run *r = j ? run_load(c, number, j) : NULL;
	if (!r)
		return NULL;
	extents_add(&r->events, rec->fin_off, rec->fin_len);
	r->file_time = rec->time;
	r->cell = cell_at(c, rec->cell);
	if (!extents_exist(c, r)) {
		run_lose(r, "its output is not all there");
		c->recs[number - 1].status = ST_LOST;
	}
	return r;
}

struct run *context_run(struct context *c, uint64_t number)
{
	struct rec *rec = context_rec(c, number);

	if (!rec)
		return NULL;
	list_for(it, &c->live) {
		struct run *r = container_of(it, struct run, link);
		if (r->number == number)
			return r;
	}
	if (rec->status == ST_NONE)
		return NULL;
	struct run *r = NULL;
	list_for(it, &c->recent) {
		struct run *recent = container_of(it, struct run, link);
		if (recent->number == number)
			r = recent;
	}
	if (r) {
		list_del(&r->link);
	} else {
		r = load_run(c, number, rec);
		if (!r)
			return NULL;
		c->nrecent++;
	}
	list_append(&c->recent, &r->link);
	forget_recent(c);
	return r;
}

/* Overwrites the line of B at AT (its offset in the journal is OFF) by one of the same length. */
static void blank_line(struct context *c, char *line, size_t n, off_t off)
{
	unsigned long long seq = 0;

	if (sscanf(line, "{\"seq\":%llu", &seq) != 1 || n < 40)
		return;
	int k = snprintf(line, n, "{\"seq\":%llu,\"type\":\"removed\"}", seq);
	memset(line + k, ' ', n - k);
	store_overwrite(&c->store, L_JOURNAL, off, line, n);
}

static void blank_events(struct context *c, const struct extents *x)
{
	for (size_t i = 0; i < x->n; i++) {
		const struct extent *e = extents_at(x, i);
		auto_buf struct buf b = { 0 };
		if (store_read(&c->store, L_JOURNAL, e->off, e->len, &b))
			continue;
		for (char *p = b.s, *nl; (nl = memchr(p, '\n', b.s + b.n - p)); p = nl + 1)
			blank_line(c, p, nl - p, e->off + (p - b.s));
	}
}

static void punch_run(struct context *c, struct run *r, const struct rec *rec)
{
	static const enum store_log logs[] = { L_OUT, L_ERR };

	for (int i = 0; i < 2; i++)
		for (size_t k = 0; k < r->flow[i].x.n; k++)
			store_punch(&c->store, logs[i], extents_at(&r->flow[i].x, k)->off,
				    extents_at(&r->flow[i].x, k)->len);
	store_punch(&c->store, L_RES, r->code.off, r->code.len);
	for (size_t i = 0; i < r->nfiles; i++)
		store_punch(&c->store, L_RES, r->files[i].at.off, r->files[i].at.len);
	store_punch(&c->store, L_KEPT, r->kept_at.off, r->kept_at.len);
	store_punch(&c->store, L_RES, rec->off, rec->size);
	blank_events(c, &r->events);
}

void context_show_before(struct context *c, struct cell *cell)
{
	uint32_t index = cell_index(c, cell);
	uint64_t n = cell->newest;

	while (--n && (c->recs[n - 1].cell != index || c->recs[n - 1].status == ST_NONE))
		;
	cell->newest = n;
	if (!n)
		cell_detach(c, cell);
}

int context_forget(struct context *c, uint64_t number)
{
	struct rec *rec = context_rec(c, number);
	struct run *r = context_run(c, number);

	if (!r)
		return -ENOENT;
	if (!run_ended(r))
		return -EBUSY;
	struct cell *cell = cell_at(c, rec->cell);
	auto_buf struct buf b = { 0 };
	event_begin(c, &b, "removed", NULL);
	buf_printf(&b, ",\"run\":%llu,\"usage\":", (unsigned long long)number);
	run_json_usage(r, &b); /* the sums can be had from the journal alone, in which its own line goes */
	int err = event_end(c, &b, NULL);
	if (err)
		return err;
	index_note(c, IDX_FORGOT, NULL, NULL, number);
	punch_run(c, r, rec);
	object_drop(c->world, rec->id);
	c->kept_runs--;
	c->kept_kib -= rec->kib;
	*rec = (struct rec){ .cell = rec->cell };
	c->nrecent--;
	run_free(r);
	if (cell && cell->newest == number)
		context_show_before(c, cell);
	context_touch_names(c);
	context_touch(c);
	return 0;
}

static bool too_many(struct context *c, const struct rec *oldest)
{
	const struct setting *keep = &c->conf.v[C_KEEP];

	switch (keep->unit) {
	case KEEP_RUNS:
		return (int64_t)c->kept_runs > keep->v;
	case KEEP_BYTES:
		return (int64_t)c->kept_kib << 10 > keep->v;
	case KEEP_AGE:
		return oldest->time + keep->v < wall_us();
	default:
		return false;
	}
}

void context_keep(struct context *c)
{
	bool passed = false;

	if (c->conf.v[C_KEEP].unit == KEEP_ALL)
		return;
	for (uint64_t n = c->oldest; n <= c->nruns; n++) {
		struct rec *rec = &c->recs[n - 1];
		if (rec->status == ST_NONE) {
			struct run *live = context_run(c, n);
			passed |= live != NULL;
		} else {
			struct cell *cell = cell_at(c, rec->cell);
			if (!too_many(c, rec))
				break;
			if ((cell && cell->newest == n) || context_forget(c, n))
				passed = true;
		}
		if (!passed)
			c->oldest = n + 1;
	}
}
