/* A driver as it is started: its command, environment and pipes. Knows no run, and reads no event
 * (kernels/PROTOCOL.md describes what it is told and says). */
#ifndef CELLFS_DRIVER_H
#define CELLFS_DRIVER_H

#include "context.h"

struct driver {
	pid_t pid;            /* the process of box that starts it */
	int pidfd;
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

/* Starts it. Returns 0 or -errno; then D has no descriptors. */
int driver_start(const struct driver_plan *p, struct driver *d);
/* Closes what is left of its descriptors. */
void driver_close(struct driver *d);
/* Adds config/env of C as a JSON object. LIST (may be NULL) gets NAME=VALUE of each as well. */
void driver_env(struct context *c, struct buf *json, struct strings *list);

#endif
