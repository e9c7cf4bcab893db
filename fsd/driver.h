/* A driver as it is started: its command, environment and pipes. Knows no run, and reads no event
 * (kernels/PROTOCOL.md describes what it is told and says). */
#ifndef CELLFS_DRIVER_H
#define CELLFS_DRIVER_H

#include "context.h"

struct driver {
	pid_t pid;            /* the process of box that starts it, then its supervisor */
	pid_t joined;         /* the latter's number, once it has been told */
	int pidfd;            /* of PID */
	int fds[BOX_OWN + 2]; /* our ends: [i] is that of its descriptor i, then the lifeline and the report; -1 none */
};

struct driver_plan {
	struct world *world;
	struct context *ctx;     /* NULL: a spare's, which is nobody's yet */
	struct box *box;         /* NULL: without one */
	const struct lang *lang;
	const char *interpreter; /* NULL: the language's */
	const char *cwd;
};

/* No process, no descriptors. */
void driver_init(struct driver *d);
/* Starts it. Returns 0 or -errno; then D is as driver_init() leaves it. */
int driver_start(const struct driver_plan *p, struct driver *d);
/* The process that enters a box names the supervisor, a child of ours, and ends; without a box it is the supervisor.
 * Reaps PID, whose pidfd is FD. Returns false if that was the last one. Then FD is closed; else both are the next one's. */
bool driver_next(pid_t *pid, int *fd, pid_t joined);
/* The same for a driver whose report nobody has read yet. */
bool driver_joined(struct driver *d);
/* Closes what is left of its descriptors. */
void driver_close(struct driver *d);
/* Adds config/env of C as a JSON object. LIST (may be NULL) gets NAME=VALUE of each as well. */
void driver_env(struct context *c, struct buf *json, struct strings *list);

#endif
