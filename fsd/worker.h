/* One thread beside the loop for what a disk may delay: fdatasync, recursive delete. It owns no state
 * and never touches FUSE: a job carries fds and comes back to the loop when it is done. */
#ifndef CELLFS_WORKER_H
#define CELLFS_WORKER_H

#include "loop.h"

struct worker;

struct worker *worker_new(struct loop *loop);
/* Finishes what is queued, then ends. The DONE of those jobs is called. */
void worker_free(struct worker *w);

/* WORK runs in the worker and returns 0 or -errno; then DONE (may be NULL) runs in the loop with it.
 * ARG is the caller's until DONE. */
void worker_do(struct worker *w, int (*work)(void *arg), void (*done)(void *arg, int err), void *arg);
/* Runs DONE of everything that has been finished so far, without waiting. */
void worker_reap(struct worker *w);

/* Removes everything below directory NAME of DIR, and itself; never follows a link; chmods what has to
 * be. DIR is an open directory. To be run as a job. Returns 0 or -errno. */
int delete_tree(int dir, const char *name);
/* Gives directory NAME of DIR, and everything below, to UID:GID; never follows a link. As a job. Returns
 * 1, 0 if there is nothing below, or -errno. */
int own_tree(int dir, const char *name, uid_t uid, gid_t gid);

#endif
