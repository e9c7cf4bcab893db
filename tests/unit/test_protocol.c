/* kernel: what a driver says is checked, whatever it is; the next cell runs in any case. */
#include "opened.h"

/* Everything else works afterwards, and is the same after a start. */
static void goes_on(void)
{
	auto_buf struct buf before = { 0 }, after = { 0 };
	struct run *r = ran("next.t", "echo fine");
	auto_free char *out = domain_output(r, 0);

	assert_string_equal(out, "fine\n");
	assert_int_equal(r->status, ST_OK);
	domain_tell(&d, &before);
	domain_reopen(&d);
	domain_tell(&d, &after);
	assert_same(after.s, before.s);
}

static bool log_has(const char *text)
{
	auto_free char *path = domain_path(&d, "log");
	auto_buf struct buf b = { 0 };

	return !read_file(AT_FDCWD, path, 16 << 20, &b) && strstr(b.s, text);
}

static const struct {
	const char *text, *reason;
} broken[] = {
	{ "ev 'no JSON'", "broke the protocol" },
	{ "ev '[1,2]'", "an event without `ev`" },
	{ "ev '{}'", "an event without `ev`" },
	{ "ev '{\"ev\":7}'", "an event without `ev`" },
	{ "ev '{\"ev\":\"log\",\"ev\":\"log\"}'", "broke the protocol" },
	{ "ev ''", "broke the protocol" },
	{ "printf '{\"ev\":\"log\",\"text\":\"\\377\"}\\n' >&4", "broke the protocol" },
	{ "head -c 70000 /dev/zero | tr '\\0' x >&4; sleep 60", "a line of more than 65,536 bytes" },
	{ "i=$(head -c 65536 /dev/zero | tr '\\0' x); ev \"{\\\"ev\\\":\\\"log\\\",\\\"text\\\":\\\"$i\\\"}\"; sleep 60",
	  "a line of more than 65,536 bytes" },
	{ "id=$((id+1)); over ok", "`done` of a run that is not under way" },
	{ "id=-1; over ok", "`done` of a run that is not under way" },
	{ "id='\"1\"'; over ok", "`done` of a run that is not under way" },
	{ "id=99999999999999999999; over ok", "broke the protocol" },
	{ "over fine", "`done` of a run that is not under way" },
	{ "ev '{\"ev\":\"done\",\"id\":'$id'}'; sleep 60", "`done` of a run that is not under way" },
	{ "show display '\"data\":7'", "a display event needs kind and data" },
	{ "show display '\"x\":{}'", "a display event needs kind and data" },
	{ "show picture '\"data\":{}'", "a display event needs kind and data" },
	{ "show result '\"data\":{}'; show result '\"data\":{}'", "a second result" },
	{ "exec 4>&-; sleep 60", "it closed its control pipe" },
	{ "quiet; exit 0", "the Fake kernel ended with exit code 0" },
	{ "printf '{\"ev\":\"do' >&4; exit 3", "the Fake kernel ended with exit code 3" },
	{ "kill -SEGV $$", "signal 11" },
};

static void what_breaks_the_protocol_ends_the_kernel(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
		struct run *r = ran("a.t", broken[i].text);

		if (r->status != ST_KILLED || !strstr(r->reason, broken[i].reason) || r->state_preserved)
			fail_msg("%s: %s, %s", broken[i].text, run_status_names[r->status],
				 r->reason ? r->reason : "-");
	}
	goes_on();
}

static const struct {
	const char *text, *log; /* what the context's log has of it, or NULL */
} borne[] = {
	{ "ev '{\"ev\":\"new in version 9\",\"more\":[1]}'", "unknown event new in version 9" },
	{ "ev '{\"ev\":\"log\",\"text\":\"some words\"}'", "says: some words" },
	{ "ev '{\"ev\":\"log\"}'; ev '{\"ev\":\"log\",\"text\":7}'", NULL },
	{ "ev '{\"ev\":\"ready\"}'; ev '{\"ev\":\"hello\",\"proto\":9,\"min_proto\":9}'", NULL },
	{ "ev '{\"ev\":\"clear\"}'; ev '{\"ev\":\"clear\",\"id\":999,\"wait\":true}'", NULL },
	{ "ev '{\"ev\":\"error\",\"id\":null,\"name\":\"E\",\"message\":\"in the background\"}'", NULL },
	{ "ev '{\"ev\":\"error\"}'; ev '{\"ev\":\"error\",\"id\":'$id'}'", NULL },
	{ "ev '{\"ev\":\"stream\",\"name\":7}'", NULL },
	{ "i=$(head -c 65500 /dev/zero | tr '\\0' x); ev \"{\\\"ev\\\":\\\"log\\\",\\\"text\\\":\\\"$i\\\"}\"", NULL },
	{ "i=0; while [ $i -lt 2000 ]; do ev '{\"ev\":\"log\",\"text\":\"flood\"}'; i=$((i+1)); done", NULL },
	{ "(id=999; ev '{\"ev\":\"display\",\"id\":999,\"kind\":\"display\",\"data\":{}}'); head -c1 <&5 >/dev/null", NULL },
	{ "printf '\\377\\000\\n'; printf '\\377' >&2", NULL },
};

static void what_is_only_odd_is_borne(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(borne); i++) {
		struct run *r = ran("a.t", borne[i].text);

		if (r->status != ST_OK || (borne[i].log && !log_has(borne[i].log)))
			fail_msg("%s: %s, %s", borne[i].text, run_status_names[r->status],
				 r->reason ? r->reason : "-");
	}
	assert_int_equal(context_run(d.c, d.c->nruns)->generation, 1);
	goes_on();
}

static bool kernel_is_gone(struct domain *dom)
{
	return dom->w.kernels_running == 0; /* its box stays */
}

static bool all_is_gone(struct domain *dom)
{
	return world_quiet(&dom->w);
}

/* The second `done` comes when the run is over: it is the kernel that goes, the run stays what it was. */
static void done_twice_ends_the_kernel_but_not_the_run(void **state)
{
	struct run *r = ran("a.t", "over ok; over error");

	assert_int_equal(r->status, ST_OK);
	assert_true(domain_until(&d, kernel_is_gone));
	assert_int_equal(r->status, ST_OK);
	goes_on();
	assert_int_equal(context_run(d.c, 2)->generation, 2);
}

/* What was already queued behind the broken run is not taken along. */
static void the_runs_behind_it_start_a_new_kernel(void **state)
{
	assert_int_equal(domain_cell(&d, "a.t", "sleep 0.1; ev garbage; sleep 60"), 1);
	assert_int_equal(domain_cell(&d, "b.t", "echo two"), 2);
	assert_int_equal(domain_cell(&d, "c.u", "echo three"), 3);
	assert_int_equal(domain_cell(&d, "d.t", "echo four"), 4);
	assert_true(domain_idle(&d));
	assert_int_equal(context_run(d.c, 1)->status, ST_KILLED);
	for (int n = 2; n <= 4; n++)
		assert_int_equal(context_run(d.c, n)->status, ST_OK);
	assert_int_equal(context_run(d.c, 2)->generation, 2);
	goes_on();
}

static void another_protocol_version_is_refused(void **state)
{
	static const struct {
		const char *hello, *reason; /* NULL: accepted */
	} cases[] = {
		{ "{\"ev\":\"hello\",\"proto\":2,\"min_proto\":2}", "the driver speaks protocol 2 to 2, the daemon 1" },
		{ "{\"ev\":\"hello\",\"proto\":0}", "the driver speaks protocol 0 to 0, the daemon 1" },
		{ "{\"ev\":\"hello\"}", "the driver speaks protocol" },
		{ "hello", "broke the protocol" },
		{ "{\"ev\":\"done\",\"id\":0,\"status\":\"ok\"}", "`done` of a run that is not under way" },
		{ "{\"ev\":\"hello\",\"proto\":3,\"min_proto\":1}", NULL },
		{ "{\"ev\":\"hello\",\"proto\":1}", NULL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(domain_set(&d, B_ENV, "HELLO", cases[i].hello), 0);
		struct run *r = ran("a.t", "echo x");
		if (!cases[i].reason != (r->status == ST_OK) ||
		    (cases[i].reason && !strstr(r->reason, cases[i].reason)))
			fail_msg("%s: %s, %s", cases[i].hello, run_status_names[r->status],
				 r->reason ? r->reason : "-");
		assert_int_equal(domain_ctl(&d, "restart"), 0);
		assert_true(domain_until(&d, kernel_is_gone));
	}
	assert_int_equal(value_remove(d.c, B_ENV, "HELLO"), 0);
	goes_on();
}

static void a_driver_that_cannot_be_started_is_told(void **state)
{
	auto_free char *driver = xasprintf("%s/kernels/fake/driver", d.dir);

	assert_int_equal(unlink(driver), 0);
	struct run *r = ran("a.t", "echo x");
	assert_int_equal(r->status, ST_KILLED);
	assert_non_null(strstr(r->reason, "the Fake kernel ended with exit code"));
	assert_int_equal(write_file(AT_FDCWD, driver, fake_driver, sizeof(fake_driver) - 1, 0755), 0);
	goes_on();
	const char *box = d.w.sandbox.program;
	d.w.sandbox.program = "/nowhere/box";
	assert_int_equal(domain_ctl(&d, "stop"), 0);
	assert_true(domain_until(&d, all_is_gone));
	r = ran("a.t", "echo x");
	assert_int_equal(r->status, ST_KILLED);
	assert_non_null(strstr(r->reason, "cannot be started: box: No such file"));
	d.w.sandbox.program = box;
	goes_on();
}

/* ---- displays ---- */

static void a_flood_of_displays_is_cut(void **state)
{
	struct run *r = ran("a.t", "i=0; while [ $i -lt 1050 ]; do\n"
				   "show display '\"data\":{\"text/plain\":\"'$i'\"}'; i=$((i+1)); done\n"
				   "show update '\"display_id\":\"none\",\"data\":{}'");
	auto_free char *last = domain_file(r, "display-999.txt");

	assert_int_equal(r->status, ST_OK);
	assert_int_equal(r->ndisplays, DISPLAYS_MAX);
	assert_string_equal(last, "998");
	assert_null(domain_file(r, "display-1000.txt"));
	goes_on();
}

static void bad_formats_are_left_out_and_the_rest_is_kept(void **state)
{
	struct run *r = ran("a.t",
		"echo data >$spool/good; mkdir $spool/dir; ln -s /etc/passwd $spool/link; mkfifo $spool/fifo\n"
		"ln -s good $spool/near; echo x >$spool/.hidden\n"
		"show display '\"data\":{\"text/plain\":\"kept\",\"nomime\":\"a\",\"a/\":\"b\",\"/b\":\"c\",\"a/b c\":\"d\","
		"\"a/..\":\"e\",\"../x\":\"f\",\"image/png\":{\"file\":\"dir\"},\"image/jpeg\":{\"file\":\"link\"},"
		"\"text/html\":{\"file\":\"fifo\"},\"text/latex\":{\"file\":\"near\"},\"application/pdf\":{\"file\":\"none\"},"
		"\"x/1\":{\"file\":\"../out/good\"},\"x/2\":{\"file\":\".hidden\"},\"x/3\":{\"file\":\"\"},"
		"\"x/4\":7,\"x/5\":{},\"x/6\":null,\"image/svg+xml\":{\"file\":\"good\"},\"application/json\":{\"json\":[1,null]}}'");
	auto_free char *text = domain_file(r, "display-1.txt"), *svg = domain_file(r, "display-1.svg");
	auto_free char *json = domain_file(r, "display-1.json");

	assert_int_equal(r->status, ST_OK);
	assert_string_equal(text, "kept");
	assert_string_equal(svg, "data\n");
	assert_string_equal(json, "[1,null]");
	/* Dots are letters of a type as good as others: they make a name, and no path. */
	assert_int_equal(r->nfiles, 5);
	for (size_t i = 0; i < r->nfiles; i++)
		assert_null(strchr(r->files[i].name, '/'));
	goes_on();
}

static void a_payload_is_taken_over(void **state)
{
	struct run *r = ran("a.t", "echo pic >$spool/p; show display '\"data\":{\"image/png\":{\"file\":\"p\"}}'\n"
				   "[ -e $spool/p ] && echo still there");
	auto_free char *png = domain_file(r, "display-1.png"), *out = domain_output(r, 0);

	assert_string_equal(png, "pic\n");
	assert_string_equal(out, "");
	goes_on();
}

static void an_update_changes_every_display_of_its_id(void **state)
{
	struct run *r = ran("a.t",
		"show display '\"display_id\":\"x\",\"data\":{\"text/plain\":\"1\"}'\n"
		"show display '\"display_id\":\"x\",\"data\":{\"text/plain\":\"2\"}'\n"
		"show display '\"display_id\":\"y\",\"data\":{\"text/plain\":\"3\"}'\n"
		"printf new >$spool/p; show update '\"display_id\":\"x\",\"data\":{\"text/plain\":{\"file\":\"p\"}}'\n"
		"show update '\"display_id\":\"y\",\"data\":{\"text/html\":\"4\"}'");
	auto_free char *one = domain_file(r, "display-1.txt"), *two = domain_file(r, "display-2.txt");
	auto_free char *html = domain_file(r, "display-3.html");

	assert_string_equal(one, "new");
	assert_string_equal(two, "new");
	assert_string_equal(html, "4");
	assert_null(domain_file(r, "display-3.txt"));
	assert_int_equal(r->ndisplays, 3);
	goes_on();
}

static void a_clear_takes_the_displays_away(void **state)
{
	struct run *r = ran("a.t",
		"show display '\"data\":{\"text/plain\":\"1\"}'; ev '{\"ev\":\"clear\",\"id\":'$id',\"wait\":true}'\n"
		"show result '\"data\":{\"text/plain\":\"r\"}'\n"
		"show display '\"data\":{\"text/plain\":\"2\"}'\n"
		"show display '\"data\":{\"text/plain\":\"3\"}'; ev '{\"ev\":\"clear\",\"id\":'$id'}'\n"
		"show display '\"data\":{\"text/plain\":\"4\"}'");
	auto_free char *four = domain_file(r, "display-4.txt"), *result = domain_file(r, "result.txt");

	for (int k = 1; k <= 3; k++) {
		auto_free char *name = xasprintf("display-%d.txt", k);
		assert_null(domain_file(r, name));
	}
	assert_string_equal(four, "4");
	assert_string_equal(result, "r");
	goes_on();
}

/* Formats without an extension of their own get their inode slots as they come. */
static void slots_stay_apart_over_many_updates(void **state)
{
	struct run *r = ran("a.t", "show display '\"display_id\":\"x\",\"data\":{\"text/plain\":\"first\"}'");
	auto_buf struct buf ev = { 0 };
	char why[160];

	buf_str(&ev, "{\"kind\":\"update\",\"display_id\":\"x\",\"data\":{\"text/plain\":\"first\"");
	for (int i = 0; i < 31; i++)
		buf_printf(&ev, ",\"x/%d\":\"\"", i);
	buf_str(&ev, "}}");
	auto_json struct json *j = json_parse(ev.s, ev.n, NULL);
	assert_non_null(j);
	for (int i = 0; i < 2300; i++) {
		assert_int_equal(run_display(r, j, -1, why), 0);
		if (i % 50)
			continue;
		for (size_t a = 0; a < r->nfiles; a++)
			for (size_t b = a + 1; b < r->nfiles; b++)
				if (r->files[a].slot == r->files[b].slot)
					fail_msg("%s and %s", r->files[a].name, r->files[b].name);
		auto_free char *text = domain_file(r, "display-1.txt");
		assert_string_equal(text ? text : "none", "first");
	}
}

/* ---- streams as messages ---- */

static void streams_by_event_have_the_limit_too(void **state)
{
	assert_int_equal(domain_set(&d, B_CONFIG, "output", "10"), 0);
	struct run *r = ran("a.t",
		"echo 0123456789abcdef; i=$(head -c 60000 /dev/zero | tr '\\0' x); n=0\n"
		"while [ $n -lt 10 ]; do\n"
		"ev '{\"ev\":\"stream\",\"id\":'$id',\"name\":\"stdout\",\"text\":\"'$i'\"}'; n=$((n+1)); done");
	auto_free char *out = domain_output(r, 0);

	assert_int_equal(r->flow[0].total, 17 + 600000);
	assert_memory_equal(out, "0123456789", 10);
	assert_true(strlen(out) < 10 + TAIL_KEPT + 200);
	/* The tail is what came last, not what was in memory. */
	const char *tail = strstr(out, "bytes\n");
	assert_non_null(tail);
	assert_int_equal(strspn(tail + 6, "x"), TAIL_KEPT);
	goes_on();
}

static void a_late_print_is_not_the_next_runs(void **state)
{
	ran("a.t", "(sleep 0.2; echo late) & :");
	struct run *r = ran("b.u", "sleep 0.5; echo own");
	auto_free char *out = domain_output(r, 0);

	assert_string_equal(out, "own\n");
	goes_on();
}

/* ---- the ladder ---- */

static bool is_running(struct domain *dom)
{
	return dom->c->active && dom->c->active->flow[0].x.total;
}

static void a_cell_that_ignores_all_is_killed_in_the_end(void **state)
{
	assert_int_equal(domain_cell(&d, "a.t", "trap '' INT; echo on; while :; do sleep 1; done"), 1);
	assert_true(domain_until(&d, is_running));
	assert_int_equal(domain_ctl(&d, "interrupt"), 0);
	assert_true(domain_idle(&d));
	struct run *r = context_run(d.c, 1);
	assert_int_equal(r->status, ST_INTERRUPTED);
	assert_string_equal(r->reason, "ended by SIGKILL");
	assert_false(r->state_preserved);
	goes_on();
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_breaks_the_protocol_ends_the_kernel),
		TEST(what_is_only_odd_is_borne),
		TEST(done_twice_ends_the_kernel_but_not_the_run),
		TEST(the_runs_behind_it_start_a_new_kernel),
		TEST(another_protocol_version_is_refused),
		TEST(a_driver_that_cannot_be_started_is_told),
		TEST(a_flood_of_displays_is_cut),
		TEST(bad_formats_are_left_out_and_the_rest_is_kept),
		TEST(a_payload_is_taken_over),
		TEST(an_update_changes_every_display_of_its_id),
		TEST(a_clear_takes_the_displays_away),
		TEST(slots_stay_apart_over_many_updates),
		TEST(streams_by_event_have_the_limit_too),
		TEST(a_late_print_is_not_the_next_runs),
		TEST(a_cell_that_ignores_all_is_killed_in_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
