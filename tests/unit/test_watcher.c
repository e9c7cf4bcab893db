/* watcher: every name that is made, written, moved or removed below a directory is told of, or found. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include <cmocka.h>

#include "watcher.h"

static char base[40];
static int dir;
static struct loop *loop;
static struct worker *worker;
static struct watcher *w;
static struct map seen; /* paths, with how as a letter */
static bool is_settled, late;

static bool is_cache(const char *name, bool is_dir)
{
	return is_dir && !strcmp(name, "cache");
}

static void look(void *arg, const char *path, enum watcher_how how)
{
	char *key = xasprintf("%c%s", "BCNF"[how], path);

	if (map_get(&seen, key))
		free(key);
	else
		map_put(&seen, key, key);
}

static bool is_fresh(void *arg, const char *path)
{
	return strcmp(path, "own");
}

static void dir_gone(void *arg, const char *path)
{
	char *key = xasprintf("G%s", path);

	map_put(&seen, key, key);
}

static void settled(void *arg)
{
	is_settled = true;
	loop_quit(loop);
}

static const struct watcher_ops ops = { is_cache, look, is_fresh, dir_gone, NULL, settled };

static void on_late(void *arg)
{
	late = true;
	loop_quit(loop);
}

static void after(void *arg)
{
}

static void settle(void)
{
	struct timer patience = { 0 };

	is_settled = watcher_settle(w);
	timer_set(loop, &patience, 20000000, on_late, NULL);
	if (!is_settled)
		loop_run(loop, after, NULL);
	timer_stop(loop, &patience);
	assert_true(is_settled && !late);
}

static void forget(void)
{
	for (size_t i = 0; i < seen.n; i++)
		free(seen.entries[i].value);
	map_free(&seen);
	seen = (struct map){ 0 };
}

static int setup(void **state)
{
	snprintf(base, sizeof(base), "/tmp/cellfs-watcher-XXXXXX");
	assert_non_null(mkdtemp(base));
	dir = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	loop = loop_new();
	worker = worker_new(loop);
	assert_int_equal(mkdirat(dir, "before", 0700), 0);
	assert_int_equal(write_file(dir, "before/f", "x", 1, 0600), 0);
	w = watcher_new(loop, worker, fcntl(dir, F_DUPFD_CLOEXEC, 0), &ops, NULL);
	settle();
	forget();
	return 0;
}

static int teardown(void **state)
{
	watcher_free(w);
	worker_free(worker);
	loop_free(loop);
	forget();
	close(dir);
	return delete_tree(AT_FDCWD, base);
}

static void put(const char *path)
{
	auto_close int fd = openat(dir, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "x", 1), 1);
}

static bool saw(const char *what)
{
	return map_get(&seen, what);
}

static void what_was_there_before_is_not_told_of(void **state)
{
	settle();
	assert_int_equal(seen.n, 0);
}

static void files_are_told_of_when_made_closed_moved_and_removed(void **state)
{
	put("a");
	put("before/f");
	settle();
	assert_true(saw("Ba") && saw("Ca") && saw("Bbefore/f") && saw("Cbefore/f"));
	assert_int_equal(renameat(dir, "a", dir, "before/b"), 0);
	assert_int_equal(unlinkat(dir, "before/f", 0), 0);
	settle();
	assert_true(saw("Nbefore/b"));
	assert_true(saw("Cbefore/f"));
}

static void new_directories_are_listed_and_watched(void **state)
{
	assert_int_equal(mkdirat(dir, "d", 0700), 0);
	assert_int_equal(mkdirat(dir, "d/e", 0700), 0);
	put("d/e/f");
	settle();
	assert_true(saw("Nd/e/f"));
	put("d/e/g");
	settle();
	assert_true(saw("Cd/e/g"));
}

static void a_moved_directory_has_its_new_path(void **state)
{
	assert_int_equal(mkdirat(dir, "d", 0700), 0);
	assert_int_equal(mkdirat(dir, "d/e", 0700), 0);
	settle();
	assert_int_equal(renameat(dir, "d", dir, "z"), 0);
	put("z/e/f");
	settle();
	assert_true(saw("Gd"));
	assert_true(saw("Nz/e/f"));
	put("z/e/g");
	settle();
	assert_true(saw("Cz/e/g"));
	assert_false(saw("Cd/e/g"));
}

static void what_is_skipped_is_not_told_of(void **state)
{
	assert_int_equal(mkdirat(dir, "cache", 0700), 0);
	put("cache/f");
	assert_int_equal(mkdirat(dir, "d", 0700), 0);
	assert_int_equal(mkdirat(dir, "d/cache", 0700), 0);
	put("d/cache/f");
	settle();
	assert_int_equal(seen.n, 0);
}

static void in_a_directory_that_is_not_fresh_only_what_changed_is_found(void **state)
{
	assert_int_equal(mkdirat(dir, "own", 0700), 0);
	put("own/f");
	watcher_since(w, INT64_MAX);
	settle();
	assert_false(saw("Nown/f") || saw("Fown/f"));
}

/* Files have the time of the last tick: returns the first one that PATH is not of. */
static int64_t tick_after(const char *path)
{
	struct timespec now;
	struct stat st;

	assert_int_equal(fstatat(dir, path, &st, 0), 0);
	do
		clock_gettime(CLOCK_REALTIME_COARSE, &now);
	while (ts_to_us(now) <= ts_to_us(st.st_ctim));
	return ts_to_us(now);
}

static void a_walk_of_all_finds_what_changed_since(void **state)
{
	put("old");
	settle();
	watcher_since(w, tick_after("old"));
	put("before/new");
	settle();
	forget();
	watcher_walk_all(w);
	assert_true(watcher_is_walking(w));
	settle();
	assert_true(saw("Fbefore/new"));
	assert_false(saw("Fold"));
	assert_int_equal(watcher_blind(w), 0);
}

static void a_flood_is_not_lost(void **state)
{
	char path[32];

	watcher_since(w, 0);
	for (int i = 0; i < 30000; i++) { /* more than a queue holds by default */
		snprintf(path, sizeof(path), "before/n%d", i);
		close(openat(dir, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	}
	settle();
	for (int i = 0; i < 30000; i++) {
		snprintf(path, sizeof(path), "Bbefore/n%d", i);
		bool found = saw(path);
		*path = 'F';
		assert_true(found || saw(path));
	}
}

static void symbolic_links_lead_nowhere(void **state)
{
	assert_int_equal(symlinkat("/etc", dir, "etc"), 0);
	assert_int_equal(symlinkat("..", dir, "up"), 0);
	watcher_since(w, 0);
	watcher_walk_all(w);
	settle();
	for (size_t i = 0; i < seen.n; i++)
		assert_true(!strchr(seen.entries[i].key, '/') || strstr(seen.entries[i].key, "before/"));
}

static void one_that_goes_while_it_walks_does_no_harm(void **state)
{
	watcher_walk_all(w);
	assert_false(watcher_settle(w));
	watcher_free(w);
	w = NULL;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(what_was_there_before_is_not_told_of),
		TEST(files_are_told_of_when_made_closed_moved_and_removed),
		TEST(new_directories_are_listed_and_watched),
		TEST(a_moved_directory_has_its_new_path),
		TEST(what_is_skipped_is_not_told_of),
		TEST(in_a_directory_that_is_not_fresh_only_what_changed_is_found),
		TEST(a_walk_of_all_finds_what_changed_since),
		TEST(a_flood_is_not_lost),
		TEST(symbolic_links_lead_nowhere),
		TEST(one_that_goes_while_it_walks_does_no_harm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
