/* Everything there is: the contexts by name, the objects by id, the options, STATE_DIR. Knows no FUSE.
 *
 * STATE_DIR
 *   version          of the format; a newer binary reads an older one, an older refuses a newer
 *   lock             held by the daemon; its text is the pid
 *   log  reserve     the daemon's log; 1 MiB that is given back when the disk is full
 *   names/<name>     symlink to ../contexts/<uuid>: creating, renaming, removing it is what counts
 *   contexts/<uuid>/ a context's files, see store.h and context.h
 *   artifacts/       the shelf
 *   kernelspecs.json what Jupyter kernels have answered; ask/ is the HOME of the one that is being asked
 *   next_uid         of the host, for the next context's box (root only)
 *   trash/           removed contexts, deleted by the worker
 *   tmp/             contexts that are being made */
#ifndef CELLFS_WORLD_H
#define CELLFS_WORLD_H

#include "config.h"
#include "jupyter.h"
#include "lang.h"
#include "log.h"
#include "loop.h"
#include "meter.h"
#include "mime.h"
#include "net.h"
#include "rights.h"
#include "sandbox.h"
#include "store.h"
#include "usage.h"
#include "worker.h"

#define STATE_VERSION 1

/* What an id stands for. Ids are never reused; an id that resolves to nothing is ESTALE. */
enum object_type { O_NONE, O_WORLD, O_CONTEXT, O_CELL, O_BODY, O_RUN };
struct object {
	enum object_type type;
	struct context *ctx; /* the one it is of, or itself */
	void *ptr;           /* O_CELL, O_BODY; O_RUN while it has no number */
	uint64_t number;     /* O_RUN */
};

/* Told of the id of each context that is removed: who keeps things for one lets go. */
struct removed_hook {
	struct list link;
	void (*fn)(void *arg, uint64_t id);
	void *arg;
};

#ifndef CELLFS_VERSION
#define CELLFS_VERSION "0.1.0"
#endif

struct options {
	const char *state_dir, *mountpoint; /* absolute */
	const char *kernels_dir, *box;
	const char *kernelspecs; /* where Jupyter kernels are looked for; NULL: where Jupyter does, "off" nowhere */
	struct config defaults;
	int spares;         /* of each language in use */
	int64_t queue;      /* most runs that wait in one context */
	bool sync_always;
	enum sandbox_mode sandbox;
	struct strings binds; /* HOST:BOX, what every box has beside its own */
	bool foreground;
	bool no_passthrough;        /* of FUSE, where the kernel offers it */
	bool allow_other;           /* others than who mounted: contexts have owners */
	char mount_flags[64];       /* of mount(8)'s options those that libfuse takes, each after a comma */
};

struct world {
	struct loop *loop;
	struct worker *worker;
	struct log log;
	struct langs langs;
	struct jupyter *jupyter;
	struct options opt;
	struct who caller;            /* of the request that is being done */
	int state, contexts_dir, names_dir;
	int lock;
	struct map contexts;          /* by name */
	struct stores stores;
	struct object **pages;        /* objects, in pages */
	uint32_t *page_live;
	size_t npages;
	uint64_t next_id;
	int64_t started, changed;     /* of the root status */
	int64_t born, languages_time; /* of STATE_DIR; of the text of `languages` */
	uint64_t runs_total;
	struct usage usage;           /* of all that have ended since the start */
	int cpus;
	int kernels_running, boxes_running;
	struct spares *spares;
	uint64_t spare_boxes;         /* made so far: names of their groups */
	struct sandbox sandbox;
	struct net net;
	struct meter *meter;
	struct worker *keeper;        /* looks at and keeps files that cells made */
	struct mime *mime;            /* its own */
	struct worker *prober;        /* the meter's: other people's directories can make it wait */
	int64_t wait_max;             /* us; what fs.fuse.*_request_timeout allows, 0 none */
	int reserve;                  /* fd of the reserve, -1 while it is used up */
	int64_t reserve_retry;
	bool stopping;
	struct timer sync_timer, sweep_timer;
	struct waitq change;          /* pollers of the root status */
	struct list removed_hooks;
};

/* Opens STATE_DIR (made if missing), locks it, reads the names of the contexts. Returns 0, or -1 with a
 * sentence in WHY. The loop is there, but does not run yet. */
int world_open(struct world *w, struct options *opt, struct buf *why);
/* The mount answers: what takes its time begins. */
void world_mounted(struct world *w);
/* Stops every kernel and context, in order: runs are ended, recorded and synced. */
void world_stop(struct world *w);
/* True when no kernel's process is left. */
bool world_quiet(const struct world *w);
void world_close(struct world *w);

uint64_t object_new(struct world *w, enum object_type type, struct context *ctx, void *ptr);
/* NULL if nothing (or nothing more) has ID. */
struct object *object_get(const struct world *w, uint64_t id);
void object_drop(struct world *w, uint64_t id);

bool context_name_ok(const char *name);
struct context *world_context(struct world *w, const char *name);
/* 0 or -errno: EINVAL the name, EEXIST. */
int world_mkdir(struct world *w, const char *name, struct context **c);
/* Replaces nothing: EEXIST. */
int world_rename(struct world *w, struct context *c, const char *to);
/* Stops C's kernels and removes everything; C is gone. */
void world_remove(struct world *w, struct context *c);
/* A uid (and gid) of the host that no other context of this STATE_DIR has or had. */
uid_t world_new_uid(struct world *w);
/* -ENOSPC while the reserve is used up and cannot be made again. */
int world_admit(struct world *w);
/* Something of context C was written that should be synced within a second. */
void world_dirty(struct world *w);
/* The root `status` reads differently now. */
void world_touch(struct world *w);

void world_print_status(struct world *w, struct buf *out);

#endif
