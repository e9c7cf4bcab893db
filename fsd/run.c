/* The life of a run: queued, started, interrupted, ended. */
#include "artifact.h"
#include "context.h"
#include "kernel.h"

enum { RUNG_SECOND = 1000000 }; /* the ladder's pauses, us */

const char *const run_status_names[] = {
	[ST_NONE] = "removed",	[ST_OK] = "ok",		 [ST_ERROR] = "error",
	[ST_TIMEOUT] = "timeout", [ST_INTERRUPTED] = "interrupted", [ST_KILLED] = "killed",
	[ST_OOM] = "oom",	[ST_CANCELLED] = "cancelled", [ST_ABORTED] = "aborted",
	[ST_LOST] = "lost",
};

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
	kept_free(r->kept);
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
	buf_printf(&b, ",\"execution_count\":%lld,\"generation\":%lld,\"logs\":[%lld,%lld,%lld]",
		   (long long)count, (long long)generation, (long long)c->store.end[L_OUT],
		   (long long)c->store.end[L_ERR], (long long)c->store.end[L_KEPT]);
	int err = event_end(c, &b, r);
	if (err)
		return err;
	r->state = R_RUNNING;
	r->kernel = k;
	r->file_time = MAX(r->started_at, r->file_time + 1000);
	c->nqueued--;
	usage_begin(r);
	artifact_begin(r);
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
	r->kept_at = (struct extent){ 0 };
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

	usage_count(r); /* not before: the index must not count a run that it does not know as ended */
	int err = write_finished(r, off, size, &fin_off, &fin_len);

	rec->status = r->status;
	rec->time = r->file_time;
	rec->kib = run_disk_bytes(r) >> 10;
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

/* The second half of its end: everything that the record tells is known. */
static void record(struct run *r)
{
	struct context *c = r->ctx;
	auto_buf struct buf b = { 0 };
	off_t off = 0;

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

void run_recorded(struct run *r)
{
	struct context *c = r->ctx;

	record(r);
	context_schedule(c);
}

void run_finish(struct run *r, enum run_status how, const char *reason)
{
	struct context *c = r->ctx;

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
		r->duration_us = mono_us() - r->duration_us;
		usage_end(r);
	}
	r->state = R_ENDING;
	r->kernel = NULL;
	c->world->runs_total++;
	if (r->has_error)
		write_error_event(r);
	if (!artifact_end(r))
		record(r);
}

static char *dump_arr(const struct json *ev, const char *key)
{
	struct buf b = { 0 };

	if (json_arr(ev, key) && !json_is_deep(json_arr(ev, key), DEPTH_MAX))
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
