/* meter: what directories and processes use is counted, and who is over a limit is told. */
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "meter.h"

#define MIB (1LL << 20)

static char base[40];
static int dir;

static int setup(void **state)
{
	snprintf(base, sizeof(base), "/tmp/cellfs-meter-XXXXXX");
	assert_non_null(mkdtemp(base));
	dir = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(mkdirat(dir, "tree", 0700), 0);
	alarm(60);
	return 0;
}

static int teardown(void **state)
{
	alarm(0);
	int err = delete_tree(dir, "tree");
	close(dir);
	return err ? err : rmdir(base);
}

static int the_tree(void)
{
	int fd = openat(dir, "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* A file with SIZE bytes that take blocks. */
static void fill(int at, const char *name, int64_t size)
{
	auto_close int fd = openat(at, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(posix_fallocate(fd, 0, size), 0);
}

static void is(int64_t bytes_min, int64_t bytes_max, int64_t want_files)
{
	auto_close int tree = the_tree();
	int64_t bytes, files;

	assert_int_equal(meter_scan_once(tree, &bytes, &files), 0);
	if (bytes < bytes_min || bytes > bytes_max || files != want_files)
		fail_msg("%lld bytes in %lld files", (long long)bytes, (long long)files);
}

/* ---- the scan ---- */

static void blocks_are_counted_not_lengths(void **state)
{
	auto_close int tree = the_tree();

	is(0, 0, 0);
	fill(tree, "full", 3 * MIB);
	is(3 * MIB, 3 * MIB + 65536, 1);
	auto_close int sparse = openat(tree, "sparse", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(sparse, 1LL << 40), 0);
	is(3 * MIB, 3 * MIB + 65536, 2);
	assert_int_equal(mkfifoat(tree, "fifo", 0600), 0);
	assert_int_equal(mkdirat(tree, "new\nline\xff", 0700), 0);
	is(3 * MIB, 3 * MIB + 65536, 4);
}

static void a_file_with_links_counts_once(void **state)
{
	auto_close int tree = the_tree();

	fill(tree, "a", 4 * MIB);
	assert_int_equal(mkdirat(tree, "d", 0700), 0);
	assert_int_equal(linkat(tree, "a", tree, "b", 0), 0);
	assert_int_equal(linkat(tree, "a", tree, "d/c", 0), 0);
	assert_int_equal(linkat(tree, "a", tree, "d/d", 0), 0);
	is(4 * MIB, 4 * MIB + 65536, 5);
}

static void links_are_not_followed(void **state)
{
	auto_close int tree = the_tree();

	assert_int_equal(symlinkat("/", tree, "root"), 0);
	assert_int_equal(symlinkat(".", tree, "self"), 0);
	assert_int_equal(symlinkat("..", tree, "up"), 0);
	is(0, 65536, 3);
}

static int make_dir(int at, const char *name)
{
	assert_int_equal(mkdirat(at, name, 0700), 0);
	int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	close(openat(fd, "file", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	return fd;
}

/* Here and there a directory with a file before and behind the way down: none is missed or seen twice. */
static void ten_thousand_levels_and_what_lies_beside(void **state)
{
	enum { LEVELS = 10000, EACH = 50 };
	int at = the_tree();

	for (int i = 0; i < LEVELS; i++) {
		if (i % EACH == 0) {
			close(make_dir(at, "a"));
			close(make_dir(at, "c"));
		}
		int fd = make_dir(at, "b");
		close(at);
		at = fd;
	}
	close(at);
	is(0, INT64_MAX, LEVELS * 2 + LEVELS / EACH * 4);
}

static void wide_directories_deep_down(void **state)
{
	int at = the_tree();
	char name[300];

	for (int i = 0; i < 40; i++) {
		assert_int_equal(mkdirat(at, "d", 0700), 0);
		int fd = openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(at);
		at = fd;
		if (i != 1 && i != 38)
			continue;
		for (int k = 0; k < 300; k++) { /* more than a buffer of entries */
			snprintf(name, sizeof(name), "%0100d", k);
			close(make_dir(at, name));
		}
	}
	close(at);
	is(0, INT64_MAX, 40 + 2 * 600);
}

/* Moves directories of a tree of 40 levels to and fro, out of and into one another. */
static void move_about(int tree)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (fchdir(tree))
		_exit(1);
	for (unsigned n = 0;; n++) {
		char path[100] = "d/d";
		for (unsigned i = n % 30; i; i--)
			memcpy(path + strlen(path), "/d", 3);
		rename(path, "e");
		rename("e", n % 2 ? "d/e" : path);
		rename("d/e", path);
	}
}

/* Each scan ends, and never leaves the tree. */
static void a_tree_that_changes_is_walked_to_an_end(void **state)
{
	auto_close int tree = the_tree();
	int64_t bytes, files, end = mono_us() + 2000000;
	int at = the_tree();

	for (int i = 0; i < 40; i++) {
		int fd = make_dir(at, "d");
		close(at);
		at = fd;
	}
	close(at);
	pid_t pid = fork();
	if (!pid)
		move_about(tree);
	while (mono_us() < end) {
		assert_int_equal(meter_scan_once(tree, &bytes, &files), 0);
		assert_in_range(files, 1, 2000); /* what is moved may be seen more than once */
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void only_a_directory_is_scanned(void **state)
{
	auto_close int tree = the_tree();
	int64_t bytes, files;

	fill(tree, "f", 1);
	auto_close int fd = openat(tree, "f", O_RDONLY | O_CLOEXEC);
	assert_int_equal(meter_scan_once(fd, &bytes, &files), -ENOTDIR);
	assert_int_equal(meter_scan_once(-1, &bytes, &files), -EBADF);
}

/* ---- the meter ---- */

static struct loop *l;
static struct worker *w;
static struct meter *m;
static struct metered x;
static int told[4];
static int64_t amount[4];

static void on_over(void *arg, uint64_t id, enum meter_over what, int64_t n)
{
	assert_int_equal(id, 7);
	told[what]++;
	amount[what] = n;
	loop_quit(l);
}

static void nothing(void *arg)
{
}

static void quit(void *arg)
{
	loop_quit(l);
}

/* Runs the loop for MS, or until something is told. */
static void run_ms(int ms)
{
	struct timer t = { 0 };

	timer_set(l, &t, ms * 1000LL, quit, NULL);
	loop_run(l, nothing, NULL);
	timer_stop(l, &t);
}

/* Runs the loop until COND, for 20 s at most. */
#define RUN_UNTIL(cond)                                                                            \
	do {                                                                                       \
		for (int64_t until_ = mono_us() + 20000000; !(cond) && mono_us() < until_;)        \
			run_ms(20);                                                                \
	} while (0)

static void first_scan(void)
{
	RUN_UNTIL(x.known);
}

static void start(int fs)
{
	memset(told, 0, sizeof(told));
	l = loop_new();
	w = worker_new(l);
	m = meter_new(l, w, fs, on_over, NULL);
	metered_init(&x, 7);
}

static void stop(void)
{
	meter_free(m);
	worker_free(w);
	loop_free(l);
}

static int told_anything(void)
{
	return told[0] + told[1] + told[2] + told[3];
}

static void who_fills_the_disk_is_told(void **state)
{
	auto_close int tree = the_tree();

	start(dir);
	meter_limit(&x, 0, 16 * MIB);
	meter_add(m, &x, -1, (int[METER_DIRS]){ tree, -1, -1 });
	first_scan();
	fill(tree, "a", 10 * MIB);
	run_ms(700);
	assert_int_equal(told_anything(), 0);
	fill(tree, "b", 10 * MIB);
	int64_t begin = mono_us();
	run_ms(3000);
	assert_int_equal(told[OVER_DISK], 1);
	assert_in_range(amount[OVER_DISK], 10 * MIB, 21 * MIB);
	assert_in_range(mono_us() - begin, 0, 2900 * 1000);
	RUN_UNTIL(told[OVER_DISK] == 2); /* again, as long as it is so */
	assert_int_equal(told[OVER_DISK], 2);
	unlinkat(tree, "b", 0);
	told[OVER_DISK] = 0;
	run_ms(1500);
	run_ms(1500);
	RUN_UNTIL(x.disk.bytes <= 11 * MIB);
	assert_in_range(told[OVER_DISK], 0, 1);
	assert_in_range(x.disk.bytes, 10 * MIB, 11 * MIB);
	stop();
}

static void both_directories_count(void **state)
{
	auto_close int tree = the_tree();

	assert_int_equal(mkdirat(tree, "workspace", 0700), 0);
	assert_int_equal(mkdirat(tree, "home", 0700), 0);
	auto_close int a = openat(tree, "workspace", O_PATH | O_CLOEXEC);
	auto_close int b = openat(tree, "home", O_PATH | O_CLOEXEC);
	start(dir);
	meter_limit(&x, 0, 3 * MIB);
	meter_add(m, &x, -1, (int[METER_DIRS]){ a, b, -1 });
	first_scan();
	fill(tree, "workspace/f", 2 * MIB);
	fill(tree, "home/f", 2 * MIB);
	RUN_UNTIL(told[OVER_DISK]);
	assert_int_equal(told[OVER_DISK], 1);
	stop();
}

/* What was there before may stay, so that code can tidy up; less of it is the new bar. */
static void what_was_there_is_no_offence(void **state)
{
	auto_close int tree = the_tree();

	fill(tree, "old", 64 * MIB);
	fill(tree, "older", 64 * MIB);
	start(dir);
	meter_limit(&x, 0, 4 * MIB);
	meter_add(m, &x, -1, (int[METER_DIRS]){ tree, -1, -1 });
	first_scan();
	run_ms(800);
	assert_int_equal(told_anything(), 0);
	assert_in_range(x.disk.bytes, 128 * MIB, 129 * MIB);
	unlinkat(tree, "old", 0);
	while (x.disk.bytes > 100 * MIB) {
		x.scan_end = -60000000; /* as if it was long ago */
		run_ms(100);
	}
	fill(tree, "new", 8 * MIB);
	RUN_UNTIL(told[OVER_DISK]);
	assert_int_equal(told[OVER_DISK], 1);
	stop();
}

static void a_lower_limit_is_in_force_at_once(void **state)
{
	auto_close int tree = the_tree();

	start(dir);
	meter_limit(&x, 0, 64 * MIB);
	meter_add(m, &x, -1, (int[METER_DIRS]){ tree, -1, -1 });
	first_scan();
	fill(tree, "f", 20 * MIB);
	run_ms(600);
	assert_int_equal(told_anything(), 0);
	meter_limit(&x, 0, 4 * MIB);
	RUN_UNTIL(told[OVER_DISK]);
	assert_int_equal(told[OVER_DISK], 1);
	stop();
}

static void too_many_files_are_told(void **state)
{
	auto_close int tree = the_tree();
	char name[20];

	assert_int_equal(meter_max_files(2LL << 30), 1000000);
	assert_int_equal(meter_max_files(1LL << 40), 1LL << 28);
	start(dir);
	meter_limit(&x, 0, 1LL << 40);
	x.limit.files = 2000;
	meter_add(m, &x, -1, (int[METER_DIRS]){ tree, -1, -1 });
	first_scan();
	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "%d", i);
		close(openat(tree, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	}
	RUN_UNTIL(told[OVER_FILES]);
	assert_int_equal(told[OVER_FILES], 1);
	assert_in_range(amount[OVER_FILES], 2001, 3000);
	stop();
}

static void who_is_removed_is_heard_of_no_more(void **state)
{
	auto_close int tree = the_tree();

	start(dir);
	for (int i = 0; i < 200; i++) {
		meter_limit(&x, 0, MIB);
		meter_add(m, &x, -1, (int[METER_DIRS]){ tree, -1, -1 });
		fill(tree, "f", 16 * MIB);
		if (i % 3)
			run_ms(1);
		meter_del(m, &x);
		meter_del(m, &x);
	}
	told[OVER_DISK] = 0;
	run_ms(600);
	assert_int_equal(told_anything(), 0);
	meter_add(m, &x, -1, (int[METER_DIRS]){ tree, -1, -1 });
	worker_free(w); /* the other order of the end, with a job on its way */
	meter_free(m);
	loop_free(l);
}

/* ---- processes ---- */

/* A first process of a pid namespace that does what FN says, and its /proc. -1: not possible here. */
static pid_t outer;
static int box(void (*fn)(void))
{
	int up[2], proc = -1;
	char c;

	assert_int_equal(pipe2(up, O_CLOEXEC), 0);
	outer = fork();
	if (!outer) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (unshare((geteuid() ? CLONE_NEWUSER : 0) | CLONE_NEWPID | CLONE_NEWNS))
			_exit(1);
		pid_t init = fork();
		if (!init) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
			    mount("proc", "/proc", "proc", 0, NULL))
				_exit(1);
			fn();
			if (write(up[1], "", 1) < 0)
				_exit(1);
			close(up[1]);
			for (;;)
				pause();
		}
		close(up[1]);
		waitpid(init, NULL, 0);
		_exit(0);
	}
	close(up[1]);
	if (read(up[0], &c, 1) == 1) {
		auto_free char *path = xasprintf("/proc/%d/task/%d/children", outer, outer);
		auto_buf struct buf b = { 0 };
		assert_int_equal(read_file(AT_FDCWD, path, 100, &b), 0);
		auto_free char *root = xasprintf("/proc/%d/root/proc", atoi(b.s));
		proc = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	close(up[0]);
	return proc;
}

static void box_end(int *proc)
{
	kill(outer, SIGKILL);
	waitpid(outer, NULL, 0);
	drop_fd(proc);
}

static int begin_box(void (*fn)(void))
{
	int proc = box(fn);

	if (proc < 0) {
		box_end(&proc);
		skip();
	}
	start(dir);
	return proc;
}

static void touch_memory(char *p, size_t n)
{
	for (size_t i = 0; i < n; i += 4096)
		p[i] = 1;
}

static void *map(size_t n, int flags)
{
	char *p = mmap(NULL, n, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);

	touch_memory(p, n);
	return p;
}

static void share_64m_with_four(void)
{
	int ready[2];
	char *p = map(64 * MIB, MAP_SHARED), c;

	if (pipe(ready))
		_exit(1);
	for (int i = 0; i < 4; i++)
		if (!fork()) {
			touch_memory(p, 64 * MIB);
			if (write(ready[1], "", 1) == 1)
				pause();
			_exit(0);
		}
	for (int i = 0; i < 4; i++)
		if (read(ready[0], &c, 1) != 1)
			_exit(1);
}

static void shared_memory_counts_once(void **state)
{
	int proc = begin_box(share_64m_with_four);

	meter_limit(&x, 128 * MIB, 0);
	meter_add(m, &x, proc, (int[METER_DIRS]){ -1, -1, -1 });
	RUN_UNTIL(x.memory);
	run_ms(800);
	assert_int_equal(told_anything(), 0);
	assert_in_range(x.rss, 5 * 64 * MIB, 6 * 64 * MIB);
	assert_in_range(x.memory, 64 * MIB, 90 * MIB);
	meter_limit(&x, 48 * MIB, 0);
	RUN_UNTIL(told[OVER_MEMORY]);
	assert_int_equal(told[OVER_MEMORY], 1);
	assert_in_range(amount[OVER_MEMORY], 64 * MIB, 90 * MIB);
	assert_in_range(x.memory_peak, 64 * MIB, 90 * MIB);
	stop();
	box_end(&proc);
}

static void private_64m_undumpable(void)
{
	int ready[2];
	char c;

	if (pipe(ready))
		_exit(1);
	if (!fork()) {
		map(64 * MIB, MAP_PRIVATE);
		prctl(PR_SET_DUMPABLE, 0);
		if (write(ready[1], "", 1) == 1)
			pause();
		_exit(0);
	}
	if (read(ready[0], &c, 1) != 1)
		_exit(1);
}

static void private_memory_counts_also_of_the_undumpable(void **state)
{
	int proc = begin_box(private_64m_undumpable);

	meter_limit(&x, 48 * MIB, 0);
	meter_add(m, &x, proc, (int[METER_DIRS]){ -1, -1, -1 });
	RUN_UNTIL(told[OVER_MEMORY]);
	assert_int_equal(told[OVER_MEMORY], 1);
	assert_in_range(amount[OVER_MEMORY], 64 * MIB, 90 * MIB);
	stop();
	box_end(&proc);
}

static void memfds_64m(void)
{
	static char page[1 << 20];

	for (int i = 0; i < 64; i++) {
		int fd = memfd_create("x", 0);
		if (write(fd, page, sizeof(page)) != sizeof(page))
			_exit(1);
		if (dup(fd) < 0)
			_exit(1);
	}
	if (!fork())
		for (;;)
			pause();
}

static void memory_that_nobody_maps_counts_once(void **state)
{
	int proc = begin_box(memfds_64m);

	meter_limit(&x, 100 * MIB, 0);
	meter_add(m, &x, proc, (int[METER_DIRS]){ -1, -1, -1 });
	RUN_UNTIL(x.memory >= 64 * MIB);
	run_ms(1500);
	assert_int_equal(told_anything(), 0);
	assert_in_range(x.memory, 64 * MIB, 80 * MIB);
	meter_limit(&x, 48 * MIB, 0);
	RUN_UNTIL(told[OVER_MEMORY]);
	assert_int_equal(told[OVER_MEMORY], 1);
	assert_in_range(amount[OVER_MEMORY], 64 * MIB, 80 * MIB);
	stop();
	box_end(&proc);
}

static void removed_file_of_16m(void)
{
	int fd = openat(dir, "tree/removed", O_RDWR | O_CREAT, 0600);

	if (posix_fallocate(fd, 0, 16 * MIB) || unlinkat(dir, "tree/removed", 0))
		_exit(1);
}

static void a_removed_file_that_is_open_counts(void **state)
{
	int proc = begin_box(removed_file_of_16m);
	auto_close int tree = the_tree();

	x.known = true; /* the file is not from before */
	meter_limit(&x, 0, 8 * MIB);
	meter_add(m, &x, proc, (int[METER_DIRS]){ tree, -1, -1 });
	RUN_UNTIL(told[OVER_DISK]);
	assert_int_equal(told[OVER_DISK], 1);
	assert_in_range(amount[OVER_DISK], 16 * MIB, 17 * MIB);
	stop();
	box_end(&proc);
}

static void the_end_of_a_box_is_no_news(void **state)
{
	int proc = begin_box(share_64m_with_four);

	meter_limit(&x, 512 * MIB, 0);
	meter_add(m, &x, proc, (int[METER_DIRS]){ -1, -1, -1 });
	RUN_UNTIL(x.rss);
	assert_true(x.rss > 0);
	kill(outer, SIGKILL);
	run_ms(800);
	RUN_UNTIL(!x.rss);
	assert_int_equal(x.rss, 0);
	assert_in_range(x.rss_peak, 5 * 64 * MIB, 6 * 64 * MIB);
	assert_int_equal(told_anything(), 0);
	stop();
	box_end(&proc);
}

/* ---- the last free space ---- */

static void who_takes_the_last_space_is_told(void **state)
{
	pid_t pid = fork();
	if (pid) { /* in a mount namespace of its own */
		int status;
		waitpid(pid, &status, 0);
		if (status == 77 << 8)
			skip();
		assert_int_equal(status, 0);
		return;
	}
	alarm(30);
	auto_free char *path = xasprintf("%s/tree", base);
	if (unshare(CLONE_NEWNS) ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) || mount("tmpfs", path, "tmpfs", 0, "size=200M"))
		_exit(77);
	auto_close int tree = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	start(tree);
	meter_limit(&x, 0, 1LL << 40);
	meter_add(m, &x, -1, (int[METER_DIRS]){ tree, -1, -1 });
	run_ms(300);
	fill(tree, "much", 180 * MIB); /* not yet in the last 5 % */
	run_ms(600);
	if (told_anything())
		_exit(2);
	for (int i = 0; i < 20 && !told[OVER_FLOOR]; i++) {
		auto_free char *name = xasprintf("more%d", i);
		fill(tree, name, 900 << 10);
		run_ms(300);
	}
	_exit(told[OVER_FLOOR] == 1 && amount[OVER_FLOOR] >= 16 * MIB && told_anything() == 1 ? 0 : 3);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		/* These first: what this process has is in its children, too. */
		TEST(shared_memory_counts_once),
		TEST(private_memory_counts_also_of_the_undumpable),
		TEST(memory_that_nobody_maps_counts_once),
		TEST(a_removed_file_that_is_open_counts),
		TEST(the_end_of_a_box_is_no_news),
		TEST(blocks_are_counted_not_lengths),
		TEST(a_file_with_links_counts_once),
		TEST(links_are_not_followed),
		TEST(ten_thousand_levels_and_what_lies_beside),
		TEST(wide_directories_deep_down),
		TEST(a_tree_that_changes_is_walked_to_an_end),
		TEST(only_a_directory_is_scanned),
		TEST(who_fills_the_disk_is_told),
		TEST(both_directories_count),
		TEST(what_was_there_is_no_offence),
		TEST(a_lower_limit_is_in_force_at_once),
		TEST(too_many_files_are_told),
		TEST(who_is_removed_is_heard_of_no_more),
		TEST(who_takes_the_last_space_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
