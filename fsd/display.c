/* What a run shows: its displays and its result, each in several formats, each a file. */
#include "context.h"
#include "gate.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

enum {
	PAYLOAD_MAX = 64 << 20,
	SLOT_RESULT = 1,       /* + extension */
	SLOT_DISPLAY = 64,     /* + 16 k + extension */
	SLOT_OTHER = 20000,    /* types without an extension of their own */
	SLOTS_MAX = 40000,
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

static bool mime_ok(const char *mime)
{
	size_t n = strlen(mime);
	const char *slash = strchr(mime, '/');

	return slash && slash != mime && slash[1] && n < 128 &&
	       strspn(mime, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+-_/") == n;
}

bool mime_is_text(const char *mime)
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

void run_add_file(struct run *r, size_t item, const char *mime, struct extent at, bool newline)
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
		run_add_file(r, item, mime, at, newline);
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
	if (json_obj(ev, "meta") && !json_is_deep(json_obj(ev, "meta"), DEPTH_MAX)) {
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
			run_add_file(r, item, f.mime, f.at, f.newline);
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

void run_new_item(struct run *r, bool result, const char *display_id)
{
	if (r->nitems % 8 == 0)
		r->items = xrealloc(r->items, (r->nitems + 8) * sizeof(*r->items));
	r->items[r->nitems++] = (struct item){ .k = result ? 0 : ++r->ndisplays,
					       .display_id = display_id ? xstrdup(display_id) : NULL };
}

/* An update is copied to each display of its id, so only so many have the same one: the newest. */
static void share_id(struct run *r, const char *id)
{
	struct item *oldest = NULL;
	int n = 0;

	for (size_t i = 0; id && i < r->nitems; i++) {
		if (!r->items[i].display_id || strcmp(r->items[i].display_id, id))
			continue;
		oldest = oldest ? oldest : &r->items[i];
		n++;
	}
	if (n >= SAME_ID_MAX)
		str_set(&oldest->display_id, NULL);
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
		share_id(r, id);
		run_new_item(r, result, id);
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
