/* lock: owners of locks in a real file, beside another process, and in one that nothing stands for. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "lock.h"

static struct list locks;
static char path[] = "/tmp/cellfs-lock-XXXXXX";
static int file;

static int setup(void **state)
{
	strcpy(path + sizeof(path) - 7, "XXXXXX");
	file = mkstemp(path);
	list_init(&locks);
	return file < 0;
}

static int teardown(void **state)
{
	lock_free(&locks);
	close(file);
	return unlink(path);
}

static int set(uint64_t owner, uint64_t via, int fd, short type, off_t start, off_t len)
{
	const struct lock_of of = { .ino = 7, .owner = owner, .via = via, .fd = fd };
	const struct flock f = { .l_type = type, .l_start = start, .l_len = len, .l_pid = 1000 + owner };

	return lock_set(&locks, &of, &f);
}

/* What a process of its own is told by fcntl. */
static int elsewhere(int op, short type)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		int fd = open(path, O_RDWR);
		struct flock f = { .l_type = type };
		_exit(op == LOCK_EX ? flock(fd, LOCK_EX | LOCK_NB) < 0 : fcntl(fd, op, &f) < 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WEXITSTATUS(status);
}

static void owners_meet_each_other(int fd)
{
	const struct lock_of of = { .ino = 7, .owner = 2, .via = 20, .fd = fd };
	struct flock f = { .l_type = F_WRLCK, .l_start = 5, .l_len = 1 };

	assert_int_equal(set(1, 10, fd, F_WRLCK, 0, 10), 0);
	assert_int_equal(set(1, 10, fd, F_WRLCK, 0, 10), 0); /* its own are no conflict */
	assert_int_equal(set(2, 20, fd, F_RDLCK, 9, 1), -EAGAIN);
	assert_int_equal(set(2, 10, fd, F_RDLCK, 9, 1), -EAGAIN); /* also through the same open file */
	assert_int_equal(set(2, 20, fd, F_WRLCK, 10, 1), 0);
	assert_int_equal(lock_get(&locks, &of, &f), 0);
	assert_int_equal(f.l_type, F_WRLCK);
	assert_int_equal(f.l_pid, 1001);
	assert_int_equal(f.l_start, 0);
	assert_int_equal(f.l_len, 10);
	assert_int_equal(set(1, 10, fd, F_UNLCK, 0, 5), 0);
	assert_int_equal(set(2, 20, fd, F_WRLCK, 0, 5), 0);
	lock_closed(&locks, 7, 1);
	assert_int_equal(set(2, 20, fd, F_WRLCK, 0, 100), 0);
	assert_int_equal(set(1, 10, fd, F_RDLCK, 50, 1), -EAGAIN);
	lock_released(&locks, 20);
	assert_int_equal(set(1, 10, fd, F_RDLCK, 50, 1), 0);
	lock_closed(&locks, 8, 1);
	assert_int_equal(set(2, 20, fd, F_WRLCK, 50, 1), -EAGAIN);
	assert_int_equal(set(3, 30, fd, F_UNLCK, 0, 0), 0);
}

static void owners_meet_in_a_file(void **state)
{
	owners_meet_each_other(file);
}

static void owners_meet_where_there_is_no_file(void **state)
{
	owners_meet_each_other(-1);
}

static void processes_below_meet_them(void **state)
{
	assert_int_equal(elsewhere(F_SETLK, F_WRLCK), 0);
	assert_int_equal(set(1, 10, file, F_RDLCK, 0, 0), 0);
	assert_int_equal(elsewhere(F_SETLK, F_RDLCK), 0);
	assert_int_equal(elsewhere(F_SETLK, F_WRLCK), 1);
	lock_released(&locks, 10);
	assert_int_equal(elsewhere(F_SETLK, F_WRLCK), 0);
}

static void a_reader_locks_what_it_may_only_read(void **state)
{
	int fd = open(path, O_RDONLY);

	assert_int_equal(set(1, 10, fd, F_RDLCK, 0, 0), 0);
	assert_int_equal(elsewhere(F_SETLK, F_WRLCK), 1);
	close(fd);
	assert_int_equal(elsewhere(F_SETLK, F_WRLCK), 1); /* it has a description of its own */
}

static void whole_files_are_locked_beside_ranges(void **state)
{
	const struct lock_of a = { .ino = 7, .owner = 1, .via = 10, .fd = file };
	const struct lock_of b = { .ino = 7, .owner = 2, .via = 20, .fd = file };

	assert_int_equal(lock_whole(&locks, &b, LOCK_UN), 0);
	assert_int_equal(lock_whole(&locks, &a, LOCK_EX), 0);
	assert_int_equal(set(2, 20, file, F_WRLCK, 0, 0), 0);
	assert_int_equal(lock_whole(&locks, &b, LOCK_SH), -EAGAIN);
	assert_int_equal(elsewhere(LOCK_EX, 0), 1);
	assert_int_equal(lock_whole(&locks, &a, LOCK_SH), 0);
	assert_int_equal(lock_whole(&locks, &b, LOCK_SH), 0);
	assert_int_equal(lock_whole(&locks, &a, LOCK_UN), 0);
	assert_int_equal(lock_whole(&locks, &b, LOCK_EX), 0);
	lock_released(&locks, 20);
	assert_int_equal(elsewhere(LOCK_EX, 0), 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(owners_meet_in_a_file),
		TEST(owners_meet_where_there_is_no_file),
		TEST(processes_below_meet_them),
		TEST(a_reader_locks_what_it_may_only_read),
		TEST(whole_files_are_locked_beside_ranges),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
