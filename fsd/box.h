/* A box of a context: the namespaces that its kernels live in, with their resource group, network and meter. Made for
 * the first kernel that needs it, or made empty before and given to it then, and there until the context is stopped,
 * restarted or removed. The one for installs has the same directories, ids and limits, and a network, and ends with its
 * kernel. Knows nothing of runs; kernel.h is told when a box is up, and when it failed. Only with sandbox=full. */
#ifndef CELLFS_BOX_DAEMON_H
#define CELLFS_BOX_DAEMON_H

#include "context.h"
#include "meter.h"

/* EMPTY: up, and nobody's yet. BINDING: the directories of its context are bound into it. */
enum box_state { BOX_STARTING = 1, BOX_EMPTY, BOX_BINDING, BOX_UP, BOX_DYING, BOX_STATES };

struct box;
struct spare;

/* Makes C's box for USE, if need be. Returns 0 when it is up; 1 when it will be: kernels_box_up() or kernels_box_failed() is
 * called then; -errno when it cannot be made, with the reason in WHY. A kernel with an INTERPRETER (may be
 * NULL) that this box does not have gets a new box if no other kernel lives in it, else -ENOENT. */
int box_need(struct context *c, enum box_use use, const char *interpreter, struct buf *why);
/* Makes a box of default limits for S, whose spare_box_up() or spare_box_gone() is called. Returns 0 or -errno. */
int box_new_empty(struct world *w, struct spare *s, struct box **b);
/* Can an empty box become C's? */
bool box_suits(const struct context *c);
/* Can box_give() take B? Not yet, while what made it has still to be reaped. */
bool box_is_empty(const struct box *b);
/* B, which is empty, becomes C's: as with box_need(), kernels_box_up() is called then. When that fails B ends. */
int box_give(struct box *b, struct context *c);
/* Ends a box that is nobody's. */
void box_drop(struct box *b);
/* Ids of the host that are those inside. */
void box_ids(const struct box *b, uid_t *uid, gid_t *gid);
/* Starts box for a kernel in the box that is up. See sandbox_run. */
int box_run(struct box *b, const int *fds, const struct strings *args, char *const envp[], pid_t *pid, int *pidfd);
/* No other kernel enters them; they end with the last one. */
void box_retire(struct context *c);
/* Has the box that kernels of C were in ended, although nobody may have told yet? */
bool box_ended(struct context *c, enum box_use use);
/* A kernel has left it. OOM: for memory, which may be in files and segments that are nobody's, so that the next one
 * would fare no better: then a box with no other kernel in it ends as well. */
void box_left(struct context *c, enum box_use use, bool oom);
/* Ends them, with every process in them. */
void box_end(struct context *c);
/* C goes: its boxes, if any, are on their own. */
void box_forget(struct context *c);
/* The supervisor of a kernel was killed: pid 1 is to end what it left. True if kernels_swept() will be called. */
bool box_sweep(struct context *c, enum box_use use);

/* Config changed: what can take effect at once does. */
void box_configured(struct context *c);
/* The names of settings that C's box does not have yet: JSON array. */
void box_json_pending(struct context *c, struct buf *b);
/* Processes killed for memory so far; 0 without a group. */
int64_t box_oom_kills(struct context *c, enum box_use use);
/* Its group; NULL: it has none. */
struct cgroup *box_group(struct context *c, enum box_use use);
/* The value of KEY in force: of the box for cells, if there is one and it cannot change it. */
int64_t box_limit(const struct context *c, enum setting_key key);
/* Is PATH, absolute in the box, a directory there? 0 or -errno. */
int box_check_dir(struct context *c, enum box_use use, const char *path);
/* Is there something at PATH, if it is in what the box's own may write? 0, -errno, or 1: it is elsewhere. */
int box_check_interpreter(struct context *c, const char *path);
/* For who writes into C's workspace through the mount: do so many bytes and files more fit into config/disk, as far as
 * is known? 0, or -ENOSPC with a line in the log. And then: what it was (may be negative). */
int box_disk_room(struct context *c, int64_t bytes, int64_t files);
void box_disk_grew(struct context *c, int64_t bytes, int64_t files);
/* What the meter found. */
void box_over(void *arg, uint64_t id, enum meter_over what, int64_t amount);

#endif
