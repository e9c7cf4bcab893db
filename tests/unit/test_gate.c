/* gate: nothing that a kernel may have made is followed, left by, or waited for. */
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cmocka.h>

#include "gate.h"
#include "util.h"

static char base[] = "/tmp/cellfs-gate-XXXXXX";
static int root = -1;

/* base/secret beside base/root, which is the working directory. */
static int setup(void **state)
{
	assert_non_null(mkdtemp(base));
	assert_int_equal(chdir(base), 0);
	assert_int_equal(write_file(AT_FDCWD, "secret", "s", 1, 0600), 0);
	assert_int_equal(mkdir("root", 0700), 0);
	assert_int_equal(chdir("root"), 0);
	assert_int_equal(mkdir("d", 0700), 0);
	assert_int_equal(write_file(AT_FDCWD, "d/f", "hello", 5, 0600), 0);
	root = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_true(root >= 0);
	return 0;
}

static int teardown(void **state)
{
	auto_free char *cmd = xasprintf("rm -rf %s", base);

	close(root);
	assert_int_equal(chdir("/"), 0);
	return system(cmd);
}

static void opens(int fd)
{
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
}

static void a_regular_file_and_a_directory_open(void **state)
{
	char text[8];
	int fd = gate_open_file(root, "d/f", O_RDONLY, 0);

	assert_int_equal(read(fd, text, sizeof(text)), 5);
	opens(fd);
	opens(gate_open_dir(root, "d"));
	opens(gate_open_dir(root, "."));
	opens(gate_open_file(root, "./d//f", O_RDWR, 0));
	assert_int_equal(gate_open_file(root, "d", O_RDONLY, 0), -EISDIR);
	assert_int_equal(gate_open_dir(root, "d/f"), -ENOTDIR);
	assert_int_equal(gate_open_file(root, "none", O_RDONLY, 0), -ENOENT);
	assert_int_equal(gate_open_file(root, "d/f/x", O_RDONLY, 0), -ENOTDIR);
	assert_int_equal(gate_open_file(root, "", O_RDONLY, 0), -ENOENT);
}

static void nothing_leads_out(void **state)
{
	assert_int_equal(gate_open_file(root, "../secret", O_RDONLY, 0), -EXDEV);
	assert_int_equal(gate_open_file(root, "d/../../secret", O_RDONLY, 0), -EXDEV);
	assert_int_equal(gate_open_file(root, "/etc/passwd", O_RDONLY, 0), -EXDEV);
	assert_int_equal(gate_open_dir(root, ".."), -EXDEV);
	assert_int_equal(gate_path(root, ".."), -EXDEV);
	opens(gate_open_file(root, "d/../d/f", O_RDONLY, 0));
}

static void symbolic_links_are_refused(void **state)
{
	struct stat st;
	int fd;

	assert_int_equal(symlink("../secret", "out"), 0);
	assert_int_equal(symlink("d", "dirlink"), 0);
	assert_int_equal(symlink("nowhere", "dangling"), 0);
	assert_int_equal(symlink("/proc/self/root", "magic"), 0);
	assert_int_equal(gate_open_file(root, "out", O_RDONLY, 0), -ELOOP);
	assert_int_equal(gate_open_dir(root, "dirlink"), -ELOOP);
	assert_int_equal(gate_open_file(root, "dirlink/f", O_RDONLY, 0), -ELOOP);
	assert_int_equal(gate_open_file(root, "magic/etc/passwd", O_RDONLY, 0), -ELOOP);
	assert_int_equal(gate_open_file(root, "dangling", O_WRONLY | O_CREAT, 0600), -EEXIST);
	assert_int_equal(gate_open_file(root, "dirlink/new", O_WRONLY | O_CREAT, 0600), -ELOOP);
	assert_int_equal(access("nowhere", F_OK), -1);

	fd = gate_path(root, "out");
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(gate_reopen(fd, S_IFREG, O_RDONLY), -ELOOP);
	opens(fd);
}

static void fifos_sockets_and_devices_are_refused_at_once(void **state)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "sock" };
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), dev;

	assert_int_equal(mkfifo("fifo", 0600), 0);
	assert_int_equal(bind(s, (struct sockaddr *)&un, sizeof(un)), 0);
	alarm(5);
	assert_int_equal(gate_open_file(root, "fifo", O_RDONLY, 0), -ENXIO);
	assert_int_equal(gate_open_file(root, "fifo", O_WRONLY, 0), -ENXIO);
	assert_int_equal(gate_open_file(root, "fifo", O_WRONLY | O_CREAT, 0600), -EEXIST);
	assert_int_equal(gate_open_file(root, "sock", O_RDWR, 0), -ENXIO);
	assert_int_equal(gate_open_dir(root, "fifo"), -ENXIO);
	alarm(0);
	close(s);

	dev = open("/dev", O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(gate_open_file(dev, "null", O_RDONLY, 0), -ENXIO);
	opens(dev);
}

static void a_lease_is_not_waited_for(void **state)
{
	int fd = open("d/f", O_RDONLY | O_CLOEXEC);

	signal(SIGIO, SIG_IGN);
	if (fcntl(fd, F_SETLEASE, F_RDLCK)) {
		close(fd);
		skip();
	}
	alarm(5);
	assert_int_equal(gate_open_file(root, "d/f", O_WRONLY, 0), -EAGAIN);
	alarm(0);
	opens(gate_open_file(root, "d/f", O_RDONLY, 0));
	close(fd);
	opens(gate_open_file(root, "d/f", O_WRONLY, 0));
}

static void creation_is_exclusive(void **state)
{
	struct stat st;
	mode_t mask = umask(0);

	opens(gate_open_file(root, "new", O_WRONLY | O_CREAT, 0640));
	umask(mask);
	assert_int_equal(stat("new", &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0640);
	assert_int_equal(gate_open_file(root, "new", O_WRONLY | O_CREAT, 0600), -EEXIST);
	assert_int_equal(gate_open_file(root, "d", O_WRONLY | O_CREAT, 0600), -EEXIST);
	assert_int_equal(gate_open_file(root, "none/new", O_WRONLY | O_CREAT, 0600), -ENOENT);
}

static void truncation_happens_to_the_object_opened(void **state)
{
	struct stat st;

	assert_int_equal(write_file(AT_FDCWD, "long", "0123456789", 10, 0600), 0);
	opens(gate_open_file(root, "long", O_WRONLY | O_TRUNC, 0));
	assert_int_equal(stat("long", &st), 0);
	assert_int_equal(st.st_size, 0);
}

static void an_object_reopens_after_it_was_unlinked(void **state)
{
	int fd;

	assert_int_equal(write_file(AT_FDCWD, "gone", "x", 1, 0600), 0);
	fd = gate_path(root, "gone");
	assert_int_equal(unlink("gone"), 0);
	opens(gate_reopen(fd, S_IFREG, O_RDONLY));
	opens(fd);
}

/* 60 directories with names of 200 bytes: three times PATH_MAX. */
static void paths_longer_than_path_max_open(void **state)
{
	auto_buf struct buf path = { 0 };
	int at = dup(root), fd;
	char name[201];

	memset(name, 'n', 200);
	name[200] = '\0';
	for (int i = 0; i < 60; i++) {
		assert_int_equal(mkdirat(at, name, 0700), 0);
		fd = openat(at, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		close(at);
		at = fd;
		buf_printf(&path, "%s/", name);
	}
	buf_str(&path, "leaf");
	assert_int_equal(write_file(at, "leaf", "x", 1, 0600), 0);
	assert_true(path.n > 2 * PATH_MAX);
	opens(gate_open_file(root, path.s, O_RDONLY, 0));
	assert_int_equal(symlinkat("leaf", at, "link"), 0);
	memcpy(path.s + path.n - 4, "link", 4);
	assert_int_equal(gate_open_file(root, path.s, O_RDONLY, 0), -ELOOP);
	memset(path.s, 'n', path.n);
	assert_int_equal(gate_open_file(root, path.s, O_RDONLY, 0), -ENAMETOOLONG);
	close(at);
}

static void a_path_is_plain_that_a_walk_could_have_found(void **state)
{
	static const char *const plain[] = { "a", "a/b", "..a/b..", "...", ".a", "a\n/\xff" };
	static const char *const odd[] = { "", "/", "/a", "a/", "a//b", ".", "..", "a/./b", "a/../b", "a/..", "./a" };
	char name[NAME_MAX + 2];

	for (size_t i = 0; i < ARRAY_SIZE(plain); i++)
		assert_true(gate_is_plain(plain[i]));
	for (size_t i = 0; i < ARRAY_SIZE(odd); i++)
		assert_false(gate_is_plain(odd[i]));
	memset(name, 'n', sizeof(name));
	name[NAME_MAX + 1] = 0;
	assert_false(gate_is_plain(name));
	name[NAME_MAX] = 0;
	assert_true(gate_is_plain(name));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_regular_file_and_a_directory_open),
		cmocka_unit_test(nothing_leads_out),
		cmocka_unit_test(symbolic_links_are_refused),
		cmocka_unit_test(fifos_sockets_and_devices_are_refused_at_once),
		cmocka_unit_test(a_lease_is_not_waited_for),
		cmocka_unit_test(creation_is_exclusive),
		cmocka_unit_test(truncation_happens_to_the_object_opened),
		cmocka_unit_test(an_object_reopens_after_it_was_unlinked),
		cmocka_unit_test(paths_longer_than_path_max_open),
		cmocka_unit_test(a_path_is_plain_that_a_walk_could_have_found),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
