/* The shapes of a file: what open, read, write, poll and release mean for each. Open files are handles;
 * they hold ids and copies, so what they were opened on may go while they are open. Never replies. */
#ifndef CELLFS_SHAPE_H
#define CELLFS_SHAPE_H

#include "tree.h"

#include <fuse_lowlevel.h>

/* A request that cannot be answered yet: LATER, and what it waits for. */
enum { LATER = 1 };
struct wait {
	struct waitq *q;
	int64_t limit; /* us; 0: as long as it takes */
};

struct handles {
	struct world *world;
	struct list all;
	bool direct_writes; /* what is written around the page cache is not left in it as it was */
};

struct handle {
	struct list link;
	struct handles *set;
	uint64_t ino;
	enum shape shape;
	bool nonblock;
	struct buf text;          /* S_TEXT and its like: what was printed; S_VALUE: what is being written */
	struct buf held;          /* S_CTL: what was written, until it is complete */
	bool truncated, wrote;
	enum store_log log;       /* content in a log */
	struct extents x;
	off_t start, seen;        /* S_FOLLOW of a context: where it began; what was read so far */
	int64_t budget, parked_at;/* S_LOG: what is left of its waiting */
	struct body *body;        /* S_BODY */
	struct writer writer;
	bool writing;
	int fd;
	struct fuse_pollhandle *ph;
	struct waiter poll;
};

/* Attributes of N. EXPIRED: the wait is over. TIMEOUT: how long the kernel may believe them, in s. */
int shape_attr(struct handles *set, const struct node *n, struct stat *st, double *timeout);
/* The same, waiting for what is not known yet: 0, -errno or LATER. */
int shape_getattr(struct handles *set, const struct node *n, bool expired, struct stat *st,
		  double *timeout, struct wait *w);
int shape_access(const struct node *n, int mask, bool expired, struct wait *w);

/* 0 with a handle in fi->fh, -errno or LATER. */
int shape_open(struct handles *set, const struct node *n, struct fuse_file_info *fi, pid_t pid,
	       bool expired, struct wait *w);
/* Opens a body or a value that was created just now. */
int shape_open_new(struct handles *set, const struct node *n, struct fuse_file_info *fi, pid_t pid);

/* What a read gives: memory (of the handle), or ranges of files in VEC (the caller frees it). */
struct reading {
	const char *mem;
	size_t n;
	struct fuse_bufvec *vec;
};
int shape_read(struct handle *h, size_t size, off_t off, bool expired, struct reading *r, struct wait *w);
/* Returns 0 or -errno; all N bytes are taken. */
int shape_write(struct handle *h, const char *p, size_t n, off_t off);
int shape_truncate(struct handles *set, const struct node *n, struct handle *h, off_t size);
int shape_flush(struct handle *h, pid_t pid);
void shape_release(struct handle *h);
/* Events that are ready; *Q is woken when there may be others. */
unsigned shape_poll(struct handle *h, struct waitq **q);

#endif
