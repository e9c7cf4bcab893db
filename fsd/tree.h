/* The tree is data: a table with a row for each kind of file. A new file is an enum value (node.h), a row,
 * and a function that prints or finds its content; fs.c does not change. */
#ifndef CELLFS_TREE_H
#define CELLFS_TREE_H

#include "node.h"

enum shape {
	S_DIR = 1,
	S_LINK,    /* print gives the target */
	S_TEXT,    /* printed at open, served as it was then */
	S_PROMISE, /* of a run: known when it has ended, immutable then */
	S_LOG,     /* of a context: grows; a read at the end waits a little while something runs */
	S_FOLLOW,  /* a stream: a read waits for more until its owner ends */
	S_LINES,   /* a log file of the daemon's, as it is on disk */
	S_CTL,     /* takes lines */
	S_VALUE,   /* takes a value, checked at write */
	S_BODY,    /* a real file of the user */
	S_MIRROR,  /* a real directory of the user */
};

/* What a file holds: TEXT, or ranges of a log of the node's context. */
struct content {
	bool is_text;
	struct buf text;
	enum store_log log;
	struct extents x;
};

/* Takes the children of a directory. */
struct lister {
	void (*add)(struct lister *l, const char *name, uint64_t ino, mode_t type);
};

struct row {
	const char *name;       /* NULL: its parent's lookup makes it */
	enum node_kind parent;
	enum shape shape;
	mode_t mode;            /* permissions */
	enum object_type of;
	bool hidden;            /* there, but not listed */
	bool early;             /* of a run: listed while it is live */
	bool no_limit;          /* open waits as long as it takes */
	bool at_limit;          /* gives what there is when config/wait is over */
	uint8_t dir;            /* S_VALUE and directories of bodies: enum body_dir + 1 */
	uint8_t log;            /* enum store_log of the streams */
	const char *mime;
	void (*print)(const struct node *n, struct buf *b);
	/* 0 it is there, -EAGAIN it may come, -ENOENT. NULL: of a run, when that has ended; else 0. */
	int (*ready)(const struct node *n);
	int (*view)(const struct node *n, struct content *c);
	int64_t (*time)(const struct node *n);
	/* Children that have no row of their own name: inode number, or 0. */
	uint64_t (*lookup)(const struct node *n, const char *name);
	void (*list)(const struct node *n, struct lister *l);
};

extern const struct row tree[N_KINDS];

/* The child NAME of directory N: its inode number, or 0. */
uint64_t tree_lookup(const struct node *n, const char *name);
/* Everything that directory N lists. */
void tree_list(const struct node *n, struct lister *l);
/* As row->ready, with its defaults. */
int node_ready(const struct node *n);
/* Content of a promise or text that is ready. The caller frees with content_free. */
int node_content(const struct node *n, struct content *c);
void content_free(struct content *c);
off_t content_size(const struct content *c);
/* Permissions, and whose it is. */
mode_t node_mode(const struct node *n);
void node_owner(const struct node *n, uid_t *uid, gid_t *gid);
/* mtime in us. */
int64_t node_time(const struct node *n);
const char *node_mime(const struct node *n);
/* The name of a value node. */
const char *value_node_name(const struct node *n);
/* The real directory that N stands for, or -1. */
int node_body_dir(const struct node *n);
/* The queue that is woken when what N waits for may have come. */
struct waitq *node_change(const struct node *n);
/* The run that results/<cell> shows now, 0 if there is none: its object. */
uint64_t cell_run_object(struct context *c, struct cell *cell);

#endif
