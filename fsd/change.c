#include "change.h"

#include "artifact.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE (1 << 0)
#endif

/* The node NAME in PARENT, which is no mirror's. */
static int child_of(struct world *w, uint64_t parent, const char *name, struct node *n)
{
	struct node dir;
	int err = node_get(w, parent, &dir);

	if (err)
		return err;
	uint64_t ino = tree_lookup(&dir, name);
	return ino ? node_get(w, ino, n) : -ENOENT;
}

int tree_refusal(const struct node *n)
{
	return n->run || n->row->of == O_CELL || n->kind == N_RESULTS || n->kind == N_HISTORY ? -EROFS : -EPERM;
}

/* A made directory in which names of the user's can be: makes NAME there. *INO is what it became. */
int tree_create(const struct node *dir, const char *name, mode_t mode, uint64_t *ino)
{
	struct body *b;
	int err;

	if (dir->row->shape != S_DIR || !dir->row->dir)
		return tree_refusal(dir);
	if ((*ino = tree_lookup(dir, name)))
		return -EEXIST;
	if (value_name(dir->ctx, node_body_dir(dir), name)) {
		err = value_create(dir->ctx, node_body_dir(dir), name);
		*ino = err ? 0 : tree_lookup(dir, name);
		return err ? err : *ino ? 0 : -EIO;
	}
	dir->ctx->leaver = 0;
	err = body_create(dir->ctx, node_body_dir(dir), name, mode, &b);
	if (!err)
		*ino = node_ino(b->id, 0, N_BODY);
	return err;
}

int tree_mkdir(struct world *w, uint64_t parent, const char *name, uint64_t *ino)
{
	struct context *c;
	struct node n;
	int err = node_get(w, parent, &n);

	if (err)
		return err;
	if (n.kind == N_CONTEXTS) {
		err = world_mkdir(w, name, &c);
		if (!err)
			*ino = node_ino(c->id, 0, N_CTX);
		return err;
	}
	if (n.kind == N_CTX && n.ctx->doomed && !strcmp(name, "cells")) {
		n.ctx->doomed = false;
		*ino = node_ino(n.ctx->id, 0, N_CELLS);
		return 0;
	}
	return tree_refusal(&n);
}

int tree_unlink(struct world *w, uint64_t parent, const char *name)
{
	struct node n;
	int err = child_of(w, parent, name, &n);

	if (err)
		return err;
	switch (n.row->shape) {
	case S_BODY:
		return body_unlink(n.body);
	case S_VALUE:
		return value_remove(n.ctx, node_body_dir(&n), value_node_name(&n));
	case S_DIR:
	case S_MIRROR:
		return -EISDIR;
	default: /* what the tree makes goes with its directory */
		if (n.kind == N_CTL)
			n.ctx->leaver = w->caller.pid;
		return n.row->of == O_WORLD ? -EPERM : 0;
	}
}

static bool workspace_empty(struct context *c)
{
	auto_free char *path = context_path(c, "workspace");
	uid_t uid;
	gid_t gid;

	/* rmdir tells, and it is made again at once */
	if (unlinkat(c->world->contexts_dir, path, AT_REMOVEDIR) < 0)
		return false;
	context_box_ids(c, &uid, &gid);
	return mkdirat(c->world->contexts_dir, path, 0700) == 0 &&
	       (uid == geteuid() || fchownat(c->world->contexts_dir, path, uid, gid, AT_SYMLINK_NOFOLLOW) == 0);
}

static int rmdir_context(struct world *w, struct context *c)
{
	if (!c->doomed && (!body_dir_empty(c, B_CELLS) || context_busy(c) || !workspace_empty(c)))
		return -ENOTEMPTY;
	world_remove(w, c);
	return 0;
}

static int doom(struct context *c)
{
	c->doomed = true;
	context_abandon(c);
	context_stop(c, "removed", true);
	artifact_abandon(c);
	return 0;
}

int tree_rmdir(struct world *w, uint64_t parent, const char *name)
{
	struct node n;
	int err = child_of(w, parent, name, &n);

	if (err)
		return err;
	if (n.row->shape != S_DIR && n.row->shape != S_MIRROR)
		return -ENOTDIR;
	if (n.kind == N_CTX)
		return rmdir_context(w, n.ctx);
	if (n.ctx && n.ctx->doomed)
		return 0;
	if (n.kind == N_CELLS && !body_dir_empty(n.ctx, B_CELLS))
		return -ENOTEMPTY;
	/* Who removes all comes to cells/ first; or to the last directory, after all files: Python's rmtree since 3.13 */
	if (n.kind == N_CELLS || (n.ctx && n.ctx->leaver && n.ctx->leaver == w->caller.pid))
		return doom(n.ctx);
	switch (n.kind) {
	case N_KEPT: /* it goes with its run */
	case N_KEPT_DIR:
	case N_NEW_KEPT:
	case N_NEW_KEPT_DIR:
		return 0;
	case N_RUN:
		return context_forget(n.ctx, n.run->number);
	case N_RESULT:
		return n.cell->newest ? context_forget(n.ctx, n.cell->newest) : -EBUSY;
	default:
		return -EPERM;
	}
}

/* Of a variable or a kernel: it moves. An editor's backup of a value by rename: a draft gets the text, the
 * value stays. */
static int rename_value(const struct node *n, const char *to)
{
	auto_buf struct buf text = { 0 };
	struct body *b = body_find(n->ctx, node_body_dir(n), to);
	int err = 0;

	if (n->kind == N_SETTING && value_name(n->ctx, node_body_dir(n), to))
		return -EPERM;
	n->row->print(n, &text);
	if (value_name(n->ctx, node_body_dir(n), to)) {
		err = value_write(n->ctx, node_body_dir(n), to, text.s ? text.s : "", text.n);
		return err ? err : value_remove(n->ctx, node_body_dir(n), value_node_name(n));
	}
	if (!b)
		err = body_create(n->ctx, node_body_dir(n), to, 0600, &b);
	auto_close int fd = err ? -1 : body_open_fd(b, O_RDWR | O_TRUNC);
	return err ? err : fd < 0 ? fd : pwrite_all(fd, text.s ? text.s : "", text.n, 0);
}

int tree_rename(struct world *w, uint64_t parent, const char *name, uint64_t newparent, const char *to,
		     unsigned flags)
{
	struct node newdir, n;
	int err = child_of(w, parent, name, &n);

	if (!err)
		err = node_get(w, newparent, &newdir);
	if (err)
		return err;
	if (flags & ~RENAME_NOREPLACE)
		return -EINVAL;
	if (n.kind == N_CTX)
		return newdir.kind == N_CONTEXTS ? world_rename(w, n.ctx, to) : -EXDEV;
	if (tree_refusal(&newdir) == -EROFS)
		return -EROFS;
	if (n.row->shape != S_BODY && n.row->shape != S_VALUE)
		return tree_refusal(&n);
	if (parent != newparent)
		return -EXDEV;
	if (n.row->shape == S_VALUE)
		return rename_value(&n, to);
	/* Only ctl, of what the tree makes here, takes a draft's text; body_rename knows it. */
	struct node target;
	uint64_t old = tree_lookup(&newdir, to);
	if (old && !node_get(w, old, &target) && target.row->shape != S_BODY &&
	    target.row->shape != S_VALUE && target.row->shape != S_CTL)
		return -EPERM;
	return body_rename(n.body, node_body_dir(&newdir), to, flags & RENAME_NOREPLACE);
}
