#include "run.h"

#include "context.h"
#include "gate.h"
#include "kernel.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

enum {
	RUNG_SECOND = 1000000, /* the ladder's pauses, us */
	PAYLOAD_MAX = 64 << 20,
	ITEMS_MAX = 10000,
	SLOT_RESULT = 1,       /* + extension */
	SLOT_DISPLAY = 64,     /* + 16 k + extension */
	SLOT_OTHER = 20000,    /* types without an extension of their own */
	SLOTS_MAX = 40000,
};

const char *const run_status_names[] = {
	[ST_NONE] = "removed",	[ST_OK] = "ok",		 [ST_ERROR] = "error",
	[ST_TIMEOUT] = "timeout", [ST_INTERRUPTED] = "interrupted", [ST_KILLED] = "killed",
	[ST_OOM] = "oom",	[ST_CANCELLED] = "cancelled", [ST_ABORTED] = "aborted",
	[ST_LOST] = "lost",
};

static const struct {
	const char *ext, *mime;
} types[] = {
	{ "txt", "text/plain" },
	{ "repr.txt", "text/x-repr" },
	{ "html", "text/html" },
	{ "png", "image/png" },
	{ "svg", "image/svg+xml" },
	{ "json", "application/json" },
	{ "md", "text/markdown" },
	{ "tex", "text/latex" },
	{ "jpg", "image/jpeg" },
	{ "pdf", "application/pdf" },
	{ "js", "application/javascript" },
	{ "data.json", "application/vnd.cellfs.data+json" },
	{ "chart.json", "application/vnd.cellfs.chart+json" },
};

static int type_of_mime(const char *mime)
{
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (!strcmp(types[i].mime, mime))
			return i;
	return -1;
}

static int type_of_ext(const char *ext)
{
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (!strcmp(types[i].ext, ext))
			return i;
	return -1;
}

struct run *run_new(struct context *c, struct cell *cell, const char *cell_name)
{
	struct run *r = xcalloc(1, sizeof(*r));

	r->ctx = c;
	r->cell = cell;
	r->cell_name = xstrdup(cell_name);
	r->exit_code = -1;
	r->state_preserved = true;
	list_init(&r->link);
	waitq_init(&r->change);
	waitq_init(&r->more);
	return r;
}

static void error_clear(struct run_error *e)
{
	free(e->name);
	free(e->message);
	free(e->traceback);
	free(e->frames);
	*e = (struct run_error){ 0 };
}

void run_free(struct run *r)
{
	timer_stop(r->ctx->world->loop, &r->limit);
	waitq_wake(&r->change, -ESTALE);
	waitq_wake(&r->more, -ESTALE);
	for (int i = 0; i < 2; i++)
		flow_free(&r->flow[i]);
	for (size_t i = 0; i < r->nfiles; i++) {
		free(r->files[i].name);
		free(r->files[i].mime);
	}
	for (size_t i = 0; i < r->nitems; i++) {
		free(r->items[i].display_id);
		free(r->items[i].meta);
	}
	if (!list_empty(&r->link))
		list_del(&r->link);
	error_clear(&r->err);
	options_clear(&r->opt);
	extents_free(&r->events);
	free(r->files);
	free(r->items);
	free(r->reason);
	free(r->wanted_reason);
	free(r->cell_name);
	free(r->lang_name);
	free(r->key);
	free(r);
}

/* ---- life ---- */

/* The mtime for a text of R that changes now: at least 1 ms after what its names showed before. */
static int64_t next_file_time(const struct run *r, int64_t now)
{
	int64_t before = r->file_time;

	if (!before && r->cell && r->cell->newest && r->cell->newest != r->number) {
		struct rec *rec = context_rec(r->ctx, r->cell->newest);
		before = rec ? rec->time : 0;
	}
	return MAX(now, before + 1000);
}

int run_queue(struct run *r, const char *code, size_t n)
{
	struct context *c = r->ctx;
	const struct lang *lang = kernel_speaker(c, r->cell_name).lang;
	auto_free char *copy = malloc(n + 1);
	auto_buf struct buf b = { 0 };
	off_t off;

	if (!copy)
		return -ENOMEM;
	memcpy(copy, code, n);
	options_parse(&r->opt, copy, n, lang ? lang->comment : "#|");
	int err = store_append(&c->store, L_RES, code, n, &off, true);
	if (err)
		return err;
	r->code = (struct extent){ off, n };
	r->number = c->nruns + 1;
	r->queued_at = wall_us();
	r->file_time = next_file_time(r, r->queued_at);
	str_set(&r->lang_name, lang ? lang->name : "");
	r->journal_from = c->store.end[L_JOURNAL];
	event_begin(c, &b, "queued", r);
	buf_printf(&b, ",\"code\":[%lld,%zu]", (long long)off, n);
	err = event_end(c, &b, r);
	if (err) {
		r->number = 0;
		return err;
	}
	r->state = R_QUEUED;
	struct rec *rec = context_new_rec(c, r->number);
	if (r->id) { /* somebody looked at it while it was written */
		rec->id = r->id;
		object_get(c->world, r->id)->number = r->number;
	}
	for (int i = 0; i < 2; i++) {
		flow_init(&r->flow[i], c, r, r->lang_name, i);
		r->flow[i].limit = c->conf.v[C_OUTPUT].v;
	}
	list_append(&c->live, &r->link);
	c->nqueued++;
	context_touch(c);
	waitq_wake(&r->change, 0);
	return 0;
}

static void on_timeout(void *arg)
{
	struct run *r = arg;
	int64_t limit = r->opt.timeout_us >= 0 ? r->opt.timeout_us : r->ctx->conf.v[C_TIMEOUT].v;
	auto_free char *why = xasprintf("limit %g s", limit / 1e6);

	run_interrupt(r, ST_TIMEOUT, why);
}

int run_start(struct run *r, struct kernel *k, int64_t count, int64_t generation)
{
	struct context *c = r->ctx;
	auto_buf struct buf b = { 0 };
	int64_t limit = r->opt.timeout_us >= 0 ? r->opt.timeout_us : c->conf.v[C_TIMEOUT].v;

	r->started_at = wall_us();
	r->duration_us = mono_us();
	r->execution_count = count;
	r->generation = generation;
	event_begin(c, &b, "started", r);
	buf_printf(&b, ",\"execution_count\":%lld,\"generation\":%lld,\"logs\":[%lld,%lld]",
		   (long long)count, (long long)generation, (long long)c->store.end[L_OUT],
		   (long long)c->store.end[L_ERR]);
	int err = event_end(c, &b, r);
	if (err)
		return err;
	r->state = R_RUNNING;
	r->kernel = k;
	r->file_time = MAX(r->started_at, r->file_time + 1000);
	c->nqueued--;
	kernel_usage(k, &r->cpu_us, NULL);
	if (limit)
		timer_set(c->world->loop, &r->limit, limit, on_timeout, r);
	context_touch(c);
	waitq_wake(&r->change, 0);
	return 0;
}

/* The ladder. Each rung is tried when the one before did not end the run in time. */
static const struct rung {
	const char *name;
	int64_t pause;
	void (*climb)(struct kernel *);
} rungs[] = {
	{ "SIGINT", RUNG_SECOND, kernel_signal },
	{ "a second SIGINT", 2 * RUNG_SECOND, kernel_signal },
	{ "the guard", 2 * RUNG_SECOND, kernel_guard },
};

static void climb(void *arg)
{
	struct run *r = arg;

	if ((size_t)r->rung >= ARRAY_SIZE(rungs)) {
		r->rung++;
		kernel_kill(r->kernel, "it did not end when it was interrupted");
		return;
	}
	const struct rung *rung = &rungs[r->rung++];
	timer_set(r->ctx->world->loop, &r->limit, rung->pause, climb, r);
	rung->climb(r->kernel);
}

void run_interrupt(struct run *r, enum run_status as, const char *reason)
{
	if (r->state != R_RUNNING || r->rung)
		return;
	r->wanted = as;
	str_set(&r->wanted_reason, reason);
	climb(r);
}

void run_cancel(struct run *r, const char *reason)
{
	struct context *c = r->ctx;

	if (r->state != R_QUEUED)
		return;
	if (c->active == r) {
		list_for(it, &c->kernels) {
			struct kernel *k = container_of(it, struct kernel, link);
			if (k->run == r)
				k->run = NULL;
		}
	}
	run_finish(r, ST_CANCELLED, reason);
}

/* What ended it, with what the ladder adds. */
static void settle_status(struct run *r, enum run_status how, const char *reason)
{
	auto_free char *text = NULL;
	bool by_ladder = r->wanted && (how == ST_INTERRUPTED || how == ST_KILLED ||
				       (how == ST_ERROR && r->wanted == ST_INTERRUPTED) ||
				       r->wanted == ST_TIMEOUT);

	if (by_ladder) {
		const char *rung = r->rung > (int)ARRAY_SIZE(rungs) ? "SIGKILL" : rungs[r->rung - 1].name;
		how = r->wanted;
		text = xasprintf("%s%sended by %s", r->wanted_reason ? r->wanted_reason : "",
				 r->wanted_reason ? ", " : "", rung);
		reason = text;
	}
	for (int i = 0; i < 2; i++) {
		struct flow *f = &r->flow[i];
		if (!f->lost || how != ST_OK)
			continue;
		how = ST_ERROR;
		free(text);
		reason = text = xasprintf("%lld bytes of %s could not be kept: %s", (long long)f->lost,
					  i ? "stderr" : "stdout", strerror(-f->err));
	}
	r->status = how;
	free(r->reason);
	r->reason = reason ? utf8_clean(reason) : NULL;
}

static void settle_exit_code(struct run *r)
{
	static const int codes[] = { [ST_OK] = 0, [ST_ERROR] = 1, [ST_TIMEOUT] = 124, [ST_INTERRUPTED] = 130,
				     [ST_KILLED] = 137, [ST_OOM] = 137, [ST_CANCELLED] = -1,
				     [ST_ABORTED] = -1, [ST_LOST] = -1 };

	if (r->status == ST_OK || r->status == ST_ERROR) {
		if (r->exit_code < 0)
			r->exit_code = codes[r->status];
	} else {
		r->exit_code = r->started_at ? codes[r->status] : -1;
	}
}

static void settle_error(struct run *r)
{
	if (r->status == ST_OK) {
		error_clear(&r->err);
		r->has_error = false;
	} else if (!r->has_error || (r->status != ST_ERROR && r->status != ST_INTERRUPTED)) {
		/* The status is what ended it; a traceback that came on the way still helps. */
		str_set(&r->err.name, run_status_names[r->status]);
		if (!r->err.message || r->reason)
			str_set(&r->err.message, r->reason ? r->reason : run_status_names[r->status]);
		r->has_error = true;
	}
}

void run_lose(struct run *r, const char *reason)
{
	r->status = ST_LOST;
	str_set(&r->reason, reason);
	settle_exit_code(r);
	settle_error(r);
	for (int i = 0; i < 2; i++)
		extents_free(&r->flow[i].x);
}

static void write_error_event(struct run *r)
{
	auto_buf struct buf b = { 0 };

	event_begin(r->ctx, &b, "error", r);
	buf_char(&b, ',');
	auto_buf struct buf e = { 0 };
	run_json_error(r, &e);
	buf_add(&b, e.s + 1, e.n - 2); /* its members, without the braces */
	event_end(r->ctx, &b, r);
}

/* What STATE_DIR keeps of R. */
static int64_t disk_bytes(const struct run *r)
{
	int64_t n = r->flow[0].x.total + r->flow[1].x.total + r->code.len;

	for (size_t i = 0; i < r->nfiles; i++)
		n += r->files[i].at.len;
	return n;
}

static int write_finished(struct run *r, off_t off, size_t size, off_t *fin_off, uint32_t *fin_len)
{
	auto_buf struct buf b = { 0 };

	event_begin(r->ctx, &b, "finished", r);
	buf_printf(&b, ",\"status\":\"%s\"", run_status_names[r->status]);
	if (r->reason) {
		buf_str(&b, ",\"reason\":");
		buf_json_str(&b, r->reason);
	}
	if (r->exit_code >= 0)
		buf_printf(&b, ",\"exit_code\":%d", r->exit_code);
	buf_printf(&b, ",\"duration_ms\":%.3f,\"state_preserved\":%s,\"usage\":", r->duration_us / 1e3,
		   r->state_preserved ? "true" : "false");
	run_json_usage(r, &b);
	if (run_truncated(r)) {
		buf_str(&b, ",\"truncated\":");
		run_json_truncated(r, &b);
	}
	buf_printf(&b, ",\"mtime\":%lld,\"record\":[%lld,%zu]", (long long)r->file_time, (long long)off,
		   size);
	*fin_off = r->ctx->store.end[L_JOURNAL];
	int err = event_end(r->ctx, &b, r);
	*fin_len = r->ctx->store.end[L_JOURNAL] - *fin_off;
	return err;
}

/* The last step: the record is as safe as it can be, now everybody may see it. */
static void publish(struct run *r)
{
	struct context *c = r->ctx;
	struct cell *cell = r->cell;

	r->state = R_ENDED;
	c->kept_runs++;
	c->kept_kib += context_rec(c, r->number)->kib;
	list_del(&r->link);
	list_append(&c->recent, &r->link);
	c->nrecent++;
	if (c->active == r)
		c->active = NULL;
	if (r->detached && cell && cell->newest == r->number)
		cell_detach(c, cell);
	context_touch(c);
	world_dirty(c->world);
	waitq_wake(&r->change, 0);
	waitq_wake(&r->more, 0);
	if (list_empty(&c->live))
		waitq_wake(&c->flow, 0);
}

struct record {
	struct world *world;
	uint64_t run; /* object */
	off_t off;
	size_t size;
};

static int commit(struct run *r, off_t off, size_t size)
{
	struct rec *rec = context_rec(r->ctx, r->number);
	off_t fin_off;
	uint32_t fin_len;
	int err = write_finished(r, off, size, &fin_off, &fin_len);

	rec->status = r->status;
	rec->time = r->file_time;
	rec->kib = disk_bytes(r) >> 10;
	rec->cell = r->cell ? cell_index(r->ctx, r->cell) : 0;
	if (err)
		return err;
	rec->off = off;
	rec->size = size;
	rec->fin_off = fin_off;
	rec->fin_len = fin_len;
	return index_run(r->ctx, r, rec);
}

static struct run *record_run(struct record *rec)
{
	struct object *o = object_get(rec->world, rec->run);

	return o && o->type == O_RUN ? context_run(o->ctx, o->number) : NULL;
}

static void on_record_synced(void *arg, int err)
{
	struct record *rec = arg;
	struct run *r = record_run(rec);

	if (r && r->state == R_ENDING) {
		if (err)
			context_log(r->ctx, "run %llu: its record may not survive a power loss: %s",
				    (unsigned long long)r->number, strerror(-err));
		struct context *c = r->ctx;
		publish(r);
		context_schedule(c);
	}
	free(rec);
}

static void on_logs_synced(void *arg, int err)
{
	struct record *rec = arg;
	struct run *r = record_run(rec);

	if (!r || r->state != R_ENDING) {
		free(rec);
		return;
	}
	int failed = commit(r, rec->off, rec->size);
	if (failed || err)
		context_log(r->ctx, "run %llu: %s", (unsigned long long)r->number,
			    strerror(failed ? -failed : -err));
	store_sync(&r->ctx->store, r->ctx->world->worker, on_record_synced, rec);
}

static void sync_then_publish(struct run *r, off_t off, size_t size)
{
	struct record *rec = xcalloc(1, sizeof(*rec));

	*rec = (struct record){ r->ctx->world, run_object(r->ctx, r->number), off, size };
	store_sync(&r->ctx->store, r->ctx->world->worker, on_logs_synced, rec);
}

void run_finish(struct run *r, enum run_status how, const char *reason)
{
	struct context *c = r->ctx;
	auto_buf struct buf b = { 0 };
	off_t off = 0;

	if (r->state == R_ENDED || r->state == R_ENDING)
		return;
	timer_stop(c->world->loop, &r->limit);
	for (int i = 0; i < 2; i++)
		flow_end(&r->flow[i]);
	if (r->state == R_QUEUED)
		c->nqueued--;
	r->finished_at = wall_us();
	r->file_time = next_file_time(r, r->finished_at);
	settle_status(r, how, reason);
	settle_exit_code(r);
	settle_error(r);
	if (r->started_at && r->duration_us) {
		int64_t cpu = r->cpu_us, now = 0;
		r->duration_us = mono_us() - r->duration_us;
		if (r->kernel && kernel_alive(r->kernel))
			kernel_usage(r->kernel, &now, &r->max_rss);
		r->cpu_us = MAX(now - cpu, 0);
	}
	r->state = R_ENDING;
	r->kernel = NULL;
	c->total_runs++;
	c->world->runs_total++;
	c->usage_cpu_us += r->cpu_us;
	c->usage_wall_us += r->duration_us;
	if (r->has_error)
		write_error_event(r);

	run_save(r, &b);
	int err = store_append(&c->store, L_RES, b.s, b.n, &off, true);
	if (!err && c->world->opt.sync_always && !c->world->stopping) {
		sync_then_publish(r, off, b.n);
		return;
	}
	if (!err)
		err = commit(r, off, b.n);
	else
		commit(r, 0, 0);
	if (err)
		context_log(c, "run %llu has ended, but its record is in memory only: %s",
			    (unsigned long long)r->number, strerror(-err));
	publish(r);
}

/* ---- streams ---- */

enum { TEXT_MAX = 4096, SMALL_READ = 32 << 10, EVENT_PAUSE = 10000 };

void flow_init(struct flow *f, struct context *c, struct run *r, const char *lang, int stream)
{
	*f = (struct flow){ .ctx = c, .run = r, .lang = lang, .stream = stream, .limit = INT64_MAX };
}

void flow_free(struct flow *f)
{
	if (f->ctx)
		timer_stop(f->ctx->world->loop, &f->timer);
	extents_free(&f->x);
	buf_free(&f->text);
	free(f->tail);
	f->tail = NULL;
}

static enum store_log flow_log(const struct flow *f)
{
	return f->stream ? L_ERR : L_OUT;
}

void flow_tell(struct flow *f)
{
	static const char *const type[] = { "stdout", "stderr" };
	auto_buf struct buf b = { 0 };
	int64_t size = f->x.total - f->told;

	if (!f->ctx || size <= 0)
		return;
	timer_stop(f->ctx->world->loop, &f->timer);
	f->last_event = mono_us();
	event_begin(f->ctx, &b, f->run ? type[f->stream] : "late", f->run);
	int64_t offset = f->told;
	if (!f->run) {
		off_t left;
		offset = extents_find(&f->x, f->told, &left);
		buf_printf(&b, ",\"language\":\"%s\",\"stream\":\"%s\"", f->lang, type[f->stream]);
	}
	buf_printf(&b, ",\"offset\":%lld,\"size\":%lld", (long long)offset, (long long)size);
	if (!f->is_long && utf8_valid(f->text.s, f->text.n)) {
		buf_str(&b, ",\"text\":");
		buf_json(&b, f->text.s, f->text.n);
	}
	event_end(f->ctx, &b, f->run);
	f->told = f->x.total;
	f->is_long = false;
	buf_reset(&f->text);
	if (!f->run) /* nobody asks for these again */
		extents_free(&f->x), f->told = 0;
}

static void on_flow_timer(void *arg)
{
	flow_tell(arg);
}

/* N bytes are in the log at OFF; P are they, or NULL. */
static void flow_added(struct flow *f, const char *p, off_t off, size_t n)
{
	struct context *c = f->ctx;

	extents_add(&f->x, off, n);
	if (p && !f->is_long && f->text.n + n <= TEXT_MAX) {
		buf_add(&f->text, p, n);
	} else {
		f->is_long = true;
	}
	int64_t since = mono_us() - f->last_event;
	if (since >= EVENT_PAUSE)
		flow_tell(f);
	else if (!f->timer.slot)
		timer_set(c->world->loop, &f->timer, EVENT_PAUSE - since, on_flow_timer, f);
	world_dirty(c->world);
	if (f->run)
		waitq_wake(&f->run->more, 0);
	waitq_wake(&c->flow, 0);
}

/* Keeps the N bytes at P, or counts them as lost when the disk does not take them. */
static void flow_keep(struct flow *f, const char *p, size_t n)
{
	off_t off;
	int err = f->err;

	if (!err)
		err = store_append(&f->ctx->store, flow_log(f), p, n, &off, false);
	if (!err) {
		flow_added(f, p, off, n);
		return;
	}
	if (!f->err)
		context_log(f->ctx, "%s of %s cannot be kept: %s", f->stream ? "stderr" : "stdout",
			    f->run ? f->run->cell_name : f->lang, strerror(-err));
	f->err = err;
	f->lost += n;
}

/* The N bytes at P came after the limit: the last TAIL_KEPT of these are kept until the end. */
static void flow_overflow(struct flow *f, const char *p, size_t n)
{
	int64_t past = f->total - f->limit;

	if (!f->tail)
		f->tail = malloc(TAIL_KEPT);
	for (size_t i = 0; f->tail && i < n;) {
		size_t at = (past + i) % TAIL_KEPT, some = MIN(n - i, TAIL_KEPT - at);
		memcpy(f->tail + at, p + i, some);
		i += some;
	}
}

void flow_add(struct flow *f, const char *p, size_t n)
{
	size_t below = f->total < f->limit ? MIN((int64_t)n, f->limit - f->total) : 0;

	if (below) {
		flow_keep(f, p, below);
		f->total += below;
	}
	if (n > below) {
		flow_overflow(f, p + below, n - below);
		f->total += n - below;
	}
}

void flow_print(struct flow *f, const char *text, size_t n)
{
	flow_keep(f, text, n);
	f->total += n;
	f->limit += n; /* the daemon's own lines are no output of the cell */
}

ssize_t flow_take(struct flow *f, int fd, size_t max)
{
	char small[SMALL_READ];
	bool room = f->limit - f->total >= (int64_t)max && !f->err;

	if (max > sizeof(small) && room) {
		off_t off = f->ctx->store.end[flow_log(f)];
		ssize_t n = store_splice(&f->ctx->store, flow_log(f), fd, max);
		if (n > 0) {
			f->total += n;
			flow_added(f, NULL, off, n);
			return n;
		}
		if (n == 0 || n == -EAGAIN)
			return n;
		/* the disk does not take it; the pipe still has it */
	}
	ssize_t n = read(fd, small, MIN(max, sizeof(small)));
	if (n < 0)
		return -errno;
	flow_add(f, small, n);
	return n;
}

static void flow_add_tail(struct flow *f)
{
	int64_t past = f->total - f->limit, kept = MIN(past, TAIL_KEPT), missing = past - kept;
	auto_buf struct buf b = { 0 };

	if (missing) {
		off_t left, at = extents_find(&f->x, f->x.total - 1, &left);
		auto_buf struct buf last = { 0 };
		if (at >= 0 && !store_read(&f->ctx->store, flow_log(f), at, 1, &last) && *last.s != '\n')
			buf_char(&b, '\n');
		buf_printf(&b, "cellfs: %lld bytes are missing here: the limit config/output is %lld bytes\n",
			   (long long)missing, (long long)f->limit);
	}
	size_t at = (past - kept) % TAIL_KEPT, first = MIN((size_t)kept, TAIL_KEPT - at);
	buf_add(&b, f->tail + at, first);
	buf_add(&b, f->tail, kept - first);
	flow_keep(f, b.s, b.n);
}

void flow_end(struct flow *f)
{
	if (!f->ctx)
		return;
	if (f->tail && f->total > f->limit)
		flow_add_tail(f);
	flow_tell(f);
	timer_stop(f->ctx->world->loop, &f->timer);
	buf_free(&f->text);
	free(f->tail);
	f->tail = NULL;
}

/* ---- displays and results ---- */

static bool mime_ok(const char *mime)
{
	size_t n = strlen(mime);
	const char *slash = strchr(mime, '/');

	return slash && slash != mime && slash[1] && n < 128 &&
	       strspn(mime, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+-_/") == n;
}

static bool mime_is_text(const char *mime)
{
	static const char *const parts[] = { "json", "xml", "javascript", "latex", "ecmascript", "yaml" };

	if (!strncmp(mime, "text/", 5))
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		if (strstr(mime, parts[i]))
			return true;
	return false;
}

static void file_name(const struct item *it, int type, const char *mime, char name[192])
{
	int n = it->k ? snprintf(name, 192, "display-%u.", it->k) : snprintf(name, 192, "result.");

	if (type >= 0) {
		snprintf(name + n, 192 - n, "%s", types[type].ext);
		return;
	}
	snprintf(name + n, 192 - n, "%s", mime);
	for (char *p = name + n; *p; p++)
		if (*p == '/')
			*p = '_';
}

int run_slot(const struct run *r, const char *name)
{
	const char *ext = strchr(name, '.');
	int type = ext ? type_of_ext(ext + 1) : -1;
	unsigned k;
	int n = 0;

	if (type >= 0 && !strncmp(name, "result.", 7))
		return SLOT_RESULT + type;
	if (type >= 0 && sscanf(name, "display-%3u%n", &k, &n) == 1 && n == ext - name && k >= 1 &&
	    name[8] >= '1' && name[8] <= '9')
		return SLOT_DISPLAY + 16 * k + type;
	for (size_t i = 0; i < r->nfiles; i++)
		if (!strcmp(r->files[i].name, name))
			return r->files[i].slot;
	return -1;
}

bool run_file_listed(const struct run *r, const struct run_file *f)
{
	const struct item *it = &r->items[f->item];

	return !it->gone && (it->k || run_ended(r));
}

int run_file(struct run *r, uint16_t slot, const struct run_file **f)
{
	for (size_t i = 0; i < r->nfiles; i++) {
		if (r->files[i].slot != slot)
			continue;
		if (r->items[r->files[i].item].gone)
			return -ENOENT;
		if (!run_file_listed(r, &r->files[i]))
			return -EAGAIN;
		*f = &r->files[i];
		return 0;
	}
	if (run_ended(r))
		return -ENOENT;
	if (slot >= SLOT_DISPLAY && slot < SLOT_OTHER)
		return (slot - SLOT_DISPLAY) / 16u > r->ndisplays ? -EAGAIN : -ENOENT;
	return slot < SLOT_DISPLAY ? -EAGAIN : -ENOENT;
}

static void add_file(struct run *r, size_t item, const char *mime, struct extent at, bool newline)
{
	int type = type_of_mime(mime);
	char name[192];

	if (r->nfiles % 8 == 0)
		r->files = xrealloc(r->files, (r->nfiles + 8) * sizeof(*r->files));
	file_name(&r->items[item], type, mime, name);
	int k = r->items[item].k;
	r->files[r->nfiles++] = (struct run_file){
		.name = xstrdup(name),
		.mime = xstrdup(mime),
		.slot = type < 0 ? SLOT_OTHER + r->next_slot++ :
			k	 ? SLOT_DISPLAY + 16 * k + type :
				   SLOT_RESULT + type,
		.item = item,
		.newline = newline,
		.at = at,
	};
}

static void drop_files(struct run *r, size_t item)
{
	size_t n = 0;

	for (size_t i = 0; i < r->nfiles; i++) {
		if (r->files[i].item != item) {
			r->files[n++] = r->files[i];
			continue;
		}
		free(r->files[i].name);
		free(r->files[i].mime);
	}
	r->nfiles = n;
}

/* Puts the payload file NAME of the spool directory into results.bin. Returns 0 or -errno. */
static int take_payload(struct context *c, int spool, const char *name, bool text, struct extent *at,
			bool *newline)
{
	struct stat st;
	char last;

	if (!*name || *name == '.' || strchr(name, '/') || strlen(name) > 255)
		return -EINVAL;
	auto_close int fd = gate_open_file(spool, name, O_RDONLY, 0);
	unlinkat(spool, name, 0);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size > PAYLOAD_MAX)
		return -EFBIG;
	int err = store_copy(&c->store, L_RES, fd, st.st_size, &at->off);
	if (err)
		return err;
	at->len = st.st_size;
	*newline = text && st.st_size && pread(fd, &last, 1, st.st_size - 1) == 1 && last != '\n';
	if (*newline && !store_append(&c->store, L_RES, "\n", 1, NULL, false))
		at->len++;
	else
		*newline = false;
	return 0;
}

static int take_text(struct context *c, const char *s, size_t n, struct extent *at, bool *newline)
{
	struct iovec iov[2] = { { (void *)s, n }, { "\n", 1 } };

	*newline = !n || s[n - 1] != '\n';
	at->len = n + *newline;
	return store_appendv(&c->store, L_RES, iov, 1 + *newline, &at->off, false);
}

static int take_format(struct run *r, size_t item, const char *mime, const struct json *value, int spool)
{
	struct extent at;
	bool newline = false;
	size_t n;
	const char *s = json_text(value, &n), *file = json_str(value, "file");
	int err;

	if (s) {
		err = take_text(r->ctx, s, n, &at, &newline);
	} else if (json_get(value, "json")) {
		auto_buf struct buf b = { 0 };
		json_dump(json_get(value, "json"), &b);
		err = take_text(r->ctx, b.s, b.n, &at, &newline);
	} else if (file) {
		err = take_payload(r->ctx, spool, file, mime_is_text(mime), &at, &newline);
	} else {
		return -EINVAL;
	}
	if (!err)
		add_file(r, item, mime, at, newline);
	return err;
}

static void fill_item(struct run *r, size_t item, const struct json *ev, int spool)
{
	const struct json *data = json_obj(ev, "data");
	auto_buf struct buf meta = { 0 };
	int n = 0;

	drop_files(r, item);
	for (void *it = json_iter(data); it; it = json_iter_next(data, it)) {
		const char *mime = json_iter_key(it);
		int err = n++ >= MIME_MAX || (type_of_mime(mime) < 0 && r->next_slot > SLOTS_MAX) ? -E2BIG : !mime_ok(mime) ? -EINVAL :
			  take_format(r, item, mime, json_iter_value(it), spool);
		if (err)
			notice(r->ctx, r, "the format %.100s of %s %u is left out: %s", mime,
			       r->items[item].k ? "display" : "result", r->items[item].k,
			       err == -EFBIG ? "larger than 64 MiB" :
			       err == -E2BIG ? "too many formats" : strerror(-err));
	}
	if (json_obj(ev, "meta")) {
		json_dump(json_obj(ev, "meta"), &meta);
		str_set(&r->items[item].meta, meta.s);
	}
}

/* ITEM shows what FROM shows: payloads can be taken only once. */
static void copy_item(struct run *r, size_t item, size_t from)
{
	drop_files(r, item);
	for (size_t i = 0, n = r->nfiles; i < n; i++) {
		struct run_file f = r->files[i]; /* add_file may move the list */
		if (f.item == from)
			add_file(r, item, f.mime, f.at, f.newline);
	}
	str_set(&r->items[item].meta, r->items[from].meta);
}

static void tell_item(struct run *r, size_t item, bool update)
{
	const struct item *it = &r->items[item];
	auto_buf struct buf b = { 0 };

	event_begin(r->ctx, &b, it->k ? "display" : "result", r);
	if (it->k)
		buf_printf(&b, ",\"k\":%u", it->k);
	if (it->display_id) {
		buf_str(&b, ",\"display_id\":");
		buf_json_str(&b, it->display_id);
	}
	if (update)
		buf_str(&b, ",\"update\":true");
	buf_str(&b, ",\"formats\":");
	run_json_formats(r, item, &b);
	buf_printf(&b, ",\"metadata\":%s", it->meta ? it->meta : "{}");
	event_end(r->ctx, &b, r);
}

/* What was printed before an event stands before it. */
static void tell_streams(struct run *r)
{
	flow_tell(&r->flow[0]);
	flow_tell(&r->flow[1]);
}

static void clear_now(struct run *r)
{
	r->clear_wait = false;
	for (size_t i = 0; i < r->nitems; i++)
		if (r->items[i].k)
			r->items[i].gone = true;
}

static void new_item(struct run *r, bool result, const char *display_id)
{
	if (r->nitems % 8 == 0)
		r->items = xrealloc(r->items, (r->nitems + 8) * sizeof(*r->items));
	r->items[r->nitems++] = (struct item){ .k = result ? 0 : ++r->ndisplays,
					       .display_id = display_id ? xstrdup(display_id) : NULL };
}

int run_display(struct run *r, const struct json *ev, int spool, char why[160])
{
	const char *kind = json_str(ev, "kind"), *id = json_str(ev, "display_id");
	bool result = kind && !strcmp(kind, "result"), update = kind && !strcmp(kind, "update"), found = false;
	size_t first = 0;

	if (!kind || (!result && !update && strcmp(kind, "display")) || !json_obj(ev, "data") ||
	    (id && strlen(id) > 1024)) {
		snprintf(why, 160, "a display event needs kind and data");
		return -EINVAL;
	}
	tell_streams(r);
	if (r->clear_wait && !result)
		clear_now(r);
	for (size_t i = 0; update && id && i < r->nitems; i++) {
		if (!r->items[i].display_id || strcmp(r->items[i].display_id, id) || r->items[i].gone)
			continue;
		if (!found)
			fill_item(r, first = i, ev, spool);
		else
			copy_item(r, i, first);
		tell_item(r, i, true);
		found = true;
	}
	for (size_t i = 0; result && i < r->nitems; i++)
		if (!r->items[i].k) {
			snprintf(why, 160, "a second result");
			return -EINVAL;
		}
	if (!found && !result && r->ndisplays == DISPLAYS_MAX) {
		notice(r->ctx, r, "a display is left out: more than %d in one run", DISPLAYS_MAX);
		return 0;
	}
	if (!found) {
		new_item(r, result, id);
		fill_item(r, r->nitems - 1, ev, spool);
		tell_item(r, r->nitems - 1, false);
	}
	waitq_wake(&r->change, 0);
	return 0;
}

int run_clear(struct run *r, const struct json *ev)
{
	auto_buf struct buf b = { 0 };
	bool wait = json_bool(ev, "wait");

	tell_streams(r);
	if (wait)
		r->clear_wait = true;
	else
		clear_now(r);
	event_begin(r->ctx, &b, "clear", r);
	buf_printf(&b, ",\"wait\":%s", wait ? "true" : "false");
	event_end(r->ctx, &b, r);
	waitq_wake(&r->change, 0);
	return 0;
}

static char *dump_arr(const struct json *ev, const char *key)
{
	struct buf b = { 0 };

	if (json_arr(ev, key))
		json_dump(json_arr(ev, key), &b);
	else
		buf_str(&b, "[]");
	return b.s;
}

int run_set_error(struct run *r, const struct json *ev)
{
	struct run_error *e = &r->err;
	const char *name = json_str(ev, "name"), *message = json_str(ev, "message");

	error_clear(e);
	e->name = xstrdup(name && *name ? name : "Error");
	e->message = xstrdup(message ? message : "");
	e->traceback = dump_arr(ev, "traceback");
	e->frames = dump_arr(ev, "frames");
	json_int(ev, "line", &e->line);
	json_int(ev, "column", &e->column);
	r->has_error = true;
	return 0;
}

void run_error(struct run *r, const char *name, const char *message)
{
	if (r->has_error)
		return;
	str_set(&r->err.name, name);
	str_set(&r->err.message, message);
	r->has_error = true;
}

/* ---- JSON of its parts ---- */

int run_read_file(struct run *r, const struct run_file *f, struct buf *b)
{
	return store_read(&r->ctx->store, L_RES, f->at.off, f->at.len - f->newline, b);
}

int run_read_extents(struct context *c, enum store_log log, const struct extents *x, off_t max,
		     struct buf *b)
{
	int err = 0;

	for (size_t i = 0; i < x->n && max > 0 && !err; i++) {
		const struct extent *e = extents_at(x, i);
		err = store_read(&c->store, log, e->off, MIN(e->len, max), b);
		max -= e->len;
	}
	return err;
}

void run_json_formats(struct run *r, size_t item, struct buf *b)
{
	bool first = true;

	buf_char(b, '{');
	for (size_t i = 0; i < r->nfiles; i++) {
		const struct run_file *f = &r->files[i];
		auto_buf struct buf text = { 0 };
		if (f->item != item)
			continue;
		if (!first)
			buf_char(b, ',');
		first = false;
		buf_json_str(b, f->mime);
		buf_char(b, ':');
		off_t size = f->at.len - f->newline;
		if (mime_is_text(f->mime) && size <= INLINE_MAX && !run_read_file(r, f, &text) &&
		    utf8_valid(text.s, text.n)) {
			buf_json(b, text.s, text.n);
		} else {
			buf_str(b, "{\"file\":");
			buf_json_str(b, f->name);
			buf_printf(b, ",\"size\":%lld}", (long long)f->at.len);
		}
	}
	buf_char(b, '}');
}

void run_json_error(const struct run *r, struct buf *b)
{
	const struct run_error *e = &r->err;

	buf_str(b, "{\"name\":");
	buf_json_str(b, e->name ? e->name : "");
	buf_str(b, ",\"message\":");
	buf_json_str(b, e->message ? e->message : "");
	buf_printf(b, ",\"traceback\":%s", e->traceback ? e->traceback : "[]");
	if (e->line)
		buf_printf(b, ",\"line\":%lld", (long long)e->line);
	if (e->column)
		buf_printf(b, ",\"column\":%lld", (long long)e->column);
	buf_printf(b, ",\"frames\":%s}", e->frames ? e->frames : "[]");
}

bool run_truncated(const struct run *r)
{
	return r->flow[0].total > r->flow[0].x.total || r->flow[1].total > r->flow[1].x.total ||
	       r->flow[0].lost || r->flow[1].lost;
}

void run_json_truncated(const struct run *r, struct buf *b)
{
	static const char *const names[] = { "stdout", "stderr" };
	bool first = true;

	buf_char(b, '{');
	for (int i = 0; i < 2; i++) {
		const struct flow *f = &r->flow[i];
		if (f->total <= f->x.total && !f->lost)
			continue;
		buf_printf(b, "%s\"%s\":{\"kept\":%lld,\"total\":%lld}", first ? "" : ",", names[i],
			   (long long)f->x.total, (long long)f->total);
		first = false;
	}
	buf_char(b, '}');
}

void run_json_usage(const struct run *r, struct buf *b)
{
	buf_printf(b,
		   "{\"cpu_ms\":%.3f,\"wall_ms\":%.3f,\"max_rss_bytes\":%lld,\"bytes_in\":%lld,"
		   "\"bytes_out\":%lld,\"disk_bytes\":%lld}",
		   r->cpu_us / 1e3, r->started_at ? r->duration_us / 1e3 : 0.0, (long long)r->max_rss,
		   (long long)r->code.len, (long long)(r->flow[0].total + r->flow[1].total),
		   (long long)disk_bytes(r));
}

/* ---- the record ---- */

static void save_extents(struct buf *b, const char *key, const struct extents *x)
{
	buf_printf(b, ",\"%s\":[", key);
	for (size_t i = 0; i < x->n; i++) {
		const struct extent *e = extents_at(x, i);
		buf_printf(b, "%s%lld,%lld", i ? "," : "", (long long)e->off, (long long)e->len);
	}
	buf_char(b, ']');
}

static void save_str(struct buf *b, const char *key, const char *s)
{
	if (!s)
		return;
	buf_printf(b, ",\"%s\":", key);
	buf_json_str(b, s);
}

void run_save(struct run *r, struct buf *b)
{
	buf_printf(b, "{\"run\":%llu,\"status\":%d,\"opt\":%s,\"code\":[%lld,%lld]",
		   (unsigned long long)r->number, r->status, r->opt.json ? r->opt.json : "{}",
		   (long long)r->code.off, (long long)r->code.len);
	save_str(b, "cell", r->cell_name);
	save_str(b, "lang", r->lang_name);
	save_str(b, "reason", r->reason);
	save_extents(b, "out", &r->flow[0].x);
	save_extents(b, "err", &r->flow[1].x);
	save_extents(b, "events", &r->events);
	buf_printf(b, ",\"n\":[%lld,%lld,%lld,%lld,%lld,%lld,%lld,%lld,%lld,%lld,%lld,%lld,%d,%d]",
		   (long long)r->flow[0].total, (long long)r->flow[1].total, (long long)r->flow[0].lost,
		   (long long)r->flow[1].lost, (long long)r->queued_at, (long long)r->started_at,
		   (long long)r->finished_at, (long long)r->duration_us, (long long)r->cpu_us,
		   (long long)r->max_rss, (long long)r->execution_count, (long long)r->generation,
		   r->exit_code, r->state_preserved);
	buf_str(b, ",\"items\":[");
	for (size_t i = 0; i < r->nitems; i++) {
		const struct item *it = &r->items[i];
		buf_printf(b, "%s{\"k\":%u,\"gone\":%s", i ? "," : "", it->k, it->gone ? "true" : "false");
		save_str(b, "id", it->display_id);
		buf_printf(b, ",\"meta\":%s}", it->meta ? it->meta : "{}");
	}
	buf_str(b, "],\"files\":[");
	for (size_t i = 0; i < r->nfiles; i++) {
		const struct run_file *f = &r->files[i];
		buf_printf(b, "%s{\"at\":[%lld,%lld],\"slot\":%u,\"item\":%u,\"nl\":%s", i ? "," : "",
			   (long long)f->at.off, (long long)f->at.len, f->slot, f->item,
			   f->newline ? "true" : "false");
		save_str(b, "name", f->name);
		save_str(b, "mime", f->mime);
		buf_char(b, '}');
	}
	buf_char(b, ']');
	if (r->has_error) {
		buf_str(b, ",\"error\":");
		run_json_error(r, b);
	}
	buf_str(b, "}\n");
}

static void load_extents(const struct json *arr, struct extents *x)
{
	for (size_t i = 0; i + 1 < json_len(arr); i += 2)
		extents_add(x, json_num_at(arr, i), json_num_at(arr, i + 1));
}

static void load_items(struct run *r, const struct json *rec)
{
	const struct json *items = json_arr(rec, "items"), *files = json_arr(rec, "files");

	for (size_t i = 0; i < json_len(items); i++) {
		const struct json *j = json_at(items, i);
		auto_buf struct buf meta = { 0 };
		new_item(r, !json_num(j, "k"), json_str(j, "id"));
		if (json_obj(j, "meta"))
			json_dump(json_obj(j, "meta"), &meta);
		r->items[i].k = json_num(j, "k");
		r->items[i].gone = json_bool(j, "gone");
		r->items[i].meta = xstrdup(meta.s ? meta.s : "{}");
	}
	for (size_t i = 0; i < json_len(files); i++) {
		const struct json *j = json_at(files, i), *at = json_arr(j, "at");
		const char *mime = json_str(j, "mime");
		int64_t item = json_num(j, "item");
		if (!mime || item < 0 || (size_t)item >= r->nitems)
			continue;
		add_file(r, item, mime, (struct extent){ json_num_at(at, 0), json_num_at(at, 1) },
			 json_bool(j, "nl"));
		r->files[r->nfiles - 1].slot = json_num(j, "slot");
	}
}

struct run *run_load(struct context *c, uint64_t number, const struct json *rec)
{
	const char *name = json_str(rec, "cell");
	const struct json *n = json_arr(rec, "n"), *code = json_arr(rec, "code");

	if (!name || (uint64_t)json_num(rec, "run") != number || json_num(rec, "status") < ST_OK ||
	    json_num(rec, "status") > ST_LOST)
		return NULL;
	struct run *r = run_new(c, NULL, name);
	auto_buf struct buf opt = { 0 };
	if (json_obj(rec, "opt"))
		json_dump(json_obj(rec, "opt"), &opt);
	r->opt.json = xstrdup(opt.s ? opt.s : "{}");
	r->number = number;
	r->state = R_ENDED;
	r->status = json_num(rec, "status");
	str_set(&r->reason, json_str(rec, "reason"));
	str_set(&r->lang_name, json_str(rec, "lang"));
	r->code = (struct extent){ json_num_at(code, 0), json_num_at(code, 1) };
	load_extents(json_arr(rec, "out"), &r->flow[0].x);
	load_extents(json_arr(rec, "err"), &r->flow[1].x);
	load_extents(json_arr(rec, "events"), &r->events);
	int64_t *at[] = { &r->flow[0].total, &r->flow[1].total, &r->flow[0].lost, &r->flow[1].lost,
			  &r->queued_at, &r->started_at, &r->finished_at, &r->duration_us, &r->cpu_us,
			  &r->max_rss, &r->execution_count, &r->generation };
	for (size_t i = 0; i < ARRAY_SIZE(at); i++)
		*at[i] = json_num_at(n, i);
	r->exit_code = json_num_at(n, ARRAY_SIZE(at));
	r->state_preserved = json_num_at(n, ARRAY_SIZE(at) + 1);
	load_items(r, rec);
	if (json_obj(rec, "error"))
		run_set_error(r, json_obj(rec, "error"));
	return r;
}

const char *mime_ext(const char *mime)
{
	int type = type_of_mime(mime);

	return type < 0 ? NULL : types[type].ext;
}
