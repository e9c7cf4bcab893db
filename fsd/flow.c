/* The streams of a run: bytes from a pipe into a log, the events that tell of them, and their limit. */
#include "context.h"

#include <stdio.h>

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
