/* Spares: drivers that wait for a context to need them, each in an empty box of default limits, which becomes the box
 * of that context. At most options.spares of each language that somebody has used here. Knows nothing of runs. */
#ifndef CELLFS_SPARE_H
#define CELLFS_SPARE_H

#include "driver.h"

struct spare;
struct spares;

struct spares *spares_new(struct world *w);
void spares_free(struct spares *all);
/* Ends all, and starts no more. */
void spares_stop(struct spares *all);
/* A kernel of L is ready: there is use for spares of it. */
void spares_want(struct spares *all, const struct lang *l);
/* "javascript r": those that would answer at once; or "none". */
void spares_print(const struct spares *all, struct buf *out);
/* What waits, of those that world->kernels_running and boxes_running count. */
void spares_count(const struct spares *all, int *kernels, int *boxes);

/* A spare for a kernel of L in C, or NULL. Its box is C's from now on, and kernels_box_up() tells when it is ready. It
 * is the caller's, to be taken or dropped. */
struct spare *spare_reserve(struct context *c, const struct lang *l);
/* Hands over the driver, which has read nothing yet and is in "/"; false if it is lost, with its box. S is gone. */
bool spare_take(struct spare *s, struct driver *d);
/* Ends it; of NULL nothing. */
void spare_drop(struct spare *s);

/* Its box tells. */
void spare_box_up(struct spare *s);
void spare_box_gone(struct spare *s);
/* S is reserved, and its box ends, for which everybody in it has to be reaped. */
void spare_box_ends(struct spare *s);

#endif
