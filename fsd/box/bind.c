/* Trees of the host in a box: as it is made, and later.
 *
 *   box bind [--ro=HOST:BOX]... [--rw=HOST:BOX]...
 *
 * binds into the box whose namespaces it has at BOX_NAMESPACES; each BOX is an empty directory (up --dir). A driver that
 * waits in the box goes on in what lies below until it changes its directory. Exits with 0, or the errno. */
#include "box.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { BINDS_MAX = 16 };

bool box_parse_bind(struct box_bind *b, char *text, uint64_t attrs)
{
	char *colon = strrchr(text, ':');

	if (!colon || *text != '/' || colon[1] != '/')
		return false;
	*colon = 0;
	*b = (struct box_bind){ text, colon + 2, attrs, true, false, -1, false };
	return true;
}

int box_open_bind(struct box_bind *b)
{
	struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = b->straight ? RESOLVE_NO_SYMLINKS : 0 };
	int fd = syscall(SYS_openat2, AT_FDCWD, b->from, &how, sizeof(how));
	struct stat st;

	if (fd < 0)
		return -1;
	b->tree = syscall(SYS_open_tree, fd, "", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE | AT_EMPTY_PATH);
	int err = errno;
	close(fd);
	errno = err;
	if (b->tree < 0)
		return -1;
	b->is_dir = !fstat(b->tree, &st) && S_ISDIR(st.st_mode);
	struct mount_attr a = { .attr_set = b->attrs };
	return syscall(SYS_mount_setattr, b->tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &a, sizeof(a));
}

void box_make_parents(const char *path)
{
	char part[PATH_MAX];

	for (const char *slash = path; (slash = strchr(slash, '/')); slash++) {
		snprintf(part, sizeof(part), "%.*s", (int)(slash - path), path);
		mkdir(part, 0755);
	}
}

int box_make_file(const char *path, const char *text)
{
	box_make_parents(path);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);

	if (fd < 0)
		return -1;
	ssize_t n = write(fd, text, strlen(text));
	close(fd);
	return n < 0 ? -1 : 0;
}

int box_place_bind(const struct box_bind *b)
{
	if (b->tree < 0)
		return 0;
	box_make_parents(b->to);
	if (b->is_dir ? mkdir(b->to, 0755) && errno != EEXIST : box_make_file(b->to, ""))
		return -1;
	return syscall(SYS_move_mount, b->tree, "", AT_FDCWD, b->to, MOVE_MOUNT_F_EMPTY_PATH);
}

static int parse(struct box_bind *binds, int argc, char **argv)
{
	static const struct option options[] = {
		{ "ro", required_argument, NULL, 'r' }, { "rw", required_argument, NULL, 'w' }, { 0 },
	};
	const uint64_t safe = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
	int c, n = 0;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		uint64_t attrs = safe | (c == 'r' ? MOUNT_ATTR_RDONLY : 0);
		if (c == '?' || n == BINDS_MAX || !box_parse_bind(&binds[n++], optarg, attrs))
			return -1;
	}
	return optind == argc ? n : -1;
}

static int open_all(struct box_bind *binds, int n)
{
	for (int i = 0; i < n; i++)
		if (box_open_bind(&binds[i]) < 0)
			return -1;
	return 0;
}

/* Only who may mount can make trees. Root may outside, and opens them with rights that it has outside only; an
 * ordinary user may in the box's user namespace, in a copy of the host's mounts. */
int box_bind(int argc, char **argv)
{
	struct box_bind binds[BINDS_MAX];
	int n = parse(binds, argc, argv);

	if (n < 0)
		return EINVAL;
	if (geteuid() == 0 && open_all(binds, n))
		return errno;
	bool root = geteuid() == 0;
	if (setns(BOX_NAMESPACES, CLONE_NEWUSER))
		return errno;
	if (!root && (unshare(CLONE_NEWNS) || open_all(binds, n)))
		return errno;
	if (setns(BOX_NAMESPACES + NS_MNT, CLONE_NEWNS) || chdir("/"))
		return errno;
	for (int i = 0; i < n; i++)
		if (box_place_bind(&binds[i]))
			return errno;
	return 0;
}
