/* usage: a gauge of one process, made here; when a run is counted; what is believed of the meter. */
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "opened.h"

enum { MIB = 1 << 20, LARGE = 64 * MIB };

/* A driver: at each byte it takes, uses up 100 ms of a CPU and, at 'm', for a moment some memory. */
static void drive(int in, int out)
{
	char c;

	while (read(in, &c, 1) == 1) {
		clock_t until = clock() + CLOCKS_PER_SEC / 10;
		void *p = mmap(NULL, LARGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (c == 'm')
			memset(p, 1, LARGE);
		while (clock() < until)
			;
		munmap(p, LARGE);
		if (write(out, &c, 1) != 1)
			break;
	}
	_exit(0);
}

static struct {
	struct kernel k;
	struct run r;
	int in[2], out[2];
} t;

static void begin(void)
{
	t.r = (struct run){ .ctx = d.c, .kernel = &t.k, .duration_us = 3600000000 };
	usage_begin(&t.r);
}

static void works(char how)
{
	assert_int_equal(write(t.in[1], &how, 1), 1);
	assert_int_equal(read(t.out[0], &how, 1), 1);
}

static void start(void)
{
	t.k = (struct kernel){ .ctx = d.c };
	must(pipe2(t.in, O_CLOEXEC) == 0 && pipe2(t.out, O_CLOEXEC) == 0);
	t.k.pid = fork();
	must(t.k.pid >= 0);
	if (!t.k.pid) {
		close(t.in[1]);
		drive(t.in[0], t.out[1]);
	}
	t.k.driver = syscall(SYS_pidfd_open, t.k.pid, 0);
	must(t.k.driver >= 0);
	works('-');
}

static void ends(void)
{
	drop_fd(&t.in[1]);
	assert_int_equal(waitpid(t.k.pid, NULL, 0), t.k.pid);
}

static void stop(void)
{
	if (t.in[1] >= 0)
		ends();
	close(t.in[0]);
	close(t.out[0]);
	close(t.out[1]);
	close(t.k.driver);
	gauge_close(&t.k.gauge);
}

static void a_run_has_what_the_driver_took_meanwhile(void **state)
{
	start();
	begin();
	works('m');
	usage_end(&t.r);
	assert_true(t.r.cpu_us >= 90000 && t.r.max_rss >= LARGE);
	begin();
	usage_end(&t.r); /* as high as before, so it is not known to be of this one */
	assert_true(t.r.cpu_us < 90000 && t.r.max_rss > 0 && t.r.max_rss < LARGE);
	stop();
}

static void without_a_descriptor_the_clock_is_still_read(void **state)
{
	start();
	begin();
	drop_fd(&t.k.gauge.status);
	works('m');
	usage_end(&t.r);
	assert_true(t.r.cpu_us >= 90000);
	assert_int_equal(t.r.max_rss, 0);
	stop();
}

static void what_was_not_known_at_the_start_is_not_charged(void **state)
{
	start();
	works('-');
	begin();
	t.k.gauge.own = t.k.gauge.all = -1;
	usage_end(&t.r);
	assert_int_equal(t.r.cpu_us, 0);
	stop();
}

static void of_a_driver_that_is_gone_only_the_host_tells(void **state)
{
	start();
	begin();
	works('-');
	ends();
	usage_end(&t.r);
	assert_int_equal(t.r.cpu_us, 0);
	t.k.gauge.dead_cpu = t.k.gauge.all + 70000;
	t.k.gauge.dead_rss = 5 * MIB;
	usage_end(&t.r);
	assert_int_equal(t.r.cpu_us, 70000);
	assert_int_equal(t.r.max_rss, 5 * MIB);
	stop();
}

static void removed_files_alone_are_not_the_disk(void **state)
{
	struct metered *x = &d.c->metered;

	d.c->disk_seen = 30 * MIB;
	x->seen = false;
	x->disk = (struct meter_usage){ 4096, 1 };
	assert_false(usage_see_disk(d.c));
	assert_int_equal(d.c->disk_seen, 30 * MIB);
	x->seen = true;
	assert_true(usage_see_disk(d.c));
	assert_int_equal(d.c->disk_seen, 4096);
	assert_false(usage_see_disk(d.c));
	x->disk = (struct meter_usage){ 0 }; /* nothing is left, and that is known */
	assert_true(usage_see_disk(d.c));
}

static void what_the_disk_was_is_there_after_a_start(void **state)
{
	struct metered *x = &d.c->metered;

	x->seen = true;
	x->disk = (struct meter_usage){ 30 * MIB, 3 };
	assert_true(usage_see_disk(d.c)); /* somebody saw it before the stop; no run was ever made */
	domain_reopen(&d);
	assert_int_equal(d.c->disk_seen, 30 * MIB);
	assert_non_null(ran("a.t", "echo 1\n"));
	d.c->metered.seen = false;
	int64_t seen = d.c->disk_seen;
	domain_reopen(&d);
	assert_int_equal(d.c->disk_seen, seen);
	assert_int_equal(d.c->usage.runs, 1);
}

/* The index must not count what it does not know as ended: a crash would count it again. */
static bool counted_with_its_end(struct domain *dom)
{
	const struct rec *rec = context_rec(dom->c, 1);

	must(dom->c->usage.runs == (rec->status != ST_NONE));
	return !context_busy(dom->c);
}

static void a_run_is_counted_with_its_end(void **state)
{
	for (int i = 0; i < 2; i++) {
		d.opt.sync_always = i;
		domain_close(&d);
		domain_unmake(&d);
		must(domain_make(&d, 0));
		d.opt.sync_always = i;
		domain_open(&d);
		assert_int_equal(domain_cell(&d, "a.t", "echo 1\n"), 1);
		assert_true(domain_until(&d, counted_with_its_end));
		assert_int_equal(d.c->usage.runs, 1);
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_run_has_what_the_driver_took_meanwhile),
		TEST(without_a_descriptor_the_clock_is_still_read),
		TEST(what_was_not_known_at_the_start_is_not_charged),
		TEST(of_a_driver_that_is_gone_only_the_host_tells),
		TEST(removed_files_alone_are_not_the_disk),
		TEST(what_the_disk_was_is_there_after_a_start),
		TEST(a_run_is_counted_with_its_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
