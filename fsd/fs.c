#include "fs.h"

#include "artifact.h"
#include "box.h"
#include "change.h"
#include "lock.h"
#include "mirror.h"
#include "pass.h"
#include "shape.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

enum { REQUESTS_A_TURN = 64, FIXED_NAME_S = 60, CONTEXT_NAME_S = 1, COPY_MAX = 8 << 20, FULL_LOG_US = 1000000,
       LET_GO_US = 1000000, JOBS_MAX = 64, SLOW_WRITE_US = 3000, SLOW_FOR_US = 2000000 };

/* The owner, in the mirror, of the shelf; no object has that number. */
#define SHELF (1ULL << 40)

struct fs {
	struct pass pass; /* first, see pass.h */
	struct world *world;
	struct fuse_session *se;
	struct fuse_buf buf;
	struct watch watch, mounts;
	struct handles handles;
	struct list parked, listings;
	struct mirror *mirror;
	struct timer let_go;   /* of what it has found */
	struct worker *worker; /* for what the disks below mirrors delay */
	struct list locks;
	struct waitq unlocked; /* who waits for a lock */
	int jobs;            /* that the worker has */
	int64_t slow_until;  /* the disk does not keep up with who writes */
	struct {
		int64_t told;
		uint64_t owner; /* a context, or 0: the shelf */
		int err;
		struct timer again;
	} full; /* the disk below */
	struct removed_hook removed;
	void (*ready)(void *);
	void (*ended)(void *);
	void *arg;
	char *mount_id; /* in /proc/self/mountinfo */
	bool over;
};

/* Each request begins with this: the rest of the daemon looks there for who asks. */
static struct fs *fs_of(fuse_req_t req)
{
	struct fs *fs = fuse_req_userdata(req);
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	fs->world->caller = (struct who){ ctx->uid, ctx->gid, ctx->pid };
	return fs;
}

static bool is_mirror(fuse_ino_t ino)
{
	return ino & MIRROR_BIT;
}

static struct handle *handle_of(const struct fuse_file_info *fi)
{
	return fi ? (struct handle *)(uintptr_t)fi->fh : NULL;
}

static void reply_err(fuse_req_t req, int err)
{
	fuse_reply_err(req, -err);
}

/* ---- rights ---- */

/* The context that INO is in, or NULL. */
static struct context *context_of(struct fs *fs, fuse_ino_t ino)
{
	uint64_t id = is_mirror(ino) ? mirror_owner(fs->mirror, ino) & ~MIRROR_VIEW : node_id(ino);
	struct object *o = id ? object_get(fs->world, id) : NULL;

	return o ? o->ctx : NULL;
}

static bool on_shelf(struct fs *fs, fuse_ino_t ino)
{
	return is_mirror(ino) && mirror_owner(fs->mirror, ino) == SHELF;
}

/* What is in a mirror belongs to its context's owner, whoever has it below; on the shelf to who put it there. */
static void show_owner(struct fs *fs, fuse_ino_t ino, struct stat *st)
{
	if (fs->world->opt.allow_other && on_shelf(fs, ino))
		return;
	context_owner(fs->world->opt.allow_other ? context_of(fs, ino) : NULL, &st->st_uid, &st->st_gid);
}

/* Who what is made in the mirror of INO is given to, NULL if it is the daemon's own user. */
static const struct fuse_ctx *giver(struct fs *fs, fuse_ino_t ino, struct fuse_ctx *who)
{
	struct context *c = context_of(fs, ino);

	*who = (struct fuse_ctx){ .uid = geteuid(), .gid = getegid() };
	if (c)
		context_box_ids(c, &who->uid, &who->gid);
	else if (fs->world->opt.allow_other && on_shelf(fs, ino))
		*who = (struct fuse_ctx){ .uid = fs->world->caller.uid, .gid = fs->world->caller.gid };
	return who->uid == geteuid() && who->gid == getegid() ? NULL : who;
}

/* The kernel has checked the modes that it was told. With allow_other it is checked again here, for
 * whatever opens or changes something: answers the request and returns true if it must not be. */
static bool refused(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	uid_t uid = fs->world->caller.uid;
	struct context *c;
	int err;

	if (!fs->world->opt.allow_other)
		return false;
	c = context_of(fs, ino);
	if (c)
		err = context_load(c);
	else
		err = ino == node_ino(0, 0, N_LOG) && uid && uid != getuid() ? -EACCES : 0;
	if (!err && c && !context_allows(c, uid))
		err = -EACCES;
	if (err)
		reply_err(req, err);
	return err != 0;
}

/* The same for moving or removing NAME in PARENT: in contexts/, as in any sticky directory, it takes the
 * owner of either. */
static bool move_refused(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	uid_t uid = fs->world->caller.uid;
	struct context *c;
	int err;

	if (refused(req, parent))
		return true;
	c = fs->world->opt.allow_other && parent == node_ino(0, 0, N_CONTEXTS) ? world_context(fs->world, name) : NULL;
	if (!c)
		return false;
	err = context_load(c);
	if (!err && uid != getuid() && !context_allows(c, uid))
		err = -EPERM;
	if (err)
		reply_err(req, err);
	return err != 0;
}

/* ---- requests that wait ---- */

/* A request that may have to wait: what is needed to try it again. */
struct op {
	struct waiter waiter;
	struct list all;
	struct timer limit;
	struct fs *fs;
	fuse_req_t req;
	int64_t deadline; /* 0: none */
	/* Replies and returns true, or returns false with what it waits for. */
	bool (*try)(struct op *o, bool expired, struct wait *w);
	fuse_ino_t ino;
	struct fuse_file_info fi;
	bool has_fi;
	size_t size;
	off_t off;
	int mask;
	struct flock lock;
	int64_t again; /* us; it looks again by itself then, for nobody tells; 0: it is told */
};

static void op_free(struct op *o)
{
	timer_stop(o->fs->world->loop, &o->limit);
	list_del(&o->waiter.link);
	list_del(&o->all);
	free(o);
}

static void op_fail(struct op *o, int err)
{
	reply_err(o->req, err);
	op_free(o);
}

static void on_time(void *arg);

/* The timer rings at the deadline, or when it is time to look again. */
static void op_time(struct op *o)
{
	int64_t left = o->deadline ? MAX(o->deadline - mono_us(), 1) : 0;

	if (o->again)
		left = left ? MIN(left, o->again) : o->again;
	if (left)
		timer_set(o->fs->world->loop, &o->limit, left, on_time, o);
}

static void op_again(struct op *o, bool expired)
{
	struct wait w;

	list_del(&o->waiter.link);
	if (o->try(o, expired, &w)) {
		op_free(o);
		return;
	}
	waitq_add(w.q, &o->waiter);
	if (o->again)
		op_time(o);
}

static void on_wake(struct waiter *waiter, int err)
{
	struct op *o = container_of(waiter, struct op, waiter);

	if (err)
		op_fail(o, err);
	else
		op_again(o, false);
}

static void on_time(void *arg)
{
	struct op *o = arg;

	op_again(o, o->deadline && mono_us() >= o->deadline);
}

/* Called with the request locked: nothing but an error may be replied. */
static void on_interrupt(fuse_req_t req, void *arg)
{
	struct op *o = arg;

	fuse_reply_err(req, EINTR);
	op_free(o);
}

static void op_park(struct op *o, struct wait *w)
{
	struct op *p = xcalloc(1, sizeof(*p));
	int64_t most = o->fs->world->wait_max;

	*p = *o;
	p->waiter.fn = on_wake;
	waitq_add(w->q, &p->waiter);
	list_append(&p->fs->parked, &p->all);
	if (most && (!w->limit || w->limit > most))
		w->limit = most;
	p->deadline = w->limit ? mono_us() + w->limit : 0;
	op_time(p);
	/* Last: it may call back at once, and then P is gone. */
	fuse_req_interrupt_func(p->req, on_interrupt, p);
}

static void op_start(struct op o)
{
	struct wait w;

	if (!o.try(&o, false, &w))
		op_park(&o, &w);
}

void fs_answer_all(struct fs *fs)
{
	while (!list_empty(&fs->parked))
		op_fail(container_of(fs->parked.next, struct op, all), -ECONNABORTED);
}

/* ---- the disk below a mirror ---- */

static off_t log_size(struct fs *fs, const struct context *c)
{
	auto_free char *path = c ? context_path(c, "log") : NULL;
	struct stat st = { 0 };

	if (c && fstatat(fs->world->contexts_dir, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	return c ? st.st_size : fs->world->log.size;
}

/* A log that lies on the full disk itself gets its line when there is room again. */
static void tell_full(void *arg)
{
	struct fs *fs = arg;
	struct object *o = object_get(fs->world, fs->full.owner);
	const char *what = fs->full.err == -EDQUOT ? "a quota of the host is reached" : "the disk of the host is full";
	struct context *c = o && o->type == O_CONTEXT ? o->ctx : NULL;
	off_t size = log_size(fs, c);

	if (c)
		context_log(c, "%s: what was written through the mount did not fit", what);
	else
		log_line(&fs->world->log, "artifacts: %s", what);
	if (log_size(fs, c) == size)
		timer_set(fs->world->loop, &fs->full.again, FULL_LOG_US, tell_full, fs);
}

/* ERR of an operation below INO: that the disk is full or a quota reached is said in the log, too. */
static int below(struct fs *fs, fuse_ino_t ino, int err)
{
	if ((err != -ENOSPC && err != -EDQUOT) || mono_us() - fs->full.told < FULL_LOG_US)
		return err;
	struct context *c = context_of(fs, ino);
	fs->full.told = mono_us();
	fs->full.owner = c ? c->id : 0;
	fs->full.err = err;
	tell_full(fs);
	return err;
}

static int64_t allocated(const struct stat *st)
{
	return (int64_t)st->st_blocks * 512;
}

/* Of the context that INO is in: do BYTES and FILES more fit into config/disk? */
static int room(struct fs *fs, fuse_ino_t ino, int64_t bytes, int64_t files)
{
	struct context *c = context_of(fs, ino);

	return c ? box_disk_room(c, bytes, files) : 0;
}

static void grew(struct fs *fs, fuse_ino_t ino, int64_t bytes, int64_t files)
{
	struct context *c = context_of(fs, ino);

	if (c && (bytes || files))
		box_disk_grew(c, bytes, files);
}

/* May LEN bytes at OFF be written to the file ST? What has a place on the disk already may be. */
static int room_to_write(struct fs *fs, fuse_ino_t ino, const struct stat *st, off_t off, off_t len)
{
	bool dense = allocated(st) >= st->st_size;
	off_t from = dense ? MAX(off, st->st_size) : off;

	return off + len > from ? room(fs, ino, off + len - from, 0) : 0;
}

/* ---- names ---- */

/* Why nothing of a kind that the tree does not have can be made in INO. */
static int refusal(struct fs *fs, fuse_ino_t ino)
{
	struct node n;

	if (is_mirror(ino))
		return mirror_owner(fs->mirror, ino) & MIRROR_VIEW ? -EROFS : -EPERM;
	int err = node_get(fs->world, ino, &n);
	return err ? err : tree_refusal(&n);
}

/* The same for an attribute. */
static int xattr_refusal(struct fs *fs, fuse_ino_t ino)
{
	int err = refusal(fs, ino);

	return err == -EROFS || err == -ESTALE ? err : -EOPNOTSUPP;
}

/* Names that always mean the same file below their parent may be cached by the kernel. A context's do until it is
 * renamed or removed; after `echo remove > ctl`, which the kernel does not know of, all that is in it is ESTALE, and then the
 * kernel looks the path up again. It asks for nothing where a path is only resolved (O_PATH, realpath): so not for long. */
static double entry_timeout(const struct node *n)
{
	bool fixed = n->row->name && (n->row->of == O_WORLD || n->row->of == O_CONTEXT) && n->kind != N_LATEST;

	return fixed ? FIXED_NAME_S : n->kind == N_CTX ? CONTEXT_NAME_S : 0;
}

static int entry_of(struct fs *fs, uint64_t ino, struct fuse_entry_param *e)
{
	struct node n;
	int err = node_get(fs->world, ino, &n);

	if (err)
		return err;
	if (n.row->shape == S_MIRROR)
		return mirror_root(fs->mirror, n.kind == N_SHELF ? SHELF : n.kind == N_ARTIFACTS ? n.ctx->id | MIRROR_VIEW :
				   n.ctx->id, e);
	*e = (struct fuse_entry_param){ .ino = ino, .entry_timeout = entry_timeout(&n) };
	err = shape_attr(&fs->handles, &n, &e->attr, &e->attr_timeout);
	return err;
}

static void reply_entry(fuse_req_t req, int err, struct fuse_entry_param *e)
{
	if (!err && is_mirror(e->ino))
		show_owner(fs_of(req), e->ino, &e->attr);
	if (err)
		reply_err(req, err);
	else if (fuse_reply_entry(req, e) && is_mirror(e->ino))
		mirror_forget(fs_of(req)->mirror, e->ino, 1);
}

static void let_go(void *arg)
{
	struct fs *fs = arg;

	if (mirror_let_go(fs->mirror))
		timer_set(fs->world->loop, &fs->let_go, LET_GO_US, let_go, fs);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param e;
	struct node n;
	int err;

	if (refused(req, parent))
		return;
	if (is_mirror(parent)) {
		err = mirror_lookup(fs->mirror, parent, name, &e);
		if (!fs->let_go.slot)
			timer_set(fs->world->loop, &fs->let_go, LET_GO_US, let_go, fs);
	} else if (!(err = node_get(fs->world, parent, &n))) {
		uint64_t ino = n.row->shape == S_DIR ? tree_lookup(&n, name) : 0;
		err = ino ? entry_of(fs, ino, &e) : -ENOENT;
		if (err == -ESTALE) /* it went between the two */
			err = -ENOENT;
	}
	reply_entry(req, err, &e);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
	if (is_mirror(ino))
		mirror_forget(fs_of(req)->mirror, ino, n);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *f)
{
	for (size_t i = 0; i < count; i++)
		if (is_mirror(f[i].ino))
			mirror_forget(fs_of(req)->mirror, f[i].ino, f[i].nlookup);
	fuse_reply_none(req);
}

/* ---- attributes ---- */

static bool try_getattr(struct op *o, bool expired, struct wait *w)
{
	struct node n;
	struct stat st;
	double timeout = 0;
	int err = node_get(o->fs->world, o->ino, &n);

	if (!err)
		err = shape_getattr(&o->fs->handles, &n, expired, &st, &timeout, w);
	if (err == LATER)
		return false;
	if (err)
		reply_err(o->req, err);
	else
		fuse_reply_attr(o->req, &st, timeout);
	return true;
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct stat st;

	(void)fi;
	if (!is_mirror(ino)) {
		op_start((struct op){ .fs = fs, .req = req, .try = try_getattr, .ino = ino });
		return;
	}
	int err = mirror_getattr(fs->mirror, ino, &st);
	show_owner(fs, ino, &st);
	if (err)
		reply_err(req, err);
	else
		fuse_reply_attr(req, &st, 0);
}

static int set_times(const struct node *n, const struct stat *want, int to_set)
{
	struct timespec t[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_OMIT } };

	if (to_set & FUSE_SET_ATTR_ATIME)
		t[0] = to_set & FUSE_SET_ATTR_ATIME_NOW ? (struct timespec){ .tv_nsec = UTIME_NOW } :
							  want->st_atim;
	if (to_set & FUSE_SET_ATTR_MTIME)
		t[1] = to_set & FUSE_SET_ATTR_MTIME_NOW ? (struct timespec){ .tv_nsec = UTIME_NOW } :
							  want->st_mtim;
	auto_close int fd = body_open_fd(n->body, O_RDONLY);
	if (fd < 0)
		return fd;
	return futimens(fd, t) < 0 ? -errno : 0;
}

static int set_mode(const struct node *n, mode_t mode)
{
	auto_close int fd = body_open_fd(n->body, O_RDONLY);

	if (fd < 0)
		return fd;
	/* The daemon goes on reading and writing it, whatever its user may. */
	return fchmod(fd, (mode & 0777) | 0600) < 0 ? -errno : 0;
}

static int set_attr(struct fs *fs, const struct node *n, const struct stat *want, int to_set, struct handle *h)
{
	const int times = FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME;
	int err = 0;

	if (n->row->shape != S_BODY && n->row->shape != S_CTL && n->row->shape != S_VALUE)
		return n->run || n->row->of == O_CELL ? -EROFS : -EPERM;
	if (to_set & FUSE_SET_ATTR_SIZE)
		err = shape_truncate(&fs->handles, n, h, want->st_size);
	if (n->row->shape != S_BODY || n->body->unlinked)
		return err;
	if (!err && to_set & FUSE_SET_ATTR_MODE)
		err = set_mode(n, want->st_mode);
	if (!err && to_set & times)
		err = set_times(n, want, to_set);
	return err;
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *want, int to_set,
		       struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct node n;
	struct stat st;
	double timeout = 0;
	int err;

	if (refused(req, ino))
		return;
	if (is_mirror(ino)) {
		struct stat was = { 0 };
		if (!fs->world->opt.allow_other || !on_shelf(fs, ino))
			to_set &= ~(FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID);
		if (to_set & FUSE_SET_ATTR_SIZE)
			mirror_getattr(fs->mirror, ino, &was);
		err = below(fs, ino, mirror_setattr(fs->mirror, ino, want, to_set, fi, &st));
		if (!err && to_set & FUSE_SET_ATTR_SIZE)
			grew(fs, ino, allocated(&st) - allocated(&was), 0);
		show_owner(fs, ino, &st);
	} else if (!(err = node_get(fs->world, ino, &n)) &&
		   !(err = set_attr(fs, &n, want, to_set, handle_of(fi)))) {
		err = shape_attr(&fs->handles, &n, &st, &timeout);
	}
	if (err)
		reply_err(req, err);
	else
		fuse_reply_attr(req, &st, timeout);
}

static bool try_access(struct op *o, bool expired, struct wait *w)
{
	struct node n;
	int err = node_get(o->fs->world, o->ino, &n);

	if (!err)
		err = shape_access(&n, o->mask, expired, w);
	if (err == LATER)
		return false;
	reply_err(o->req, err);
	return true;
}

static void op_access(fuse_req_t req, fuse_ino_t ino, int mask)
{
	if (is_mirror(ino))
		reply_err(req, 0);
	else
		op_start((struct op){ .fs = fs_of(req), .req = req, .try = try_access, .ino = ino,
				      .mask = mask });
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	char target[PATH_MAX] = "";
	auto_buf struct buf b = { 0 };
	struct node n;
	int err;

	if (refused(req, ino))
		return;
	if (is_mirror(ino)) {
		err = mirror_readlink(fs->mirror, ino, target);
	} else if (!(err = node_get(fs->world, ino, &n))) {
		err = n.row->shape == S_LINK ? node_ready(&n) : -EINVAL;
		if (!err)
			n.row->print(&n, &b);
		if (!err && !b.n)
			err = -EIO;
	}
	if (err)
		reply_err(req, err);
	else
		fuse_reply_readlink(req, b.s ? b.s : target);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fs *fs = fs_of(req);
	struct statvfs st;
	struct node n;
	int err = is_mirror(ino) ? mirror_statfs(fs->mirror, ino, &st) : node_get(fs->world, ino, &n);

	if (!err && !is_mirror(ino) && fstatvfs(fs->world->state, &st) < 0)
		err = -errno;
	if (err)
		reply_err(req, err);
	else
		fuse_reply_statfs(req, &st);
}

/* ---- extended attributes ---- */

static int get_xattr(const struct node *n, const char *name, struct buf *b)
{
	if (!strcmp(name, "user.run") && n->body && body_is_cell(n->body)) {
		struct cell *cell = cell_find(n->ctx, n->body->name);
		if (!cell || !cell->newest)
			return -ENODATA;
		buf_printf(b, "%llu", (unsigned long long)cell->newest);
		return 0;
	}
	if (!strcmp(name, "user.mime_type") && node_mime(n)) {
		buf_str(b, node_mime(n));
		return 0;
	}
	return -ENODATA;
}

static void reply_sized(fuse_req_t req, int err, const char *p, size_t n, size_t size)
{
	if (err)
		reply_err(req, err);
	else if (!size)
		fuse_reply_xattr(req, n);
	else if (n > size)
		reply_err(req, -ERANGE);
	else
		fuse_reply_buf(req, p, n);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	struct fs *fs = fs_of(req);
	auto_buf struct buf b = { 0 };
	struct node n;
	int err;

	if (refused(req, ino))
		return;
	buf_grow(&b, is_mirror(ino) ? size : 64);
	if (is_mirror(ino))
		err = mirror_getxattr(fs->mirror, ino, name, b.s, size, &b.n);
	else if (!(err = node_get(fs->world, ino, &n)))
		err = get_xattr(&n, name, &b);
	reply_sized(req, err, b.s, b.n, size);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	static const char *const names[] = { "user.run", "user.mime_type" };
	struct fs *fs = fs_of(req);
	auto_buf struct buf b = { 0 };
	struct node n;
	int err;

	if (refused(req, ino))
		return;
	buf_grow(&b, is_mirror(ino) ? size : 64);
	if (is_mirror(ino)) {
		err = mirror_listxattr(fs->mirror, ino, b.s, size, &b.n);
	} else if (!(err = node_get(fs->world, ino, &n))) {
		for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
			auto_buf struct buf value = { 0 };
			if (!get_xattr(&n, names[i], &value))
				buf_add(&b, names[i], strlen(names[i]) + 1);
		}
	}
	reply_sized(req, err, b.s, b.n, size);
}

static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
			int flags)
{
	struct fs *fs = fs_of(req);

	if (!refused(req, ino))
		reply_err(req, is_mirror(ino) ? below(fs, ino, mirror_setxattr(fs->mirror, ino, name, value, size, flags)) :
			  xattr_refusal(fs, ino));
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct fs *fs = fs_of(req);

	if (!refused(req, ino))
		reply_err(req, is_mirror(ino) ? mirror_removexattr(fs->mirror, ino, name) : xattr_refusal(fs, ino));
}

/* ---- the worker ---- */

/* What the worker does for a request. */
struct job {
	struct fs *fs;
	fuse_req_t req;
	fuse_ino_t ino;
	int fd, to; /* TO: of a copy */
	off_t off, to_off;
	size_t len;
	ssize_t done;
	bool data;     /* fdatasync */
	int64_t was;   /* allocated, before */
	char *mem, *p; /* MEM holds P, what is written or read */
};

static struct job *job_new(struct fs *fs, fuse_req_t req, fuse_ino_t ino, int fd)
{
	struct job *j = xcalloc(1, sizeof(*j));

	*j = (struct job){ .fs = fs, .req = req, .ino = ino, .to = -1 };
	j->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	fs->jobs++;
	return j;
}

/* What a job writes is no cell's: from before it until after. */
static void job_writes(struct job *j, int fd, bool on)
{
	struct context *c = context_of(j->fs, j->ino);

	if (c)
		artifact_writing(c, fd, on);
}

static void job_free(struct job *j)
{
	j->fs->jobs--;
	drop_fd(&j->fd);
	drop_fd(&j->to);
	free(j->mem);
	free(j);
}

/* ---- open files ---- */

static bool try_open(struct op *o, bool expired, struct wait *w)
{
	struct node n;
	int err = node_get(o->fs->world, o->ino, &n);

	if (!err)
		err = shape_open(&o->fs->handles, &n, &o->fi, fuse_req_ctx(o->req)->pid, expired, w);
	if (err == LATER)
		return false;
	if (err)
		reply_err(o->req, err);
	else if (fuse_reply_open(o->req, &o->fi))
		shape_release(handle_of(&o->fi));
	return true;
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);

	if (refused(req, ino))
		return;
	if (!is_mirror(ino)) {
		op_start((struct op){ .fs = fs, .req = req, .try = try_open, .ino = ino, .fi = *fi });
		return;
	}
	struct stat was = { 0 }, st = { 0 };
	if (fi->flags & O_TRUNC)
		mirror_getattr(fs->mirror, ino, &was);
	int err = mirror_open(fs->mirror, ino, fi);
	if (err) {
		reply_err(req, err);
		return;
	}
	if (fi->flags & O_TRUNC && !mirror_getattr(fs->mirror, ino, &st))
		grew(fs, ino, allocated(&st) - allocated(&was), 0);
	/* What is passed through is not seen here again. */
	bool unseen = mirror_passed(fi) && (fi->flags & O_ACCMODE) != O_RDONLY;
	err = unseen ? room(fs, ino, 1, 0) : 0;
	fs->pass.backing = err ? 0 : mirror_passed(fi);
	if (err)
		reply_err(req, err);
	if (err || fuse_reply_open(req, fi))
		mirror_release(fs->mirror, fi);
}

static void create_in_mirror(struct fs *fs, fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
			     struct fuse_file_info *fi)
{
	struct fuse_entry_param e;
	struct fuse_ctx who;
	int err = room(fs, parent, 0, 1);

	if (!err)
		err = below(fs, parent, mirror_create(fs->mirror, parent, name, mode, giver(fs, parent, &who), fi, &e));
	if (err) {
		reply_err(req, err);
		return;
	}
	grew(fs, parent, 0, 1);
	show_owner(fs, e.ino, &e.attr);
	fs->pass.backing = mirror_passed(fi);
	if (fuse_reply_create(req, &e, fi)) {
		mirror_release(fs->mirror, fi);
		mirror_forget(fs->mirror, e.ino, 1);
	}
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param e;
	struct node dir, n;
	uint64_t ino = 0;
	int err;

	if (refused(req, parent))
		return;
	if (is_mirror(parent)) {
		create_in_mirror(fs, req, parent, name, mode, fi);
		return;
	}
	err = node_get(fs->world, parent, &dir);
	if (!err)
		err = tree_create(&dir, name, mode, &ino);
	if (err == -EEXIST && !(fi->flags & O_EXCL))
		err = 0; /* the kernel's idea of this name was old */
	if (!err)
		err = node_get(fs->world, ino, &n);
	if (!err)
		err = shape_open_new(&fs->handles, &n, fi, fuse_req_ctx(req)->pid);
	if (!err && (err = entry_of(fs, ino, &e)))
		shape_release(handle_of(fi));
	if (err)
		reply_err(req, err);
	else if (fuse_reply_create(req, &e, fi))
		shape_release(handle_of(fi));
}

static bool try_read(struct op *o, bool expired, struct wait *w)
{
	struct reading r;
	int err = shape_read(handle_of(&o->fi), o->size, o->off, expired, &r, w);

	if (err == LATER)
		return false;
	if (err)
		reply_err(o->req, err);
	else if (r.vec)
		fuse_reply_data(o->req, r.vec, FUSE_BUF_SPLICE_MOVE);
	else
		fuse_reply_buf(o->req, r.mem, r.n);
	free(r.vec);
	return true;
}

/* Would a read of a byte at OFF wait for a disk? */
static bool is_cold(int fd, off_t off)
{
	char c;

	return preadv2(fd, &(struct iovec){ &c, 1 }, 1, off, RWF_NOWAIT) < 0 && errno == EAGAIN;
}

static int read_work(void *arg)
{
	struct job *j = arg;

	j->done = pread(j->fd, j->mem, j->len, j->off);
	return j->done < 0 ? -errno : 0;
}

static void read_done(void *arg, int err)
{
	struct job *j = arg;

	if (err)
		reply_err(j->req, err);
	else
		fuse_reply_buf(j->req, j->mem, j->done);
	job_free(j);
}

/* What a disk has to bring is read by the worker, what is in memory at once. */
static void read_mirror(struct fs *fs, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
			const struct fuse_file_info *fi)
{
	struct fuse_bufvec v;
	int err = mirror_read(fi, size, off, &v);

	if (err) {
		reply_err(req, err);
	} else if (fs->jobs < JOBS_MAX && (is_cold(v.buf[0].fd, off) || is_cold(v.buf[0].fd, off + size - 1))) {
		struct job *j = job_new(fs, req, ino, v.buf[0].fd);
		j->mem = xcalloc(1, size);
		j->len = size;
		j->off = off;
		worker_do(fs->worker, read_work, read_done, j);
	} else {
		fuse_reply_data(req, &v, FUSE_BUF_SPLICE_MOVE);
	}
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);

	if (!is_mirror(ino)) {
		op_start((struct op){ .fs = fs, .req = req, .try = try_read, .ino = ino, .fi = *fi,
				      .size = size, .off = off });
		return;
	}
	read_mirror(fs, req, ino, size, off, fi);
}

static void note_pace(struct fs *fs, int64_t began)
{
	if (mono_us() - began > SLOW_WRITE_US)
		fs->slow_until = mono_us() + SLOW_FOR_US;
}

static int write_work(void *arg)
{
	struct job *j = arg;
	int64_t began = mono_us();

	j->done = pwrite(j->fd, j->p, j->len, j->off);
	j->off = began; /* not needed any more */
	return j->done < 0 ? -errno : 0;
}

/* J has written to FD. */
static void job_wrote(struct job *j, int fd, int err)
{
	struct stat st;

	job_writes(j, fd, false);
	if (!err && fstat(fd, &st) == 0)
		grew(j->fs, j->ino, allocated(&st) - j->was, 0);
	if (err)
		reply_err(j->req, below(j->fs, j->ino, err));
	else
		fuse_reply_write(j->req, j->done);
	job_free(j);
}

static void write_done(void *arg, int err)
{
	struct job *j = arg;

	note_pace(j->fs, j->off);
	job_wrote(j, j->fd, err);
}

/* Who writes faster than the disk is made to wait by the host: once that is seen the worker does it, with the buffer
 * that the request came in. */
static void write_mirror(struct fs *fs, fuse_req_t req, fuse_ino_t ino, const char *p, size_t n, off_t off,
			 const struct fuse_file_info *fi)
{
	struct stat was = { 0 }, st;
	int fd = mirror_fd(fi);
	size_t done = n;
	int err = fd < 0 ? fd : fstat(fd, &was) < 0 ? -errno : 0;
	int64_t began = mono_us();

	if (!err)
		err = room_to_write(fs, ino, &was, fi->flags & O_APPEND ? was.st_size : off, n);
	if (!err && began < fs->slow_until && fs->jobs < JOBS_MAX) {
		struct job *j = job_new(fs, req, ino, fd);
		j->mem = fs->buf.mem;
		j->p = (char *)p;
		j->len = n;
		j->off = off;
		j->was = allocated(&was);
		fs->buf.mem = NULL; /* libfuse makes another */
		mirror_wrote(fs->mirror, fi);
		job_writes(j, j->fd, true);
		worker_do(fs->worker, write_work, write_done, j);
		return;
	}
	if (!err) {
		struct fuse_bufvec in = FUSE_BUFVEC_INIT(n);
		in.buf[0].mem = (void *)p;
		err = below(fs, ino, mirror_write(fi, &in, off, &done));
		mirror_wrote(fs->mirror, fi);
		note_pace(fs, began);
	}
	if (!err && fstat(fd, &st) == 0)
		grew(fs, ino, allocated(&st) - allocated(&was), 0);
	if (err)
		reply_err(req, err);
	else
		fuse_reply_write(req, done);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *p, size_t n, off_t off,
		     struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);

	if (is_mirror(ino)) {
		write_mirror(fs, req, ino, p, n, off, fi);
		return;
	}
	int err = shape_write(handle_of(fi), p, n, off);
	if (err)
		reply_err(req, err);
	else
		fuse_reply_write(req, n);
}

/* ---- locks ---- */

enum { LOCK_AGAIN_US = 500, LOCK_AGAIN_MAX_US = 20000 };

static struct lock_of lock_of(fuse_ino_t ino, const struct fuse_file_info *fi)
{
	return (struct lock_of){ .ino = ino, .owner = fi->lock_owner, .via = fi->fh,
				 .fd = is_mirror(ino) ? mirror_fd(fi) : -1 };
}

/* Nobody tells when a process below gives a lock up, so who waits asks again and again. */
static bool try_lock(struct op *o, bool expired, struct wait *w)
{
	struct lock_of of = lock_of(o->ino, &o->fi);
	int err = is_mirror(o->ino) && of.fd < 0 ? of.fd :
		  o->mask ? lock_whole(&o->fs->locks, &of, o->mask) : lock_set(&o->fs->locks, &of, &o->lock);

	if (err == -EAGAIN && o->again && !expired) {
		*w = (struct wait){ .q = &o->fs->unlocked };
		o->again = MIN(2 * o->again, LOCK_AGAIN_MAX_US);
		return false;
	}
	reply_err(o->req, err == -EAGAIN && expired ? -ETIMEDOUT : err);
	return true;
}

static void op_setlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock, int sleep)
{
	struct fs *fs = fs_of(req);

	op_start((struct op){ .fs = fs, .req = req, .try = try_lock, .ino = ino, .fi = *fi, .lock = *lock,
			      .again = sleep ? LOCK_AGAIN_US : 0 });
	if (lock->l_type != F_WRLCK)
		waitq_wake(&fs->unlocked, 0);
}

static void op_flock(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, int op)
{
	struct fs *fs = fs_of(req);

	op_start((struct op){ .fs = fs, .req = req, .try = try_lock, .ino = ino, .fi = *fi, .mask = op,
			      .again = op & LOCK_NB ? 0 : LOCK_AGAIN_US });
	if (!(op & LOCK_EX))
		waitq_wake(&fs->unlocked, 0);
}

static void op_getlk(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct flock *lock)
{
	struct lock_of of = lock_of(ino, fi);
	int err = is_mirror(ino) && of.fd < 0 ? of.fd : lock_get(&fs_of(req)->locks, &of, lock);

	if (err)
		reply_err(req, err);
	else
		fuse_reply_lock(req, lock);
}

/* ---- closing, syncing ---- */

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	int err = is_mirror(ino) ? 0 : shape_flush(handle_of(fi), fuse_req_ctx(req)->pid);

	lock_closed(&fs->locks, ino, fi->lock_owner);
	reply_err(req, -err);
	waitq_wake(&fs->unlocked, 0);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);

	lock_released(&fs->locks, fi->fh);
	if (is_mirror(ino))
		mirror_release(fs->mirror, fi);
	else
		shape_release(handle_of(fi));
	reply_err(req, 0);
	waitq_wake(&fs->unlocked, 0);
}

static int fsync_work(void *arg)
{
	struct job *j = arg;

	return (j->data ? fdatasync(j->fd) : fsync(j->fd)) < 0 ? -errno : 0;
}

static void fsync_done(void *arg, int err)
{
	struct job *j = arg;

	reply_err(j->req, below(j->fs, j->ino, err));
	job_free(j);
}

static void sync_fd(fuse_req_t req, fuse_ino_t ino, int fd, int datasync)
{
	struct fs *fs = fs_of(req);

	if (fd < 0) {
		reply_err(req, fd);
		return;
	}
	struct job *j = job_new(fs, req, ino, fd);
	j->data = datasync;
	worker_do(fs->worker, fsync_work, fsync_done, j); /* ours, which ends before the session does */
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct handle *h = is_mirror(ino) ? NULL : handle_of(fi);
	int err = h && h->body ? body_settle(h->body) : 0;

	if (err || (h && h->fd < 0))
		reply_err(req, err);
	else
		sync_fd(req, ino, h ? h->fd : mirror_fd(fi), datasync);
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	if (is_mirror(ino))
		sync_fd(req, ino, mirror_fd(fi), datasync);
	else
		reply_err(req, 0);
}

static void on_poll_change(struct waiter *waiter, int err)
{
	struct handle *h = container_of(waiter, struct handle, poll);
	struct fuse_pollhandle *ph = h->ph;

	(void)err;
	h->ph = NULL;
	if (ph) {
		fuse_lowlevel_notify_poll(ph);
		fuse_pollhandle_destroy(ph);
	}
}

static void op_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct fuse_pollhandle *ph)
{
	struct handle *h = is_mirror(ino) ? NULL : handle_of(fi);
	struct waitq *q = NULL;
	unsigned events = h ? shape_poll(h, &q) : POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM;

	if (ph && (!h || !q)) {
		fuse_pollhandle_destroy(ph);
	} else if (ph) {
		if (h->ph)
			fuse_pollhandle_destroy(h->ph);
		h->ph = ph;
		h->poll.fn = on_poll_change;
		list_del(&h->poll.link);
		waitq_add(q, &h->poll);
	}
	fuse_reply_poll(req, events);
}

/* ---- directories ---- */

/* An open directory: its list as it was at opendir. history/ may be too long for that, and is walked. */
struct listing {
	struct list link;
	struct lister lister;
	uint64_t ino;
	struct fs *fs;
	struct buf names; /* entries: inode number, type, name and its NUL */
	size_t n;
};

static void add_name(struct lister *l, const char *name, uint64_t ino, mode_t type)
{
	struct listing *d = container_of(l, struct listing, lister);

	buf_add(&d->names, &ino, sizeof(ino));
	buf_add(&d->names, &type, sizeof(type));
	buf_add(&d->names, name, strlen(name) + 1);
	d->n++;
}

static void listing_free(struct listing *d)
{
	list_del(&d->link);
	buf_free(&d->names);
	free(d);
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct node n;
	int err;

	if (refused(req, ino))
		return;
	if (is_mirror(ino)) {
		err = mirror_opendir(fs->mirror, ino, fi);
	} else if (!(err = node_get(fs->world, ino, &n))) {
		struct listing *d = xcalloc(1, sizeof(*d));
		d->lister.add = add_name;
		d->ino = ino;
		d->fs = fs;
		list_append(&fs->listings, &d->link);
		add_name(&d->lister, ".", ino, S_IFDIR);
		add_name(&d->lister, "..", N_ROOT, S_IFDIR);
		tree_list(&n, &d->lister);
		fi->fh = (uintptr_t)d;
	}
	if (err)
		reply_err(req, err);
	else
		fuse_reply_open(req, fi);
}

static bool add_dirent(fuse_req_t req, char *out, size_t *used, size_t size, const char *name, uint64_t ino,
		       mode_t type, off_t next)
{
	struct stat st = { .st_ino = ino, .st_mode = type };
	size_t n = fuse_add_direntry(req, out + *used, size - *used, name, &st, next);

	if (n > size - *used)
		return false;
	*used += n;
	return true;
}

/* The runs of history/ from number FROM on; offsets are numbers, behind those of the list. */
static void add_history(fuse_req_t req, struct listing *d, char *out, size_t *used, size_t size, uint64_t from)
{
	struct node n;
	char name[24];

	if (node_get(d->fs->world, d->ino, &n) || n.kind != N_HISTORY)
		return;
	for (uint64_t k = from; k <= n.ctx->nruns; k++) {
		if (n.ctx->recs[k - 1].status == ST_NONE && !context_run(n.ctx, k))
			continue;
		snprintf(name, sizeof(name), "%llu", (unsigned long long)k);
		if (!add_dirent(req, out, used, size, name, node_ino(run_object(n.ctx, k), 0, N_RUN), S_IFDIR,
				d->n + k))
			return;
	}
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	auto_free char *out = malloc(size);
	size_t used = 0, at = 0;
	off_t i = 0;

	if (!out) {
		reply_err(req, -ENOMEM);
		return;
	}
	if (is_mirror(ino)) {
		int err = mirror_readdir(fi, out, size, off, &used);
		if (err)
			reply_err(req, err);
		else
			fuse_reply_buf(req, out, used);
		return;
	}
	struct listing *d = (struct listing *)(uintptr_t)fi->fh;
	bool full = false;
	while (at < d->names.n && !full) {
		uint64_t child;
		mode_t type;
		memcpy(&child, d->names.s + at, sizeof(child));
		memcpy(&type, d->names.s + at + sizeof(child), sizeof(type));
		const char *name = d->names.s + at + sizeof(child) + sizeof(type);
		at += sizeof(child) + sizeof(type) + strlen(name) + 1;
		if (i++ >= off)
			full = !add_dirent(req, out, &used, size, name, child, type, i);
	}
	if (!full)
		add_history(req, d, out, &used, size, off > (off_t)d->n ? off - d->n + 1 : 1);
	fuse_reply_buf(req, out, used);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct listing *d = (struct listing *)(uintptr_t)fi->fh;

	if (is_mirror(ino)) {
		mirror_release(fs_of(req)->mirror, fi);
	} else {
		listing_free(d);
	}
	reply_err(req, 0);
}

/* ---- making and removing ---- */

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param e;
	struct fuse_ctx who;
	uint64_t ino;
	int err;

	if (refused(req, parent))
		return;
	if (is_mirror(parent)) {
		err = room(fs, parent, 0, 1);
		if (!err)
			err = below(fs, parent,
				    mirror_mkdir(fs->mirror, parent, name, mode, giver(fs, parent, &who), &e));
		grew(fs, parent, 0, !err);
	} else if (!(err = tree_mkdir(fs->world, parent, name, &ino)))
		err = entry_of(fs, ino, &e);
	reply_entry(req, err, &e);
}

/* Fifos, sockets and devices are nowhere here; a regular file is made by create. */
static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t dev)
{
	reply_err(req, refusal(fs_of(req), parent));
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param e;
	struct fuse_ctx who;
	int err = refusal(fs, parent);

	if (refused(req, parent))
		return;
	if (is_mirror(parent))
		err = room(fs, parent, 0, 1);
	if (is_mirror(parent) && !err)
		err = below(fs, parent, mirror_symlink(fs->mirror, target, parent, name, giver(fs, parent, &who), &e));
	if (!err)
		grew(fs, parent, 0, 1);
	reply_entry(req, err, &e);
}

/* A file on its way to the shelf. */
struct promotion {
	struct fs *fs;
	fuse_req_t req;
	struct mirror_clone clone;
	fuse_ino_t from, to; /* FROM: the directory it is in, or itself if it is linked */
	char *name, *newname; /* NAME: NULL if it is linked */
	bool replace;
};

static int promote_work(void *arg)
{
	return mirror_clone_work(&((struct promotion *)arg)->clone);
}

static void promote_done(void *arg, int err)
{
	struct promotion *p = arg;
	struct fs *fs = p->fs;
	struct fuse_entry_param e;

	if (!err)
		err = mirror_clone_name(fs->mirror, &p->clone, p->to, p->newname, p->replace, p->name ? NULL : &e);
	if (!err && p->name) {
		err = mirror_clone_remove(fs->mirror, &p->clone, p->from, p->name);
		grew(fs, p->from, -mirror_freed(fs->mirror), 0);
	}
	below(fs, p->to, err);
	if (p->name)
		reply_err(p->req, err);
	else
		reply_entry(p->req, err, &e);
	mirror_clone_clear(&p->clone);
	free(p->name);
	free(p->newname);
	free(p);
}

/* From a context to the shelf goes a file as a reflink, if that can be: then no byte of it moves, and they share no
 * inode. Answers. */
static void promote(fuse_req_t req, fuse_ino_t from, const char *name, fuse_ino_t to, const char *newname,
		    bool replace)
{
	struct fs *fs = fs_of(req);
	struct mirror_clone clone;
	struct fuse_ctx who;
	int err = mirror_clone_begin(fs->mirror, from, name, to, newname, giver(fs, to, &who), &clone);

	if (err) {
		reply_err(req, below(fs, to, err));
		return;
	}
	struct promotion *p = xcalloc(1, sizeof(*p));
	*p = (struct promotion){ .fs = fs, .req = req, .clone = clone, .from = from, .to = to, .replace = replace };
	str_set(&p->name, name);
	str_set(&p->newname, newname);
	worker_do(fs->worker, promote_work, promote_done, p);
}

static bool to_shelf(struct fs *fs, fuse_ino_t from, fuse_ino_t to)
{
	return is_mirror(from) && on_shelf(fs, to) && !on_shelf(fs, from);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param e;
	int err = refusal(fs, parent);

	if (err == -EPERM && is_mirror(ino) != is_mirror(parent))
		err = -EXDEV;
	if (refused(req, ino) || refused(req, parent))
		return;
	if (to_shelf(fs, ino, parent)) {
		promote(req, ino, NULL, parent, name, false);
		return;
	}
	if (is_mirror(ino) && is_mirror(parent))
		err = below(fs, parent, mirror_link(fs->mirror, ino, parent, name, &e));
	reply_entry(req, err, &e);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);

	if (refused(req, parent))
		return;
	if (is_mirror(parent)) {
		int err = mirror_unlink(fs->mirror, parent, name);
		grew(fs, parent, -mirror_freed(fs->mirror), err ? 0 : -1);
		reply_err(req, err);
	} else {
		reply_err(req, tree_unlink(fs->world, parent, name));
	}
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);

	if (move_refused(req, parent, name))
		return;
	reply_err(req, is_mirror(parent) ? mirror_rmdir(fs->mirror, parent, name) : tree_rmdir(fs->world, parent, name));
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
		      const char *to, unsigned flags)
{
	struct fs *fs = fs_of(req);
	int err;

	if (move_refused(req, parent, name) || refused(req, newparent))
		return;
	if (to_shelf(fs, parent, newparent) && !(flags & ~RENAME_NOREPLACE)) {
		promote(req, parent, name, newparent, to, !flags);
		return;
	}
	if (is_mirror(parent) != is_mirror(newparent))
		err = refusal(fs, newparent) == -EROFS ? -EROFS : -EXDEV;
	else if (is_mirror(parent)) {
		err = below(fs, parent, mirror_rename(fs->mirror, parent, name, newparent, to, flags));
		grew(fs, parent, -mirror_freed(fs->mirror), 0);
	} else
		err = tree_rename(fs->world, parent, name, newparent, to, flags);
	reply_err(req, err);
}

static int fallocate_in_mirror(struct fs *fs, fuse_ino_t ino, const struct fuse_file_info *fi, int mode, off_t off,
			       off_t len)
{
	int fd = mirror_fd(fi), err = 0;
	struct stat was, st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &was) < 0)
		return -errno;
	if (!(mode & ~FALLOC_FL_KEEP_SIZE)) { /* what is allocated behind the end is not in it twice */
		int64_t more = off + len - MAX(off, allocated(&was));
		err = more > 0 ? room(fs, ino, more, 0) : 0;
	}
	if (!err)
		err = below(fs, ino, mirror_fallocate(fi, mode, off, len));
	if (!err)
		mirror_wrote(fs->mirror, fi);
	if (!err && fstat(fd, &st) == 0)
		grew(fs, ino, allocated(&st) - allocated(&was), 0);
	return err;
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
			 struct fuse_file_info *fi)
{
	reply_err(req, is_mirror(ino) ? fallocate_in_mirror(fs_of(req), ino, fi, mode, off, len) : -EOPNOTSUPP);
}

static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct node n;
	struct stat st;
	double timeout;
	off_t to = off;
	int err;

	if (is_mirror(ino)) {
		err = mirror_lseek(fi, off, whence, &to);
	} else if (!(err = node_get(fs->world, ino, &n)) &&
		   !(err = shape_attr(&fs->handles, &n, &st, &timeout))) { /* all of it is data */
		err = off < 0 || off >= st.st_size ? -ENXIO : 0;
		to = whence == SEEK_HOLE ? st.st_size : off;
	}
	if (err)
		reply_err(req, err);
	else
		fuse_reply_lseek(req, to);
}

static int copy_work(void *arg)
{
	struct job *j = arg;

	j->done = copy_file_range(j->fd, &j->off, j->to, &j->to_off, j->len, 0);
	return j->done < 0 ? -errno : 0;
}

static void copy_done(void *arg, int err)
{
	struct job *j = arg;

	job_wrote(j, j->to, err);
}

/* Where the file system reflinks, that is what it does. */
static void op_copy_file_range(fuse_req_t req, fuse_ino_t in, off_t in_off, struct fuse_file_info *in_fi,
			       fuse_ino_t out, off_t out_off, struct fuse_file_info *out_fi, size_t len,
			       int flags)
{
	struct fs *fs = fs_of(req);
	bool ours = is_mirror(in) && is_mirror(out) && !flags;
	int from = ours ? mirror_fd(in_fi) : -EXDEV, to = ours ? mirror_fd(out_fi) : -EXDEV;
	struct stat was;
	int err = from < 0 ? from : to < 0 ? to : fstat(to, &was) < 0 ? -errno : 0;

	len = MIN(len, COPY_MAX);
	if (!err)
		err = room_to_write(fs, out, &was, out_off, len);
	if (err) {
		reply_err(req, err);
		return;
	}
	struct job *j = job_new(fs, req, out, from);
	j->to = fcntl(to, F_DUPFD_CLOEXEC, 0);
	j->off = in_off;
	j->to_off = out_off;
	j->len = len;
	j->was = allocated(&was);
	mirror_wrote(fs->mirror, out_fi);
	job_writes(j, j->to, true);
	worker_do(fs->worker, copy_work, copy_done, j);
}

/* ---- the connection ---- */

static void op_init(void *arg, struct fuse_conn_info *conn)
{
	struct fs *fs = arg;

	/* RELEASE is a background request: with a short queue, parked reads would keep it from coming. */
	conn->max_background = 7866;
	conn->congestion_threshold = 7866;
	conn->time_gran = 1;
	conn->want &= ~(FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
			FUSE_CAP_SPLICE_READ);
	conn->want |= conn->capable & (FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE | FUSE_CAP_ATOMIC_O_TRUNC |
				       FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_PARALLEL_DIROPS);
	fs->handles.direct_writes = conn->proto_minor >= 39; /* Linux 6.6 */
	fs->pass.init = fs->pass.on;
	fs->ready(fs->arg);
}

static const struct fuse_lowlevel_ops ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.access = op_access,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.open = op_open,
	.create = op_create,
	.read = op_read,
	.write = op_write,
	.flush = op_flush,
	.release = op_release,
	.fsync = op_fsync,
	.fsyncdir = op_fsyncdir,
	.getlk = op_getlk,
	.setlk = op_setlk,
	.flock = op_flock,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.releasedir = op_releasedir,
	.statfs = op_statfs,
	.getxattr = op_getxattr,
	.setxattr = op_setxattr,
	.listxattr = op_listxattr,
	.removexattr = op_removexattr,
	.fallocate = op_fallocate,
	.copy_file_range = op_copy_file_range,
	.lseek = op_lseek,
	.poll = op_poll,
};

static void end(struct fs *fs)
{
	if (fs->over)
		return;
	fs->over = true;
	fs->ended(fs->arg);
}

/* Takes what is there, but not for ever: kernels want their turn too. */
static void on_fuse(void *arg, uint32_t events)
{
	struct fs *fs = arg;

	for (int i = 0; i < REQUESTS_A_TURN && !fuse_session_exited(fs->se); i++) {
		int n = fuse_session_receive_buf(fs->se, &fs->buf);
		if (n == -EINTR)
			continue;
		if (n == -EAGAIN)
			return;
		if (n <= 0)
			break;
		fuse_session_process_buf(fs->se, &fs->buf);
		if (i + 1 == REQUESTS_A_TURN)
			return;
	}
	if (events & (EPOLLERR | EPOLLHUP) || fuse_session_exited(fs->se)) {
		watch_del(fs->world->loop, &fs->watch);
		end(fs);
	}
}

/* The octal escapes of mountinfo, undone in place. */
static void unescape(char *s)
{
	char *to = s;

	while (*s) {
		if (*s == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] && s[3]) {
			*to++ = (s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0');
			s += 4;
		} else {
			*to++ = *s++;
		}
	}
	*to = 0;
}

/* Looks through the mount table for ID, or, if that is NULL, for the last mount at PATH: its id. */
static char *find_mount(const char *id, const char *path)
{
	auto_buf struct buf b = { 0 };
	char *found = NULL, *rest, *line;

	if (read_file(AT_FDCWD, "/proc/self/mountinfo", 64 << 20, &b))
		return NULL;
	rest = b.s;
	while ((line = strsep(&rest, "\n"))) {
		char mid[32], where[4200];
		if (sscanf(line, "%31s %*s %*s %*s %4199s", mid, where) != 2)
			continue;
		unescape(where);
		if (id ? strcmp(mid, id) : strcmp(where, path))
			continue;
		free(found);
		found = xstrdup(mid);
	}
	return found;
}

/* A lazy unmount tells the daemon nothing: the mount table does. */
static void on_mounts(void *arg, uint32_t events)
{
	struct fs *fs = arg;
	auto_free char *id = fs->mount_id ? find_mount(fs->mount_id, NULL) : NULL;

	(void)events;
	if (fs->mount_id && !id) {
		watch_del(fs->world->loop, &fs->mounts);
		end(fs);
	}
}

static int open_mirrored(void *arg, uint64_t owner)
{
	const int flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	struct fs *fs = arg;
	struct object *o = owner == SHELF ? NULL : object_get(fs->world, owner & ~MIRROR_VIEW);
	int fd;

	if (owner == SHELF) {
		fd = openat(fs->world->state, "artifacts", flags);
	} else if (o && o->type == O_CONTEXT) {
		auto_free char *path = context_path(o->ctx, "workspace");
		fd = openat(fs->world->contexts_dir, path, flags);
	} else {
		return -ESTALE;
	}
	return fd < 0 ? -errno : fd;
}

static int open_backing(void *arg, int fd)
{
	return pass_open(&((struct fs *)arg)->pass, fd);
}

struct closing {
	struct fs *fs;
	int fd;
};

static int close_work(void *arg)
{
	struct closing *c = arg;

	drop_fd(&c->fd);
	return 0;
}

static void close_done(void *arg, int err)
{
	struct closing *c = arg;

	(void)err;
	mirror_closed(c->fs->mirror);
	free(c);
}

static void close_removed(void *arg, int fd)
{
	struct closing *c = xcalloc(1, sizeof(*c));

	*c = (struct closing){ arg, fd };
	worker_do(c->fs->worker, close_work, close_done, c);
}

static void close_backing(void *arg, int backing)
{
	pass_close(&((struct fs *)arg)->pass, backing);
}

static void on_removed(void *arg, uint64_t id)
{
	struct fs *fs = arg;

	mirror_drop(fs->mirror, id);
	mirror_drop(fs->mirror, id | MIRROR_VIEW);
}

/* ---- what is done in workspace/, for artifacts/ ---- */

static struct context *owner_context(void *arg, uint64_t owner)
{
	struct fs *fs = arg;
	struct object *o = owner == SHELF ? NULL : object_get(fs->world, owner);

	return o && o->type == O_CONTEXT && o->ctx->loaded ? o->ctx : NULL;
}

static void on_noted(void *arg, uint64_t owner, int fd)
{
	struct context *c = owner_context(arg, owner);

	if (c)
		artifact_noted(c, fd);
}

static void on_written(void *arg, uint64_t owner, const char *path)
{
	struct context *c = owner_context(arg, owner);

	if (c)
		artifact_uploaded(c, path);
}

static void on_unlinked(void *arg, uint64_t owner, const char *path)
{
	struct context *c = owner_context(arg, owner);

	if (c)
		artifact_removed(c, path);
}

static void on_moved(void *arg, uint64_t owner, const char *from, const char *to, bool swap)
{
	struct context *c = owner_context(arg, owner);

	if (c)
		artifact_moved(c, from, to, swap);
}

static bool is_artifact(void *arg, uint64_t owner, const char *path, bool is_dir)
{
	struct context *c = owner_context(arg, owner);

	return c && artifact_shown(c, path, is_dir);
}

static int rmdir_of_artifacts(void *arg, uint64_t owner, const char *path)
{
	struct context *c = owner_context(arg, owner);

	return c ? artifact_rmdir(c, path) : -ESTALE;
}

static const struct mirror_watch workspaces = { .noted = on_noted, .written = on_written, .removed = on_unlinked,
						.moved = on_moved, .shown = is_artifact, .rmdir = rmdir_of_artifacts };

/* libfuse and fusermount3 write to stderr by themselves: what they do goes to FD. Returns what was there. */
static int hush(int fd)
{
	auto_close int err = fd < 0 ? -1 : fcntl(2, F_DUPFD_CLOEXEC, 3);

	if (err >= 0)
		dup2(fd, 2);
	return take(&err);
}

static void unhush(int err)
{
	if (err >= 0)
		dup2(err, 2);
	drop_fd(&err);
}

/* One line of ours for the cause that a user can have mended; else theirs stands before ours. */
static int mount_session(struct fs *fs, const char *mountpoint, struct buf *why)
{
	auto_close int said = memfd_create("said", MFD_CLOEXEC);
	int was = hush(said), err = fuse_session_mount(fs->se, mountpoint);
	char text[2048];
	ssize_t n = said < 0 ? 0 : pread(said, text, sizeof(text) - 1, 0);

	unhush(was);
	text[MAX(n, 0)] = 0;
	bool other = err && strstr(text, "user_allow_other");
	if (*text && !other && write(2, text, n) < 0) { /* nobody listens */
	}
	if (err)
		buf_printf(why, "%s: cannot be mounted%s", mountpoint,
			   other ? " with allow_other: /etc/fuse.conf does not let users other than root do so: "
				   "as root: echo user_allow_other >> /etc/fuse.conf" : "");
	return err;
}

struct fs *fs_mount(struct world *w, const char *mountpoint, void (*ready)(void *), void (*ended)(void *),
		    void *arg, struct buf *why)
{
	auto_free char *opts = xasprintf("fsname=cellfs,subtype=cellfs%s%s", w->opt.mount_flags,
					 w->opt.allow_other ? ",allow_other,default_permissions" : "");
	char *argv[] = { "cellfs", "-o", opts, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);
	struct fs *fs = xcalloc(1, sizeof(*fs));

	fs->world = w;
	fs->handles.world = w;
	fs->ready = ready;
	fs->ended = ended;
	fs->arg = arg;
	list_init(&fs->handles.all);
	list_init(&fs->parked);
	list_init(&fs->listings);
	list_init(&fs->locks);
	waitq_init(&fs->unlocked);
	fs->mirror = mirror_new(open_mirrored, fs);
	struct mirror_watch watch = workspaces;
	watch.arg = fs;
	mirror_set_watch(fs->mirror, &watch);
	fs->worker = worker_new(w->loop);
	mirror_set_close(fs->mirror, close_removed, fs);
	/* As contexts/: everybody may put something there, and has the say over it. */
	if (fchmodat(w->state, "artifacts", w->opt.allow_other ? 01777 : 0755, 0) < 0)
		log_line(&w->log, "artifacts: its mode cannot be set: %s", strerror(errno));
	fs->removed = (struct removed_hook){ .fn = on_removed, .arg = fs };
	list_append(&w->removed_hooks, &fs->removed.link);
	fs->se = fuse_session_new(&args, &ops, sizeof(ops), fs);
	fuse_opt_free_args(&args);
	if (!fs->se)
		buf_printf(why, "%s: cannot be mounted", mountpoint);
	if (!fs->se || mount_session(fs, mountpoint, why) != 0) {
		if (fs->se)
			fuse_session_destroy(fs->se);
		fs->se = NULL;
		fs_unmount(fs);
		return NULL;
	}
	int fd = fuse_session_fd(fs->se);
	pass_start(&fs->pass, fs->se, !w->opt.no_passthrough);
	if (fs->pass.on)
		mirror_set_pass(fs->mirror, &(struct mirror_pass){ open_backing, close_backing, fs });
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	watch_add(w->loop, &fs->watch, fd, EPOLLIN, on_fuse, fs);
	fs->mount_id = find_mount(NULL, mountpoint);
	int mounts = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	if (mounts >= 0 && watch_add(w->loop, &fs->mounts, mounts, EPOLLPRI, on_mounts, fs) < 0)
		close(mounts);
	return fs;
}

/* That the mount is gone already is success; libfuse says otherwise, on stderr itself. */
static void unmount_quietly(struct fs *fs)
{
	auto_free char *there = fs->mount_id ? find_mount(fs->mount_id, NULL) : NULL;
	auto_close int null = there ? -1 : open("/dev/null", O_WRONLY | O_CLOEXEC);
	int was = hush(null);

	fuse_session_unmount(fs->se);
	unhush(was);
}

void fs_unmount(struct fs *fs)
{
	int mounts = fs->mounts.fn ? fs->mounts.fd : -1;

	fs->over = true;
	fs_answer_all(fs);
	watch_del(fs->world->loop, &fs->watch);
	watch_del(fs->world->loop, &fs->mounts);
	drop_fd(&mounts);
	timer_stop(fs->world->loop, &fs->full.again);
	timer_stop(fs->world->loop, &fs->let_go);
	worker_free(fs->worker); /* and what it was asked for is answered */
	lock_free(&fs->locks);
	while (!list_empty(&fs->handles.all))
		shape_release(container_of(fs->handles.all.next, struct handle, link));
	while (!list_empty(&fs->listings))
		listing_free(container_of(fs->listings.next, struct listing, link));
	if (fs->se) {
		unmount_quietly(fs);
		fuse_session_destroy(fs->se);
	}
	mirror_free(fs->mirror);
	list_del(&fs->removed.link);
	free(fs->buf.mem);
	free(fs->mount_id);
	free(fs);
}
