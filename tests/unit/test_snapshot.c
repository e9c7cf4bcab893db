/* snapshot and mime: files go into a log as they are, nothing else does, and a damaged table is refused. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "gate.h"
#include "snapshot.h"
#include "worker.h"

static char base[40];
static int dir;
static struct mime *mime;

static int setup(void **state)
{
	snprintf(base, sizeof(base), "/tmp/cellfs-snapshot-XXXXXX");
	assert_non_null(mkdtemp(base));
	dir = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(dir, "ws", 0700), 0);
	mime = mime_new();
	return 0;
}

static int teardown(void **state)
{
	mime_free(mime);
	close(dir);
	return delete_tree(AT_FDCWD, base);
}

static bool link_ok(const char *path, const char *target)
{
	return gate_link_stays(target, 0);
}

static void put(const char *path, const char *text, size_t n)
{
	assert_int_equal(write_file(dir, path, text, n, 0600), 0);
}

/* Keeps the files of NAMES behind START bytes of the log. */
static struct snapshot snap(const char *const *names, size_t n, off_t start)
{
	struct snapshot s = { .root = openat(dir, "ws", O_PATH | O_DIRECTORY), .log = openat(dir, "log", O_RDWR | O_CREAT, 0600),
			      .start = start, .end = start, .v = xcalloc(n, sizeof(*s.v)), .n = n, .mime = mime,
			      .patience = 1000000, .link_ok = link_ok };

	for (size_t i = 0; i < n; i++)
		s.v[i].path = xstrdup(names[i]);
	do
		assert_int_equal(snapshot_work(&s), 0);
	while (s.more);
	return s;
}

static void holds(const struct snapshot *s, size_t i, const char *text, const char *type)
{
	char buf[64] = "";

	assert_int_equal(s->v[i].size, strlen(text));
	assert_int_equal(pread(s->log, buf, strlen(text), s->v[i].off), strlen(text));
	assert_string_equal(buf, text);
	assert_string_equal(s->v[i].mime, type);
}

static void count(void *arg, const struct snap_file *f)
{
	(*(size_t *)arg)++;
}

static void files_and_links_that_stay_are_kept(void **state)
{
	static const char *const names[] = { "a.csv", "empty", "fifo", "gone", "in", "j", "out" };

	put("log", "before", 6);
	put("ws/a.csv", "a,b,c\n1,2,3\n4,5,6\n", 18);
	put("ws/empty", "", 0);
	put("ws/j", "{\"a\": 1}", 8);
	assert_int_equal(mkfifoat(dir, "ws/fifo", 0600), 0);
	assert_int_equal(symlinkat("a.csv", dir, "ws/in"), 0);
	assert_int_equal(symlinkat("/etc/passwd", dir, "ws/out"), 0);
	struct snapshot s = snap(names, ARRAY_SIZE(names), 6);
	holds(&s, 0, "a,b,c\n1,2,3\n4,5,6\n", "text/csv");
	holds(&s, 1, "", "inode/x-empty");
	holds(&s, 4, "a.csv", "inode/symlink");
	holds(&s, 5, "{\"a\": 1}", "application/json");
	assert_true(s.v[2].type == SNAP_GONE && s.v[3].type == SNAP_GONE && s.v[6].type == SNAP_GONE);
	auto_buf struct buf b = { 0 };
	assert_int_equal(read_file(dir, "log", 1 << 20, &b), 0);
	assert_int_equal(b.n, s.end);
	assert_memory_equal(b.s, "before", 6);
	size_t n = 0;
	assert_int_equal(snapshot_read(b.s + s.table, s.end - s.table, count, &n), 0);
	assert_int_equal(n, 4);
	snapshot_clear(&s);
}

static void what_a_crash_left_behind_the_end_goes(void **state)
{
	static const char *const names[] = { "f" };

	put("log", "kept garbage", 12);
	put("ws/f", "x", 1);
	struct snapshot s = snap(names, 1, 4);
	auto_buf struct buf b = { 0 };
	assert_int_equal(read_file(dir, "log", 1 << 20, &b), 0);
	assert_null(memmem(b.s, b.n, "garbage", 7));
	assert_memory_equal(b.s, "kept", 4);
	snapshot_clear(&s);
}

static void past_the_limit_only_the_name_is_kept(void **state)
{
	static const char *const names[] = { "big", "small" };

	put("ws/big", "", 0);
	put("ws/small", "s", 1);
	auto_close int fd = openat(dir, "ws/big", O_WRONLY | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, SNAP_COPY_MAX + 1), 0);
	struct snapshot s = snap(names, 2, 0);
	assert_true(s.v[0].type == SNAP_LIVE || s.copied == 0 || s.v[0].type == SNAP_FILE);
	if (s.v[0].type == SNAP_LIVE)
		assert_int_equal(s.v[0].size, SNAP_COPY_MAX + 1);
	else /* it was reflinked */
		assert_true(s.copied <= 1);
	holds(&s, 1, "s", "application/octet-stream");
	snapshot_clear(&s);
}

static void a_log_that_takes_nothing_keeps_nothing(void **state)
{
	struct snapshot s = { .root = openat(dir, "ws", O_PATH | O_DIRECTORY), .log = open("/dev/full", O_RDWR), .n = 1,
			      .v = xcalloc(1, sizeof(*s.v)), .mime = mime, .link_ok = link_ok };

	put("ws/f", "x", 1);
	s.v[0].path = xstrdup("f");
	assert_true(snapshot_work(&s) < 0);
	assert_true(!s.more && s.end == s.start);
	snapshot_clear(&s);
}

static void a_damaged_table_is_refused(void **state)
{
	static const char *const bad[] = { "f", "f 0 1 a/b", "f 0 1 a/b\0", "x 0 1 a/b\0p\0", "f -1 1 a/b\0p\0", "f 0 -1 a/b\0p\0",
					   "f 0 1\0p\0", "\0\0\0\0" };
	static const size_t len[] = { 1, 9, 10, 12, 13, 13, 8, 4 };
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		auto_free char *copy = malloc(len[i]);
		memcpy(copy, bad[i], len[i]);
		assert_int_equal(snapshot_read(copy, len[i], count, &n), -EIO);
	}
	assert_int_equal(n, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(files_and_links_that_stay_are_kept),
		TEST(what_a_crash_left_behind_the_end_goes),
		TEST(past_the_limit_only_the_name_is_kept),
		TEST(a_log_that_takes_nothing_keeps_nothing),
		TEST(a_damaged_table_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
