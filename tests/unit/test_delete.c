/* worker's delete_tree: whatever a cell may have left below a context goes, and nothing else. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "util.h"
#include "worker.h"

static char base[40];
static int dir;

static int setup(void **state)
{
	snprintf(base, sizeof(base), "/tmp/cellfs-delete-XXXXXX");
	assert_non_null(mkdtemp(base));
	dir = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(dir, "tree", 0700), 0);
	return 0;
}

/* The directory is empty but for what a test has put beside the tree. */
static int teardown(void **state)
{
	int err = rmdir(base);

	close(dir);
	return err;
}

static void put(const char *path)
{
	assert_int_equal(write_file(dir, path, "x", 1, 0600), 0);
}

static void is_gone(void)
{
	assert_int_equal(delete_tree(dir, "tree"), 0);
	assert_int_equal(faccessat(dir, "tree", F_OK, AT_SYMLINK_NOFOLLOW), -1);
}

static void a_tree_with_all_kinds_of_files_goes(void **state)
{
	put("tree/f");
	assert_int_equal(mkdirat(dir, "tree/a", 0700), 0);
	assert_int_equal(mkdirat(dir, "tree/a/b", 0700), 0);
	put("tree/a/b/g");
	assert_int_equal(mkfifoat(dir, "tree/fifo", 0600), 0);
	assert_int_equal(symlinkat("nowhere", dir, "tree/a/dangling"), 0);
	is_gone();
	assert_int_equal(delete_tree(dir, "tree"), -ENOENT);
}

static void ten_thousand_levels_go(void **state)
{
	auto_close int at = openat(dir, "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (int i = 0; i < 10000; i++) {
		assert_int_equal(mkdirat(at, "d", 0700), 0);
		if (i % 1000 == 0)
			assert_int_equal(write_file(at, "f", "x", 1, 0600), 0);
		int fd = openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(at);
		at = fd;
	}
	is_gone();
}

static void names_of_any_bytes_go(void **state)
{
	char longest[256];

	memset(longest, 'n', 255);
	longest[255] = 0;
	auto_free char *path = xasprintf("tree/%s", longest);
	assert_int_equal(mkdirat(dir, path, 0700), 0);
	path[10] = '\n';
	assert_int_equal(mkdirat(dir, path, 0700), 0);
	auto_free char *below = xasprintf("%s/%s", path, longest);
	assert_int_equal(mkdirat(dir, below, 0700), 0);
	put("tree/new\nline");
	put("tree/ -rf *");
	put("tree/\xff\xfe");
	/* Names that the walk itself makes. */
	assert_int_equal(mkdirat(dir, "tree/.deleted-0", 0700), 0);
	put("tree/.deleted-0/f");
	assert_int_equal(mkdirat(dir, "tree/z", 0700), 0);
	assert_int_equal(mkdirat(dir, "tree/z/.deleted-1", 0700), 0);
	put("tree/z/.deleted-1/f");
	is_gone();
}

static void links_are_not_followed(void **state)
{
	assert_int_equal(mkdirat(dir, "kept", 0700), 0);
	put("kept/f");
	assert_int_equal(symlinkat("../kept", dir, "tree/link"), 0);
	assert_int_equal(symlinkat("..", dir, "tree/up"), 0);
	is_gone();
	assert_int_equal(symlinkat("kept", dir, "tree"), 0);
	assert_int_equal(delete_tree(dir, "tree"), 0);
	assert_int_equal(faccessat(dir, "tree", F_OK, AT_SYMLINK_NOFOLLOW), -1);
	assert_int_equal(faccessat(dir, "kept/f", F_OK, 0), 0);
	put("tree");
	is_gone();
	assert_int_equal(delete_tree(dir, "kept"), 0);
}

/* Modes stop root nowhere: a user other than root is needed. */
static void as_another_user(void (*fn)(void))
{
	int status;

	if (geteuid() == 0)
		assert_int_equal(fchown(dir, 65534, 65534), 0);
	pid_t pid = fork();
	if (pid == 0) {
		if (geteuid() == 0 && (setgid(65534) || setuid(65534)))
			_exit(2);
		fn();
		_exit(faccessat(dir, "mine", F_OK, AT_SYMLINK_NOFOLLOW) == 0);
	}
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	assert_int_equal(unlinkat(dir, "tree", AT_REMOVEDIR), 0);
}

static void delete_shut(void)
{
	static const char *const subs[] = { "mine", "mine/a", "mine/a/b", "mine/a/b/c", "mine/a/b/c/d",
					    "mine/x", "mine/x/y" };

	for (size_t i = 0; i < ARRAY_SIZE(subs); i++)
		if (mkdirat(dir, subs[i], 0700))
			_exit(3);
	if (write_file(dir, "mine/x/y/f", "x", 1, 0) || write_file(dir, "mine/f", "x", 1, 0))
		_exit(4);
	for (size_t i = ARRAY_SIZE(subs); i--;)
		if (fchmodat(dir, subs[i], i % 2 ? 0 : 0400, 0))
			_exit(5);
	int err = delete_tree(dir, "mine");
	if (err) {
		fprintf(stderr, "delete_tree: %s\n", strerror(-err));
		_exit(6);
	}
}

static void directories_without_permissions_go(void **state)
{
	as_another_user(delete_shut);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_tree_with_all_kinds_of_files_goes),
		TEST(ten_thousand_levels_go),
		TEST(names_of_any_bytes_go),
		TEST(links_are_not_followed),
		TEST(directories_without_permissions_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
