/* Locks of open files: fcntl(2)'s and flock(2)'s, forwarded to the file below so that they meet those of processes there.
 *
 * Who locks is an owner, a number that the FUSE kernel gave: a process, or an open file. Each has an open file
 * description of its own of a file, and its locks are that one's (F_OFD_SETLK). They go when the owner closes the file,
 * and with the open file that they were made through. A file that nothing real stands for (FD -1) is locked among the
 * callers here only. Nothing waits: -EAGAIN. Knows numbers and descriptors. */
#ifndef CELLFS_LOCK_H
#define CELLFS_LOCK_H

#include <fcntl.h>
#include <stdint.h>

#include "util.h"

/* Who asks, for which file, through which open one. */
struct lock_of {
	uint64_t ino, owner, via;
	int fd; /* of VIA, borrowed; -1 */
};

/* LOCKS is a list of the module's own. Returns 0 or -errno. l_whence is SEEK_SET. */
int lock_set(struct list *locks, const struct lock_of *of, const struct flock *lock);
/* A process is named only if it asked here. */
int lock_get(struct list *locks, const struct lock_of *of, struct flock *lock);
int lock_whole(struct list *locks, const struct lock_of *of, int op);
/* OWNER closed INO. */
void lock_closed(struct list *locks, uint64_t ino, uint64_t owner);
/* The open file VIA is gone. */
void lock_released(struct list *locks, uint64_t via);
void lock_free(struct list *locks);

#endif
