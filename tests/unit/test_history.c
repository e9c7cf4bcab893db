/* context and index: what was is there after a stop, a crash, and the loss of the index. */
#include <sys/wait.h>

#include "opened.h"

static void status_is(uint64_t number, enum run_status status)
{
	struct run *r = context_run(d.c, number);

	assert_non_null(r);
	assert_string_equal(run_status_names[r->status], run_status_names[status]);
}

static void prints(struct run *r, int stream, const char *text)
{
	auto_free char *s = domain_output(r, stream);

	assert_string_equal(s, text);
}

static void same(const struct buf *before)
{
	auto_buf struct buf now = { 0 };

	domain_tell(&d, &now);
	assert_same(now.s, before->s);
}

/* Opens again, as it was and without the index. */
static void everything_comes_back(void)
{
	auto_buf struct buf before = { 0 };
	uint64_t seq = d.c->seq;

	domain_tell(&d, &before);
	domain_reopen(&d);
	same(&before);
	assert_true(d.c->seq >= seq);
	auto_free char *idx = domain_path(&d, "runs.idx");
	domain_close(&d);
	assert_int_equal(unlink(idx), 0);
	domain_open(&d);
	same(&before);
	domain_reopen(&d); /* the index that was made from the journal */
	same(&before);
	assert_true(d.c->seq >= seq);
}

/* ---- what a run leaves ---- */

static void a_run_has_what_its_cell_said(void **state)
{
	struct run *r = ran("a.t", "#| label: one\necho out; echo err >&2\n"
				   "show display '\"data\":{\"text/plain\":\"first\"},\"display_id\":\"x\"'\n"
				   "show result '\"data\":{\"text/plain\":\"42\",\"text/x-repr\":\"'42'\\n\"}'\n");

	assert_int_equal(r->status, ST_OK);
	assert_int_equal(r->exit_code, 0);
	assert_int_equal(r->execution_count, 1);
	assert_string_equal(r->opt.json, "{\"label\":\"one\"}");
	prints(r, 0, "out\n");
	prints(r, 1, "err\n");
	auto_free char *first = domain_file(r, "display-1.txt"), *result = domain_file(r, "result.txt");
	assert_string_equal(first, "first");
	assert_string_equal(result, "42");
	assert_null(domain_file(r, "display-2.txt"));
	assert_null(domain_file(r, "result.png"));
	everything_comes_back();
}

static void each_status_has_its_end(void **state)
{
	static const struct {
		const char *text;
		enum run_status status;
		int code;
		const char *error;
	} cases[] = {
		{ "over ok 7", ST_OK, 0, NULL },
		{ "over error", ST_ERROR, 1, "error" },
		{ "ev '{\"ev\":\"error\",\"id\":'$id',\"name\":\"ZeroDivisionError\",\"message\":\"by 0\","
		  "\"line\":2,\"traceback\":[\"a\",\"b\"]}'; over error", ST_ERROR, 1, "ZeroDivisionError" },
		{ "over exit 0", ST_OK, 0, NULL },
		{ "over exit 3", ST_ERROR, 3, "ExitStatus" },
		{ "over interrupted", ST_INTERRUPTED, 130, "interrupted" },
		{ "#| timeout: 0.2\nsleep 60", ST_TIMEOUT, 124, "timeout" },
		{ "#| eval: false\nexit", ST_CANCELLED, -1, "cancelled" },
		{ "#| nonsense: 1\nexit", ST_ERROR, 1, "OptionError" },
		{ "exit 5", ST_KILLED, 137, "killed" },
		{ "kill -9 $$", ST_KILLED, 137, "killed" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct run *r = ran("a.t", cases[i].text);

		assert_string_equal(run_status_names[r->status], run_status_names[cases[i].status]);
		assert_int_equal(r->exit_code, cases[i].code);
		assert_int_equal(r->has_error, cases[i].error != NULL);
		if (cases[i].error)
			assert_string_equal(r->err.name, cases[i].error);
	}
	everything_comes_back();
}

/* Keys that become the same text in JSON: a record that cannot be read again would lose the run. */
static void options_of_any_bytes_leave_a_readable_record(void **state)
{
	struct run *r = ran("a.t", "#| c\x89: 1\n#| c\x93: 2\n#| \xff: 3\necho x");

	assert_int_equal(r->status, ST_ERROR);
	everything_comes_back();
	assert_non_null(context_run(d.c, 1));
}

static void a_lost_state_is_told_to_the_next_run(void **state)
{
	struct run *r = ran("a.t", "exit 5");

	assert_false(r->state_preserved);
	r = ran("a.t", "echo on");
	assert_int_equal(r->generation, 2);
	assert_int_equal(r->execution_count, 1);
	auto_free char *err = domain_output(r, 1);
	assert_non_null(strstr(err, "the state of earlier cells is lost: the Fake kernel ended with exit code 5"));
	prints(ran("a.t", "echo on"), 1, "");
	everything_comes_back();
	/* And after a stop of the daemon. */
	r = ran("a.t", ":");
	auto_free char *again = domain_output(r, 1);
	if (!strstr(again, "(generation 3)"))
		fail_msg("%s", again);
}

static void a_cells_name_shows_its_newest_run(void **state)
{
	ran("a.t", "echo 1");
	ran("b.t", "echo 2");
	ran("a.t", "echo 3");
	assert_int_equal(cell_find(d.c, "a.t")->newest, 3);
	assert_int_equal(cell_find(d.c, "b.t")->newest, 2);
	assert_ptr_equal(cell_latest(d.c), cell_find(d.c, "a.t"));
	everything_comes_back();
}

static void output_goes_to_the_run_that_printed_it(void **state)
{
	ran("a.t", "(while [ ! -e go ]; do sleep 0.02; done; echo late; : >said) & echo one");
	ran("b.t", "echo two; : >go; while [ ! -e said ]; do sleep 0.02; done");
	ran("c.t", "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done");
	prints(context_run(d.c, 1), 0, "one\n");
	everything_comes_back();
}

static void output_over_the_limit_keeps_its_start_and_its_end(void **state)
{
	assert_int_equal(domain_set(&d, B_CONFIG, "output", "1000\n"), 0);
	struct run *r = ran("a.t", "i=0; while [ $i -lt 50000 ]; do echo line $i; i=$((i+1)); done");
	auto_free char *out = domain_output(r, 0);

	assert_true(run_truncated(r));
	assert_int_equal(r->flow[0].total, 10 * 7 + 90 * 8 + 900 * 9 + 9000 * 10 + 40000 * 11);
	assert_memory_equal(out, "line 0\nline 1\n", 14);
	assert_string_equal(out + strlen(out) - 11, "line 49999\n");
	assert_non_null(strstr(out, "bytes are missing here: the limit config/output is 1000 bytes\n"));
	assert_true(strlen(out) < 1000 + TAIL_KEPT + 200);
	everything_comes_back();
}

static void runs_far_back_are_read_from_the_disk(void **state)
{
	assert_int_equal(domain_set(&d, B_ENV, "N", "0"), 0);
	for (int i = 1; i <= 100; i++) {
		auto_free char *text = xasprintf("echo run %d; show result '\"data\":{\"text/plain\":\"%d\"}'", i, i);
		ran("a.t", text);
	}
	for (int i = 1; i <= 100; i++) {
		auto_free char *out = xasprintf("run %d\n", i), *value = xasprintf("%d", i);
		struct run *r = context_run(d.c, i);
		prints(r, 0, out);
		auto_free char *result = domain_file(r, "result.txt");
		assert_string_equal(result, value);
	}
	assert_true(d.c->nrecent <= 65);
	everything_comes_back();
}

/* ---- removal ---- */

static void a_removed_cell_is_history(void **state)
{
	ran("a.t", "echo 1");
	ran("b.t", "echo 2");
	assert_int_equal(body_unlink(body_find(d.c, B_CELLS, "a.t")), 0);
	assert_null(cell_find(d.c, "a.t"));
	prints(context_run(d.c, 1), 0, "1\n");
	ran("a.t", "echo 3");
	assert_int_equal(cell_find(d.c, "a.t")->newest, 3);
	domain_reopen(&d);
	assert_int_equal(cell_find(d.c, "a.t")->newest, 3);
	assert_int_equal(body_unlink(body_find(d.c, B_CELLS, "a.t")), 0);
	domain_reopen(&d);
	assert_null(cell_find(d.c, "a.t"));
	everything_comes_back();
}

static void results_go_with_a_renamed_cell(void **state)
{
	ran("a.t", "echo 1");
	ran("b.t", "echo 2");
	assert_int_equal(body_rename(body_find(d.c, B_CELLS, "a.t"), B_CELLS, "c.t", false), 0);
	assert_null(cell_find(d.c, "a.t"));
	assert_int_equal(cell_find(d.c, "c.t")->newest, 1);
	assert_int_equal(body_rename(body_find(d.c, B_CELLS, "c.t"), B_CELLS, "b.t", true), -EEXIST);
	assert_int_equal(body_rename(body_find(d.c, B_CELLS, "c.t"), B_CELLS, "b.t", false), 0);
	assert_int_equal(cell_find(d.c, "b.t")->newest, 1);
	assert_null(cell_find(d.c, "c.t"));
	everything_comes_back();
	assert_int_equal(cell_find(d.c, "b.t")->newest, 1);
	assert_int_equal(d.c->nruns, 2);
	/* In another language it is another cell, and runs. */
	assert_int_equal(body_rename(body_find(d.c, B_CELLS, "b.t"), B_CELLS, "b.u", false), 0);
	assert_true(domain_idle(&d));
	assert_int_equal(cell_find(d.c, "b.u")->newest, 3);
	assert_null(cell_find(d.c, "b.t"));
	everything_comes_back();
}

static void a_draft_that_gets_a_language_runs(void **state)
{
	assert_int_equal(domain_cell(&d, ".a.t.swp", "echo 1"), 0);
	assert_int_equal(body_rename(body_find(d.c, B_CELLS, ".a.t.swp"), B_CELLS, "a.t", false), 0);
	assert_true(domain_idle(&d));
	prints(context_run(d.c, 1), 0, "1\n");
	everything_comes_back();
}

static void a_cell_renamed_while_it_runs_keeps_its_run(void **state)
{
	uint64_t n = domain_cell(&d, "a.t", "echo 1; sleep 0.3");

	assert_int_equal(n, 1);
	assert_int_equal(body_rename(body_find(d.c, B_CELLS, "a.t"), B_CELLS, "b.t", false), 0);
	assert_true(domain_idle(&d));
	assert_int_equal(cell_find(d.c, "b.t")->newest, 1);
	assert_null(cell_find(d.c, "a.t"));
	everything_comes_back();
}

static bool is_running(struct domain *dom)
{
	return dom->c->active && dom->c->active->state == R_RUNNING && dom->c->active->flow[0].x.total;
}

static void the_runs_of_a_removed_cell_end(void **state)
{
	assert_int_equal(domain_cell(&d, "a.t", "echo 1; sleep 60"), 1);
	assert_int_equal(domain_cell(&d, "a.t", "echo 2"), 2);
	assert_true(domain_until(&d, is_running));
	assert_int_equal(body_unlink(body_find(d.c, B_CELLS, "a.t")), 0);
	assert_true(domain_idle(&d));
	status_is(1, ST_INTERRUPTED);
	status_is(2, ST_CANCELLED);
	assert_null(cell_find(d.c, "a.t"));
	domain_reopen(&d);
	assert_null(cell_find(d.c, "a.t"));
	status_is(1, ST_INTERRUPTED);
}

/* ---- forget and keep ---- */

static void a_forgotten_run_is_gone_for_good(void **state)
{
	auto_buf struct buf b = { 0 };
	struct extent code;

	ran("a.t", "echo 1");
	struct run *r = ran("a.t", "echo secret; show result '\"data\":{\"text/plain\":\"secret\"}'");
	code = r->code;
	assert_int_equal(context_forget(d.c, 2), 0);
	assert_int_equal(context_forget(d.c, 2), -ENOENT);
	assert_int_equal(context_forget(d.c, 3), -ENOENT);
	assert_int_equal(cell_find(d.c, "a.t")->newest, 1);
	assert_int_equal(store_read(&d.c->store, L_RES, code.off, code.len, &b), 0);
	for (size_t i = 0; i < b.n; i++)
		assert_int_equal(b.s[i], 0);
	for (int log = 0; log < L_COUNT; log++) {
		buf_reset(&b);
		assert_int_equal(store_read(&d.c->store, log, 0, d.c->store.end[log], &b), 0);
		assert_null(memmem(b.s, b.n, "secret", 6));
	}
	ran("b.t", "echo 3");
	everything_comes_back();
	assert_int_equal(context_forget(d.c, 1), 0);
	assert_null(cell_find(d.c, "a.t"));
	everything_comes_back();
}

static void numbers_are_not_used_again(void **state)
{
	for (int i = 0; i < 3; i++)
		ran("a.t", "echo x");
	assert_int_equal(domain_ctl(&d, "clear"), 0);
	everything_comes_back();
	assert_int_equal(domain_cell(&d, "a.t", "echo y"), 4);
	assert_true(domain_idle(&d));
}

static void a_run_that_has_not_ended_is_not_forgotten(void **state)
{
	assert_int_equal(domain_cell(&d, "a.t", "echo 1; sleep 60"), 1);
	assert_true(domain_until(&d, is_running));
	assert_int_equal(context_forget(d.c, 1), -EBUSY);
	assert_int_equal(domain_ctl(&d, "interrupt"), 0);
	assert_true(domain_idle(&d));
	assert_int_equal(context_forget(d.c, 1), 0);
}

static void keep_forgets_the_oldest_but_not_what_a_name_shows(void **state)
{
	ran("a.t", "echo a");
	for (int i = 0; i < 6; i++)
		ran("b.t", "echo b");
	assert_int_equal(domain_set(&d, B_CONFIG, "keep", "3"), 0);
	assert_int_equal(d.c->kept_runs, 3);
	assert_non_null(context_run(d.c, 1));
	assert_null(context_run(d.c, 5));
	assert_non_null(context_run(d.c, 6));
	ran("b.t", "echo b");
	assert_int_equal(d.c->kept_runs, 3);
	assert_null(context_run(d.c, 6));
	everything_comes_back();
	assert_int_equal(domain_set(&d, B_CONFIG, "keep", "0"), 0);
	assert_int_equal(d.c->kept_runs, 2);
	everything_comes_back();
}

static void keep_counts_bytes(void **state)
{
	for (int i = 0; i < 5; i++)
		ran("a.t", "head -c 100000 /dev/zero");
	assert_int_equal(domain_set(&d, B_CONFIG, "keep", "250K"), 0);
	assert_int_equal(d.c->kept_runs, 2);
	assert_null(context_run(d.c, 3));
	everything_comes_back();
}

/* ---- crashes ---- */

static char *whole_journal(void)
{
	struct buf b = { 0 };

	must(store_read(&d.c->store, L_JOURNAL, 0, d.c->store.end[L_JOURNAL], &b) == 0);
	return b.s;
}

static void a_torn_last_line_goes(void **state)
{
	ran("a.t", "echo 1");
	everything_comes_back();
	auto_buf struct buf before = { 0 };
	domain_tell(&d, &before);
	auto_free char *journal = domain_path(&d, "journal.jsonl"), *was = whole_journal();
	off_t end = d.c->store.end[L_JOURNAL];
	domain_close(&d);
	int fd = open(journal, O_WRONLY | O_APPEND | O_CLOEXEC);
	assert_int_equal(write(fd, "{\"seq\":99,\"type\":\"que", 21), 21);
	close(fd);
	domain_open(&d);
	same(&before);
	assert_int_equal(d.c->store.end[L_JOURNAL], end);
	auto_free char *now = whole_journal();
	assert_string_equal(now, was);
	ran("a.t", "echo 2");
	everything_comes_back();
}

/* The journal ends at each byte of the lines of the last run, and the index with what that leaves. */
static void a_journal_cut_anywhere_is_read(void **state)
{
	ran("a.t", "echo one");
	auto_buf struct buf first = { 0 };
	domain_tell_run(&d, 1, &first);
	off_t from = d.c->store.end[L_JOURNAL];
	ran("b.t", "echo two; show result '\"data\":{\"text/plain\":\"2\"}'");
	off_t end = d.c->store.end[L_JOURNAL];
	auto_free char *journal = domain_path(&d, "journal.jsonl"), *idx = domain_path(&d, "runs.idx");
	auto_free char *was = whole_journal();
	domain_close(&d);
	auto_buf struct buf index = { 0 };
	assert_int_equal(read_file(AT_FDCWD, idx, 1 << 20, &index), 0);
	for (off_t cut = from; cut < end; cut += 1 + cut % 7) {
		assert_int_equal(write_file(AT_FDCWD, journal, was, cut, 0600), 0);
		assert_int_equal(write_file(AT_FDCWD, idx, index.s, cut % 2 ? index.n : 0, 0600), 0);
		domain_open(&d);
		auto_buf struct buf now = { 0 };
		domain_tell_run(&d, 1, &now);
		assert_same(now.s, first.s);
		assert_true(d.c->nruns <= 2);
		struct run *r = context_run(d.c, 2);
		assert_int_equal(!r, d.c->nruns < 2);
		if (r && r->status != ST_CANCELLED && r->status != ST_LOST && r->status != ST_OK)
			fail_msg("cut at %lld: %s", (long long)cut, run_status_names[r->status]);
		if (r && r->status == ST_OK)
			prints(r, 0, "two\n");
		auto_buf struct buf before = { 0 };
		domain_tell(&d, &before);
		domain_reopen(&d);
		same(&before);
		domain_close(&d);
	}
	domain_open(&d);
	struct run *r = ran("c.t", "echo three");
	prints(r, 0, "three\n");
}

static void cut_index_anywhere(void)
{
	auto_free char *idx = domain_path(&d, "runs.idx");
	auto_buf struct buf before = { 0 }, index = { 0 };

	domain_tell(&d, &before);
	domain_close(&d);
	assert_int_equal(read_file(AT_FDCWD, idx, 1 << 20, &index), 0);
	for (size_t cut = 0; cut < index.n; cut += 17) {
		assert_int_equal(write_file(AT_FDCWD, idx, index.s, cut, 0600), 0);
		domain_open(&d);
		same(&before);
		domain_close(&d);
	}
	index.s[index.n / 2] ^= 1; /* and a byte of it goes bad */
	assert_int_equal(write_file(AT_FDCWD, idx, index.s, index.n, 0600), 0);
	domain_open(&d);
	same(&before);
}

static void some_history(void)
{
	ran("a.t", "echo one");
	ran("b.t", "echo two");
	assert_int_equal(body_rename(body_find(d.c, B_CELLS, "b.t"), B_CELLS, "c.t", false), 0);
	ran("b.t", "echo three");
	assert_int_equal(body_unlink(body_find(d.c, B_CELLS, "a.t")), 0);
	ran("b.t", "echo four");
	assert_int_equal(context_forget(d.c, 3), 0);
	ran("a.t", "echo five");
}

static void an_index_cut_anywhere_is_made_whole(void **state)
{
	some_history();
	cut_index_anywhere();
}

/* As after a power loss soon after the index was made anew. */
static void an_index_made_anew_and_cut_is_made_whole(void **state)
{
	some_history();
	auto_free char *idx = domain_path(&d, "runs.idx");
	domain_close(&d);
	assert_int_equal(unlink(idx), 0);
	domain_open(&d);
	cut_index_anywhere();
}

static void a_results_file_cut_short_loses_its_runs_only(void **state)
{
	ran("a.t", "echo one");
	auto_buf struct buf first = { 0 };
	domain_tell_run(&d, 1, &first);
	ran("b.t", "echo two");
	off_t end = d.c->store.end[L_RES];
	auto_free char *results = domain_path(&d, "results.bin");
	domain_close(&d);
	assert_int_equal(truncate(results, end - 5), 0);
	domain_open(&d);
	auto_buf struct buf now = { 0 };
	domain_tell_run(&d, 1, &now);
	assert_same(now.s, first.s);
	status_is(2, ST_LOST);
	everything_comes_back();
}

static void an_output_cut_short_is_a_lost_run(void **state)
{
	ran("a.t", "echo one");
	ran("b.t", "echo two");
	auto_free char *out = domain_path(&d, "stdout.log");
	domain_close(&d);
	assert_int_equal(truncate(out, 6), 0);
	domain_open(&d);
	prints(context_run(d.c, 1), 0, "one\n");
	status_is(2, ST_LOST);
	prints(context_run(d.c, 2), 0, "");
}

/* FN uses the world in a process that then dies as if the power had gone. What its fork leaves in the
 * parent is closed before. */
static void in_a_daemon_that_dies(void (*fn)(void))
{
	int status;

	domain_close(&d);
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		domain_open(&d);
		fn();
		kill(getpid(), SIGKILL);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	domain_open(&d);
}

static void run_and_queue(void)
{
	must(domain_run(&d, "a.t", "echo ended"));
	must(domain_cell(&d, "b.t", "echo begun; echo problem >&2; sleep 60; echo never"));
	must(domain_cell(&d, "c.t", "echo never") && domain_cell(&d, "d.t", "echo never"));
	must(domain_until(&d, is_running));
}

static void a_crash_loses_what_runs_and_cancels_what_waits(void **state)
{
	in_a_daemon_that_dies(run_and_queue);
	status_is(1, ST_OK);
	status_is(2, ST_LOST);
	status_is(3, ST_CANCELLED);
	status_is(4, ST_CANCELLED);
	prints(context_run(d.c, 2), 0, "begun\n");
	assert_int_equal(context_run(d.c, 2)->exit_code, -1);
	assert_false(context_run(d.c, 2)->state_preserved);
	assert_int_equal(cell_find(d.c, "b.t")->newest, 2);
	assert_true(domain_is_idle(&d));
	assert_int_equal(d.c->nqueued, 0);
	everything_comes_back();
	struct run *r = ran("b.t", "echo again");
	assert_int_equal(r->number, 5);
	prints(r, 0, "again\n");
}

static void write_and_rename_and_forget(void)
{
	run_and_queue();
	must(body_rename(body_find(d.c, B_CELLS, "b.t"), B_CELLS, "e.t", false) == 0);
	must(body_unlink(body_find(d.c, B_CELLS, "c.t")) == 0);
	must(context_forget(d.c, 1) == 0);
}

static void what_was_done_to_cells_before_a_crash_is_done(void **state)
{
	in_a_daemon_that_dies(write_and_rename_and_forget);
	assert_null(context_run(d.c, 1));
	status_is(2, ST_LOST);
	status_is(3, ST_CANCELLED);
	status_is(4, ST_CANCELLED);
	assert_null(cell_find(d.c, "a.t"));
	assert_null(cell_find(d.c, "b.t"));
	assert_null(cell_find(d.c, "c.t"));
	assert_int_equal(cell_find(d.c, "e.t")->newest, 2);
	assert_int_equal(cell_find(d.c, "d.t")->newest, 4);
	everything_comes_back();
}

static void write_half(void)
{
	struct body *b;
	struct writer w;

	must(body_create(d.c, B_CELLS, "a.t", 0644, &b) == 0);
	b->opens++;
	body_opened(b, &w, getpid());
	int fd = body_open_fd(b, O_WRONLY);
	must(body_write(b, &w, 8) == 0 && pwrite(fd, "echo hal", 8, 0) == 8);
}

static void a_cell_half_written_at_a_crash_is_aborted(void **state)
{
	in_a_daemon_that_dies(write_half);
	assert_int_equal(d.c->nruns, 1);
	status_is(1, ST_ABORTED);
	everything_comes_back();
	assert_int_equal(d.c->nruns, 1);
}

static void restart_while_crashing(void)
{
	run_and_queue();
	domain_ctl(&d, "restart");
}

static void a_crash_twice_is_as_one(void **state)
{
	in_a_daemon_that_dies(run_and_queue);
	auto_buf struct buf before = { 0 };
	domain_tell(&d, &before);
	in_a_daemon_that_dies(restart_while_crashing);
	auto_buf struct buf now = { 0 };
	for (int n = 1; n <= 4; n++)
		domain_tell_run(&d, n, &now);
	before.s[now.n] = 0;
	/* Their names show newer runs by now. */
	assert_int_equal(d.c->nruns, 8);
	everything_comes_back();
}

static void a_daemon_that_stops_ends_its_runs(void **state)
{
	run_and_queue();
	domain_reopen(&d);
	status_is(1, ST_OK);
	status_is(2, ST_KILLED);
	status_is(3, ST_CANCELLED);
	prints(context_run(d.c, 2), 0, "begun\n");
	everything_comes_back();
}

static void with_sync_always_records_are_the_same(void **state)
{
	d.opt.sync_always = true;
	domain_reopen(&d);
	ran("a.t", "echo 1");
	assert_int_equal(domain_cell(&d, "a.t", "echo 2"), 2);
	assert_int_equal(domain_cell(&d, "b.t", "echo 3"), 3);
	assert_true(domain_idle(&d));
	prints(context_run(d.c, 3), 0, "3\n");
	everything_comes_back();
	run_and_queue();
	domain_reopen(&d);
	status_is(5, ST_KILLED);
	everything_comes_back();
}

/* ---- contexts ---- */

static void contexts_are_made_renamed_and_removed(void **state)
{
	struct context *c;

	assert_int_equal(world_mkdir(&d.w, "two", &c), 0);
	assert_int_equal(world_mkdir(&d.w, "two", &c), -EEXIST);
	assert_int_equal(world_mkdir(&d.w, ".two", &c), -EINVAL);
	assert_int_equal(world_mkdir(&d.w, "a/b", &c), -EINVAL);
	assert_int_equal(world_rename(&d.w, c, "main"), -EEXIST);
	assert_int_equal(world_rename(&d.w, c, "three"), 0);
	uint64_t id = c->id;
	domain_reopen(&d);
	c = world_context(&d.w, "three");
	assert_non_null(c);
	assert_null(world_context(&d.w, "two"));
	id = c->id;
	world_remove(&d.w, c);
	assert_null(object_get(&d.w, id));
	domain_reopen(&d);
	assert_null(world_context(&d.w, "three"));
	assert_non_null(world_context(&d.w, "main"));
}

static void a_state_dir_has_one_daemon(void **state)
{
	struct world other = { .loop = loop_new(), .log.fd = -1 };
	auto_buf struct buf why = { 0 };

	assert_int_equal(world_open(&other, &d.opt, &why), -1);
	assert_non_null(strstr(why.s, "is in use by the cellfs with pid"));
	drop_fd(&other.state);
	drop_fd(&other.names_dir);
	drop_fd(&other.contexts_dir);
	drop_fd(&other.lock);
	loop_free(other.loop);
}

static void values_come_back(void **state)
{
	static const struct {
		enum body_dir dir;
		const char *name, *text;
	} values[] = { { B_CONFIG, "timeout", "5m\n" }, { B_ENV, "A", "x=y\nz" }, { B_KERNEL, "u", "fake\n" } };

	assert_int_equal(domain_set(&d, B_CONFIG, "timeout", "often"), -EINVAL);
	assert_int_equal(domain_set(&d, B_KERNEL, "u", "nolang"), -EINVAL);
	for (size_t i = 0; i < ARRAY_SIZE(values); i++)
		assert_int_equal(domain_set(&d, values[i].dir, values[i].name, values[i].text), 0);
	domain_reopen(&d);
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		auto_buf struct buf b = { 0 };
		struct stat st;
		assert_int_equal(value_read(d.c, values[i].dir, values[i].name, &b, &st), 0);
		assert_string_equal(b.s, values[i].text);
	}
	assert_int_equal(d.c->conf.v[C_TIMEOUT].v, 300000000);
	assert_string_equal(kernel_speaker(d.c, "x.u").lang->name, "fake");
	struct run *r = ran("x.u", "printf %s \"$A\"");
	prints(r, 0, "x=y\nz");
	assert_int_equal(value_remove(d.c, B_ENV, "A"), 0);
	assert_int_equal(value_remove(d.c, B_ENV, "A"), -ENOENT);
	assert_int_equal(value_remove(d.c, B_CONFIG, "timeout"), 0);
	domain_reopen(&d);
	assert_int_equal(d.c->conf.v[C_TIMEOUT].v, 3600000000);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_run_has_what_its_cell_said),
		TEST(each_status_has_its_end),
		TEST(options_of_any_bytes_leave_a_readable_record),
		TEST(a_lost_state_is_told_to_the_next_run),
		TEST(a_cells_name_shows_its_newest_run),
		TEST(output_goes_to_the_run_that_printed_it),
		TEST(output_over_the_limit_keeps_its_start_and_its_end),
		TEST(runs_far_back_are_read_from_the_disk),
		TEST(a_removed_cell_is_history),
		TEST(results_go_with_a_renamed_cell),
		TEST(a_draft_that_gets_a_language_runs),
		TEST(a_cell_renamed_while_it_runs_keeps_its_run),
		TEST(the_runs_of_a_removed_cell_end),
		TEST(a_forgotten_run_is_gone_for_good),
		TEST(numbers_are_not_used_again),
		TEST(a_run_that_has_not_ended_is_not_forgotten),
		TEST(keep_forgets_the_oldest_but_not_what_a_name_shows),
		TEST(keep_counts_bytes),
		TEST(a_torn_last_line_goes),
		TEST(a_journal_cut_anywhere_is_read),
		TEST(an_index_cut_anywhere_is_made_whole),
		TEST(an_index_made_anew_and_cut_is_made_whole),
		TEST(a_results_file_cut_short_loses_its_runs_only),
		TEST(an_output_cut_short_is_a_lost_run),
		TEST(a_crash_loses_what_runs_and_cancels_what_waits),
		TEST(what_was_done_to_cells_before_a_crash_is_done),
		TEST(a_cell_half_written_at_a_crash_is_aborted),
		TEST(a_crash_twice_is_as_one),
		TEST(a_daemon_that_stops_ends_its_runs),
		TEST(with_sync_always_records_are_the_same),
		TEST(contexts_are_made_renamed_and_removed),
		TEST(a_state_dir_has_one_daemon),
		TEST(values_come_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
