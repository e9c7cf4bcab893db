#include "gate.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/syscall.h>

#include "util.h"

/* Whoever swaps names under us can make us try again, but not for ever. */
#define TRIES 128

static int open_beneath(int dir, const char *rel, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = flags | O_NOFOLLOW | O_CLOEXEC,
		.mode = mode,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS |
			RESOLVE_NO_XDEV,
	};
	int fd;

	for (int i = 0; i < TRIES; i++) {
		fd = syscall(SYS_openat2, dir, rel, &how, sizeof(how));
		if (fd >= 0)
			return fd;
		if (errno != EAGAIN && errno != EINTR)
			break;
	}
	return -errno;
}

/* openat2 for any length of REL: all but its last piece, of less than PATH_MAX, is walked first. */
static int open_long(int root, const char *rel, int flags, mode_t mode)
{
	auto_close int dir = -1;
	char piece[PATH_MAX];

	while (strlen(rel) >= PATH_MAX) {
		const char *cut = memrchr(rel, '/', PATH_MAX - 1);
		int fd;

		if (!cut || cut == rel)
			return -ENAMETOOLONG;
		memcpy(piece, rel, cut - rel);
		piece[cut - rel] = '\0';
		fd = open_beneath(dir < 0 ? root : dir, piece, O_PATH | O_DIRECTORY, 0);
		if (fd < 0)
			return fd;
		drop_fd(&dir);
		dir = fd;
		rel = cut + 1;
	}
	return open_beneath(dir < 0 ? root : dir, rel, flags, mode);
}

struct gate_name gate_name(int fd)
{
	struct gate_name name;

	snprintf(name.s, sizeof(name.s), "/proc/self/fd/%d", fd);
	return name;
}

int gate_path(int root, const char *rel)
{
	return open_long(root, rel, O_PATH, 0);
}

int gate_reopen(int fd, mode_t type, int flags)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (S_ISLNK(st.st_mode))
		return -ELOOP;
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return -ENXIO;
	if ((st.st_mode & S_IFMT) != type)
		return type == S_IFDIR ? -ENOTDIR : -EISDIR;

	/* O_NONBLOCK: a kernel may hold a lease, and an open would wait until it is broken. */
	flags &= ~(O_CREAT | O_EXCL | O_NOFOLLOW);
	fd = open(gate_name(fd).s, flags | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int open_old(int root, const char *rel, mode_t type, int flags)
{
	auto_close int fd = gate_path(root, rel);

	return fd < 0 ? fd : gate_reopen(fd, type, flags);
}

int gate_open_file(int root, const char *rel, int flags, mode_t mode)
{
	if (!(flags & O_CREAT))
		return open_old(root, rel, S_IFREG, flags);

	/* What O_EXCL makes cannot be something that was put there. */
	return open_long(root, rel, flags | O_EXCL | O_NONBLOCK | O_NOCTTY, mode & 07777);
}

int gate_open_dir(int root, const char *rel)
{
	return open_old(root, rel, S_IFDIR, O_RDONLY | O_DIRECTORY);
}

/* The names behind the leading .. only go down, or into other links that stay: a .. behind one of those would start
 * from where it leads, and could climb out though a count of the names says no. */
bool gate_link_stays(const char *target, unsigned int depth)
{
	unsigned int up = 0;
	bool down = false;

	if (*target == '/' || !*target)
		return false;
	while (*target) {
		size_t n = strcspn(target, "/");

		if (n == 2 && !memcmp(target, "..", 2)) {
			if (down || ++up > depth)
				return false;
		} else if (n && !(n == 1 && *target == '.')) {
			down = true;
		}
		target += n;
		target += strspn(target, "/");
	}
	return true;
}

bool gate_is_plain(const char *rel)
{
	for (;;) {
		size_t n = strcspn(rel, "/");

		if (!n || n > NAME_MAX || (*rel == '.' && (n == 1 || (n == 2 && rel[1] == '.'))))
			return false;
		if (!rel[n])
			return true;
		rel += n + 1;
	}
}
