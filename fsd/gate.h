/* Opening what a hostile kernel may have made, below a directory that it can write.
 *
 * Nothing here follows a symbolic link, leaves ROOT, crosses a mount, or waits: fifos, sockets and
 * devices are refused before they are opened, a leased file is -EAGAIN. An object is looked at
 * through an O_PATH descriptor and then opened through that descriptor, never by its name again.
 * Needs /proc and openat2 (Linux 5.6). Knows nothing of contexts or FUSE.
 *
 * REL is relative to the directory ROOT, which may be O_PATH; "." is ROOT itself, and it may be
 * longer than PATH_MAX. Every function returns a descriptor (O_CLOEXEC), which is the caller's, or
 * -errno; beside open(2)'s own: -ELOOP a symbolic link, -EXDEV a way out, -EISDIR, -ENOTDIR,
 * -ENXIO neither a regular file nor a directory. */
#ifndef CELLFS_GATE_H
#define CELLFS_GATE_H

#include <stdbool.h>
#include <sys/stat.h>

/* An O_PATH descriptor of whatever is at REL, a symbolic link itself included. */
int gate_path(int root, const char *rel);

/* Opens the object of FD (O_PATH or open) anew with open(2)'s FLAGS if it is of TYPE: S_IFREG or
 * S_IFDIR. */
int gate_reopen(int fd, mode_t type, int flags);

/* A regular file. O_CREAT makes a new one of MODE, and is -EEXIST if there is anything. */
int gate_open_file(int root, const char *rel, int flags, mode_t mode);

/* A directory, to be read. */
int gate_open_dir(int root, const char *rel);

/* Whether a symbolic link to TARGET, in a directory DEPTH below the root, stays in the root, whatever other such links are
 * on its way. */
bool gate_link_stays(const char *target, unsigned int depth);

/* Whether REL is made of names as a directory can have them: none is empty, too long, "." or "..". */
bool gate_is_plain(const char *rel);

/* A name for FD's object that the kernel resolves without a walk, for calls that take no O_PATH
 * descriptor. */
struct gate_name {
	char s[sizeof("/proc/self/fd/-2147483648")];
};
struct gate_name gate_name(int fd);

#endif
