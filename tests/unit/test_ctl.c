/* ctl: every line is checked before any is done, and each verb does what its help says. */
#include "opened.h"

static void status_is(uint64_t number, enum run_status status)
{
	struct run *r = context_run(d.c, number);

	assert_non_null(r);
	assert_string_equal(run_status_names[r->status], run_status_names[status]);
}

static bool prints(struct domain *dom)
{
	return dom->c->active && dom->c->active->flow[0].x.total;
}

/* a.t (1) runs for ever, b.t (2) and c.u (3) wait. */
static void busy(void)
{
	assert_int_equal(domain_cell(&d, "a.t", "echo on; sleep 60"), 1);
	assert_int_equal(domain_cell(&d, "b.t", "echo b"), 2);
	assert_int_equal(domain_cell(&d, "c.u", "echo c"), 3);
	assert_true(domain_until(&d, prints));
}

static void what_is_wrong_is_refused_and_nothing_is_done(void **state)
{
	static const struct {
		const char *text;
		int err;
	} cases[] = {
		{ "dance", -EINVAL },	   { "Interrupt", -EINVAL }, { "interrupt b.t", -ESRCH },
		{ "interrupt 2", -ESRCH }, { "cancel", -EINVAL },    { "cancel a.t", -ESRCH },
		{ "cancel 1", -ESRCH },	   { "cancel 9", -ESRCH },   { "run", -EINVAL },
		{ "run none.t", -ESRCH },  { "run a.t none.t", -ESRCH }, { "run draft", -ESRCH },
		{ "restart cobol", -EINVAL }, { "stop now", -EINVAL }, { "clear all", -EINVAL },
		{ "remove main", -EINVAL }, { "cancel all\ndance", -EINVAL },
		{ "interrupt\ncancel all\nrun none.t", -ESRCH },
	};

	busy();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int err = domain_ctl(&d, cases[i].text);
		if (err != cases[i].err)
			fail_msg("%s: %d", cases[i].text, err);
	}
	bool gone;
	assert_int_equal(context_ctl(d.c, "stop\0", 5, &gone), -EINVAL);
	auto_buf struct buf many = { 0 };
	for (int i = 0; i < 65; i++)
		buf_str(&many, "cancel b.t\n");
	assert_int_equal(domain_ctl(&d, many.s), -E2BIG);
	assert_int_equal(domain_ctl(&d, "\n  \n\t\r\n"), 0);
	assert_int_equal(d.c->nqueued, 2);
	assert_int_equal(d.c->active->rung, 0);
	assert_int_equal(d.c->nruns, 3);
	assert_int_equal(domain_ctl(&d, "stop"), 0);
}

static void interrupt_ends_what_runs_and_the_next_goes_on(void **state)
{
	busy();
	assert_int_equal(domain_ctl(&d, " interrupt\ta.t \r\n"), 0);
	assert_true(domain_idle(&d));
	status_is(1, ST_INTERRUPTED);
	status_is(2, ST_OK);
	status_is(3, ST_OK);
	assert_int_equal(context_run(d.c, 2)->generation, 1);
	assert_int_equal(domain_ctl(&d, "interrupt"), -ESRCH);
}

static void cancel_takes_what_waits(void **state)
{
	busy();
	assert_int_equal(domain_ctl(&d, "cancel b.t"), 0);
	status_is(2, ST_CANCELLED);
	assert_int_equal(domain_ctl(&d, "cancel 3\ninterrupt 1"), 0);
	assert_true(domain_idle(&d));
	status_is(3, ST_CANCELLED);
	status_is(1, ST_INTERRUPTED);
}

static void cancel_all_while_a_kernel_starts(void **state)
{
	assert_int_equal(domain_cell(&d, "a.t", "echo a"), 1);
	assert_int_equal(domain_cell(&d, "b.u", "echo b"), 2);
	assert_int_equal(domain_ctl(&d, "cancel all"), 0);
	status_is(1, ST_CANCELLED);
	status_is(2, ST_CANCELLED);
	assert_int_equal(domain_cell(&d, "c.u", "echo c"), 3);
	assert_true(domain_idle(&d));
	status_is(3, ST_OK);
}

static void restart_is_of_one_language_or_all(void **state)
{
	busy();
	assert_int_equal(domain_ctl(&d, "restart fake"), 0);
	assert_true(domain_idle(&d));
	status_is(1, ST_INTERRUPTED);
	status_is(2, ST_CANCELLED);
	status_is(3, ST_OK);
	domain_cell(&d, "a.t", "echo again");
	domain_cell(&d, "c.u", "echo again");
	assert_true(domain_idle(&d));
	assert_int_equal(context_run(d.c, 4)->generation, 2);
	assert_int_equal(context_run(d.c, 5)->generation, 1);
	assert_int_equal(domain_ctl(&d, "restart"), 0);
	domain_cell(&d, "c.u", "echo again");
	assert_true(domain_idle(&d));
	assert_int_equal(context_run(d.c, 6)->generation, 2);
}

static void stop_ends_all(void **state)
{
	busy();
	assert_int_equal(domain_ctl(&d, "stop"), 0);
	assert_true(domain_idle(&d));
	status_is(1, ST_KILLED);
	status_is(2, ST_CANCELLED);
	status_is(3, ST_CANCELLED);
	assert_true(domain_until(&d, domain_is_quiet));
	auto_buf struct buf b = { 0 };
	context_print_status(d.c, &b);
	assert_string_equal(b.s, "stopped\n");
}

static void clear_forgets_what_has_ended(void **state)
{
	assert_non_null(domain_run(&d, "x.t", "echo x"));
	assert_int_equal(domain_cell(&d, "a.t", "echo on; sleep 60"), 2);
	assert_true(domain_until(&d, prints));
	assert_int_equal(domain_ctl(&d, "clear"), 0);
	assert_null(context_run(d.c, 1));
	assert_non_null(context_run(d.c, 2));
	assert_int_equal(domain_ctl(&d, "interrupt\nclear"), 0);
	assert_true(domain_idle(&d));
	status_is(2, ST_INTERRUPTED);
}

static void run_takes_the_order_given_and_all_that_of_the_first_runs(void **state)
{
	static const char *const all[] = { "z.t", "a.t", "m.t" };

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		assert_non_null(domain_run(&d, all[i], "echo x"));
	assert_non_null(domain_run(&d, "z.t", "echo y"));
	assert_int_equal(domain_ctl(&d, "run m.t z.t"), 0);
	assert_true(domain_idle(&d));
	assert_string_equal(context_run(d.c, 5)->cell_name, "m.t");
	assert_string_equal(context_run(d.c, 6)->cell_name, "z.t");
	assert_int_equal(domain_ctl(&d, "run all"), 0);
	assert_true(domain_idle(&d));
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		assert_string_equal(context_run(d.c, 7 + i)->cell_name, all[i]);
}

static void run_all_ends_with_the_first_failure(void **state)
{
	domain_run(&d, "a.t", "echo a");
	domain_run(&d, "b.t", "over error");
	domain_run(&d, "c.t", "echo c");
	assert_int_equal(domain_ctl(&d, "run all"), 0);
	assert_int_equal(domain_cell(&d, "d.t", "echo d"), 7);
	assert_true(domain_idle(&d));
	status_is(4, ST_OK);
	status_is(5, ST_ERROR);
	status_is(6, ST_CANCELLED);
	assert_string_equal(context_run(d.c, 6)->reason, "a cell before it failed");
	status_is(7, ST_OK);
}

static void the_queue_has_its_limit(void **state)
{
	d.w.opt.queue = 3;
	busy();
	assert_int_equal(domain_cell(&d, "d.t", "echo d"), 4);
	assert_int_equal(domain_write(&d, "e.t", "echo e", 6), -ENOSPC);
	assert_int_equal(domain_ctl(&d, "run b.t"), -ENOSPC);
	assert_int_equal(d.c->nruns, 4);
	assert_int_equal(domain_ctl(&d, "interrupt"), 0);
	assert_true(domain_idle(&d));
	assert_non_null(domain_run(&d, "e.t", "echo e"));
}

static void run_all_takes_every_cell_there_is(void **state)
{
	d.w.opt.queue = 5000;
	for (int i = 0; i < 1100; i++) {
		auto_free char *name = xasprintf("c%d.t", i), *path = xasprintf("cells/%s", name);
		auto_free char *file = domain_path(&d, path);
		assert_int_equal(write_file(AT_FDCWD, file, "#| eval: false\n", 15, 0600), 0);
	}
	int err = domain_ctl(&d, "run all");
	assert_true(domain_idle(&d));
	/* All, or a refusal: not silently a part. */
	assert_int_equal(d.c->nruns, err ? 0 : 1100);
}

static void remove_takes_the_context(void **state)
{
	struct context *c;
	bool gone = false;

	assert_int_equal(world_mkdir(&d.w, "two", &c), 0);
	assert_int_equal(context_ctl(c, "stop\nremove\nclear\n", 18, &gone), 0);
	assert_true(gone);
	assert_null(world_context(&d.w, "two"));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_wrong_is_refused_and_nothing_is_done),
		TEST(interrupt_ends_what_runs_and_the_next_goes_on),
		TEST(cancel_takes_what_waits),
		TEST(cancel_all_while_a_kernel_starts),
		TEST(restart_is_of_one_language_or_all),
		TEST(stop_ends_all),
		TEST(clear_forgets_what_has_ended),
		TEST(run_takes_the_order_given_and_all_that_of_the_first_runs),
		TEST(run_all_ends_with_the_first_failure),
		TEST(the_queue_has_its_limit),
		TEST(run_all_takes_every_cell_there_is),
		TEST(remove_takes_the_context),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
