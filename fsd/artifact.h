/* Artifacts: the files of a workspace that cells have made or changed, and those of a run as they were when it ended.
 *
 * Whose a file is, its last writer decides: what is written through the mount is an upload. The mount tells what it does
 * (artifact_noted, _uploaded, _moved, _removed), and what a watcher sees beside that was done by a cell: by the run
 * that is under way, or by nobody's when there is none. Watched is a workspace while the context has a kernel.
 *
 * Knows the workspace, runs and the log; nothing of FUSE. */
#ifndef CELLFS_ARTIFACT_H
#define CELLFS_ARTIFACT_H

#include "context.h"

struct artifacts;

/* A kernel is about to be started. */
void artifact_start(struct context *c);
/* No kernel is left: nothing changes by itself any more. */
void artifact_rest(struct context *c);
void artifact_free(struct context *c);

/* R starts: what came before is not its own. */
void artifact_begin(struct run *r);
/* R has ended: keeps its files. False if that is done; true if run_recorded(R) will be called then. */
bool artifact_end(struct run *r);
/* C is being removed, and nothing of it may go later by itself: a run whose files are still being kept is recorded
 * without them. */
void artifact_abandon(struct context *c);

/* ---- the files of a run ---- */

struct kept_file {
	char *path;
	const char *name; /* its last part */
	uint32_t dir;     /* index + 1 of its directory, 0 the top */
	char type;        /* 'd' a directory, or enum snap_type */
	off_t off, size;  /* in kept.bin */
	char *mime;
};
struct kept {
	struct kept_file *v;
	size_t n, cap;
	struct map by_path;
	bool live; /* the run goes on: these are in the workspace */
};
enum { KEPT_MAX = 0x7fff }; /* names, directories included */

/* Those of R; while it runs those that are known, as long as they are there. Never NULL. */
const struct kept *run_kept(struct run *r);
/* NAME in directory DIR (index + 1, 0 the top) of K: index + 1, or 0. */
uint32_t kept_find(const struct kept *k, uint32_t dir, const char *name);
/* Is the file still there? Of a run that goes on. */
bool kept_is_there(const struct run *r, const struct kept_file *f);
void kept_free(struct kept *k);
/* Adds them as a JSON array. */
void run_json_kept(struct run *r, struct buf *b);

/* ---- the context's: artifacts/ ---- */

/* Is PATH (of a directory: IS_DIR) to be shown there? */
bool artifact_shown(struct context *c, const char *path, bool is_dir);
/* The directory PATH is to be shown there no more. -ENOTEMPTY. */
int artifact_rmdir(struct context *c, const char *path);

/* ---- what the mount does in workspace/ ---- */

/* FD's object was made or changed. */
void artifact_noted(struct context *c, int fd);
/* It is being written, by somebody else than the loop, from ON to off. */
void artifact_writing(struct context *c, int fd, bool on);
/* PATH's text is an upload from now on. */
void artifact_uploaded(struct context *c, const char *path);
void artifact_removed(struct context *c, const char *path);
/* SWAP: each has the other's name now. */
void artifact_moved(struct context *c, const char *from, const char *to, bool swap);

#endif
