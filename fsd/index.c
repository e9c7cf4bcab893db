/* runs.idx: what the journal says, in records that can be read in one go; and the way back from it. Each
 * record says up to where of the journal it (with all before it) is enough, so a start reads the index and
 * only the rest of the journal. A lost or cut index is made again from the journal alone. */
#include "context.h"

#include "kernel.h"

#include <stdio.h>
#include <time.h>

enum { PART = 0x80 }; /* with a kind: one of many, of which only the last says how far in the journal they go */

struct idx {
	uint32_t check;
	uint16_t len;       /* of all, names included */
	uint8_t kind, status;
	uint64_t number;    /* of the run; the generation */
	uint64_t off, fin_off;
	uint64_t from;      /* the journal's line of the oldest run that has not ended */
	uint64_t end;       /* the journal's end then */
	int64_t time;
	uint32_t size, fin_len, kib;
	uint16_t na, nb;    /* lengths of two names that follow */
	struct usage sum;   /* of all runs that had ended */
	int64_t disk_seen;
};

static uint32_t checksum(const void *p, size_t n)
{
	const unsigned char *s = p;
	uint32_t h = 2166136261u;

	while (n--)
		h = (h ^ *s++) * 16777619u;
	return h;
}

static uint64_t oldest_live(struct context *c, const struct run *but)
{
	list_for(it, &c->live) {
		struct run *r = container_of(it, struct run, link);
		if (r != but)
			return r->journal_from;
	}
	return c->store.end[L_JOURNAL];
}

static void print_record(struct idx *x, const char *a, const char *b, struct buf *out)
{
	size_t start = out->n;

	x->na = a ? strlen(a) : 0;
	x->nb = b ? strlen(b) : 0;
	x->len = sizeof(*x) + x->na + x->nb;
	buf_add(out, x, sizeof(*x));
	buf_add(out, a, x->na);
	buf_add(out, b, x->nb);
	uint32_t check = checksum(out->s + start + 4, x->len - 4);
	memcpy(out->s + start, &check, 4);
}

static int append(struct context *c, struct idx *x, const char *a, const char *b)
{
	auto_buf struct buf rec = { 0 };

	x->end = c->store.end[L_JOURNAL];
	x->sum = c->usage;
	x->disk_seen = c->disk_seen;
	print_record(x, a, b, &rec);
	int err = store_append(&c->store, L_IDX, rec.s, rec.n, NULL, true);
	if (!err)
		c->disk_noted = x->disk_seen;
	return err;
}

static struct idx run_record(const struct rec *rec, uint64_t number, uint64_t from)
{
	return (struct idx){ .kind = IDX_RUN, .status = rec->status, .number = number, .off = rec->off,
			     .fin_off = rec->fin_off, .time = rec->time, .size = rec->size,
			     .fin_len = rec->fin_len, .kib = rec->kib, .from = from };
}

int index_run(struct context *c, const struct run *r, const struct rec *rec)
{
	struct idx x = run_record(rec, r->number, oldest_live(c, r));

	return append(c, &x, r->cell && !r->detached ? r->cell->name : NULL, NULL);
}

/* Writes the whole index anew, from what is known: after a start that learned from the journal. Only the last
 * record says how far in the journal that is: without it, the others are worth nothing. */
static int rewrite(struct context *c)
{
	auto_buf struct buf b = { 0 };

	for (uint64_t n = 1; n <= c->nruns; n++) {
		const struct rec *rec = &c->recs[n - 1];
		const struct cell *cell = cell_at(c, rec->cell);
		struct idx x = run_record(rec, n, 0), gone = { .kind = IDX_FORGOT | PART, .number = n };
		x.kind |= PART;
		if (rec->status != ST_NONE)
			print_record(&x, cell ? cell->name : NULL, NULL, &b);
		else if (!context_run(c, n))
			print_record(&gone, NULL, NULL, &b);
	}
	list_for(it, &c->kernels) {
		struct kernel *k = container_of(it, struct kernel, link);
		struct idx x = { .kind = IDX_KERNEL | PART, .number = k->generation };
		print_record(&x, k->key, NULL, &b);
	}
	struct idx whole = { .kind = IDX_WHOLE, .from = oldest_live(c, NULL), .end = c->store.end[L_JOURNAL],
			     .sum = c->usage, .disk_seen = c->disk_seen };
	print_record(&whole, NULL, NULL, &b);
	return store_replace(&c->store, L_IDX, b.s ? b.s : "", b.n);
}

int index_note(struct context *c, uint8_t kind, const char *a, const char *b, uint64_t n)
{
	struct idx x = { .kind = kind, .number = n, .from = oldest_live(c, NULL) };

	return append(c, &x, a, b);
}

/* ---- reading ---- */

/* A run that the rest of the journal speaks of, and that the index does not know as ended. */
struct pending {
	uint64_t number;
	char *name, *cell, *lang; /* NAME as queued; CELL what the cell is called now, "" removed */
	struct extent code;
	int64_t queued_at, started_at, count, generation;
	off_t from, logs[2];
	struct extents events;
	bool finished;
};

struct reader {
	struct context *c;
	uint64_t from, end; /* of the last record */
	struct pending *v;
	size_t n;
	off_t kept;         /* end of kept.bin at the last start of a run, -1: one has ended since */
	bool news;          /* the journal told what the index did not know */
};

static void attach(struct context *c, struct rec *rec, uint64_t number, const char *name)
{
	if (!*name)
		return;
	struct cell *cell = cell_make(c, name);
	rec->cell = cell->index;
	cell->newest = MAX(cell->newest, number);
	cell->first = cell->first ? MIN(cell->first, number) : number;
}

static void gone(struct context *c, const char *name)
{
	struct cell *cell = cell_find(c, name);

	if (cell)
		cell_detach(c, cell);
}

static void moved(struct context *c, const char *from, const char *to)
{
	struct cell *cell = cell_find(c, from);

	if (!cell || !strcmp(from, to))
		return;
	gone(c, to);
	map_del(&c->cell_names, cell->name);
	free(cell->name);
	cell->name = xstrdup(to);
	map_put(&c->cell_names, cell->name, cell);
}

static void forgot(struct context *c, uint64_t number)
{
	struct rec *rec = context_rec(c, number);
	struct cell *cell = rec ? cell_at(c, rec->cell) : NULL;

	if (!rec || rec->status == ST_NONE)
		return;
	c->kept_runs--;
	c->kept_kib -= rec->kib;
	*rec = (struct rec){ .cell = rec->cell };
	if (cell && cell->newest == number)
		context_show_before(c, cell);
}

static void ended(struct context *c, const struct idx *x, const char *name)
{
	struct rec *rec = context_new_rec(c, x->number);

	if (rec->status != ST_NONE) { /* the later one counts */
		c->kept_runs--;
		c->kept_kib -= rec->kib;
	}
	*rec = (struct rec){ .off = x->off, .fin_off = x->fin_off, .time = x->time, .size = x->size,
			     .fin_len = x->fin_len, .status = x->status, .kib = x->kib };
	c->kept_runs++;
	c->kept_kib += x->kib;
	c->changed = MAX(c->changed, x->time);
	attach(c, rec, x->number, name);
}

static void kernel_known(struct context *c, const char *key, int64_t generation)
{
	struct kernel *k = kernel_named(c, key);
	auto_free char *cell = xasprintf("x.%s", key + (*key == '.'));
	const struct lang *lang = lang_named(&c->world->langs, key);
	if (!lang)
		lang = kernel_speaker(c, cell).lang;

	if (!k && lang)
		k = kernel_new(c, key, lang);
	if (!k)
		return;
	k->generation = MAX(k->generation, generation);
	if (!k->lost_why)
		k->lost_why = xstrdup("the daemon was started anew");
}

/* Can run NUMBER have been? Each leaves a line in the journal for good, blank or not. */
static bool plausible(const struct context *c, uint64_t number)
{
	return number && number <= (uint64_t)c->store.end[L_JOURNAL] / 40 + 1;
}

/* Is everything that X names there? A copy of STATE_DIR may lack the end of a file. */
static bool complete(struct context *c, const struct idx *x)
{
	uint64_t journal = c->store.end[L_JOURNAL], results = c->store.end[L_RES];

	if (x->end > journal || x->from > journal)
		return false;
	if ((x->kind & ~PART) != IDX_RUN)
		return true;
	return plausible(c, x->number) && x->status >= ST_OK &&
	       x->status <= ST_LOST && x->off <= results && x->size <= results - x->off &&
	       x->fin_off <= journal && x->fin_len <= journal - x->fin_off;
}

static void apply(struct reader *rd, const struct idx *x, const char *a, const char *b)
{
	struct context *c = rd->c;

	switch (x->kind & ~PART) {
	case IDX_RUN:
		ended(c, x, a);
		break;
	case IDX_MOVED:
		moved(c, a, b);
		break;
	case IDX_GONE:
		gone(c, a);
		break;
	case IDX_FORGOT:
		if (plausible(c, x->number))
			context_new_rec(c, x->number);
		forgot(c, x->number);
		break;
	case IDX_KERNEL:
		kernel_known(c, a, x->number);
		break;
	}
	c->usage = x->sum;
	c->disk_seen = c->disk_noted = x->disk_seen;
	rd->from = x->from;
	rd->end = x->end;
}

/* Reads the records of P, and takes them in if TAKE. Returns how many bytes of it are good; *WHOLE: the last
 * of them says how far in the journal they go. */
static size_t read_records(struct reader *rd, const char *p, size_t n, bool take, bool *whole)
{
	size_t at = 0;

	*whole = false;

	while (n - at >= sizeof(struct idx)) {
		struct idx x;
		char a[256], b[256];
		memcpy(&x, p + at, sizeof(x));
		if (x.len > n - at || x.len != sizeof(x) + x.na + x.nb || x.na > 255 || x.nb > 255 ||
		    checksum(p + at + 4, x.len - 4) != x.check || !complete(rd->c, &x))
			break;
		snprintf(a, sizeof(a), "%.*s", x.na, p + at + sizeof(x));
		snprintf(b, sizeof(b), "%.*s", x.nb, p + at + sizeof(x) + x.na);
		if (take)
			apply(rd, &x, a, b);
		*whole = !(x.kind & PART);
		at += x.len;
	}
	return at;
}

static struct pending *pending(struct reader *rd, uint64_t number)
{
	for (size_t i = rd->n; i--;)
		if (rd->v[i].number == number)
			return &rd->v[i];
	return NULL;
}

static int64_t parse_time(const char *s)
{
	struct tm tm = { 0 };
	int us = 0;

	if (!s || sscanf(s, "%d-%d-%dT%d:%d:%d.%dZ", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
			 &tm.tm_min, &tm.tm_sec, &us) != 7)
		return 0;
	tm.tm_year -= 1900;
	tm.tm_mon--;
	return timegm(&tm) * 1000000LL + us;
}

static char *own(const char *s)
{
	return xstrdup(s ? s : "");
}

static void on_queued(struct reader *rd, const struct json *j, off_t off)
{
	uint64_t number = json_num(j, "run");
	const struct rec *rec = context_rec(rd->c, number);
	const struct json *code = json_arr(j, "code");

	if (!plausible(rd->c, number) || (rec && rec->status != ST_NONE))
		return;
	rd->v = xrealloc(rd->v, (rd->n + 1) * sizeof(*rd->v));
	rd->v[rd->n++] = (struct pending){
		.number = number,
		.name = own(json_str(j, "cell")),
		.cell = own(json_str(j, "cell")),
		.lang = own(json_str(j, "language")),
		.code = { json_num_at(code, 0), json_num_at(code, 1) },
		.queued_at = parse_time(json_str(j, "time")),
		.from = off,
	};
}

static void on_started(struct reader *rd, const struct json *j, off_t off)
{
	struct pending *p = pending(rd, json_num(j, "run"));
	const struct json *logs = json_arr(j, "logs");

	(void)off;
	if (!p)
		return;
	p->started_at = parse_time(json_str(j, "time"));
	p->count = json_num(j, "execution_count");
	p->generation = json_num(j, "generation");
	for (int i = 0; i < 2; i++)
		p->logs[i] = json_num_at(logs, i);
	rd->kept = json_len(logs) > 2 ? json_num_at(logs, 2) : -1;
	kernel_known(rd->c, p->lang, p->generation);
}

static enum run_status status_named(const char *word)
{
	for (int i = ST_OK; word && i <= ST_LOST; i++)
		if (!strcmp(run_status_names[i], word))
			return i;
	return ST_NONE;
}

static void count(struct context *c, const struct json *j)
{
	const struct json *usage = json_obj(j, "usage");
	struct usage u = usage_parse(usage);

	if (usage)
		usage_add(&c->usage, &u);
}

static void on_finished(struct reader *rd, const struct json *j, off_t off, size_t len)
{
	struct pending *p = pending(rd, json_num(j, "run"));
	const struct json *record = json_arr(j, "record");
	struct idx x = { .kind = IDX_RUN, .status = status_named(json_str(j, "status")), .fin_off = off,
			 .fin_len = len, .off = json_num_at(record, 0), .size = json_num_at(record, 1),
			 .time = json_num(j, "mtime"),
			 .kib = json_num(json_obj(j, "usage"), "disk_bytes") >> 10 };

	if (!p || !x.size)
		return;
	x.number = p->number;
	if (!complete(rd->c, &x))
		return; /* what it names is not there: it is lost */
	p->finished = rd->news = true;
	rd->kept = -1;
	if ((uint64_t)off >= rd->end)
		count(rd->c, j);
	ended(rd->c, &x, p->cell);
}

static void on_cell(struct reader *rd, const struct json *j, off_t off)
{
	const char *from = json_str(j, "from"), *to = json_str(j, "to");

	if (!from)
		return;
	for (size_t i = 0; i < rd->n; i++) {
		if (strcmp(rd->v[i].cell, from))
			continue;
		free(rd->v[i].cell);
		rd->v[i].cell = own(to);
	}
	if ((uint64_t)off < rd->end) /* the index knew */
		return;
	rd->news = true;
	if (to)
		moved(rd->c, from, to);
	else
		gone(rd->c, from);
}

static void on_removed(struct reader *rd, const struct json *j, off_t off)
{
	uint64_t number = json_num(j, "run");

	if (plausible(rd->c, number))
		context_new_rec(rd->c, number); /* it is not given again */
	if ((uint64_t)off >= rd->end) {
		const struct rec *rec = context_rec(rd->c, number);
		rd->news = true;
		if (!rec || rec->status == ST_NONE) /* its own line is blank */
			count(rd->c, j);
	}
	forgot(rd->c, number);
}

static void on_event(struct reader *rd, const char *line, size_t n, off_t off)
{
	static const struct {
		const char *type;
		void (*fn)(struct reader *, const struct json *, off_t);
	} types[] = { { "queued", on_queued }, { "started", on_started }, { "cell", on_cell },
		      { "removed", on_removed } };
	auto_json struct json *j = json_parse(line, n, NULL);
	const char *type = json_str(j, "type");

	rd->c->seq = MAX(rd->c->seq, (uint64_t)json_num(j, "seq"));
	if (!type)
		return;
	rd->c->changed = MAX(rd->c->changed, parse_time(json_str(j, "time")));
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (!strcmp(type, types[i].type))
			types[i].fn(rd, j, off);
	struct pending *p = pending(rd, json_num(j, "run"));
	if (p && strcmp(type, "removed"))
		extents_add(&p->events, off, n + 1);
	if (!strcmp(type, "finished"))
		on_finished(rd, j, off, n + 1);
}

/* Reads the journal from FROM on; what follows its last newline was torn and goes. */
static int read_journal(struct reader *rd, off_t from)
{
	struct context *c = rd->c;
	auto_buf struct buf b = { 0 };
	off_t at = from, end = c->store.end[L_JOURNAL];

	while (at + (off_t)b.n < end) {
		off_t next = at + b.n;
		int err = store_read(&c->store, L_JOURNAL, next, MIN(end - next, 1 << 20), &b);
		if (err)
			return err;
		size_t done = 0;
		for (char *nl; (nl = memchr(b.s + done, '\n', b.n - done));) {
			on_event(rd, b.s + done, nl - (b.s + done), at + done);
			done = nl + 1 - b.s;
		}
		memmove(b.s, b.s + done, b.n - done);
		b.n -= done;
		at += done;
	}
	return b.n ? store_cut(&c->store, L_JOURNAL, at) : 0;
}

/* The last seq, when the rest of the journal that was read has no line. */
static void read_last_seq(struct context *c)
{
	auto_buf struct buf b = { 0 };
	off_t end = c->store.end[L_JOURNAL], from = MAX(end - (256 << 10), 0);
	unsigned long long seq;

	if (store_read(&c->store, L_JOURNAL, from, end - from, &b) || !b.n)
		return;
	for (char *p = b.s + b.n - 1; p >= b.s; p--)
		if (*p == '\n' || p == b.s)
			if (sscanf(*p == '\n' ? p + 1 : p, "{\"seq\":%llu", &seq) == 1) {
				c->seq = MAX(c->seq, seq);
				return;
			}
}

/* P was under way when the daemon died: it is live again, to be ended. What it printed until then is there:
 * nothing ran after it. */
static void revive(struct context *c, struct pending *p)
{
	struct run *r = run_new(c, NULL, p->name);
	struct rec *rec = context_new_rec(c, p->number);

	r->number = p->number;
	r->lang_name = xstrdup(p->lang);
	r->code = p->code;
	r->queued_at = p->queued_at;
	r->started_at = p->started_at;
	r->execution_count = p->count;
	r->generation = p->generation;
	r->journal_from = p->from;
	r->events = p->events;
	r->state = R_ENDING;
	attach(c, rec, p->number, p->cell);
	r->cell = cell_at(c, rec->cell);
	for (int i = 0; i < 2; i++) {
		flow_init(&r->flow[i], c, r, r->lang_name, i);
		off_t end = c->store.end[i ? L_ERR : L_OUT];
		if (p->started_at && end > p->logs[i]) {
			extents_add(&r->flow[i].x, p->logs[i], end - p->logs[i]);
			r->flow[i].total = r->flow[i].told = r->flow[i].x.total;
		}
	}
	list_append(&c->live, &r->link);
	r->state = R_RUNNING;
	r->state_preserved = !p->started_at;
}

static void end_revived(struct context *c)
{
	list_for_safe(it, tmp, &c->live) {
		struct run *r = container_of(it, struct run, link);
		run_finish(r, r->started_at ? ST_LOST : ST_CANCELLED,
			   r->started_at ? "the daemon died while it ran" : "the daemon ended first");
	}
}

int index_load(struct context *c)
{
	struct reader rd = { .c = c, .kept = -1 };
	auto_buf struct buf b = { 0 };
	int err = store_read(&c->store, L_IDX, 0, c->store.end[L_IDX], &b);

	if (err)
		return err;
	bool whole;
	size_t good = read_records(&rd, b.s, b.n, false, &whole);
	if (!whole)
		good = 0;
	if (good != b.n)
		store_cut(&c->store, L_IDX, good);
	read_records(&rd, b.s, good, true, &whole);
	buf_free(&b);
	err = read_journal(&rd, rd.from);
	read_last_seq(c);
	for (size_t i = 0; i < rd.n; i++) {
		struct pending *p = &rd.v[i];
		if (p->finished)
			extents_free(&p->events);
		else
			revive(c, p);
		free(p->name);
		free(p->cell);
		free(p->lang);
	}
	if (rd.kept >= 0 && rd.kept < c->store.end[L_KEPT]) /* files of a run that is lost */
		store_cut(&c->store, L_KEPT, rd.kept);
	if (rd.news && !err)
		err = rewrite(c);
	free(rd.v);
	end_revived(c);
	return err;
}
