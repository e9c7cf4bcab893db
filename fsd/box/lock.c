/* Landlock (Linux 5.13 and later). The structures are here because Debian 12's headers know only the first
 * of its versions. See https://docs.kernel.org/userspace-api/landlock.html */
#include "box.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { /* rights by the ABI that brought them */
	FS_1 = (1 << 13) - 1, /* execute … make_sym */
	FS_REFER = 1 << 13,   /* 2 */
	FS_TRUNCATE = 1 << 14, /* 3 */
	FS_IOCTL_DEV = 1 << 15, /* 5 */
	NET_TCP = 3,          /* 4: bind, connect */
	SCOPES = 3,           /* 6: abstract sockets, signals */
	FS_READ = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
	FS_OF_FILE = LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE |
		     LANDLOCK_ACCESS_FS_WRITE_FILE | FS_TRUNCATE | FS_IOCTL_DEV,
};

struct ruleset {
	uint64_t fs, net, scoped;
};

static int abi(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

/* An older kernel refuses (E2BIG) what lies behind the end of its own structure. */
static size_t ruleset_size(int version)
{
	return version < 4 ? 8 : version < 6 ? 16 : 24;
}

static int allow(int set, const char *path, uint64_t rights)
{
	int fd = open(path, O_PATH | O_CLOEXEC);
	struct landlock_path_beneath_attr rule = { .allowed_access = rights, .parent_fd = fd };

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	int err = syscall(SYS_landlock_add_rule, set, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) ? -errno : 0;
	if (err == -EINVAL) { /* a file: rights of a directory do not apply to it */
		rule.allowed_access &= FS_OF_FILE;
		err = syscall(SYS_landlock_add_rule, set, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) ? -errno : 0;
	}
	close(fd);
	return err;
}

static int restrict_self(int set)
{
	int err = 0;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_landlock_restrict_self, set, 0))
		err = -errno;
	close(set);
	return err;
}

/* From ABI 6 on scopes alone make a domain. Before, a right has to be handled: the one to move files between
 * directories, which a domain takes away anyway unless a rule gives it back, for all that there is. */
int box_lock_domain(void)
{
	int version = abi();
	struct ruleset r = { 0 };

	if (version < 0)
		return 0;
	if (version >= 6)
		r.scoped = SCOPES;
	else if (version >= 2)
		r.fs = FS_REFER;
	else /* handled and given back; renames between directories are what this version cannot give */
		return 0;
	int set = syscall(SYS_landlock_create_ruleset, &r, ruleset_size(version), 0);
	if (set < 0)
		return -errno;
	int err = r.fs ? allow(set, "/", r.fs) : 0;
	if (!err)
		return restrict_self(set);
	close(set);
	return err;
}

int box_lock_files(const char *const *ro, const char *const *rw, bool tcp)
{
	int version = abi();
	struct ruleset r = { .fs = FS_1 };

	if (version < 0)
		return -errno;
	if (version >= 2)
		r.fs |= FS_REFER;
	if (version >= 3)
		r.fs |= FS_TRUNCATE;
	if (version >= 4 && !tcp)
		r.net = NET_TCP;
	if (version >= 5)
		r.fs |= FS_IOCTL_DEV;
	if (version >= 6)
		r.scoped = SCOPES;
	int set = syscall(SYS_landlock_create_ruleset, &r, ruleset_size(version), 0);
	if (set < 0)
		return -errno;
	int err = 0;
	for (; !err && *ro; ro++)
		err = allow(set, *ro, r.fs & FS_READ);
	for (; !err && *rw; rw++)
		err = allow(set, *rw, r.fs);
	if (!err)
		return restrict_self(set);
	close(set);
	return err;
}
