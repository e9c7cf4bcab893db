/* Real directories in the tree, such as workspaces and the shelf: each function is one operation of
 * FUSE's low-level API, done on the file system below. Nothing here replies to a request; only fs.c
 * does. It knows nothing of contexts: a mirrored directory, a root, is an opaque number, its owner.
 *
 * What is below may be changed at any moment by a hostile kernel, so that
 *  - a node is a name in a parent node, and remembers which object it was. It is resolved anew by
 *    each operation, through gate.h; another object at its path is -ESTALE (the VFS then looks the
 *    path up again), and gets a node of its own at the next lookup. A directory that was moved is
 *    recognised there and keeps its node, so no directory has two inode numbers; of hard links each
 *    has its own.
 *  - an open node is served through a descriptor of its handles, whatever became of its path.
 *  - fifos, sockets, devices, and symbolic links that might lead out of the root do not exist here:
 *    not listed, -ENOENT, and rmdir of a directory with nothing else in it removes them with it.
 *  - set-user-ID and set-group-ID are neither shown nor set.
 *
 * A node lives until it is forgotten. Only a small cache of roots' descriptors stays open, and one
 * descriptor for each open file, and for each of the last files that were looked up, until mirror_let_go():
 * what is opened is what was found, whoever has its name by then. Entries and attributes have no timeout.
 *
 * Functions return 0 or -errno, and fill OUT only on success. st_uid and st_gid are those below.
 * Modes are used as they come: the FUSE kernel has applied the caller's umask, the daemon's is 0.
 * WHO is the owner of what is made, if the daemon is root and may give it away (NULL: the daemon).
 * Only directories and regular files can be made; mknod is not offered. */
#ifndef CELLFS_MIRROR_H
#define CELLFS_MIRROR_H

#include <fuse_lowlevel.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

/* Set in every inode number of a mirror and in no other. */
#define MIRROR_BIT (1ULL << 63)

struct mirror;

/* How the FUSE kernel is told of a file that it may then read and write by itself ("passthrough"): OPEN returns the
 * number it gave to that of FD, or -errno. */
struct mirror_pass {
	int (*open)(void *arg, int fd);
	void (*close)(void *arg, int backing);
	void *arg;
};

/* A root whose owner has this bit is a view: only names that mirror_watch.shown says are there, and nothing can be made
 * or changed (-EROFS), but removed. The owner without it is the same directory. */
#define MIRROR_VIEW (1ULL << 41)

/* Who wants to know what is done here, and of what is a view made. OWNER is without MIRROR_VIEW, PATH below the root. */
struct mirror_watch {
	/* FD's object (O_PATH, perhaps) was made or changed. */
	void (*noted)(void *arg, uint64_t owner, int fd);
	/* PATH was made, or begins to get another content. */
	void (*written)(void *arg, uint64_t owner, const char *path);
	void (*removed)(void *arg, uint64_t owner, const char *path);
	void (*moved)(void *arg, uint64_t owner, const char *from, const char *to, bool swap);
	bool (*shown)(void *arg, uint64_t owner, const char *path, bool is_dir);
	/* May PATH, a directory of a view, go? */
	int (*rmdir)(void *arg, uint64_t owner, const char *path);
	void *arg;
};

/* Returns a new descriptor (O_PATH is enough) of OWNER's directory, which the mirror closes, or
 * -errno. It may be called from any function that takes a node. */
typedef int mirror_open_root(void *arg, uint64_t owner);

struct mirror *mirror_new(mirror_open_root *open_root, void *arg);
/* Closes what is still open; handles are gone with it. */
void mirror_free(struct mirror *m);

void mirror_set_watch(struct mirror *m, const struct mirror_watch *watch);
/* The open file was written otherwise than by the functions below. */
void mirror_wrote(struct mirror *m, const struct fuse_file_info *fi);

/* FN closes FD, perhaps the last of a file that was removed: a disk may take seconds to free its blocks. It says when with
 * mirror_closed(). Without it that is done here. */
void mirror_set_close(struct mirror *m, void (*fn)(void *arg, int fd), void *arg);
void mirror_closed(struct mirror *m);

/* What is opened from now on may be passed through. */
void mirror_set_pass(struct mirror *m, const struct mirror_pass *pass);

/* The directory of OWNER (less than 2^62), as a lookup: it counts one. */
int mirror_root(struct mirror *m, uint64_t owner, struct fuse_entry_param *out);
static inline fuse_ino_t mirror_root_ino(uint64_t owner)
{
	return MIRROR_BIT | owner << 1 | 1;
}
/* OWNER is removed: closes every descriptor below it. Its nodes and handles answer -ESTALE from now
 * on, and wait for forget and release. OPEN_ROOT must not give it again. */
void mirror_drop(struct mirror *m, uint64_t owner);
/* Of the root that INO is in, 0 if there is no such node. */
uint64_t mirror_owner(struct mirror *m, fuse_ino_t ino);

/* Those with a struct fuse_entry_param count a lookup: an entry that could not be replied must be
 * forgotten, and a handle released, by the caller. */
int mirror_lookup(struct mirror *m, fuse_ino_t parent, const char *name,
	struct fuse_entry_param *out);
void mirror_forget(struct mirror *m, fuse_ino_t ino, uint64_t n);
/* Closes the files that lookups have found before it was last called; true if there are others, found since. To be called
 * every second or so: one that is removed keeps its room meanwhile. */
bool mirror_let_go(struct mirror *m);
int mirror_getattr(struct mirror *m, fuse_ino_t ino, struct stat *out);
/* FI may be NULL. */
int mirror_setattr(struct mirror *m, fuse_ino_t ino, const struct stat *want, int to_set,
	const struct fuse_file_info *fi, struct stat *out);
int mirror_readlink(struct mirror *m, fuse_ino_t ino, char out[PATH_MAX]);
int mirror_statfs(struct mirror *m, fuse_ino_t ino, struct statvfs *out);

int mirror_mkdir(struct mirror *m, fuse_ino_t parent, const char *name, mode_t mode,
	const struct fuse_ctx *who, struct fuse_entry_param *out);
/* -EPERM for a TARGET that would not be shown: an absolute one, or one with .. anywhere but in
 * front, or with more of them there than directories between PARENT and the root. */
int mirror_symlink(struct mirror *m, const char *target, fuse_ino_t parent, const char *name,
	const struct fuse_ctx *who, struct fuse_entry_param *out);
/* -EXDEV between two roots, here and in rename. */
int mirror_link(struct mirror *m, fuse_ino_t ino, fuse_ino_t newparent, const char *newname,
	struct fuse_entry_param *out);
int mirror_unlink(struct mirror *m, fuse_ino_t parent, const char *name);
int mirror_rmdir(struct mirror *m, fuse_ino_t parent, const char *name);
/* Bytes of the disk that unlink and rename have given back since this was last called. */
int64_t mirror_freed(struct mirror *m);
/* FLAGS: 0, RENAME_NOREPLACE or RENAME_EXCHANGE. */
int mirror_rename(struct mirror *m, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
	const char *newname, unsigned int flags);

/* A file from one root to another as a reflink, so that none of its bytes moves and the two share no inode: begun,
 * worked at wherever a disk may take its time, then given its name. -EXDEV: not here, so it has to be copied. */
struct mirror_clone {
	int from, to; /* TO has no name yet */
	bool give;
	struct fuse_ctx who;
};
/* Of NAME in PARENT, or of the node PARENT if that is NULL. */
int mirror_clone_begin(struct mirror *m, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
	const char *newname, const struct fuse_ctx *who, struct mirror_clone *out);
int mirror_clone_work(struct mirror_clone *c);
/* -EEXIST unless REPLACE. OUT may be NULL. */
int mirror_clone_name(struct mirror *m, const struct mirror_clone *c, fuse_ino_t newparent,
	const char *newname, bool replace, struct fuse_entry_param *out);
/* Removes the source at NAME in PARENT, if it is still that. */
int mirror_clone_remove(struct mirror *m, const struct mirror_clone *c, fuse_ino_t parent, const char *name);
void mirror_clone_clear(struct mirror_clone *c);

/* Open with fi->flags, of which only the access mode, O_APPEND, O_TRUNC and O_EXCL count; fi->fh
 * becomes the handle, of which everything below but release needs no more than FI. */
int mirror_create(struct mirror *m, fuse_ino_t parent, const char *name, mode_t mode,
	const struct fuse_ctx *who, struct fuse_file_info *fi, struct fuse_entry_param *out);
int mirror_open(struct mirror *m, fuse_ino_t ino, struct fuse_file_info *fi);
int mirror_opendir(struct mirror *m, fuse_ino_t ino, struct fuse_file_info *fi);
/* The number of the file that an answer to this open has to name, 0 if it is not passed through. */
int mirror_passed(const struct fuse_file_info *fi);
/* The handle's descriptor, borrowed, for what is done elsewhere (fsync, copies); or -ESTALE. */
int mirror_fd(const struct fuse_file_info *fi);
/* Of a file or a directory. */
void mirror_release(struct mirror *m, struct fuse_file_info *fi);

/* Makes OUT the range of the file, for fuse_reply_data: nothing has been read yet. It borrows the
 * handle's descriptor. */
int mirror_read(const struct fuse_file_info *fi, size_t size, off_t off, struct fuse_bufvec *out);
int mirror_write(const struct fuse_file_info *fi, struct fuse_bufvec *in, off_t off, size_t *out);
int mirror_fallocate(const struct fuse_file_info *fi, int mode, off_t off, off_t len);
/* SEEK_DATA and SEEK_HOLE. */
int mirror_lseek(const struct fuse_file_info *fi, off_t off, int whence, off_t *out);
/* Fills BUF with entries from OFF on; OUT is their size in bytes, 0 at the end. */
int mirror_readdir(const struct fuse_file_info *fi, char *buf, size_t size, off_t off, size_t *out);

/* Names that do not begin with "user." do not exist here: -EOPNOTSUPP. A SIZE of 0 asks for the
 * size; too small a SIZE is -ERANGE. */
int mirror_getxattr(struct mirror *m, fuse_ino_t ino, const char *name, char *buf, size_t size,
	size_t *out);
int mirror_listxattr(struct mirror *m, fuse_ino_t ino, char *buf, size_t size, size_t *out);
int mirror_setxattr(struct mirror *m, fuse_ino_t ino, const char *name, const char *value,
	size_t size, int flags);
int mirror_removexattr(struct mirror *m, fuse_ino_t ino, const char *name);

#endif
