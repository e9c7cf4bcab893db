/* Files of a hostile directory as they are now, put into a log: reflinked where the file system can, else copied as long as
 * all of them stay small. For the worker; knows descriptors, no context.
 *
 * Behind the contents comes a table: a text for each file, "type offset size mime" and its path, each ended by a NUL. */
#ifndef CELLFS_SNAPSHOT_H
#define CELLFS_SNAPSHOT_H

#include "mime.h"

#include <sys/stat.h>

enum { SNAP_COPY_MAX = 64 << 20 }; /* bytes of one snapshot that are copied */

enum snap_type {
	SNAP_GONE = 0,
	SNAP_FILE = 'f',
	SNAP_LINK = 's', /* a symbolic link; its content is where it leads */
	SNAP_LIVE = 'l', /* too large to be kept: only its name and size are */
};

struct snap_file {
	char *path;
	struct stat known;        /* MIME is of this state; st_ino 0: of none */
	char mime[MIME_NAME];
	struct stat st;           /* what was found */
	enum snap_type type;
	off_t off, size;          /* in the log */
};

struct snapshot {
	int root, log;            /* descriptors, the snapshot's */
	off_t start, end;         /* the log's range that it has; END moves */
	off_t table;
	struct snap_file *v;      /* sorted by path */
	size_t n, at;
	struct mime *mime;
	int64_t patience;         /* us that types of texts may still take */
	off_t copied, cloned;
	bool no_reflink;
	int err;                  /* of the log: then nothing is kept */
	bool more;                /* to be called again */
	/* Of symbolic links: may it be shown? */
	bool (*link_ok)(const char *path, const char *target);
};

/* A job for worker_do, of some milliseconds but for a large copy. */
int snapshot_work(void *snapshot);
void snapshot_clear(struct snapshot *s);
/* Has F the state that is known as ST? */
bool snapshot_same(const struct stat *a, const struct stat *b);

/* The table of N bytes at P: calls FN for each of its lines. Returns 0 or -EIO. */
int snapshot_read(char *p, size_t n, void (*fn)(void *arg, const struct snap_file *f), void *arg);

#endif
