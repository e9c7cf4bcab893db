/* A run as JSON: the parts that events and documents share, and its record in results.bin, there and back. */
#include "context.h"

int64_t run_disk_bytes(const struct run *r)
{
	int64_t n = r->flow[0].x.total + r->flow[1].x.total + r->code.len;

	for (size_t i = 0; i < r->nfiles; i++)
		n += r->files[i].at.len;
	return n + r->kept_bytes;
}

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
	struct usage u = usage_of_run(r);

	buf_printf(b,
		   "{\"cpu_ms\":%.3f,\"wall_ms\":%.3f,\"max_rss_bytes\":%lld,\"bytes_in\":%lld,"
		   "\"bytes_out\":%lld,\"disk_bytes\":%lld}",
		   u.cpu_us / 1e3, u.wall_us / 1e3, (long long)u.max_rss, (long long)u.bytes_in,
		   (long long)u.bytes_out, (long long)u.kept);
}

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
	if (r->kept_at.len)
		buf_printf(b, ",\"kept\":[%lld,%lld,%lld,%lld]", (long long)r->kept_at.off, (long long)r->kept_at.len,
			   (long long)r->kept_table, (long long)r->kept_bytes);
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
		run_new_item(r, !json_num(j, "k"), json_str(j, "id"));
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
		run_add_file(r, item, mime, (struct extent){ json_num_at(at, 0), json_num_at(at, 1) },
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
	const struct json *kept = json_arr(rec, "kept");
	r->kept_at = (struct extent){ json_num_at(kept, 0), json_num_at(kept, 1) };
	r->kept_table = json_num_at(kept, 2);
	r->kept_bytes = json_num_at(kept, 3);
	r->exit_code = json_num_at(n, ARRAY_SIZE(at));
	r->state_preserved = json_num_at(n, ARRAY_SIZE(at) + 1);
	load_items(r, rec);
	if (json_obj(rec, "error"))
		run_set_error(r, json_obj(rec, "error"));
	return r;
}
