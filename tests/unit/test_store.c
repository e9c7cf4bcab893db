/* store: append-only files that a failed write leaves as they were, extents, marks. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "store.h"

static char base[] = "/tmp/cellfs-store-XXXXXX";
static int root = -1, rooms;
static struct stores all;
static struct store s;

static bool no_room(void *arg)
{
	rooms++;
	return false;
}

static int setup(void **state)
{
	char name[] = "/tmp/cellfs-store-XXXXXX";

	memcpy(base, name, sizeof(base));
	assert_non_null(mkdtemp(base));
	root = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(root, "one", 0700), 0);
	all = (struct stores){ .max_open = 16, .make_room = no_room };
	list_init(&all.open);
	store_init(&s, &all, root, "one");
	assert_int_equal(store_size(&s), 0);
	rooms = 0;
	return 0;
}

static int teardown(void **state)
{
	store_free(&s);
	assert_int_equal(all.nopen, 0);
	assert_int_equal(delete_tree(AT_FDCWD, base), 0);
	close(root);
	return 0;
}

static void reopen(void)
{
	store_free(&s);
	store_init(&s, &all, root, "one");
	assert_int_equal(store_size(&s), 0);
}

static void holds(enum store_log log, off_t off, const char *text)
{
	auto_buf struct buf b = { 0 };

	assert_int_equal(store_read(&s, log, off, strlen(text), &b), 0);
	assert_memory_equal(b.s, text, strlen(text));
}

static void what_is_appended_is_read_at_its_offset(void **state)
{
	struct iovec iov[] = { { "ab", 2 }, { "", 0 }, { "cde", 3 } };
	auto_buf struct buf b = { 0 };
	off_t off;

	assert_int_equal(store_append(&s, L_OUT, "hello", 5, &off, false), 0);
	assert_int_equal(off, 0);
	assert_int_equal(store_appendv(&s, L_OUT, iov, 3, &off, false), 0);
	assert_int_equal(off, 5);
	assert_int_equal(s.end[L_OUT], 10);
	assert_int_equal(s.end[L_ERR], 0);
	holds(L_OUT, 3, "loabcde");
	reopen();
	assert_int_equal(s.end[L_OUT], 10);
	holds(L_OUT, 0, "helloabcde");
}

static void reads_past_the_end_are_errors(void **state)
{
	static const struct {
		off_t off;
		size_t len;
	} bad[] = { { 0, 6 }, { 5, 1 }, { 6, 0 }, { -1, 1 }, { 0, (size_t)-1 }, { 0, (size_t)-4 },
		    { 2, SIZE_MAX / 2 }, { 4, (size_t)INT64_MAX } };
	auto_buf struct buf b = { 0 };

	assert_int_equal(store_append(&s, L_OUT, "hello", 5, NULL, false), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(store_read(&s, L_OUT, bad[i].off, bad[i].len, &b), -EIO);
	assert_int_equal(b.n, 0);
	assert_int_equal(store_read(&s, L_OUT, 5, 0, &b), 0);
	/* The file was cut behind our back. */
	assert_int_equal(ftruncate(store_fd(&s, L_OUT), 2), 0);
	assert_int_equal(store_read(&s, L_OUT, 0, 5, &b), -EIO);
}

/* RLIMIT_FSIZE makes a write end in its middle, as a full disk does. */
static void a_write_that_fails_leaves_the_log_as_it_was(void **state)
{
	struct rlimit was, small;
	struct stat st, after_append;
	off_t off = 77;
	int p[2], from;

	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(store_append(&s, L_JOURNAL, "line\n", 5, NULL, true), 0);
	from = openat(root, "payload", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(pwrite_all(from, "0123456789", 10, 0), 0);
	assert_int_equal(pipe(p), 0);
	assert_int_equal(write(p[1], "0123456789", 10), 10);
	getrlimit(RLIMIT_FSIZE, &was);
	small = (struct rlimit){ 8, was.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	int append = store_append(&s, L_JOURNAL, "too long\n", 9, &off, true);
	assert_int_equal(fstat(store_fd(&s, L_JOURNAL), &after_append), 0);
	int copy = store_copy(&s, L_JOURNAL, from, 10, &off);
	setrlimit(RLIMIT_FSIZE, &was);

	assert_int_equal(append, -EFBIG);
	assert_int_equal(after_append.st_size, 5);
	assert_int_equal(copy, -EFBIG);
	assert_int_equal(off, 77);
	assert_int_equal(rooms, 0); /* the reserve is for a full disk only */
	assert_int_equal(fstat(store_fd(&s, L_JOURNAL), &st), 0);
	assert_int_equal(st.st_size, 5);
	assert_int_equal(s.end[L_JOURNAL], 5);
	assert_int_equal(store_append(&s, L_JOURNAL, "next\n", 5, &off, true), 0);
	assert_int_equal(off, 5);
	holds(L_JOURNAL, 0, "line\nnext\n");
	assert_int_equal(store_splice(&s, L_JOURNAL, p[0], 6), 6);
	assert_int_equal(store_copy(&s, L_JOURNAL, from, 10, &off), 0);
	holds(L_JOURNAL, 0, "line\nnext\n0123450123456789");
	assert_int_equal(store_copy(&s, L_JOURNAL, from, 11, &off), -EIO);
	assert_int_equal(s.end[L_JOURNAL], 26);
	close(p[0]);
	close(p[1]);
	close(from);
}

static void a_pipe_goes_into_the_log(void **state)
{
	int p[2];

	assert_int_equal(pipe2(p, O_NONBLOCK | O_CLOEXEC), 0);
	assert_int_equal(store_splice(&s, L_OUT, p[0], 100), -EAGAIN);
	assert_int_equal(write(p[1], "bytes", 5), 5);
	assert_int_equal(store_splice(&s, L_OUT, p[0], 100), 5);
	close(p[1]);
	assert_int_equal(store_splice(&s, L_OUT, p[0], 100), 0);
	holds(L_OUT, 0, "bytes");
	close(p[0]);
}

static void punched_bytes_read_as_nul_and_leave_the_disk(void **state)
{
	auto_buf struct buf big = { 0 }, b = { 0 };
	struct stat before, after;

	for (int i = 0; i < 1 << 20; i++)
		buf_char(&big, 'x');
	assert_int_equal(store_append(&s, L_RES, big.s, big.n, NULL, false), 0);
	assert_int_equal(fstat(store_fd(&s, L_RES), &before), 0);
	store_punch(&s, L_RES, 100, (1 << 20) - 200);
	store_punch(&s, L_RES, 50, 0);
	store_punch(&s, L_RES, 50, -5);
	assert_int_equal(fstat(store_fd(&s, L_RES), &after), 0);
	assert_int_equal(store_read(&s, L_RES, 0, 1 << 20, &b), 0);
	for (int i = 0; i < 1 << 20; i++)
		if (b.s[i] != (i < 100 || i >= (1 << 20) - 100 ? 'x' : 0))
			fail_msg("byte %d", i);
	assert_int_equal(after.st_size, before.st_size);
	assert_true(after.st_blocks < before.st_blocks);
}

static void a_cut_log_goes_on_from_there(void **state)
{
	off_t off;

	assert_int_equal(store_append(&s, L_IDX, "0123456789", 10, NULL, true), 0);
	assert_int_equal(store_cut(&s, L_IDX, 4), 0);
	assert_int_equal(store_append(&s, L_IDX, "x", 1, &off, true), 0);
	assert_int_equal(off, 4);
	assert_int_equal(store_overwrite(&s, L_IDX, 1, "yy", 2), 0);
	holds(L_IDX, 0, "0yy3x");
	assert_int_equal(s.end[L_IDX], 5);
}

/* The positions of a stream and the offsets in its log, against a plain array. */
static void extents_find_every_byte(void **state)
{
	static off_t model[20000];

	srand(4);
	for (int round = 0; round < 50; round++) {
		struct extents x = { 0 }, copy;
		size_t n = 0, pieces = 0;
		off_t at = 0, len;

		for (int k = rand() % 200; k; k--) {
			off_t gap = rand() % 3 ? 0 : rand() % 50, size = rand() % 40;
			pieces += size && (gap || !n || model[n - 1] + 1 != at);
			at += gap;
			extents_add(&x, at, size);
			for (off_t i = 0; i < size; i++)
				model[n++] = at + i;
			at += size;
		}
		extents_add(&x, 5, 0);
		extents_add(&x, 5, -3);
		extents_copy(&copy, &x);
		assert_int_equal(copy.total, n);
		assert_true(x.n <= pieces + 1);
		for (size_t pos = 0; pos < n; pos++) {
			assert_int_equal(extents_find(&copy, pos, &len), model[pos]);
			assert_true(len > 0 && pos + len <= n);
			assert_int_equal(model[pos + len - 1], model[pos] + len - 1);
		}
		assert_int_equal(extents_find(&x, n, &len), -1);
		extents_free(&x);
		extents_free(&copy);
		assert_int_equal(x.n, 0);
	}
}

static void bytes_in_a_row_are_one_extent(void **state)
{
	struct extents x = { 0 };

	for (int i = 0; i < 1000; i++)
		extents_add(&x, 10 + 3 * i, 3);
	assert_int_equal(x.n, 1);
	assert_int_equal(extents_at(&x, 0)->len, 3000);
	extents_add(&x, 5000, 1);
	extents_add(&x, 5001, 1);
	assert_int_equal(x.n, 2);
	extents_free(&x);
}

static int marked(const char *name)
{
	int n = 0;

	for (size_t i = 0; i < s.ndirty; i++)
		n += !strcmp(s.dirty[i], name);
	return n;
}

static void marks_are_there_after_a_crash(void **state)
{
	char longest[256];

	memset(longest, 'n', 255);
	longest[255] = 0;
	assert_int_equal(store_marks_load(&s), 0);
	assert_int_equal(store_mark(&s, "a.t", true), 0);
	assert_int_equal(store_mark(&s, "b.t", true), 0);
	assert_int_equal(store_mark(&s, "a.t", true), 0);
	assert_int_equal(store_mark(&s, longest, true), 0);
	assert_int_equal(store_mark(&s, "never", false), 0);
	assert_int_equal(store_mark(&s, "a.t", false), 0);
	reopen();
	assert_int_equal(store_marks_load(&s), 0);
	assert_int_equal(marked("a.t"), 0);
	assert_int_equal(marked("b.t"), 1);
	assert_int_equal(marked(longest), 1);
	/* A free slot is used again. */
	size_t slots = s.ndirty;
	assert_int_equal(store_mark(&s, "c.t", true), 0);
	assert_int_equal(s.ndirty, slots);
	reopen();
	assert_int_equal(store_marks_load(&s), 0);
	assert_int_equal(marked("c.t"), 1);
	assert_int_equal(marked("b.t"), 1);
}

static void a_torn_mark_is_no_mark(void **state)
{
	assert_int_equal(store_mark(&s, "a.t", true), 0);
	assert_int_equal(pwrite_all(s.dirty_fd, "torn", 4, 256), 0);
	reopen();
	assert_int_equal(store_marks_load(&s), 0);
	assert_int_equal(s.ndirty, 1);
	assert_int_equal(marked("a.t"), 1);
}

static void many_stores_need_few_descriptors(void **state)
{
	static struct store many[50];
	struct loop *l = loop_new();
	struct worker *w = worker_new(l);
	char name[16];

	/* Those that are not synced yet stay open: the sync needs their descriptors. */
	all.max_open = 4;
	for (int i = 0; i < 50; i++) {
		snprintf(name, sizeof(name), "m%d", i);
		assert_int_equal(mkdirat(root, name, 0700), 0);
		store_init(&many[i], &all, root, name);
		assert_int_equal(store_size(&many[i]), 0);
		assert_int_equal(store_append(&many[i], L_OUT, name, strlen(name), NULL, true), 0);
		store_sync(&many[i], w, NULL, NULL);
		assert_true(all.nopen <= 4);
	}
	for (int i = 0; i < 50; i++) {
		auto_buf struct buf b = { 0 };
		snprintf(name, sizeof(name), "m%d", i);
		assert_int_equal(store_append(&many[i], L_OUT, "+", 1, NULL, true), 0);
		assert_int_equal(store_read(&many[i], L_OUT, 0, strlen(name) + 1, &b), 0);
		assert_memory_equal(b.s, name, strlen(name));
		store_sync(&many[i], w, NULL, NULL);
		assert_true(all.nopen <= 4);
	}
	for (int i = 0; i < 50; i++)
		store_free(&many[i]);
	worker_free(w);
	loop_free(l);
}

static void a_link_in_the_place_of_a_log_is_not_followed(void **state)
{
	store_close(&s);
	assert_int_equal(unlinkat(root, "one/stdout.log", 0), 0);
	assert_int_equal(symlinkat("/etc/passwd", root, "one/stdout.log"), 0);
	assert_int_equal(store_append(&s, L_OUT, "x", 1, NULL, false), -ELOOP);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_is_appended_is_read_at_its_offset),
		TEST(reads_past_the_end_are_errors),
		TEST(a_write_that_fails_leaves_the_log_as_it_was),
		TEST(a_pipe_goes_into_the_log),
		TEST(punched_bytes_read_as_nul_and_leave_the_disk),
		TEST(a_cut_log_goes_on_from_there),
		TEST(extents_find_every_byte),
		TEST(bytes_in_a_row_are_one_extent),
		TEST(marks_are_there_after_a_crash),
		TEST(a_torn_mark_is_no_mark),
		TEST(many_stores_need_few_descriptors),
		TEST(a_link_in_the_place_of_a_log_is_not_followed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
