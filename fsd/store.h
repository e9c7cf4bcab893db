/* The files of a context in STATE_DIR: append-only logs, the journal, the index of ended runs, the marks
 * of cells that are being written. Knows offsets and bytes, not what they mean.
 *
 *   stdout.log stderr.log   what the kernels printed, in order
 *   results.bin             code, results, displays and records of the runs
 *   kept.bin                files of the workspace as they were when a run ended, with a table of each run's
 *   made.log                which files of the workspace the cells have made, see artifact.c
 *   journal.jsonl           the events; what events.jsonl shows
 *   runs.idx                the journal's facts, a record each, so that a start need not read the journal
 *   dirty                   slots of 256 bytes: names of cells that were written and are not queued yet
 *
 * The daemon is the only writer and keeps the ends: a write that fails leaves the file as it was. The fds
 * are opened on use and closed again by the world when too many are open. */
#ifndef CELLFS_STORE_H
#define CELLFS_STORE_H

#include "loop.h"
#include "worker.h"

#include <sys/uio.h>

struct extent {
	off_t off, len;
};

/* A list of ranges of one log, nearly always one. Zero is the empty list. */
struct extents {
	struct extent *v, one; /* v is NULL while ONE holds all */
	size_t n;
	off_t total;
};
void extents_add(struct extents *x, off_t off, off_t len);
const struct extent *extents_at(const struct extents *x, size_t i);
/* Where byte POS lies: its offset in the log, and in *LEN how many follow it there. -1 past the end. */
off_t extents_find(const struct extents *x, off_t pos, off_t *len);
void extents_copy(struct extents *to, const struct extents *from);
void extents_free(struct extents *x);

enum store_log { L_OUT, L_ERR, L_RES, L_KEPT, L_MADE, L_JOURNAL, L_IDX, L_COUNT };

/* All stores share it: which are open, and what to do when the disk is full. */
struct stores {
	struct list open; /* least recently used first */
	int nopen, max_open;
	/* Frees some space, once; false when there is none to free. */
	bool (*make_room)(void *arg);
	void *arg;
};

struct store {
	struct stores *all;
	struct list lru;
	int root;            /* borrowed: directory fd of all contexts */
	char dir[40];        /* its name there */
	int fd[L_COUNT];
	off_t end[L_COUNT];
	int64_t time[L_COUNT]; /* us; when it grew last */
	int dirty_fd;
	bool sized;          /* END is known */
	uint32_t unsynced;   /* bit for each log */
	char (*dirty)[256];  /* the slots, as in the file */
	size_t ndirty;
};

void store_init(struct store *s, struct stores *all, int root, const char *dir);
/* Closes the files; END stays. */
void store_close(struct store *s);
void store_free(struct store *s);
/* The fd of LOG, or -errno. */
int store_fd(struct store *s, enum store_log log);
/* Reads the ends of all logs (open or created). Returns 0 or -errno. */
int store_size(struct store *s);

/* Adds N bytes. *OFF (may be NULL) is where they are. MUST: may use the reserve when the disk is full.
 * Returns 0, or -errno and the log is as before. */
int store_append(struct store *s, enum store_log log, const void *p, size_t n, off_t *off, bool must);
int store_appendv(struct store *s, enum store_log log, struct iovec *iov, int n, off_t *off, bool must);
/* Moves up to MAX bytes from pipe FD to the end of LOG. Returns the number, 0 at end of file, or -errno. */
ssize_t store_splice(struct store *s, enum store_log log, int fd, size_t max);
/* LOG has grown to END by the hand of the worker, which alone adds to it then. */
void store_grew(struct store *s, enum store_log log, off_t end);
/* Copies LEN bytes of the regular file FD to the end of LOG. */
int store_copy(struct store *s, enum store_log log, int fd, off_t len, off_t *off);
/* Adds exactly LEN bytes at OFF to OUT. Returns 0 or -errno (-EIO when they are not there). */
int store_read(struct store *s, enum store_log log, off_t off, size_t len, struct buf *out);
/* Overwrites what is there already (the journal's removed lines). */
int store_overwrite(struct store *s, enum store_log log, off_t off, const void *p, size_t n);
/* Gives the bytes back to the disk; they read as NUL. */
void store_punch(struct store *s, enum store_log log, off_t off, off_t len);
/* Replaces all of LOG, at once or not at all. */
int store_replace(struct store *s, enum store_log log, const void *p, size_t n);
/* Cuts LOG to END. */
int store_cut(struct store *s, enum store_log log, off_t end);

/* Syncs in the worker: the logs first, then journal and index, which name them. DONE may be NULL. */
void store_sync(struct store *s, struct worker *w, void (*done)(void *arg, int err), void *arg);

/* Marks of cells that are written: the mark is on disk (not synced) before the call returns. */
int store_mark(struct store *s, const char *cell, bool dirty);
int store_marks_load(struct store *s);

#endif
