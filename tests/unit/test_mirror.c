/* mirror: real directories through FUSE's low-level operations, called without a mount. What the
 * tests do by plain calls in the working directory is what a kernel does behind the mirror's back. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <cmocka.h>

#include "mirror.h"
#include "util.h"

static char base[PATH_MAX];
static struct mirror *m;
static fuse_ino_t root;
static int roots_opened, fds_before;
static uint64_t removed;

static int count_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static int open_root(void *arg, uint64_t owner)
{
	auto_free char *path = xasprintf("%s/w%d", base, (int)owner);
	int fd;

	if (owner == removed)
		return -ESTALE;
	roots_opened++;
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* base/w1 is owner 1's and the working directory; w2 is owner 2's. */
static int setup(void **state)
{
	struct fuse_entry_param e;

	fds_before = count_fds();
	strcpy(base, "/tmp/cellfs-mirror-XXXXXX");
	assert_non_null(mkdtemp(base));
	assert_int_equal(chdir(base), 0);
	assert_int_equal(write_file(AT_FDCWD, "secret", "s", 1, 0600), 0);
	assert_int_equal(mkdir("w1", 0755), 0);
	assert_int_equal(mkdir("w2", 0755), 0);
	assert_int_equal(chdir("w1"), 0);
	umask(0);
	removed = roots_opened = 0;
	m = mirror_new(open_root, NULL);
	assert_int_equal(mirror_root(m, 1, &e), 0);
	root = e.ino;
	return 0;
}

static void let_all_go(void)
{
	while (mirror_let_go(m))
		;
}

static int teardown(void **state)
{
	auto_free char *cmd = xasprintf("rm -rf %s", base);

	mirror_free(m);
	assert_int_equal(count_fds(), fds_before);
	assert_int_equal(chdir("/"), 0);
	return system(cmd);
}

static void put_file(const char *name, const char *text)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static fuse_ino_t look(fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = { 0 };
	int r = mirror_lookup(m, parent, name, &e);

	if (r)
		print_error("lookup %s: %s\n", name, strerror(-r));
	assert_int_equal(r, 0);
	assert_true(e.ino & MIRROR_BIT);
	assert_true(e.entry_timeout == 0 && e.attr_timeout == 0);
	return e.ino;
}

static int missing(fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e;

	return mirror_lookup(m, parent, name, &e);
}

static fuse_ino_t make_dir(fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e;

	assert_int_equal(mirror_mkdir(m, parent, name, 0755, NULL, &e), 0);
	return e.ino;
}

static struct fuse_file_info open_ino(fuse_ino_t ino, int flags)
{
	struct fuse_file_info fi = { .flags = flags };

	assert_int_equal(mirror_open(m, ino, &fi), 0);
	return fi;
}

static struct fuse_file_info create(fuse_ino_t parent, const char *name, fuse_ino_t *ino)
{
	struct fuse_file_info fi = { .flags = O_RDWR };
	struct fuse_entry_param e;

	assert_int_equal(mirror_create(m, parent, name, 0644, NULL, &fi, &e), 0);
	*ino = e.ino;
	return fi;
}

static int write_text(const struct fuse_file_info *fi, const char *text, off_t off)
{
	struct fuse_bufvec in = FUSE_BUFVEC_INIT(strlen(text));
	size_t n;
	int r;

	in.buf[0].mem = (void *)text;
	r = mirror_write(fi, &in, off, &n);
	if (!r)
		assert_int_equal(n, strlen(text));
	return r;
}

static const char *read_text(const struct fuse_file_info *fi)
{
	static char text[256];
	struct fuse_bufvec from, to = FUSE_BUFVEC_INIT(sizeof(text) - 1);
	ssize_t n;

	assert_int_equal(mirror_read(fi, sizeof(text) - 1, 0, &from), 0);
	to.buf[0].mem = text;
	n = fuse_buf_copy(&to, &from, 0);
	assert_true(n >= 0);
	text[n] = '\0';
	return text;
}

static const char *text_of(fuse_ino_t ino)
{
	struct fuse_file_info fi = open_ino(ino, O_RDONLY);
	const char *text = read_text(&fi);

	mirror_release(m, &fi);
	return text;
}

/* The names in INO but . and .., each followed by a blank, read SIZE bytes at a time. */
static void list(fuse_ino_t ino, size_t size, struct buf *out)
{
	struct fuse_file_info fi = { 0 };
	off_t off = 0;
	size_t n;
	char raw[4096];

	assert_int_equal(mirror_opendir(m, ino, &fi), 0);
	for (;;) {
		assert_int_equal(mirror_readdir(&fi, raw, size, off, &n), 0);
		if (!n)
			break;
		/* struct fuse_dirent: ino, off, namelen, type, name, padded to 8. */
		for (char *p = raw; p < raw + n;) {
			uint32_t len;

			memcpy(&off, p + 8, 8);
			memcpy(&len, p + 16, 4);
			if (p[24] != '.') {
				buf_add(out, p + 24, len);
				buf_char(out, ' ');
			}
			p += (24 + len + 7) / 8 * 8;
		}
	}
	mirror_release(m, &fi);
}

static bool listed(fuse_ino_t ino, const char *name)
{
	auto_buf struct buf names = { 0 };
	auto_free char *want = xasprintf("%s ", name);

	list(ino, 4096, &names);
	return names.s && strstr(names.s, want);
}

/* ---- what is shown -------------------------------------------------------------------------- */

static void files_are_made_written_and_read(void **state)
{
	struct fuse_entry_param e;
	struct stat st;
	fuse_ino_t ino, dir = make_dir(root, "d");
	struct fuse_file_info fi = create(dir, "f", &ino);

	assert_false(fi.noflush);
	assert_int_equal(write_text(&fi, "hello", 0), 0);
	assert_int_equal(write_text(&fi, "!", 5), 0);
	assert_string_equal(read_text(&fi), "hello!");
	assert_int_equal(fsync(mirror_fd(&fi)), 0);
	mirror_release(m, &fi);
	assert_int_equal(mirror_getattr(m, ino, &st), 0);
	assert_int_equal(st.st_size, 6);
	assert_int_equal(st.st_mode, S_IFREG | 0644);
	assert_int_equal(look(dir, "f"), ino);

	fi = open_ino(ino, O_RDONLY);
	assert_false(fi.noflush); /* a flush is what ends the locks of who closes */
	mirror_release(m, &fi);
	fi = (struct fuse_file_info){ .flags = O_RDWR | O_EXCL };
	assert_int_equal(mirror_create(m, dir, "f", 0644, NULL, &fi, &e), -EEXIST);
	fi.flags = O_RDWR | O_TRUNC;
	assert_int_equal(mirror_create(m, dir, "f", 0644, NULL, &fi, &e), 0);
	assert_int_equal(e.ino, ino);
	assert_int_equal(e.attr.st_size, 0);
	mirror_release(m, &fi);
	assert_int_equal(mirror_mkdir(m, root, "d", 0755, NULL, &e), -EEXIST);
	assert_int_equal(mirror_open(m, dir, &fi), -EISDIR);
	assert_int_equal(mirror_opendir(m, ino, &fi), -ENOTDIR);
	assert_int_equal(missing(ino, "x"), -ENOTDIR);
}

static void a_name_is_one_component(void **state)
{
	assert_int_equal(missing(root, ".."), -EINVAL);
	assert_int_equal(missing(root, "."), -EINVAL);
	assert_int_equal(missing(root, ""), -EINVAL);
	assert_int_equal(missing(root, "a/b"), -EINVAL);
	assert_int_equal(missing(12345 | MIRROR_BIT, "a"), -ESTALE);
}

static void fifos_and_sockets_do_not_exist(void **state)
{
	struct fuse_file_info fi = { .flags = O_WRONLY };
	struct fuse_entry_param e;

	assert_int_equal(mkfifo("fifo", 0644), 0);
	put_file("file", "");
	alarm(5);
	assert_int_equal(missing(root, "fifo"), -ENOENT);
	assert_int_equal(mirror_create(m, root, "fifo", 0644, NULL, &fi, &e), -ENXIO);
	alarm(0);
	assert_false(listed(root, "fifo"));
	assert_true(listed(root, "file"));
}

static void a_file_that_became_a_fifo_is_not_opened(void **state)
{
	struct fuse_file_info fi = { .flags = O_RDONLY };
	fuse_ino_t ino;

	put_file("f", "x");
	ino = look(root, "f");
	assert_int_equal(unlink("f"), 0);
	assert_int_equal(mkfifo("f", 0644), 0);
	alarm(5);
	assert_string_equal(text_of(ino), "x"); /* what was found, as long as it is kept */
	let_all_go();
	assert_int_equal(mirror_open(m, ino, &fi), -ESTALE);
	alarm(0);
}

static void links_that_leave_do_not_exist(void **state)
{
	static const char *const out[] = { "/etc/passwd", "../secret", "d/../../secret",
		"d/up/../../secret", "./..", "d/.." };
	static const char *const in[] = { "f", "./d//x", "nowhere", "." };
	fuse_ino_t dir = make_dir(root, "d");
	struct fuse_entry_param e;
	char target[PATH_MAX];

	/* d/up leads to the root: a .. behind it would leave, though the count of names says no. */
	assert_int_equal(mirror_symlink(m, "..", dir, "up", NULL, &e), 0);
	assert_int_equal(mirror_readlink(m, e.ino, target), 0);
	assert_string_equal(target, "..");
	assert_int_equal(mirror_symlink(m, "../..", dir, "up2", NULL, &e), -EPERM);
	for (size_t i = 0; i < ARRAY_SIZE(out); i++) {
		assert_int_equal(mirror_symlink(m, out[i], root, "l", NULL, &e), -EPERM);
		assert_int_equal(symlink(out[i], "l"), 0);
		assert_int_equal(missing(root, "l"), -ENOENT);
		assert_false(listed(root, "l"));
		assert_int_equal(unlink("l"), 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(in); i++) {
		assert_int_equal(mirror_symlink(m, in[i], root, "l", NULL, &e), 0);
		assert_true(S_ISLNK(e.attr.st_mode));
		assert_true(listed(root, "l"));
		assert_int_equal(mirror_readlink(m, e.ino, target), 0);
		assert_string_equal(target, in[i]);
		assert_int_equal(mirror_unlink(m, root, "l"), 0);
	}
}

static void a_link_that_moved_up_and_out_is_gone(void **state)
{
	fuse_ino_t dir = make_dir(root, "d");
	struct fuse_entry_param e;
	char target[PATH_MAX];

	assert_int_equal(mirror_symlink(m, "../f", dir, "l", NULL, &e), 0);
	assert_int_equal(mirror_rename(m, dir, "l", root, "l", 0), 0);
	assert_int_equal(mirror_readlink(m, e.ino, target), -ENOENT);
	assert_int_equal(missing(root, "l"), -ENOENT);
}

static void a_directory_swapped_for_a_link_is_not_followed(void **state)
{
	struct fuse_entry_param e;
	fuse_ino_t dir = make_dir(root, "d");

	assert_int_equal(rename("d", "e"), 0);
	assert_int_equal(symlink("..", "d"), 0);
	assert_int_equal(missing(dir, "secret"), -ESTALE);
	assert_int_equal(mirror_unlink(m, dir, "secret"), -ESTALE);
	assert_int_equal(mirror_mkdir(m, dir, "new", 0755, NULL, &e), -ESTALE);
	assert_int_equal(access("../secret", F_OK), 0);
}

static void set_user_id_is_neither_shown_nor_set(void **state)
{
	struct stat st, want = { .st_mode = 06755 };
	fuse_ino_t ino;

	put_file("f", "");
	assert_int_equal(chmod("f", 06711), 0);
	ino = look(root, "f");
	assert_int_equal(mirror_getattr(m, ino, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0711);
	assert_int_equal(mirror_setattr(m, ino, &want, FUSE_SET_ATTR_MODE, NULL, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0755);
	assert_int_equal(stat("f", &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0755);
}

static void rmdir_takes_what_is_not_shown_with_it(void **state)
{
	fuse_ino_t ino, dir = make_dir(root, "venv");
	struct fuse_file_info fi = create(dir, "seen", &ino);

	mirror_release(m, &fi);
	assert_int_equal(symlink("/usr/bin/python3", "venv/python"), 0);
	assert_int_equal(mkfifo("venv/fifo", 0600), 0);
	assert_int_equal(mirror_rmdir(m, root, "venv"), -ENOTEMPTY);
	assert_int_equal(access("venv/fifo", F_OK), 0);
	assert_int_equal(mirror_unlink(m, dir, "seen"), 0);
	assert_int_equal(mirror_rmdir(m, root, "venv"), 0);
	assert_int_equal(access("venv", F_OK), -1);
	assert_int_equal(mirror_rmdir(m, root, "venv"), -ENOENT);
}

static void readdir_goes_on_where_any_buffer_ended(void **state)
{
	auto_buf struct buf whole = { 0 }, pieces = { 0 };
	char name[32];

	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "%s%d", i % 7 ? "file" : "a-much-longer-name", i);
		put_file(name, "");
	}
	list(root, 4096, &whole);
	list(root, 56, &pieces);
	assert_string_equal(whole.s, pieces.s);
	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "%s%d ", i % 7 ? "file" : "a-much-longer-name", i);
		assert_non_null(strstr(whole.s, name));
	}
}

static void a_rewound_directory_is_listed_anew(void **state)
{
	struct fuse_file_info fi = { 0 };
	char raw[4096];
	size_t before, after;

	assert_int_equal(mirror_opendir(m, root, &fi), 0);
	assert_int_equal(mirror_readdir(&fi, raw, sizeof(raw), 0, &before), 0);
	put_file("new", "");
	assert_int_equal(mirror_readdir(&fi, raw, sizeof(raw), 0, &after), 0);
	assert_true(after > before);
	mirror_release(m, &fi);
}

/* ---- nodes ---------------------------------------------------------------------------------- */

static void an_open_file_outlives_its_name(void **state)
{
	struct stat st, want = { .st_size = 2, .st_mode = 0600 };
	fuse_ino_t ino;
	struct fuse_file_info fi = create(root, "f", &ino), again;

	assert_int_equal(write_text(&fi, "hello", 0), 0);
	assert_int_equal(mirror_unlink(m, root, "f"), 0);
	assert_int_equal(missing(root, "f"), -ENOENT);
	assert_string_equal(read_text(&fi), "hello");
	assert_int_equal(mirror_getattr(m, ino, &st), 0);
	assert_int_equal(st.st_nlink, 0);
	assert_int_equal(mirror_setattr(m, ino, &want, FUSE_SET_ATTR_SIZE | FUSE_SET_ATTR_MODE,
				 NULL, &st), 0);
	assert_int_equal(st.st_size, 2);
	assert_int_equal(st.st_mode, S_IFREG | 0600);

	/* A new one of the same name is another. */
	put_file("f", "new");
	assert_int_not_equal(look(root, "f"), ino);
	assert_string_equal(read_text(&fi), "he");
	again = open_ino(ino, O_RDONLY);
	assert_string_equal(read_text(&again), "he");
	mirror_release(m, &again);
	mirror_release(m, &fi);
	assert_int_equal(mirror_getattr(m, ino, &st), -ESTALE);
	mirror_forget(m, ino, 1);
}

static void an_open_file_moves_with_its_name(void **state)
{
	fuse_ino_t ino, old, dir = make_dir(root, "d");
	struct fuse_file_info fi = create(root, "a", &ino), over = create(dir, "b", &old);

	assert_int_equal(write_text(&fi, "a", 0), 0);
	assert_int_equal(write_text(&over, "b", 0), 0);
	assert_int_equal(mirror_rename(m, root, "a", dir, "b", RENAME_NOREPLACE), -EEXIST);
	assert_int_equal(mirror_rename(m, root, "a", dir, "b", 0), 0);
	assert_int_equal(look(dir, "b"), ino);
	assert_int_equal(missing(root, "a"), -ENOENT);
	assert_string_equal(read_text(&fi), "a");
	assert_string_equal(read_text(&over), "b");
	mirror_release(m, &fi);
	mirror_release(m, &over);
	assert_string_equal(text_of(ino), "a");
	assert_int_equal(mirror_rename(m, root, "none", dir, "b", 0), -ENOENT);
	assert_int_equal(mirror_rename(m, dir, "b", dir, "b", 0), 0);
	assert_int_equal(look(dir, "b"), ino);
}

static void renamed_directories_keep_what_is_in_them(void **state)
{
	fuse_ino_t a = make_dir(root, "a"), b = make_dir(root, "b"), ino, sub = make_dir(a, "sub");
	struct fuse_file_info fi = create(sub, "f", &ino);
	struct stat st;

	mirror_release(m, &fi);
	assert_int_equal(mirror_rename(m, root, "a", sub, "x", 0), -EINVAL);
	assert_int_equal(mirror_rename(m, root, "a", b, "moved", 0), 0);
	assert_int_equal(mirror_getattr(m, ino, &st), 0);
	assert_int_equal(look(sub, "f"), ino);
	assert_int_equal(access("b/moved/sub/f", F_OK), 0);
}

static void exchange_swaps_two_nodes(void **state)
{
	fuse_ino_t a, b, dir = make_dir(root, "d");
	struct stat st;

	put_file("a", "a");
	put_file("d/b", "bb");
	a = look(root, "a");
	b = look(dir, "b");
	assert_int_equal(mirror_rename(m, root, "a", dir, "b", RENAME_EXCHANGE), 0);
	assert_int_equal(look(root, "a"), b);
	assert_int_equal(look(dir, "b"), a);
	assert_int_equal(mirror_getattr(m, a, &st), 0);
	assert_int_equal(st.st_size, 1);
	/* A directory with a file, one of them not looked up. */
	put_file("c", "");
	assert_int_equal(mirror_rename(m, root, "d", root, "c", RENAME_EXCHANGE), 0);
	assert_int_equal(look(root, "c"), dir);
	assert_int_equal(look(dir, "b"), a);
	assert_int_equal(mirror_rename(m, root, "c", root, "d", 1 << 7), -EINVAL);
}

static void a_removed_directory_does_not_come_back(void **state)
{
	fuse_ino_t a = make_dir(root, "a"), b;
	struct stat st;

	/* Most file systems give the same number to the next one. */
	assert_int_equal(mirror_rmdir(m, root, "a"), 0);
	b = make_dir(root, "b");
	assert_int_not_equal(a, b);
	assert_int_equal(mirror_getattr(m, a, &st), -ESTALE);
	assert_int_equal(mirror_getattr(m, b, &st), 0);
}

static void what_a_kernel_replaces_is_another_node(void **state)
{
	fuse_ino_t ino;
	struct stat st;

	put_file("f", "old");
	ino = look(root, "f");
	put_file("tmp", "new");
	assert_int_equal(rename("tmp", "f"), 0);
	assert_int_equal(mirror_getattr(m, ino, &st), 0);
	assert_string_equal(text_of(ino), "old");
	let_all_go();
	assert_int_equal(mirror_getattr(m, ino, &st), -ESTALE);
	assert_int_not_equal(look(root, "f"), ino);
	assert_string_equal(text_of(look(root, "f")), "new");
	/* Written in place it is the same. */
	ino = look(root, "f");
	put_file("f", "newer");
	assert_int_equal(look(root, "f"), ino);
	assert_string_equal(text_of(ino), "newer");
}

static void only_the_last_files_that_were_found_are_kept_and_none_that_is_forgotten(void **state)
{
	char name[16];
	int before = count_fds();

	for (int i = 0; i < 500; i++) {
		sprintf(name, "f%d", i);
		put_file(name, "x");
		look(root, name);
		look(root, name);
	}
	assert_in_range(count_fds(), before + 1, before + 64);
	let_all_go();
	assert_int_equal(count_fds(), before);
	mirror_forget(m, look(root, "f0"), 3);
	assert_int_equal(count_fds(), before);
	look(root, "f1");
	mirror_drop(m, 1);
	assert_true(count_fds() <= before);
}

static int handed[4], nhanded;

static void hand_over(void *arg, int fd)
{
	assert_ptr_equal(arg, handed);
	handed[nhanded++] = fd;
}

static void files_that_were_removed_are_closed_elsewhere(void **state)
{
	struct fuse_file_info fi = { .flags = O_RDONLY };
	int before = count_fds();

	mirror_set_close(m, hand_over, handed);
	nhanded = 0;
	put_file("kept", "x");
	char *big = xcalloc(1, 256 << 10);

	memset(big, 'x', (256 << 10) - 1);
	put_file("gone", big);
	free(big);
	put_file("small", "x");
	look(root, "kept");
	look(root, "small");
	assert_int_equal(unlink("small"), 0);
	assert_true(mirror_let_go(m)); /* kept: it was found since */
	assert_int_equal(count_fds(), before + 2);
	assert_int_equal(mirror_open(m, look(root, "gone"), &fi), 0);
	assert_int_equal(unlink("gone"), 0);
	let_all_go();
	assert_int_equal(nhanded, 1);
	mirror_release(m, &fi);
	assert_int_equal(nhanded, 2);
	assert_int_equal(count_fds(), before + 2);
	for (int i = 0; i < nhanded; i++) {
		close(handed[i]);
		mirror_closed(m);
	}
}

static void a_directory_that_a_kernel_moves_keeps_its_number(void **state)
{
	fuse_ino_t a = make_dir(root, "a"), b = make_dir(root, "b"), f;

	put_file("a/f", "x");
	f = look(a, "f");
	assert_int_equal(rename("a", "b/a"), 0);
	assert_int_equal(missing(root, "a"), -ENOENT);
	assert_int_equal(missing(a, "f"), -ESTALE);
	assert_int_equal(look(b, "a"), a);
	assert_int_equal(look(a, "f"), f);
	/* Its old place taken by another before anyone looked. */
	assert_int_equal(rename("b/a", "c"), 0);
	assert_int_equal(mkdir("b/a", 0755), 0);
	assert_int_not_equal(look(b, "a"), a);
	assert_int_equal(look(root, "c"), a);
	assert_string_equal(text_of(look(a, "f")), "x");
}

/* a/b seen, then: a new a, the old a below its own child. Nothing may loop. */
static void directories_cannot_be_made_to_contain_themselves(void **state)
{
	fuse_ino_t a = make_dir(root, "a"), b = make_dir(a, "b"), now;

	assert_int_equal(rename("a", "old"), 0);
	assert_int_equal(mkdir("a", 0755), 0);
	assert_int_equal(rename("old/b", "a/b"), 0);
	assert_int_equal(rename("old", "a/b/x"), 0);
	alarm(5);
	assert_int_equal(missing(b, "x"), -ESTALE);
	/* From the top it is found again. */
	now = look(root, "a");
	assert_int_not_equal(now, a);
	assert_int_equal(look(now, "b"), b);
	assert_int_equal(look(b, "x"), a);
	alarm(0);
}

static void hard_links_have_nodes_of_their_own(void **state)
{
	struct fuse_entry_param e;
	fuse_ino_t ino, dir = make_dir(root, "d"), other;
	struct stat st;

	put_file("f", "x");
	ino = look(root, "f");
	assert_int_equal(mirror_link(m, ino, dir, "g", &e), 0);
	assert_int_not_equal(e.ino, ino);
	assert_int_equal(e.attr.st_nlink, 2);
	assert_int_equal(mirror_getattr(m, ino, &st), 0);
	assert_int_equal(st.st_ino, e.attr.st_ino);
	assert_int_equal(mirror_unlink(m, root, "f"), 0);
	assert_string_equal(text_of(e.ino), "x");
	let_all_go();
	assert_int_equal(mirror_link(m, ino, dir, "h", &e), -ESTALE);
	other = e.ino;
	assert_int_equal(mirror_root(m, 2, &e), 0);
	assert_int_equal(mirror_link(m, other, e.ino, "g", &e), -EXDEV);
}

static void roots_are_apart(void **state)
{
	struct fuse_entry_param e;
	fuse_ino_t ino;
	struct fuse_file_info fi = create(root, "f", &ino);

	mirror_release(m, &fi);
	assert_int_equal(mirror_root(m, 2, &e), 0);
	assert_int_equal(e.ino, mirror_root_ino(2));
	assert_int_not_equal(e.ino, root);
	assert_int_equal(missing(e.ino, "f"), -ENOENT);
	assert_int_equal(mirror_rename(m, root, "f", e.ino, "f", 0), -EXDEV);
	assert_int_equal(mirror_root(m, 3, &e), -ENOENT);
}

static void a_thousand_levels_deep(void **state)
{
	fuse_ino_t at = root;
	struct stat st;

	for (int i = 0; i < 1000; i++)
		at = make_dir(at, "a-directory");
	assert_int_equal(mirror_getattr(m, at, &st), 0);
	put_file("x", "");
	assert_int_equal(mirror_rename(m, root, "x", at, "x", 0), 0);
	look(at, "x");
}

/* ---- lives ---------------------------------------------------------------------------------- */

/* Leaks and uses after free are for AddressSanitizer to see. */
static void forget_counts(void **state)
{
	fuse_ino_t dir = make_dir(root, "d"), f, again;
	struct stat st;

	put_file("d/f", "");
	f = look(dir, "f");
	assert_int_equal(look(dir, "f"), f);
	mirror_forget(m, f, 1);
	assert_int_equal(mirror_getattr(m, f, &st), 0);
	/* The parent first: its child keeps it, but nobody may use it. */
	mirror_forget(m, dir, 1);
	assert_int_equal(mirror_getattr(m, f, &st), 0);
	assert_int_equal(mirror_getattr(m, dir, &st), -ESTALE);
	assert_int_equal(look(root, "d"), dir);
	mirror_forget(m, dir, 1);
	mirror_forget(m, f, 1);
	assert_int_equal(mirror_getattr(m, f, &st), -ESTALE);
	again = look(root, "d");
	assert_int_not_equal(again, dir);
	mirror_forget(m, again, 100);
	mirror_forget(m, again, 1);
	mirror_forget(m, 0, 1);
	mirror_forget(m, root, 1);
	assert_int_equal(mirror_getattr(m, root, &st), -ESTALE);
}

static void a_handle_holds_its_node(void **state)
{
	fuse_ino_t ino;
	struct fuse_file_info fi = create(root, "f", &ino);

	mirror_forget(m, ino, 1);
	assert_int_equal(write_text(&fi, "x", 0), 0);
	mirror_release(m, &fi);
}

static void free_closes_what_is_open(void **state)
{
	struct fuse_file_info fi = { 0 };
	fuse_ino_t ino;

	create(root, "f", &ino);
	assert_int_equal(mirror_unlink(m, root, "f"), 0);
	assert_int_equal(mirror_opendir(m, root, &fi), 0);
}

static void a_removed_owner_is_stale(void **state)
{
	fuse_ino_t ino, dir = make_dir(root, "d");
	struct fuse_file_info fi = create(dir, "f", &ino), di = { 0 };
	struct fuse_entry_param e;
	struct stat st;
	char raw[512];
	size_t n;
	int fds;

	assert_int_equal(mirror_opendir(m, dir, &di), 0);
	fds = count_fds();
	removed = 1;
	mirror_drop(m, 1);
	assert_int_equal(count_fds(), fds - 3);
	assert_int_equal(write_text(&fi, "x", 0), -ESTALE);
	assert_int_equal(mirror_fd(&fi), -ESTALE);
	assert_int_equal(mirror_fd(&di), -ESTALE);
	assert_int_equal(mirror_readdir(&di, raw, sizeof(raw), 0, &n), -ESTALE);
	assert_int_equal(mirror_getattr(m, ino, &st), -ESTALE);
	assert_int_equal(mirror_getattr(m, dir, &st), -ESTALE);
	assert_int_equal(missing(root, "d"), -ESTALE);
	assert_int_equal(mirror_root(m, 1, &e), -ESTALE);
	mirror_release(m, &fi);
	mirror_release(m, &di);
	mirror_forget(m, ino, 1);
	mirror_forget(m, dir, 1);
	mirror_forget(m, root, 1);
	assert_int_equal(mirror_root(m, 1, &e), -ESTALE);
	mirror_drop(m, 77);
}

static void many_roots_need_few_descriptors(void **state)
{
	struct fuse_entry_param e;
	struct stat st;
	char name[32];
	int fds = count_fds();

	for (int i = 3; i < 60; i++) {
		snprintf(name, sizeof(name), "../w%d", i);
		assert_int_equal(mkdir(name, 0755), 0);
		assert_int_equal(mirror_root(m, i, &e), 0);
	}
	assert_true(count_fds() <= fds + 16);
	for (int i = 3; i < 60; i++)
		assert_int_equal(mirror_getattr(m, mirror_root_ino(i), &st), 0);
	roots_opened = 0;
	for (int i = 0; i < 10; i++)
		assert_int_equal(mirror_getattr(m, mirror_root_ino(59), &st), 0);
	assert_int_equal(roots_opened, 0);
}

/* ---- the rest of the operations ------------------------------------------------------------- */

static void setattr_sets_each(void **state)
{
	struct stat st, want = { .st_mode = 0400, .st_size = 3, .st_uid = getuid() };
	fuse_ino_t ino;
	struct fuse_file_info fi = create(root, "f", &ino);
	struct fuse_entry_param e;

	assert_int_equal(write_text(&fi, "hello", 0), 0);
	want.st_atim.tv_sec = 1000;
	want.st_mtim = (struct timespec){ 2000, 5 };
	/* Read-only by now, but open for writing. */
	assert_int_equal(mirror_setattr(m, ino, &want, FUSE_SET_ATTR_MODE, NULL, &st), 0);
	assert_int_equal(mirror_setattr(m, ino, &want, FUSE_SET_ATTR_SIZE, &fi, &st), 0);
	assert_int_equal(st.st_size, 3);
	mirror_release(m, &fi);
	assert_int_equal(mirror_setattr(m, ino, &want, FUSE_SET_ATTR_UID | FUSE_SET_ATTR_ATIME |
				 FUSE_SET_ATTR_MTIME, NULL, &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0400);
	assert_int_equal(st.st_atim.tv_sec, 1000);
	assert_int_equal(st.st_mtim.tv_nsec, 5);
	assert_int_equal(mirror_setattr(m, ino, &want, FUSE_SET_ATTR_ATIME_NOW, NULL, &st), 0);
	assert_true(st.st_atim.tv_sec > 2000);
	assert_int_equal(st.st_mtim.tv_sec, 2000);
	assert_int_equal(mirror_setattr(m, root, &want, FUSE_SET_ATTR_SIZE, NULL, &st), -EISDIR);

	assert_int_equal(mirror_symlink(m, "f", root, "l", NULL, &e), 0);
	assert_int_equal(mirror_setattr(m, e.ino, &want, FUSE_SET_ATTR_MTIME, NULL, &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(st.st_mtim.tv_sec, 2000);
}

static void appends_go_to_the_end_whatever_the_offset(void **state)
{
	struct fuse_file_info fi;
	struct fuse_bufvec in = FUSE_BUFVEC_INIT(5);
	size_t n;
	int p[2];

	put_file("log", "one\n");
	fi = open_ino(look(root, "log"), O_WRONLY | O_APPEND);
	assert_int_equal(write_text(&fi, "two\n", 0), 0);
	/* As it comes from a spliced request; splice refuses an appending file. */
	assert_int_equal(pipe(p), 0);
	assert_int_equal(write(p[1], "three", 5), 5);
	in.buf[0].flags = FUSE_BUF_IS_FD;
	in.buf[0].fd = p[0];
	assert_int_equal(mirror_write(&fi, &in, 0, &n), 0);
	assert_int_equal(n, 5);
	close(p[0]);
	close(p[1]);
	mirror_release(m, &fi);
	assert_string_equal(text_of(look(root, "log")), "one\ntwo\nthree");
}

static void holes_and_ranges(void **state)
{
	fuse_ino_t a;
	struct fuse_file_info fa = create(root, "a", &a);
	struct statvfs vfs;
	struct stat st;
	off_t off;

	assert_int_equal(mirror_statfs(m, a, &vfs), 0);
	assert_true(vfs.f_bsize > 0);
	assert_int_equal(mirror_fallocate(&fa, 0, 0, 8192), 0);
	assert_int_equal(mirror_getattr(m, a, &st), 0);
	assert_int_equal(st.st_size, 8192);
	assert_int_equal(write_text(&fa, "data", 0), 0);
	assert_int_equal(mirror_lseek(&fa, 0, SEEK_DATA, &off), 0);
	assert_int_equal(off, 0);
	assert_int_equal(mirror_lseek(&fa, 8192, SEEK_DATA, &off), -ENXIO);
	assert_int_equal(mirror_lseek(&fa, 0, SEEK_SET, &off), -EINVAL);
	mirror_release(m, &fa);
}

/* ---- passthrough ---------------------------------------------------------------------------- */

static int passes; /* that were given and not taken back */

static int fake_pass(void *arg, int fd)
{
	assert_true(fcntl(fd, F_GETFD) >= 0);
	return arg ? -EOPNOTSUPP : 100 + ++passes;
}

static void fake_pass_end(void *arg, int backing)
{
	assert_int_equal(backing, 100 + passes);
	passes--;
}

static void all_opens_of_a_node_are_passed_through_or_none(void **state)
{
	struct fuse_file_info made, r, w, rw;
	fuse_ino_t ino;

	mirror_set_pass(m, &(struct mirror_pass){ fake_pass, fake_pass_end, NULL });
	made = create(root, "f", &ino);
	assert_int_equal(mirror_passed(&made), 101);
	w = open_ino(ino, O_WRONLY);
	assert_int_equal(mirror_passed(&w), 101);
	mirror_release(m, &made);
	assert_int_equal(passes, 1);
	mirror_release(m, &w);
	assert_int_equal(passes, 0);

	w = open_ino(ino, O_WRONLY);
	r = open_ino(ino, O_RDONLY);
	assert_int_equal(mirror_passed(&w), 0);
	assert_int_equal(mirror_passed(&r), 0);
	mirror_release(m, &w);
	rw = open_ino(ino, O_RDWR); /* the reader is still there */
	assert_int_equal(mirror_passed(&rw), 0);
	mirror_release(m, &r);
	mirror_release(m, &rw);
	assert_int_equal(passes, 0);

	mirror_set_pass(m, &(struct mirror_pass){ fake_pass, fake_pass_end, m });
	r = open_ino(ino, O_RDONLY);
	assert_int_equal(mirror_passed(&r), 0);
	mirror_release(m, &r);
}

/* ---- into another root ------------------------------------------------------------------------ */

static void what_is_no_file_is_not_cloned(void **state)
{
	struct fuse_entry_param e;
	struct mirror_clone c;

	assert_int_equal(mirror_root(m, 2, &e), 0);
	assert_int_equal(mkdir("d", 0755), 0);
	assert_int_equal(symlink("d", "l"), 0);
	assert_int_equal(symlink("../secret", "out"), 0);
	assert_int_equal(mkfifo("p", 0644), 0);
	assert_int_equal(mirror_clone_begin(m, root, "d", e.ino, "x", NULL, &c), -EXDEV);
	assert_int_equal(mirror_clone_begin(m, root, "l", e.ino, "x", NULL, &c), -EXDEV);
	assert_int_equal(mirror_clone_begin(m, root, "out", e.ino, "x", NULL, &c), -EXDEV);
	assert_int_equal(mirror_clone_begin(m, root, "p", e.ino, "x", NULL, &c), -EXDEV);
	assert_int_equal(mirror_clone_begin(m, root, "none", e.ino, "x", NULL, &c), -ENOENT);
	assert_int_equal(mirror_clone_begin(m, root, "..", e.ino, "x", NULL, &c), -EINVAL);
}

/* Up to where the file system decides. */
static void a_clone_gets_a_name_and_its_source_goes(void **state)
{
	struct fuse_entry_param e, made;
	struct mirror_clone c;
	fuse_ino_t ino, other;
	struct stat st;
	int r;

	assert_int_equal(mirror_root(m, 2, &e), 0);
	other = e.ino;
	put_file("f", "text");
	ino = look(root, "f");
	put_file("../w2/there", "old");
	r = mirror_clone_begin(m, root, "f", other, "there", NULL, &c);
	assert_int_equal(r, 0);
	assert_int_equal(stat("../w2/there", &st), 0);
	assert_int_equal(st.st_size, 3); /* nothing is seen of it yet */
	r = mirror_clone_work(&c);
	assert_true(r == 0 || r == -EXDEV);
	assert_int_equal(mirror_clone_name(m, &c, other, "there", false, NULL), -EEXIST);
	assert_int_equal(mirror_clone_name(m, &c, other, "there", true, &made), 0);
	assert_int_equal(mirror_clone_name(m, &c, other, "new", false, NULL), 0);
	assert_int_equal(mirror_clone_remove(m, &c, root, "f"), 0);
	assert_int_equal(missing(root, "f"), -ENOENT);
	let_all_go();
	assert_int_equal(mirror_getattr(m, ino, &st), -ESTALE);
	put_file("f", "another");
	assert_int_equal(mirror_clone_remove(m, &c, root, "f"), 0);
	assert_int_equal(stat("f", &st), 0);
	mirror_clone_clear(&c);
}

static void what_unlink_and_rename_give_back_is_told(void **state)
{
	int64_t size = 1 << 20;
	auto_free char *text = xcalloc(1, size + 1);

	memset(text, 'x', size);
	put_file("a", text);
	put_file("b", text);
	put_file("c", text);
	assert_int_equal(link("c", "d"), 0);
	assert_int_equal(mirror_freed(m), 0);
	assert_int_equal(mirror_unlink(m, root, "a"), 0);
	assert_true(mirror_freed(m) >= size);
	assert_int_equal(mirror_freed(m), 0);
	assert_int_equal(mirror_unlink(m, root, "c"), 0);
	assert_int_equal(mirror_freed(m), 0); /* it has another name */
	assert_int_equal(mirror_rename(m, root, "b", root, "d", 0), 0);
	assert_true(mirror_freed(m) >= size);
	assert_int_equal(link("d", "e"), 0);
	assert_int_equal(mirror_rename(m, root, "d", root, "e", 0), 0);
	assert_int_equal(mirror_freed(m), 0);
}

static void only_user_attributes_exist(void **state)
{
	fuse_ino_t ino;
	char buf[64];
	size_t n;
	int r;

	put_file("f", "");
	ino = look(root, "f");
	r = mirror_setxattr(m, ino, "user.a", "value", 5, 0);
	if (r == -EOPNOTSUPP)
		skip();
	assert_int_equal(r, 0);
	setxattr("f", "trusted.t", "x", 1, 0);
	assert_int_equal(mirror_getxattr(m, ino, "user.a", buf, 0, &n), 0);
	assert_int_equal(n, 5);
	assert_int_equal(mirror_getxattr(m, ino, "user.a", buf, 2, &n), -ERANGE);
	assert_int_equal(mirror_getxattr(m, ino, "user.a", buf, sizeof(buf), &n), 0);
	assert_memory_equal(buf, "value", 5);
	assert_int_equal(mirror_getxattr(m, ino, "user.b", buf, 0, &n), -ENODATA);
	assert_int_equal(mirror_getxattr(m, ino, "trusted.t", buf, 0, &n), -EOPNOTSUPP);
	assert_int_equal(mirror_setxattr(m, ino, "security.capability", "x", 1, 0), -EOPNOTSUPP);
	assert_int_equal(mirror_listxattr(m, ino, buf, 0, &n), 0);
	assert_int_equal(n, sizeof("user.a"));
	assert_int_equal(mirror_listxattr(m, ino, buf, 3, &n), -ERANGE);
	assert_int_equal(mirror_listxattr(m, ino, buf, sizeof(buf), &n), 0);
	assert_string_equal(buf, "user.a");
	assert_int_equal(mirror_removexattr(m, ino, "user.a"), 0);
	assert_int_equal(mirror_removexattr(m, ino, "user.a"), -ENODATA);
}

static void root_gives_what_it_makes_to_who_asked(void **state)
{
	const struct fuse_ctx who = { .uid = 12345, .gid = 54321 };
	struct fuse_file_info fi = { .flags = O_RDWR };
	struct fuse_entry_param e;
	struct stat st;

	if (geteuid())
		skip();
	assert_int_equal(mirror_mkdir(m, root, "d", 0755, &who, &e), 0);
	assert_int_equal(e.attr.st_uid, 12345);
	assert_int_equal(mirror_symlink(m, "d", root, "l", &who, &e), 0);
	assert_int_equal(e.attr.st_gid, 54321);
	assert_int_equal(mirror_create(m, root, "f", 0644, &who, &fi, &e), 0);
	assert_int_equal(e.attr.st_uid, 12345);
	mirror_release(m, &fi);
	/* What was there before stays whose it was. */
	put_file("g", "");
	assert_int_equal(mirror_create(m, root, "g", 0644, &who, &fi, &e), 0);
	mirror_release(m, &fi);
	assert_int_equal(stat("g", &st), 0);
	assert_int_equal(st.st_uid, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(files_are_made_written_and_read),
		TEST(a_name_is_one_component),
		TEST(fifos_and_sockets_do_not_exist),
		TEST(a_file_that_became_a_fifo_is_not_opened),
		TEST(links_that_leave_do_not_exist),
		TEST(a_link_that_moved_up_and_out_is_gone),
		TEST(a_directory_swapped_for_a_link_is_not_followed),
		TEST(set_user_id_is_neither_shown_nor_set),
		TEST(rmdir_takes_what_is_not_shown_with_it),
		TEST(readdir_goes_on_where_any_buffer_ended),
		TEST(a_rewound_directory_is_listed_anew),
		TEST(an_open_file_outlives_its_name),
		TEST(an_open_file_moves_with_its_name),
		TEST(renamed_directories_keep_what_is_in_them),
		TEST(exchange_swaps_two_nodes),
		TEST(a_removed_directory_does_not_come_back),
		TEST(what_a_kernel_replaces_is_another_node),
		TEST(only_the_last_files_that_were_found_are_kept_and_none_that_is_forgotten),
		TEST(files_that_were_removed_are_closed_elsewhere),
		TEST(a_directory_that_a_kernel_moves_keeps_its_number),
		TEST(directories_cannot_be_made_to_contain_themselves),
		TEST(hard_links_have_nodes_of_their_own),
		TEST(roots_are_apart),
		TEST(a_thousand_levels_deep),
		TEST(forget_counts),
		TEST(a_handle_holds_its_node),
		TEST(free_closes_what_is_open),
		TEST(a_removed_owner_is_stale),
		TEST(many_roots_need_few_descriptors),
		TEST(setattr_sets_each),
		TEST(appends_go_to_the_end_whatever_the_offset),
		TEST(holes_and_ranges),
		TEST(all_opens_of_a_node_are_passed_through_or_none),
		TEST(what_is_no_file_is_not_cloned),
		TEST(a_clone_gets_a_name_and_its_source_goes),
		TEST(what_unlink_and_rename_give_back_is_told),
		TEST(only_user_attributes_exist),
		TEST(root_gives_what_it_makes_to_who_asked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
