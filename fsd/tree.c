#include "tree.h"

#include "artifact.h"
#include "packages.h"
#include "page.h"

#include <stdio.h>
#include <sys/stat.h>

/* ---- finding ---- */

/* A slot for NAME in C's directories of free names; it stays that name's. */
static uint16_t intern(struct context *c, const char *name)
{
	for (size_t i = 0; i < c->slots.n; i++)
		if (!strcmp(c->slots.entries[i].key, name))
			return i + 1;
	if (c->slots.n >= 0xfffe)
		return 0;
	char *own = xstrdup(name);
	map_put(&c->slots, own, own);
	return c->slots.n;
}

const char *value_node_name(const struct node *n)
{
	if (n->kind == N_SETTING)
		return n->slot < C_COUNT ? setting_names[n->slot] : "";
	return n->slot && n->slot <= n->ctx->slots.n ? n->ctx->slots.entries[n->slot - 1].key : "";
}

int node_body_dir(const struct node *n)
{
	return n->row->dir - 1;
}

static uint64_t find_context(const struct node *n, const char *name)
{
	struct context *c = world_context(n->world, name);

	return c ? node_ino(c->id, 0, N_CTX) : 0;
}

static uint64_t find_body(const struct node *n, const char *name)
{
	struct body *b = body_find(n->ctx, node_body_dir(n), name);

	return b ? node_ino(b->id, 0, N_BODY) : 0;
}

static uint64_t find_setting(const struct node *n, const char *name)
{
	int key = setting_find(name);

	return key >= 0 ? node_ino(n->ctx->id, key, N_SETTING) : find_body(n, name);
}

static uint64_t find_value(const struct node *n, const char *name, enum node_kind kind)
{
	auto_buf struct buf b = { 0 };
	struct stat st;

	if (!value_name(n->ctx, node_body_dir(n), name))
		return find_body(n, name);
	if (value_read(n->ctx, node_body_dir(n), name, &b, &st))
		return 0;
	uint16_t slot = intern(n->ctx, name);
	return slot ? node_ino(n->ctx->id, slot, kind) : 0;
}

static uint64_t find_env(const struct node *n, const char *name)
{
	return find_value(n, name, N_ENV_VAR);
}

static uint64_t find_kernel(const struct node *n, const char *name)
{
	return find_value(n, name, N_KERNEL_EXT);
}

uint64_t cell_run_object(struct context *c, struct cell *cell)
{
	if (cell->newest)
		return run_object(c, cell->newest);
	return cell->writing ? cell->writing->id : 0;
}

static uint64_t find_result(const struct node *n, const char *name)
{
	struct cell *cell = cell_find(n->ctx, name);

	if (!cell || !cell->newest) {
		struct run *r = cell_writing(n->ctx, name);
		cell = r ? r->cell : NULL;
	}
	if (cell)
		return node_ino(cell->id, 0, N_RESULT);
	struct body *b = body_find(n->ctx, B_CELLS, name);
	return b && !body_is_cell(b) ? node_ino(b->id, 0, N_DRAFT) : 0;
}

static uint64_t find_run(const struct node *n, const char *name)
{
	char *end;
	uint64_t number = strtoull(name, &end, 10);

	if (*end || *name < '1' || *name > '9' || !context_run(n->ctx, number))
		return 0;
	return node_ino(run_object(n->ctx, number), 0, N_RUN);
}

static uint64_t find_file(const struct node *n, const char *name)
{
	int slot = run_slot(n->run, name);

	return slot < 0 ? 0 : node_ino(node_id(n->ino), slot, N_RUN_FILE);
}

/* ---- the files of a run ----
 * The same directory is below history/ and below results/, and has a number for each place. What is known while the run
 * goes on is told apart by a bit from what is kept of it then: it is another list. */

enum { KEPT_LIVE = 0x8000 };

static uint16_t kept_slot(const struct kept *k, uint32_t at)
{
	return at | (k->live ? KEPT_LIVE : 0);
}

/* N's place in the list K: *AT its index + 1, 0 the top. False: it was another list's. */
static bool kept_at(const struct node *n, const struct kept *k, uint32_t *at)
{
	*at = n->slot & ~KEPT_LIVE;
	return !n->slot || (*at <= k->n && !(n->slot & KEPT_LIVE) == !k->live);
}

static const struct kept_file *kept_of(const struct node *n)
{
	const struct kept *k = run_kept(n->run);
	uint32_t at;

	return kept_at(n, k, &at) && at && kept_is_there(n->run, &k->v[at - 1]) ? &k->v[at - 1] : NULL;
}

static uint64_t kept_ino(const struct node *dir, const struct kept *k, uint32_t at)
{
	bool newest = dir->kind == N_NEW_KEPT || dir->kind == N_NEW_KEPT_DIR;
	enum node_kind kind = N_KEPT_FILE;

	switch (k->v[at - 1].type) {
	case 'd':
		kind = newest ? N_NEW_KEPT_DIR : N_KEPT_DIR;
		break;
	case 's':
		kind = N_KEPT_LINK;
		break;
	case 'l':
		kind = N_KEPT_LIVE;
		break;
	}
	return node_ino(node_id(dir->ino), kept_slot(k, at), kind);
}

static uint64_t find_kept(const struct node *n, const char *name)
{
	const struct kept *k = run_kept(n->run);
	uint32_t dir, at;

	if (!kept_at(n, k, &dir))
		return 0;
	at = kept_find(k, dir, name);
	return at && kept_is_there(n->run, &k->v[at - 1]) ? kept_ino(n, k, at) : 0;
}

static void list_kept(const struct node *n, struct lister *l)
{
	const struct kept *k = run_kept(n->run);
	uint32_t dir;

	if (!kept_at(n, k, &dir))
		return;
	for (size_t i = 0; i < k->n; i++) {
		const struct kept_file *f = &k->v[i];
		if (f->dir == dir && kept_is_there(n->run, f))
			l->add(l, f->name, kept_ino(n, k, i + 1),
			       f->type == 'd' ? S_IFDIR : f->type == 'f' ? S_IFREG : S_IFLNK);
	}
}

static int ready_kept(const struct node *n)
{
	return kept_of(n) ? 0 : -ENOENT;
}

static int view_kept(const struct node *n, struct content *c)
{
	const struct kept_file *f = kept_of(n);

	if (!f)
		return -ESTALE;
	c->log = L_KEPT;
	extents_add(&c->x, f->off, f->size);
	return 0;
}

static void print_kept_link(const struct node *n, struct buf *b)
{
	const struct kept_file *f = kept_of(n);

	if (f)
		store_read(&n->ctx->store, L_KEPT, f->off, f->size, b);
}

/* From results/<cell>/artifacts/ or history/<n>/artifacts/, and below. */
static void print_kept_live(const struct node *n, struct buf *b)
{
	const struct kept_file *f = kept_of(n);

	if (!f)
		return;
	for (const char *p = f->path; *p; p++)
		if (*p == '/')
			buf_str(b, "../");
	buf_printf(b, "../../../workspace/%s", f->path);
}

/* results/<cell> is the cell's; what is in it is the newest run's. */
static bool newest_run(const struct node *n, struct node *run)
{
	uint64_t id = cell_run_object(n->ctx, n->cell);

	return id && node_get(n->world, node_ino(id, 0, N_RUN), run) == 0;
}

/* The directory artifacts/ of a run has another number below results/. */
static uint64_t newest_ino(uint64_t ino)
{
	return (ino & 0xff) == N_KEPT ? node_ino(node_id(ino), 0, N_NEW_KEPT) : ino;
}

static uint64_t find_in_newest(const struct node *n, const char *name)
{
	struct node run;
	uint64_t ino = newest_run(n, &run) ? tree_lookup(&run, name) : 0;

	return newest_ino(ino);
}

/* ---- listing ---- */

static void list_contexts(const struct node *n, struct lister *l)
{
	struct map *m = &n->world->contexts;

	for (size_t i = 0; i < m->n; i++) {
		struct context *c = m->entries[i].value;
		l->add(l, c->name, node_ino(c->id, 0, N_CTX), S_IFDIR);
	}
}

struct body_lister {
	const struct node *n;
	struct lister *l;
};

static void list_body(void *arg, const char *name)
{
	struct body_lister *bl = arg;
	uint64_t ino = bl->n->row->lookup(bl->n, name);

	if (ino)
		bl->l->add(bl->l, name, ino, S_IFREG);
}

static void list_bodies(const struct node *n, struct lister *l)
{
	struct body_lister bl = { n, l };

	context_each_file(n->ctx, node_body_dir(n), list_body, &bl);
}

static void list_draft(void *arg, const char *name)
{
	struct body_lister *bl = arg;

	if (!value_name(bl->n->ctx, B_CONFIG, name))
		list_body(arg, name);
}

static void list_config(const struct node *n, struct lister *l)
{
	struct body_lister bl = { n, l };

	for (int k = 0; k < C_COUNT; k++)
		l->add(l, setting_names[k], node_ino(n->ctx->id, k, N_SETTING), S_IFREG);
	context_each_file(n->ctx, B_CONFIG, list_draft, &bl);
}

static void list_results(const struct node *n, struct lister *l)
{
	struct map *m = &n->ctx->cell_names;

	for (size_t i = 0; i < m->n; i++) {
		struct cell *cell = m->entries[i].value;
		if (cell->newest || cell->writing)
			l->add(l, cell->name, node_ino(cell->id, 0, N_RESULT), S_IFDIR);
	}
}

static void list_files(const struct node *n, struct lister *l)
{
	for (size_t i = 0; i < n->run->nfiles; i++) {
		const struct run_file *f = &n->run->files[i];
		if (run_file_listed(n->run, f))
			l->add(l, f->name, node_ino(node_id(n->ino), f->slot, N_RUN_FILE), S_IFREG);
	}
}

struct newest_lister {
	struct lister lister;
	struct lister *to;
};

static void add_newest(struct lister *l, const char *name, uint64_t ino, mode_t type)
{
	struct lister *to = container_of(l, struct newest_lister, lister)->to;

	to->add(to, name, newest_ino(ino), type);
}

static void list_newest(const struct node *n, struct lister *l)
{
	struct newest_lister nl = { { add_newest }, l };
	struct node run;

	if (newest_run(n, &run))
		tree_list(&run, &nl.lister);
}

/* ---- content ---- */

static void print_run_status(const struct node *n, struct buf *b)
{
	static const char *const states[] = { [R_WRITING] = "writing", [R_QUEUED] = "queued",
					      [R_RUNNING] = "running", [R_ENDING] = "running" };
	const struct run *r = n->run;

	if (!run_ended(r))
		buf_str(b, states[r->state]);
	else
		buf_str(b, run_status_names[r->status]);
	if (run_ended(r) && r->reason) {
		buf_str(b, ": ");
		buf_printable(b, r->reason);
	}
	buf_char(b, '\n');
}

static void print_done(const struct node *n, struct buf *b)
{
	buf_printf(b, "%s\n", run_status_names[n->run->status]);
}

static void print_number(const struct node *n, struct buf *b)
{
	buf_printf(b, "%llu\n", (unsigned long long)n->run->number);
}

static void print_exit(const struct node *n, struct buf *b)
{
	buf_printf(b, "%d\n", n->run->exit_code);
}

static int ready_queued(const struct node *n)
{
	return n->run->state == R_WRITING ? -ENOENT : 0;
}

static int ready_error(const struct node *n)
{
	return !run_ended(n->run) ? -EAGAIN : n->run->has_error ? 0 : -ENOENT;
}

static int ready_exit(const struct node *n)
{
	return !run_ended(n->run) ? -EAGAIN : n->run->exit_code >= 0 ? 0 : -ENOENT;
}

static int ready_file(const struct node *n)
{
	const struct run_file *f;

	return run_file(n->run, n->slot, &f);
}

static int view_code(const struct node *n, struct content *c)
{
	c->log = L_RES;
	extents_add(&c->x, n->run->code.off, n->run->code.len);
	return 0;
}

static int view_stream(const struct node *n, struct content *c)
{
	c->log = n->row->log;
	if (c->log == L_JOURNAL)
		extents_copy(&c->x, &n->run->events);
	else
		extents_copy(&c->x, &n->run->flow[c->log == L_ERR].x);
	return 0;
}

static int view_file(const struct node *n, struct content *c)
{
	const struct run_file *f;
	int err = run_file(n->run, n->slot, &f);

	if (err)
		return err;
	c->log = L_RES;
	extents_add(&c->x, f->at.off, f->at.len);
	return 0;
}

static void print_latest(const struct node *n, struct buf *b)
{
	struct cell *latest = cell_latest(n->ctx);

	buf_str(b, latest ? latest->name : "");
}

static int ready_latest(const struct node *n)
{
	return cell_latest(n->ctx) ? 0 : -ENOENT;
}

static int ready_cells(const struct node *n)
{
	return n->ctx->doomed ? -ENOENT : 0;
}

static void print_value(const struct node *n, struct buf *b)
{
	const char *name = value_node_name(n);
	struct stat st;

	if (value_read(n->ctx, node_body_dir(n), name, b, &st) == 0 && b->n)
		return;
	if (n->kind != N_SETTING)
		return;
	const char *text = setting_text(&n->ctx->conf, n->slot, &n->world->opt.defaults);
	buf_printf(b, *text ? "%s\n" : "%s", text);
}

static void print_ctl(const struct node *n, struct buf *b)
{
	(void)n;
	context_print_ctl(b);
}

static void print_packages(const struct node *n, struct buf *b)
{
	packages_print(n->ctx, b);
}

static void print_ctx_status(const struct node *n, struct buf *b)
{
	context_print_status(n->ctx, b);
}

static void print_status(const struct node *n, struct buf *b)
{
	world_print_status(n->world, b);
}

static void print_languages(const struct node *n, struct buf *b)
{
	langs_print(&n->world->langs, b);
}

static int64_t time_born(const struct node *n)
{
	return n->world->born;
}

static int64_t time_languages(const struct node *n)
{
	return n->world->languages_time;
}

/* What the README says of languages. */
static int64_t time_readme(const struct node *n)
{
	return MAX(n->world->born, n->world->languages_time);
}

static int64_t time_value(const struct node *n)
{
	auto_buf struct buf b = { 0 };
	struct stat st;

	if (value_read(n->ctx, node_body_dir(n), value_node_name(n), &b, &st) == 0)
		return ts_to_us(st.st_mtim);
	return n->ctx->created;
}

static int64_t time_packages(const struct node *n)
{
	return packages_time(n->ctx);
}

static int64_t time_created(const struct node *n)
{
	return n->ctx->created;
}

/* Directories of the user's files have the time of the real ones. */
static int64_t time_dir(const struct node *n)
{
	auto_free char *path = context_path(n->ctx, body_dir_name(node_body_dir(n)));
	struct stat st;

	return fstatat(n->world->contexts_dir, path, &st, 0) ? n->ctx->created : ts_to_us(st.st_mtim);
}

static int64_t time_contexts(const struct node *n)
{
	struct stat st;

	return fstat(n->world->names_dir, &st) ? n->world->born : ts_to_us(st.st_mtim);
}

static int64_t time_names(const struct node *n)
{
	return n->ctx->listed;
}

static int64_t time_newest(const struct node *n)
{
	const struct rec *rec = context_rec(n->ctx, n->cell->newest);
	const struct run *r = rec && rec->status == ST_NONE ? context_run(n->ctx, n->cell->newest) : NULL;

	return r ? r->file_time : rec ? rec->time : n->ctx->listed;
}

static int64_t time_log(const struct node *n)
{
	return n->ctx->store.time[n->row->log];
}

#define TEXT(nm, par, object, fn, ...) \
	{ .name = nm, .parent = par, .shape = S_TEXT, .mode = 0444, .of = object, .print = fn, __VA_ARGS__ }
#define PROMISE(nm, ...) \
	{ .name = nm, .parent = N_RUN, .shape = S_PROMISE, .mode = 0444, .of = O_RUN, __VA_ARGS__ }
#define DIR_ROW(nm, par, object, ...) \
	{ .name = nm, .parent = par, .shape = S_DIR, .mode = 0755, .of = object, __VA_ARGS__ }
#define STREAM(nm, par, object, shp, l, ...) \
	{ .name = nm, .parent = par, .shape = shp, .mode = 0444, .of = object, .log = l, __VA_ARGS__ }
#define VALUE(d) \
	{ .shape = S_VALUE, .mode = 0644, .of = O_CONTEXT, .dir = d + 1, .print = print_value, .time = time_value }

const struct row tree[N_KINDS] = {
	[N_ROOT] = DIR_ROW(NULL, N_NONE, O_WORLD, .time = time_born),
	[N_README] = TEXT("README.md", N_ROOT, O_WORLD, page_readme, .time = time_readme, .mime = "text/markdown"),
	[N_AGENTS] = TEXT("AGENTS.md", N_ROOT, O_WORLD, page_readme, .time = time_readme, .mime = "text/markdown"),
	[N_LANGUAGES] = TEXT("languages", N_ROOT, O_WORLD, print_languages, .time = time_languages),
	[N_STATUS] = TEXT("status", N_ROOT, O_WORLD, print_status),
	[N_LOG] = { .name = "log", .parent = N_ROOT, .shape = S_LINES, .mode = 0444, .of = O_WORLD },
	[N_CONTEXTS] = DIR_ROW("contexts", N_ROOT, O_WORLD, .lookup = find_context, .list = list_contexts,
			       .time = time_contexts),
	[N_SHELF] = { .name = "artifacts", .parent = N_ROOT, .shape = S_MIRROR, .mode = 0755, .of = O_WORLD },

	[N_CTX] = DIR_ROW(NULL, N_NONE, O_CONTEXT, .dir = B_CONTEXT + 1, .lookup = find_body,
			  .list = list_bodies, .time = time_dir),
	[N_CELLS] = DIR_ROW("cells", N_CTX, O_CONTEXT, .dir = B_CELLS + 1, .lookup = find_body,
			    .list = list_bodies, .ready = ready_cells, .time = time_dir),
	[N_RESULTS] = DIR_ROW("results", N_CTX, O_CONTEXT, .lookup = find_result, .list = list_results,
			      .time = time_names),
	[N_LATEST] = { .name = "latest", .parent = N_RESULTS, .shape = S_LINK, .mode = 0777, .of = O_CONTEXT,
		       .print = print_latest, .ready = ready_latest, .time = time_names },
	[N_HISTORY] = DIR_ROW("history", N_CTX, O_CONTEXT, .lookup = find_run, .time = time_names),
	[N_CTX_OUT] = STREAM("stdout", N_CTX, O_CONTEXT, S_LOG, L_OUT, .mime = "text/plain", .time = time_log),
	[N_CTX_ERR] = STREAM("stderr", N_CTX, O_CONTEXT, S_LOG, L_ERR, .mime = "text/plain", .time = time_log),
	[N_CTX_EVENTS] = STREAM("events.jsonl", N_CTX, O_CONTEXT, S_LOG, L_JOURNAL, .time = time_log),
	[N_CTX_OUT_F] = STREAM("stdout.follow", N_CTX, O_CONTEXT, S_FOLLOW, L_OUT, .hidden = true),
	[N_CTX_ERR_F] = STREAM("stderr.follow", N_CTX, O_CONTEXT, S_FOLLOW, L_ERR, .hidden = true),
	[N_CTX_EVENTS_F] = STREAM("events.follow", N_CTX, O_CONTEXT, S_FOLLOW, L_JOURNAL, .hidden = true),
	[N_WORKSPACE] = { .name = "workspace", .parent = N_CTX, .shape = S_MIRROR, .mode = 0755,
			  .of = O_CONTEXT },
	[N_ARTIFACTS] = { .name = "artifacts", .parent = N_CTX, .shape = S_MIRROR, .mode = 0755,
			  .of = O_CONTEXT },
	[N_CONFIG] = DIR_ROW("config", N_CTX, O_CONTEXT, .dir = B_CONFIG + 1, .lookup = find_setting,
			     .list = list_config, .time = time_dir),
	[N_SETTING] = VALUE(B_CONFIG),
	[N_ENV] = DIR_ROW("env", N_CONFIG, O_CONTEXT, .dir = B_ENV + 1, .lookup = find_env, .list = list_bodies,
			  .time = time_dir),
	[N_ENV_VAR] = VALUE(B_ENV),
	[N_KERNELS] = DIR_ROW("kernel", N_CONFIG, O_CONTEXT, .dir = B_KERNEL + 1, .lookup = find_kernel,
			      .list = list_bodies, .time = time_dir),
	[N_KERNEL_EXT] = VALUE(B_KERNEL),
	[N_CTL] = { .name = "ctl", .parent = N_CTX, .shape = S_CTL, .mode = 0644, .of = O_CONTEXT,
		    .print = print_ctl, .time = time_created },
	[N_PACKAGES] = { .name = "packages", .parent = N_CTX, .shape = S_CTL, .mode = 0644, .of = O_CONTEXT,
			 .print = print_packages, .time = time_packages },
	[N_CTX_STATUS] = TEXT("status", N_CTX, O_CONTEXT, print_ctx_status),
	[N_CTX_LOG] = { .name = "log", .parent = N_CTX, .shape = S_LINES, .mode = 0444, .of = O_CONTEXT },
	[N_CTX_JSON] = TEXT("context.json", N_CTX, O_CONTEXT, page_context, .mime = "application/json"),

	[N_BODY] = { .shape = S_BODY, .mode = 0644, .of = O_BODY },
	[N_RESULT] = DIR_ROW(NULL, N_NONE, O_CELL, .lookup = find_in_newest, .list = list_newest,
			     .time = time_newest),
	[N_DRAFT] = DIR_ROW(NULL, N_NONE, O_BODY),
	[N_DRAFT_STATUS] = TEXT("status", N_DRAFT, O_BODY, page_draft),

	[N_RUN] = DIR_ROW(NULL, N_NONE, O_RUN, .lookup = find_file, .list = list_files),
	[N_RUN_STATUS] = TEXT("status", N_RUN, O_RUN, print_run_status, .early = true),
	[N_RUN_NUMBER] = TEXT("run", N_RUN, O_RUN, print_number, .early = true, .ready = ready_queued),
	[N_RUN_CODE] = PROMISE("code", .early = true, .ready = ready_queued, .view = view_code),
	[N_RUN_DONE] = PROMISE("done", .print = print_done, .no_limit = true),
	[N_RUN_REPORT] = PROMISE("report.md", .print = page_report, .at_limit = true, .mime = "text/markdown"),
	[N_RUN_OUT] = PROMISE("stdout", .view = view_stream, .log = L_OUT, .mime = "text/plain"),
	[N_RUN_ERR] = PROMISE("stderr", .view = view_stream, .log = L_ERR, .mime = "text/plain"),
	[N_RUN_OUT_F] = STREAM("stdout.follow", N_RUN, O_RUN, S_FOLLOW, L_OUT, .hidden = true),
	[N_RUN_ERR_F] = STREAM("stderr.follow", N_RUN, O_RUN, S_FOLLOW, L_ERR, .hidden = true),
	[N_RUN_EVENTS_F] = STREAM("events.follow", N_RUN, O_RUN, S_FOLLOW, L_JOURNAL, .hidden = true),
	[N_RUN_FILE] = { .shape = S_PROMISE, .mode = 0444, .of = O_RUN, .ready = ready_file, .view = view_file },
	[N_RUN_ERROR_TXT] = PROMISE("error.txt", .print = page_error_txt, .ready = ready_error,
				    .mime = "text/plain"),
	[N_RUN_ERROR_JSON] = PROMISE("error.json", .print = page_error_json, .ready = ready_error,
				     .mime = "application/json"),
	[N_RUN_EXIT] = PROMISE("exit_code", .print = print_exit, .ready = ready_exit),
	[N_RUN_RECORD] = PROMISE("execution.json", .print = page_record, .mime = "application/json"),
	[N_RUN_EVENTS] = PROMISE("events.jsonl", .view = view_stream, .log = L_JOURNAL),
	[N_KEPT] = DIR_ROW("artifacts", N_RUN, O_RUN, .early = true, .lookup = find_kept, .list = list_kept),
	[N_KEPT_DIR] = DIR_ROW(NULL, N_NONE, O_RUN, .early = true, .ready = ready_kept, .lookup = find_kept,
			       .list = list_kept),
	[N_NEW_KEPT] = DIR_ROW(NULL, N_NONE, O_RUN, .early = true, .lookup = find_kept, .list = list_kept),
	[N_NEW_KEPT_DIR] = DIR_ROW(NULL, N_NONE, O_RUN, .early = true, .ready = ready_kept, .lookup = find_kept,
				   .list = list_kept),
	[N_KEPT_FILE] = { .shape = S_PROMISE, .mode = 0444, .of = O_RUN, .ready = ready_kept, .view = view_kept },
	[N_KEPT_LINK] = { .shape = S_LINK, .mode = 0777, .of = O_RUN, .print = print_kept_link, .ready = ready_kept },
	[N_KEPT_LIVE] = { .shape = S_LINK, .mode = 0777, .of = O_RUN, .print = print_kept_live, .ready = ready_kept },
};

/* ---- the same for all rows ---- */

int node_ready(const struct node *n)
{
	if (n->row->ready)
		return n->row->ready(n);
	if (n->row->shape == S_PROMISE)
		return run_ended(n->run) ? 0 : -EAGAIN;
	return 0;
}

uint64_t tree_lookup(const struct node *n, const char *name)
{
	for (int k = N_ROOT; k < N_KINDS; k++) {
		const struct row *row = &tree[k];
		if (row->parent != n->kind || !row->name || strcmp(row->name, name))
			continue;
		struct node child = *n;
		child.kind = k;
		child.slot = 0;
		child.row = row;
		child.ino = node_ino(node_id(n->ino), 0, k);
		return node_ready(&child) == -ENOENT ? 0 : child.ino;
	}
	return n->row->lookup ? n->row->lookup(n, name) : 0;
}

static bool listed(const struct node *n)
{
	if (n->row->hidden || node_ready(n))
		return false;
	return !n->run || n->row->early || run_ended(n->run);
}

static mode_t row_type(const struct row *row)
{
	switch (row->shape) {
	case S_DIR:
	case S_MIRROR:
		return S_IFDIR;
	case S_LINK:
		return S_IFLNK;
	default:
		return S_IFREG;
	}
}

void tree_list(const struct node *n, struct lister *l)
{
	for (int k = N_ROOT; k < N_KINDS; k++) {
		struct node child = *n;
		if (tree[k].parent != n->kind || !tree[k].name)
			continue;
		child.kind = k;
		child.row = &tree[k];
		child.ino = node_ino(node_id(n->ino), 0, k);
		if (listed(&child))
			l->add(l, tree[k].name, child.ino, row_type(&tree[k]));
	}
	if (n->row->list)
		n->row->list(n, l);
}

int node_content(const struct node *n, struct content *c)
{
	*c = (struct content){ 0 };
	if (n->row->view)
		return n->row->view(n, c);
	c->is_text = true;
	buf_grow(&c->text, 0);
	n->row->print(n, &c->text);
	return 0;
}

void content_free(struct content *c)
{
	buf_free(&c->text);
	extents_free(&c->x);
}

off_t content_size(const struct content *c)
{
	return c->is_text ? (off_t)c->text.n : c->x.total;
}

mode_t node_mode(const struct node *n)
{
	if (!n->world->opt.allow_other)
		return n->row->mode;
	switch (n->kind) {
	case N_CONTEXTS: /* as /tmp */
		return 01777;
	case N_CTX:
		return 0700;
	case N_LOG:
		return 0600;
	default:
		return n->row->mode;
	}
}

void node_owner(const struct node *n, uid_t *uid, gid_t *gid)
{
	context_owner(n->ctx, uid, gid);
}

int64_t node_time(const struct node *n)
{
	if (n->row->time)
		return n->row->time(n);
	if (n->run)
		return n->run->file_time ? n->run->file_time : n->ctx->changed;
	return n->ctx ? n->ctx->changed : n->world->changed;
}

const char *node_mime(const struct node *n)
{
	const struct run_file *f;

	const struct kept_file *kept = n->kind == N_KEPT_FILE ? kept_of(n) : NULL;

	if (kept)
		return kept->mime;
	if (n->kind == N_RUN_FILE)
		return run_file(n->run, n->slot, &f) ? NULL : f->mime;
	return n->row->mime ? n->row->mime : n->run && n->row->shape != S_DIR ? "text/plain" : NULL;
}

struct waitq *node_change(const struct node *n)
{
	if (n->run)
		return &n->run->change;
	return n->ctx ? &n->ctx->change : &n->world->change;
}
