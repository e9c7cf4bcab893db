/* Inode numbers: object id << 24 | slot << 8 | kind. The kind is a row of the tree's table; the slot tells
 * things of one object and kind apart (a run's outputs, config's names). No node is allocated: a number is
 * taken apart and its object looked up, and if that is gone, so is the node (ESTALE). */
#ifndef CELLFS_NODE_H
#define CELLFS_NODE_H

#include "context.h"

enum node_kind {
	N_NONE,
	N_ROOT, /* 1, as FUSE wants it: object 0, slot 0 */
	N_README, N_AGENTS, N_LANGUAGES, N_STATUS, N_LOG, N_CONTEXTS, N_SHELF,
	N_CTX, N_CELLS, N_RESULTS, N_LATEST, N_HISTORY,
	N_CTX_OUT, N_CTX_ERR, N_CTX_EVENTS, N_CTX_OUT_F, N_CTX_ERR_F, N_CTX_EVENTS_F,
	N_WORKSPACE, N_ARTIFACTS, N_CONFIG, N_SETTING, N_ENV, N_ENV_VAR, N_KERNELS, N_KERNEL_EXT,
	N_CTL, N_PACKAGES, N_CTX_STATUS, N_CTX_LOG, N_CTX_JSON,
	N_BODY, N_RESULT, N_DRAFT, N_DRAFT_STATUS,
	N_RUN, N_RUN_STATUS, N_RUN_NUMBER, N_RUN_CODE, N_RUN_DONE, N_RUN_REPORT, N_RUN_OUT, N_RUN_ERR,
	N_RUN_OUT_F, N_RUN_ERR_F, N_RUN_EVENTS_F, N_RUN_FILE, N_RUN_ERROR_TXT, N_RUN_ERROR_JSON,
	N_RUN_EXIT, N_RUN_RECORD, N_RUN_EVENTS,
	N_KEPT, N_KEPT_DIR, N_NEW_KEPT, N_NEW_KEPT_DIR, N_KEPT_FILE, N_KEPT_LINK, N_KEPT_LIVE,
	N_KINDS
};

struct node {
	struct world *world;
	uint64_t ino;
	enum node_kind kind;
	uint16_t slot;
	const struct row *row;
	struct context *ctx;
	struct run *run;
	struct cell *cell;
	struct body *body;
};

static inline uint64_t node_ino(uint64_t id, uint16_t slot, enum node_kind kind)
{
	return id << 24 | (uint64_t)slot << 8 | kind;
}
static inline uint64_t node_id(uint64_t ino)
{
	return ino >> 24;
}

/* Resolves INO. Loads its context if need be. Returns 0, -ESTALE, or the error of reading. */
int node_get(struct world *w, uint64_t ino, struct node *n);

#endif
