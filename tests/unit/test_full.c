/* A full disk: every writer says so, nothing that was there is harmed, and it goes on when there is room
 * again. STATE_DIR is a small tmpfs of the test's own, for which it has to be root. */
#include <sched.h>
#include <sys/statfs.h>

#include "domain.h"

enum { DISK = 4 << 20 };

static struct domain d;
static bool possible;

static int setup(void **state)
{
	possible = domain_make(&d, DISK);
	if (possible)
		domain_open(&d);
	alarm(120);
	return 0;
}

static int teardown(void **state)
{
	if (possible)
		domain_close(&d);
	domain_unmake(&d);
	alarm(0);
	return 0;
}

/* Leaves LEFT bytes, about. */
static void fill(size_t left)
{
	auto_free char *path = xasprintf("%s/filler", d.opt.state_dir);
	auto_close int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	static const char page[4096] = { 1 };
	struct stat st;

	must(fd >= 0);
	while (write(fd, page, sizeof(page)) == sizeof(page))
		;
	must(fstat(fd, &st) == 0 && ftruncate(fd, st.st_size - MIN(st.st_size, (off_t)left)) == 0);
}

static void empty(void)
{
	auto_free char *path = xasprintf("%s/filler", d.opt.state_dir);

	must(unlink(path) == 0);
	d.w.reserve_retry = 0;
}

static struct run *ran(const char *name, const char *text)
{
	struct run *r = domain_run(&d, name, text);

	assert_non_null(r);
	return r;
}

#define DISK_OR_SKIP()                                                                             \
	do {                                                                                       \
		if (!possible)                                                                     \
			skip();                                                                    \
	} while (0)

static void works_again(uint64_t old)
{
	auto_buf struct buf now = { 0 }, later = { 0 };

	assert_int_equal(world_admit(&d.w), 0);
	struct run *r = ran("after.t", "echo room");
	auto_free char *out = domain_output(r, 0);
	assert_string_equal(out, "room\n");
	assert_int_equal(r->status, ST_OK);
	uint64_t number = r->number;
	domain_tell_run(&d, old, &now);
	domain_tell_run(&d, number, &now);
	domain_reopen(&d);
	domain_tell_run(&d, old, &later);
	domain_tell_run(&d, number, &later);
	assert_same(later.s, now.s);
}

static void output_that_does_not_fit_is_told(void **state)
{
	auto_buf struct buf before = { 0 }, after = { 0 };

	DISK_OR_SKIP();
	ran("a.t", "echo old");
	domain_tell_run(&d, 1, &before);
	fill(64 << 10);
	struct run *r = ran("b.t", "head -c 3000000 /dev/zero | tr '\\0' x");
	assert_int_equal(r->status, ST_ERROR);
	assert_non_null(strstr(r->reason, "of stdout could not be kept: No space left on device"));
	assert_int_equal(r->flow[0].total, 3000000);
	assert_int_equal(r->flow[0].lost, 3000000 - r->flow[0].x.total);
	assert_true(run_truncated(r));
	domain_tell_run(&d, 1, &after);
	assert_same(after.s, before.s);
	/* Its record is on disk, by the reserve; a new cell is refused. */
	auto_buf struct buf second = { 0 }, again = { 0 };
	domain_tell_run(&d, 2, &second);
	domain_reopen(&d);
	domain_tell_run(&d, 2, &again);
	assert_same(again.s, second.s);
	empty();
	works_again(1);
}

static void when_the_reserve_is_used_up_cells_are_refused(void **state)
{
	struct body *b;
	struct context *c;

	DISK_OR_SKIP();
	ran("a.t", "echo old");
	fill(0);
	/* The reserve carries the runs that are under way to their end. */
	for (int i = 0; i < 20 && !world_admit(&d.w); i++)
		notice(d.c, NULL, "%4000d", i);
	assert_int_equal(world_admit(&d.w), -ENOSPC);
	fill(0);
	assert_int_equal(body_create(d.c, B_CELLS, "b.t", 0644, &b), -ENOSPC);
	assert_int_equal(domain_write(&d, "a.t", "echo new", 8), -ENOSPC);
	assert_int_equal(world_mkdir(&d.w, "two", &c), -ENOSPC);
	assert_null(world_context(&d.w, "two"));
	assert_int_equal(d.c->nruns, 1);
	auto_buf struct buf status = { 0 };
	world_print_status(&d.w, &status);
	assert_non_null(strstr(status.s, "disk: full"));
	empty();
	works_again(1);
}

static void values_and_marks_say_that_the_disk_is_full(void **state)
{
	auto_buf struct buf b = { 0 };
	struct stat st;
	off_t off;

	DISK_OR_SKIP();
	ran("a.t", "echo old");
	assert_int_equal(domain_set(&d, B_CONFIG, "timeout", "5m\n"), 0);
	auto_buf struct buf big = { 0 };
	for (int i = 0; i < 60000; i++)
		buf_char(&big, 'x');
	fill(0);
	assert_int_equal(domain_set(&d, B_CONFIG, "timeout", "9m\n"), -ENOSPC);
	assert_int_equal(value_read(d.c, B_CONFIG, "timeout", &b, &st), 0);
	assert_string_equal(b.s, "5m\n");
	assert_int_equal(d.c->conf.v[C_TIMEOUT].v, 300000000);
	assert_int_equal(domain_set(&d, B_ENV, "A", big.s), -ENOSPC);
	assert_int_equal(value_read(d.c, B_ENV, "A", &b, &st), -ENOENT);
	for (int log = 0; log < L_COUNT; log++) {
		off_t end = d.c->store.end[log];
		assert_int_equal(store_append(&d.c->store, log, big.s, big.n, &off, false), -ENOSPC);
		assert_int_equal(d.c->store.end[log], end);
		assert_int_equal(fstat(store_fd(&d.c->store, log), &st), 0);
		assert_int_equal(st.st_size, end);
	}
	/* One page is what a small file takes: a mark beyond it. */
	int err = 0;
	for (int i = 0; i < 40 && !err; i++) {
		auto_free char *name = xasprintf("m%d.t", i);
		err = store_mark(&d.c->store, name, true);
	}
	assert_int_equal(err, -ENOSPC);
	for (size_t i = 0; i < d.c->store.ndirty; i++)
		if (d.c->store.dirty[i][0]) {
			auto_free char *name = xstrdup(d.c->store.dirty[i]);
			assert_int_equal(store_mark(&d.c->store, name, false), 0);
		}
	empty();
	works_again(1);
}

/* The journal itself cannot grow any more, not even by the reserve. */
static void a_run_ends_also_when_nothing_can_be_written(void **state)
{
	DISK_OR_SKIP();
	ran("a.t", "echo old");
	assert_int_equal(domain_cell(&d, "b.t", "sleep 0.5; echo new"), 2);
	while (!world_admit(&d.w)) {
		fill(0);
		notice(d.c, NULL, "%4000d", 1);
	}
	fill(0);
	/* To the last byte of the last page. */
	while (store_append(&d.c->store, L_RES, "x", 1, NULL, false) == 0 ||
	       store_append(&d.c->store, L_JOURNAL, "\n", 1, NULL, false) == 0)
		;
	assert_true(domain_idle(&d));
	struct run *r = context_run(d.c, 2);
	assert_non_null(r);
	assert_true(run_ended(r));
	assert_int_equal(d.c->nqueued, 0);
	assert_null(d.c->active);
	auto_buf struct buf before = { 0 }, after = { 0 };
	domain_tell_run(&d, 1, &before);
	domain_close(&d);
	auto_free char *path = xasprintf("%s/filler", d.opt.state_dir);
	assert_int_equal(unlink(path), 0);
	domain_open(&d);
	domain_tell_run(&d, 1, &after);
	assert_same(after.s, before.s);
	r = context_run(d.c, 2);
	assert_non_null(r);
	assert_true(r->status == ST_LOST || r->status == ST_CANCELLED);
	works_again(1);
}

static void displays_that_do_not_fit_are_left_out(void **state)
{
	DISK_OR_SKIP();
	ran("a.t", "echo old");
	assert_int_equal(domain_cell(&d, "b.t", "sleep 0.3; i=$(head -c 30000 /dev/zero | tr '\\0' x)\n"
				     "show display '\"data\":{\"text/plain\":\"'$i'\"}'\n"
				     "show result '\"data\":{\"text/plain\":\"small\"}'"), 2);
	fill(8 << 10);
	assert_true(domain_idle(&d));
	struct run *r = context_run(d.c, 2);
	assert_int_equal(r->status, ST_OK);
	assert_null(domain_file(r, "display-1.txt"));
	auto_buf struct buf events = { 0 };
	assert_int_equal(run_read_extents(d.c, L_JOURNAL, &r->events, 1 << 20, &events), 0);
	assert_non_null(strstr(events.s, "the format text/plain of display 1 is left out: No space left on device"));
	empty();
	works_again(1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(output_that_does_not_fit_is_told),
		TEST(when_the_reserve_is_used_up_cells_are_refused),
		TEST(values_and_marks_say_that_the_disk_is_full),
		TEST(a_run_ends_also_when_nothing_can_be_written),
		TEST(displays_that_do_not_fit_are_left_out),
	};

	/* What is mounted goes with this process, however it ends. */
	if (unshare(CLONE_NEWNS) == 0)
		must(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
