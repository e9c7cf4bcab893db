/* A kernel: the process that runs the cells of one language in one context, started through box, spoken to
 * by kernels/PROTOCOL.md. What it says is untrusted; facts are what the daemon saw itself. */
#ifndef CELLFS_KERNEL_H
#define CELLFS_KERNEL_H

#include "context.h"
#include "driver.h"

/* 0 is no state: an empty cell of the table of steps. */
enum kernel_state { K_STOPPED = 1, K_STARTING, K_IDLE, K_BUSY, K_DYING, K_STATES };

struct kernel {
	struct list link;           /* context->kernels */
	struct context *ctx;
	const struct lang *lang;
	char *key;                  /* the language, or the extension that config/kernel gives its own */
	char *interpreter;          /* NULL: the language's */
	enum kernel_state state;
	int64_t generation, count;  /* starts so far; cells executed in this one */
	char *lost_why;             /* why the state before was lost; NULL nothing to tell */
	struct run *run;            /* the one it runs, or is started for */
	uint64_t exec_id;
	bool ending;                /* its run is over but for what the driver has to put away */
	bool boxed;                 /* it is in the context's box, or on its way there */
	bool oomed;                 /* killed by the daemon for the memory of its box */
	bool nameless;              /* it was a spare, and knows no CELLFS_CONTEXT yet */
	struct spare *spare;        /* the driver that it will be, once its box is bound */
	bool boxless;               /* the box that it waits for has failed */
	bool again;                 /* it is started once more: the box that it was started in ended */
	bool sweeping;              /* its supervisor was killed: pid 1 of the box ends the rest */
	pid_t box;                  /* the process that starts it, then its supervisor; 0 none */
	pid_t pid;                  /* the driver, 0 not known yet */
	int pidfd, driver;          /* of BOX; of the driver, to see its death before box has told */
	int cmd, ack, guard, lifeline;
	int code_dir, spool;        /* where the daemon puts cells, where the driver puts payloads */
	struct flow late[2];        /* what it prints while it runs nothing */
	struct watch w_pid, w_cmd, w_ev, w_io[2], w_report;
	bool io_eof[2];
	struct buf in, out;         /* of the event pipe, for the command pipe */
	struct buf env, cwd;        /* JSON of config/env and the cwd as it was told last */
	struct timer timer;         /* start limit */
	struct timer pause;         /* until its run may begin: a signal to the one before is then no more on its way */
	int64_t signalled;          /* us, monotonic: the last one */
	char *death;                /* why it is being ended, for the run's reason */
	pid_t joined;               /* the supervisor, as the process that entered the box told */
	int exit_code, exit_signal; /* -1: not known */
	char *failed;               /* why box could not start it */
	int64_t ooms;               /* processes of the box killed for memory when its run started */
	bool restart;               /* to be killed when its run has ended */
	uint64_t messages;          /* events of this run */
	struct gauge gauge;         /* of what its run takes */
};

/* What runs cells called CELL in C: the language (NULL: CELL is a draft's name), the kernel's name, the
 * interpreter that config/kernel names (NULL: the language's own). */
struct speaker {
	const struct lang *lang;
	const char *key, *interpreter;
};
struct speaker kernel_speaker(struct context *c, const char *cell);
/* Is NAME a cell's in C? */
bool kernel_is_cell(struct context *c, const char *name);
/* The kernel for CELL, made (stopped) if there is none yet; NULL if no language is CELL's. */
struct kernel *kernel_for(struct context *c, const char *cell);
struct kernel *kernel_named(struct context *c, const char *key);
struct kernel *kernel_new(struct context *c, const char *key, const struct lang *lang);
/* What config/kernel/EXT may hold: 0 or -EINVAL. */
int kernel_check_override(struct context *c, const char *ext, const char *text, size_t n);
/* Runs R, the context's active run, starting the kernel if need be. */
void kernel_run(struct kernel *k, struct run *r);
/* SIGINT to its process group; the guard's byte. */
void kernel_signal(struct kernel *k);
void kernel_guard(struct kernel *k);
/* Ends it and all its processes at once. Its run, if any, ends as killed with WHY, unless it has a better
 * reason. WHY is kept for the notice of the next one. */
void kernel_kill(struct kernel *k, const char *why);
/* Ends it, after its run was interrupted; the next cell starts a new one. */
void kernel_restart(struct kernel *k);
bool kernel_alive(const struct kernel *k);
/* Which of its context's boxes it is in. */
enum box_use kernel_use(const struct kernel *k);
void kernel_free(struct kernel *k);
/* Sees the processes of D to their end, which is to come; they count as a kernel until then. */
void kernel_orphan(struct world *w, struct driver *d);
const char *kernel_state_name(const struct kernel *k);

/* What the box tells: it is up, or gone; it could not be made; what a killed supervisor left is gone. */
void kernels_box_up(struct context *c, enum box_use use);
void kernels_box_failed(struct context *c, enum box_use use, const char *why);
void kernels_swept(struct context *c, enum box_use use);
/* The box has more memory than it may: the kernel that runs a cell ends, or all. */
void kernels_over_memory(struct context *c, enum box_use use);
/* The same for any other reason. */
void kernels_kill(struct context *c, enum box_use use, const char *why);

#endif
