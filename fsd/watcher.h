/* A tree of directories, watched with inotify: tells which names in it were made, written, moved or removed, by whomever.
 * Knows paths and descriptors, nothing of contexts.
 *
 * The tree may be hostile. Directories are opened through gate.h, and walked by the worker: first watched, then listed, so
 * that nothing is missed, and while a walk is under way no news is read, so that none comes from a directory that is
 * not known yet. What inotify loses (its queue is bounded) a walk of all finds again by the times of the files. Where
 * inotify cannot be had, or not for all directories, every walk still works: see watcher_blind().
 *
 * Paths are relative to the root and shorter than PATH_MAX: what lies deeper does not exist here. */
#ifndef CELLFS_WATCHER_H
#define CELLFS_WATCHER_H

#include "worker.h"

struct watcher;

enum watcher_how {
	W_BEGUN,  /* it was made, or some of it was written */
	W_CLOSED, /* who had it open for writing has closed it; or it is gone */
	W_NEW,    /* its name is new, whatever its times say */
	W_FOUND,  /* its times say that it was changed */
};

struct watcher_ops {
	/* Of no interest, with all below it. In the worker. */
	bool (*skip)(const char *name, bool is_dir);
	/* Look at PATH, which is no directory or is gone. */
	void (*look)(void *arg, const char *path, enum watcher_how how);
	/* Directory PATH came: are the names in it new? */
	bool (*is_fresh)(void *arg, const char *path);
	/* Directory PATH was moved or removed. */
	void (*dir_gone)(void *arg, const char *path);
	/* Some news have been told: what can be done for all of them at once. */
	void (*read)(void *arg);
	/* What watcher_settle() waited for. */
	void (*settled)(void *arg);
};

/* ROOT, a directory (O_PATH is enough), becomes the watcher's. A walk of it begins at once, which tells nothing. */
struct watcher *watcher_new(struct loop *loop, struct worker *worker, int root, const struct watcher_ops *ops, void *arg);
void watcher_free(struct watcher *w);
int watcher_root(const struct watcher *w);
/* A walk tells of what changed (ctime, us since 1970) from SINCE on. */
void watcher_since(struct watcher *w, int64_t since);
/* Tells what there is to be told so far, without waiting. */
void watcher_read(struct watcher *w);
/* All that happened before this call is told: true if it was so now, else settled() is called. */
bool watcher_settle(struct watcher *w);
/* The next watcher_settle() walks all. */
void watcher_walk_all(struct watcher *w);
/* Is there anything that a walk will tell of? */
bool watcher_has_work(const struct watcher *w);
/* Is a walk of all under way, or waited for? */
bool watcher_is_walking(const struct watcher *w);
/* Why it does not see everything by itself: -errno, 0 if it does. */
int watcher_blind(const struct watcher *w);

#endif
