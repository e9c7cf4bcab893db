/* Paths that a user names, looked at with the rights of that user and no more: root's daemon is not to be
 * the hand that opens what they could not. Knows nothing of contexts; the identity is the caller's word. */
#ifndef CELLFS_RIGHTS_H
#define CELLFS_RIGHTS_H

#include <sys/types.h>

/* Who asks. PID, if not 0, is a thread that lives while it is used: its groups count too. */
struct who {
	uid_t uid;
	gid_t gid;
	pid_t pid;
};

/* Calls FN(ARG) with WHO's file system rights, groups included, and without any capability. Only this
 * thread changes. Returns FN's value; -EACCES if WHO is another user and this process is not root's. */
int as_user(const struct who *who, int (*fn)(void *), void *arg);

/* An O_PATH descriptor of the absolute PATH, found with WHO's rights, symbolic links followed; or -errno,
 * -EACCES as as_user. -EDEADLK: it lies in a mount of cellfs, where the daemon would wait for itself, or, if
 * WHO is another user, in one that another program serves and could hang us with. Needs Linux 5.8. */
int open_as(const struct who *who, const char *path);

/* The same as a name without symbolic links, which the caller frees; NULL with errno. Who owns a directory
 * on the way may change it again: open it with RESOLVE_NO_SYMLINKS. */
char *resolve_as(const struct who *who, const char *path);

/* 0 if PATH is a regular file that WHO may execute. */
int may_execute(const struct who *who, const char *path);

#endif
