#include "page.h"

#include "artifact.h"
#include "box.h"
#include "kernel.h"

#include <stdio.h>

enum { REPORT_MAX = 32 << 10, REPORT_PART = 7 << 10 };

void page_readme(const struct node *n, struct buf *b)
{
	auto_buf struct buf exts = { 0 };
	bool all = n->world->opt.allow_other; /* then there is no main */

	langs_print_exts(&n->world->langs, &exts);
	buf_printf(b,
"# A code interpreter that is a directory\n"
"\n"
"Write a cell, read its result. No sleep, no polling: opening a result waits until it is there.\n"
"\n"
"%3$s"
"    echo '40+2' > contexts/%2$s/cells/a.py\n"
"    cat contexts/%2$s/results/a.py/result.txt        # 42\n"
"    cat contexts/%2$s/results/a.py/report.md         # all of it at one go: what to read first\n"
"\n"
"- A cell is a file in `contexts/<id>/cells/`; it runs when it is closed. Its extension is its language:\n"
"  %1$s (see `languages`). Write it again to run it again.\n"
"- Variables stay between the cells of a context. `mkdir contexts/x` makes another, apart from the first;\n"
"  `rm -r contexts/x` removes it.\n"
"- All cells of a context work in its `workspace/`: put files there. What cells made is in `artifacts/`;\n"
"  `results/<cell>/artifacts/` has the files of that run as they were when it ended.\n"
"- `results/<cell>/`: `report.md`, `result.txt` and other formats of the last value (`result.html`,\n"
"  `result.png`), `display-1.png` and so on (plots), `stdout`, `stderr`, `error.txt` if it failed,\n"
"  `status`, `execution.json` (everything, for programs). `history/<n>/` keeps every run.\n"
"- The last expression is the value. Plots of matplotlib and R show by themselves; to show more:\n"
"  `display(x)` in Python, JavaScript, TypeScript, R and Java, `display FILE` in Bash. A data frame is also\n"
"  data: `result.data.json`, `{\"column\": [values]}`; a matplotlib figure `display-1.chart.json`.\n"
"\n"
"## Waiting\n"
"\n"
"Reading a result of a run that has not ended waits, at most `config/wait` (50 s), then fails with\n"
"ETIMEDOUT; nothing partial. `cat results/a.py/done` waits as long as the run takes. `status` never waits.\n"
"`tail -f contexts/%2$s/stdout` follows all output; `cat results/a.py/stdout.follow` one run's, live.\n"
"\n"
"## Control\n"
"\n"
"    echo interrupt > contexts/%2$s/ctl        # stop the running cell, keep the variables\n"
"    echo restart > contexts/%2$s/ctl          # new kernels (cat ctl lists all verbs)\n"
"    echo 30 > contexts/%2$s/config/timeout    # for each run, in seconds; cat config/* shows the values\n"
"    echo v > contexts/%2$s/config/env/NAME    # environment of the cells\n"
"    echo 4G > contexts/%2$s/config/memory     # in force after the next restart, as are processes and network\n"
"\n"
"Cells run isolated: they see their workspace (/workspace, the working directory), their home, /tmp, the\n"
"programs of the host and /artifacts (the shelf), no other file, no other context, and no network unless\n"
"`config/network` is `on`.\n"
"\n"
"`echo 'python: humanize' >> contexts/%2$s/packages` installs (`js: lodash`, `r: glue`; wait with\n"
"`cat results/packages/report.md`); `cat packages` lists what is installed.\n"
"\n"
"Options of one run are the first lines of its cell: `#| timeout: 30`, `#| cwd: sub`, `#| env.NAME: v`\n"
"(`//|` in JavaScript, TypeScript and Java).\n"
"\n"
"If a write is refused, the reason is the last line of `contexts/<id>/log` (or of `log`).\n"
"`set -o noclobber` (O_EXCL) makes a cell's name an idempotency key: EEXIST means it was submitted before.\n",
		   exts.s, all ? "$USER" : "main", all ? "    mkdir contexts/$USER      # yours alone\n" : "");
}

void page_draft(const struct node *n, struct buf *b)
{
	const char *ext = cell_ext(n->body->name);

	buf_str(b, "draft: ");
	if (ext) {
		buf_str(b, "no language has the extension .");
		buf_printable(b, ext);
	} else {
		buf_str(b, n->body->name[0] == '.' ? "its name begins with a dot" : "its name has no extension");
	}
	buf_str(b, " (have ");
	langs_print_exts(&n->world->langs, b);
	buf_str(b, ")\n");
}

/* ---- context.json ---- */

static void json_time(struct buf *b, const char *key, int64_t us)
{
	buf_printf(b, ",\"%s\":", key);
	if (!us) {
		buf_str(b, "null");
		return;
	}
	buf_char(b, '"');
	buf_time(b, us);
	buf_char(b, '"');
}

static void json_kernels(struct context *c, struct buf *b)
{
	bool first = true;

	list_for(it, &c->kernels) {
		struct kernel *k = container_of(it, struct kernel, link);
		if (!first)
			buf_char(b, ',');
		first = false;
		buf_json_str(b, k->key);
		buf_str(b, ":{\"language\":");
		buf_json_str(b, k->lang->name);
		buf_str(b, ",\"version\":");
		buf_json_str(b, k->interpreter ? "" : k->lang->version ? k->lang->version : "");
		buf_str(b, ",\"interpreter\":");
		buf_json_str(b, k->interpreter ? k->interpreter : k->lang->interpreter ? k->lang->interpreter : "");
		buf_printf(b, ",\"pid\":%d,\"state\":\"%s\",\"generation\":%lld,\"execution_count\":%lld}", k->pid,
			   kernel_state_name(k), (long long)k->generation, (long long)k->count);
	}
}

static void json_queue(struct context *c, struct buf *b)
{
	bool first = true;

	list_for(it, &c->live) {
		struct run *r = container_of(it, struct run, link);
		buf_printf(b, "%s{\"run\":%llu,\"cell\":", first ? "" : ",", (unsigned long long)r->number);
		buf_json_str(b, r->cell_name);
		buf_printf(b, ",\"status\":\"%s\"}", r->state == R_QUEUED ? "queued" : "running");
		first = false;
	}
}

static void json_limits(struct context *c, struct buf *b)
{
	struct setting *v = c->conf.v;

	buf_printf(b, "\"timeout_s\":%g,\"wait_s\":%g,\"idle_timeout_s\":%g,\"output_bytes\":%lld,\"queue\":%lld",
		   v[C_TIMEOUT].v / 1e6, v[C_WAIT].v / 1e6, v[C_IDLE].v / 1e6, (long long)v[C_OUTPUT].v,
		   (long long)c->world->opt.queue);
	buf_printf(b, ",\"memory_bytes\":%lld,\"disk_bytes\":%lld,\"processes\":%lld,\"cpus\":%g,\"network\":",
		   (long long)box_limit(c, C_MEMORY), (long long)v[C_DISK].v, (long long)box_limit(c, C_PROCESSES),
		   v[C_CPUS].v / 1e3);
	buf_json_str(b, network_names[box_limit(c, C_NETWORK)]);
	buf_str(b, ",\"keep\":");
	buf_json_str(b, setting_text(&c->conf, C_KEEP, &c->world->opt.defaults));
	buf_str(b, ",\"cwd\":");
	buf_json_str(b, setting_text(&c->conf, C_CWD, &c->world->opt.defaults));
}

void page_context(const struct node *n, struct buf *out)
{
	struct context *c = n->ctx;
	auto_buf struct buf b = { 0 }, status = { 0 };

	context_print_status(c, &status);
	status.s[status.n - 1] = 0;
	buf_printf(&b, "{\"uuid\":\"%s\",\"name\":", c->uuid);
	buf_json_str(&b, c->name);
	buf_str(&b, ",\"status\":");
	buf_json_str(&b, status.s);
	buf_str(&b, ",\"kernels\":{");
	json_kernels(c, &b);
	buf_str(&b, "},\"queue\":[");
	json_queue(c, &b);
	buf_printf(&b, "],\"runs\":%llu,\"usage\":", (unsigned long long)c->nruns);
	usage_json_context(c, &b);
	buf_str(&b, ",\"limits\":{");
	json_limits(c, &b);
	buf_str(&b, "},\"needs_restart\":");
	box_json_pending(c, &b);
	buf_str(&b, ",\"isolation\":");
	buf_json_str(&b, c->world->sandbox.isolation);
	json_time(&b, "created_at", c->created);
	json_time(&b, "changed_at", c->changed);
	buf_char(&b, '}');
	json_indent(b.s, b.n, out);
}

/* ---- documents of a run ---- */

static void json_log(struct run *r, int stream, const char *name, struct buf *b)
{
	struct flow *f = &r->flow[stream];
	auto_buf struct buf text = { 0 };

	buf_printf(b, "\"%s\":", name);
	if (f->x.total <= INLINE_MAX && !run_read_extents(r->ctx, stream ? L_ERR : L_OUT, &f->x, INLINE_MAX, &text))
		buf_json(b, text.s ? text.s : "", text.n);
	else
		buf_printf(b, "{\"file\":\"%s\",\"size\":%lld}", name, (long long)f->x.total);
}

static void json_results(struct run *r, struct buf *b)
{
	bool first = true;

	for (size_t i = 0; i < r->nitems; i++) {
		const struct item *it = &r->items[i];
		if (it->gone)
			continue;
		buf_printf(b, "%s{\"type\":\"%s\"", first ? "" : ",", it->k ? "display" : "result");
		if (it->k)
			buf_printf(b, ",\"k\":%u", it->k);
		if (it->display_id) {
			buf_str(b, ",\"display_id\":");
			buf_json_str(b, it->display_id);
		}
		buf_printf(b, ",\"is_main_result\":%s,\"formats\":", it->k ? "false" : "true");
		run_json_formats(r, i, b);
		buf_printf(b, ",\"metadata\":%s}", it->meta ? it->meta : "{}");
		first = false;
	}
}

void page_record(const struct node *n, struct buf *out)
{
	struct run *r = n->run;
	auto_buf struct buf b = { 0 }, code = { 0 };

	buf_printf(&b, "{\"id\":%llu,\"cell\":", (unsigned long long)r->number);
	buf_json_str(&b, r->cell_name);
	buf_str(&b, ",\"context\":");
	buf_json_str(&b, r->ctx->uuid);
	buf_str(&b, ",\"language\":");
	buf_json_str(&b, r->lang_name ? r->lang_name : "");
	buf_str(&b, ",\"code\":");
	if (r->code.len <= INLINE_MAX && !store_read(&r->ctx->store, L_RES, r->code.off, r->code.len, &code))
		buf_json(&b, code.s ? code.s : "", code.n);
	else
		buf_printf(&b, "{\"file\":\"code\",\"size\":%lld}", (long long)r->code.len);
	buf_printf(&b, ",\"options\":%s,\"status\":\"%s\",\"reason\":", r->opt.json ? r->opt.json : "{}",
		   run_status_names[r->status]);
	if (r->reason)
		buf_json_str(&b, r->reason);
	else
		buf_str(&b, "null");
	buf_printf(&b, ",\"execution_count\":%lld,\"generation\":%lld,\"state_preserved\":%s,\"results\":[",
		   (long long)r->execution_count, (long long)r->generation, r->state_preserved ? "true" : "false");
	json_results(r, &b);
	buf_str(&b, "],\"logs\":{");
	json_log(r, 0, "stdout", &b);
	buf_char(&b, ',');
	json_log(r, 1, "stderr", &b);
	buf_str(&b, "},\"error\":");
	if (r->has_error)
		run_json_error(r, &b);
	else
		buf_str(&b, "null");
	if (r->exit_code >= 0)
		buf_printf(&b, ",\"exit_code\":%d", r->exit_code);
	else
		buf_str(&b, ",\"exit_code\":null");
	buf_str(&b, ",\"artifacts\":");
	run_json_kept(r, &b);
	json_time(&b, "queued_at", r->queued_at);
	json_time(&b, "started_at", r->started_at);
	json_time(&b, "finished_at", r->finished_at);
	buf_printf(&b, ",\"duration_ms\":%.3f,\"usage\":", r->started_at ? r->duration_us / 1e3 : 0.0);
	run_json_usage(r, &b);
	buf_str(&b, ",\"truncated\":");
	run_json_truncated(r, &b);
	buf_char(&b, '}');
	if (json_indent(b.s, b.n, out))
		buf_add(out, b.s, b.n);
}

static void add_traceback(const struct run *r, struct buf *b)
{
	const char *text = r->err.traceback;
	auto_json struct json *lines = text ? json_parse(text, strlen(text), NULL) : NULL;
	size_t n;

	for (size_t i = 0; i < json_len(lines); i++) {
		const char *s = json_text(json_at(lines, i), &n);
		if (s)
			buf_printf(b, "%s\n", s);
	}
}

void page_error_txt(const struct node *n, struct buf *b)
{
	const struct run *r = n->run;

	add_traceback(r, b);
	/* What ended the run from outside is in no traceback. */
	if (!b->n || !strcmp(r->err.name, run_status_names[r->status])) {
		buf_str(b, r->err.name ? r->err.name : "error");
		if (r->err.message && *r->err.message && strcmp(r->err.message, r->err.name))
			buf_printf(b, ": %s", r->err.message);
		buf_char(b, '\n');
	}
}

void page_error_json(const struct node *n, struct buf *out)
{
	auto_buf struct buf b = { 0 };

	run_json_error(n->run, &b);
	if (json_indent(b.s, b.n, out))
		buf_add(out, b.s, b.n);
}

/* Length of the escape sequence at S (an ESC), of at most N bytes. */
static size_t escape_len(const char *s, size_t n)
{
	size_t i = 1;

	if (n < 2)
		return n;
	if (s[1] == ']') { /* OSC: to BEL or ST */
		while (i < n && s[i] != '\a' && !(s[i] == 0x1b && i > 1))
			i++;
		return MIN(i + 1 + (i < n && s[i] == 0x1b), n);
	}
	if (s[1] != '[')
		return 2;
	for (i = 2; i < n && (unsigned char)s[i] < 0x40; i++)
		;
	return MIN(i + 1, n);
}

/* Adds TEXT as a terminal would show it: carriage returns overwrite, backspaces go back, colours go. */
static void add_as_shown(struct buf *b, const char *s, size_t n)
{
	auto_buf struct buf line = { 0 };
	size_t col = 0;

	for (size_t i = 0; i < n; i++) {
		unsigned char c = s[i];
		if (c == '\n') {
			buf_add(b, line.s, line.n);
			buf_char(b, '\n');
			buf_reset(&line);
			col = 0;
		} else if (c == '\r') {
			col = 0;
		} else if (c == '\b') {
			col -= col > 0;
		} else if (c == 0x1b) {
			size_t len = escape_len(s + i, n - i);
			if (len >= 3 && s[i + len - 1] == 'K') /* erase to the end of the line */
				line.n = MIN(line.n, col);
			i += len - 1;
		} else if (c >= 0x20 || c == '\t') {
			size_t len = c < 0x80 ? 1 : MAX(utf8_len(s + i, n - i), (size_t)1);
			const char *what = c < 0x80 || utf8_len(s + i, n - i) ? s + i : "?";
			if (col < line.n) /* over what is there: whole characters of it go */
				for (size_t k = 0; k < len; k++)
					if (col + k < line.n)
						line.s[col + k] = what == s + i ? s[i + k] : '?';
			if (col + len > line.n)
				buf_add(&line, what + (col < line.n ? line.n - col : 0),
					col < line.n ? col + len - line.n : len);
			col += len;
			i += len - 1;
		}
	}
	buf_add(b, line.s ? line.s : "", line.n);
}

/* A fenced block of the start and the end of TEXT, at most MAX bytes. */
static void add_block(struct buf *b, const char *title, const char *s, size_t n, size_t max)
{
	auto_buf struct buf text = { 0 };
	const char *fence = "```";

	add_as_shown(&text, s, n);
	if (text.n && memmem(text.s, text.n, "```", 3))
		fence = "~~~~";
	buf_printf(b, "\n## %s\n\n%s\n", title, fence);
	if (text.n <= max) {
		buf_add(b, text.s, text.n);
	} else {
		size_t head = max / 2, tail = max / 2;
		while (head && (text.s[head] & 0xc0) == 0x80)
			head--;
		while (tail && (text.s[text.n - tail] & 0xc0) == 0x80)
			tail--;
		buf_add(b, text.s, head);
		buf_printf(b, "\n[... %zu bytes left out, see the file ...]\n", text.n - head - tail);
		buf_add(b, text.s + text.n - tail, tail);
	}
	if (b->s[b->n - 1] != '\n')
		buf_char(b, '\n');
	buf_printf(b, "%s\n", fence);
}

static void report_stream(struct run *r, int stream, struct buf *b)
{
	static const char *const names[] = { "stdout", "stderr" };
	struct flow *f = &r->flow[stream];
	auto_buf struct buf text = { 0 };
	auto_free char *title = NULL;
	enum store_log log = stream ? L_ERR : L_OUT;
	off_t left;

	if (!f->x.total)
		return;
	if (f->x.total <= 64 << 10) {
		run_read_extents(r->ctx, log, &f->x, 64 << 10, &text);
	} else {
		run_read_extents(r->ctx, log, &f->x, 16 << 10, &text);
		off_t at = extents_find(&f->x, f->x.total - (16 << 10), &left);
		buf_str(&text, "\n[...]\n");
		if (at >= 0)
			store_read(&r->ctx->store, log, at, MIN(left, 16 << 10), &text);
	}
	title = xasprintf("%s (%lld bytes)", names[stream], (long long)f->x.total);
	add_block(b, title, text.s ? text.s : "", text.n, REPORT_PART);
}

static void report_value(struct run *r, struct buf *b)
{
	for (size_t i = 0; i < r->nfiles; i++) {
		const struct run_file *f = &r->files[i];
		auto_buf struct buf text = { 0 };
		if (r->items[f->item].k || strcmp(f->mime, "text/plain") || f->at.len > 1 << 20)
			continue;
		if (!run_read_file(r, f, &text))
			add_block(b, "value", text.s, text.n, REPORT_PART);
	}
}

static void report_files(const struct node *n, struct buf *b)
{
	struct run *r = n->run;
	bool any = false;

	for (size_t i = 0; i < r->nfiles; i++) {
		const struct run_file *f = &r->files[i];
		if (!run_file_listed(r, f) || r->items[f->item].gone)
			continue;
		if (!any)
			buf_str(b, "\n## files\n\n");
		any = true;
		if (b->n > REPORT_MAX - 1024) {
			buf_str(b, "- and more, see the directory\n");
			break;
		}
		buf_printf(b, "- `history/%llu/%s` (%s, %lld bytes)\n", (unsigned long long)r->number, f->name,
			   f->mime, (long long)f->at.len);
	}
}

static void report_artifacts(struct run *r, struct buf *b)
{
	const struct kept *k = run_kept(r);
	bool any = false;

	for (size_t i = 0; i < k->n; i++) {
		const struct kept_file *f = &k->v[i];
		if (f->type == 'd')
			continue;
		if (!any)
			buf_str(b, "\n## artifacts\n\n");
		any = true;
		if (b->n > REPORT_MAX - 1024 - strlen(f->path)) {
			buf_str(b, "- and more, see `artifacts/`\n");
			break;
		}
		buf_printf(b, "- `history/%llu/artifacts/", (unsigned long long)r->number);
		buf_printable(b, f->path);
		buf_printf(b, "` (%s, %lld bytes%s)\n", f->mime, (long long)f->size,
			   f->type == 'l' && run_ended(r) ? ", as it is now" : "");
	}
}

void page_report(const struct node *n, struct buf *b)
{
	struct run *r = n->run;
	bool over = run_ended(r);

	buf_str(b, "# ");
	buf_printable(b, r->cell_name);
	buf_printf(b, ": %s", over ? run_status_names[r->status] :
			      r->state == R_WRITING ? "writing" : r->state == R_QUEUED ? "queued" : "running");
	if (over && r->reason) {
		buf_str(b, ": ");
		buf_printable(b, r->reason);
	}
	buf_char(b, '\n');
	if (r->number)
		buf_printf(b, "\nrun %llu, %s", (unsigned long long)r->number, r->lang_name);
	if (over && r->started_at)
		buf_printf(b, ", %.3f s", r->duration_us / 1e6);
	if (over && r->exit_code >= 0)
		buf_printf(b, ", exit code %d", r->exit_code);
	if (over && !r->state_preserved)
		buf_str(b, "; the state of the kernel is lost");
	if (!over && r->state != R_WRITING)
		buf_printf(b, "; not ended yet: what it printed so far. `cat results/%s/done` waits for its end",
			   r->cell_name);
	buf_char(b, '\n');
	if (over && r->has_error) {
		auto_buf struct buf text = { 0 };
		page_error_txt(n, &text);
		add_block(b, "error", text.s, text.n, REPORT_PART);
	}
	report_value(r, b);
	report_stream(r, 0, b);
	report_stream(r, 1, b);
	report_files(n, b);
	report_artifacts(r, b);
}
