#include "fs.h"

#include "change.h"
#include "mirror.h"
#include "shape.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { REQUESTS_A_TURN = 64, FIXED_NAME_S = 60 };

struct fs {
	struct world *world;
	struct fuse_session *se;
	struct fuse_buf buf;
	struct watch watch, mounts;
	struct handles handles;
	struct list parked, listings;
	struct mirror *mirror;
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
	uint64_t id = is_mirror(ino) ? mirror_owner(fs->mirror, ino) : node_id(ino);
	struct object *o = id ? object_get(fs->world, id) : NULL;

	return o ? o->ctx : NULL;
}

/* What is in a mirror belongs to its context's owner, whoever has it below. */
static void show_owner(struct fs *fs, fuse_ino_t ino, struct stat *st)
{
	context_owner(fs->world->opt.allow_other ? context_of(fs, ino) : NULL, &st->st_uid, &st->st_gid);
}

/* Who what is made in C's mirror is given to, NULL if it is the daemon's own user. */
static const struct fuse_ctx *box_ids(struct fs *fs, fuse_ino_t ino, struct fuse_ctx *who)
{
	struct context *c = context_of(fs, ino);

	*who = (struct fuse_ctx){ 0 };
	if (!c)
		return NULL;
	context_box_ids(c, &who->uid, &who->gid);
	return who->uid == geteuid() ? NULL : who;
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
	/* Replies and returns true, or returns false with what it waits for. */
	bool (*try)(struct op *o, bool expired, struct wait *w);
	fuse_ino_t ino;
	struct fuse_file_info fi;
	bool has_fi;
	size_t size;
	off_t off;
	int mask;
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

static void op_again(struct op *o, bool expired)
{
	struct wait w;

	list_del(&o->waiter.link);
	if (o->try(o, expired, &w))
		op_free(o);
	else
		waitq_add(w.q, &o->waiter);
}

static void on_wake(struct waiter *waiter, int err)
{
	struct op *o = container_of(waiter, struct op, waiter);

	if (err)
		op_fail(o, err);
	else
		op_again(o, false);
}

static void on_limit(void *arg)
{
	op_again(arg, true);
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
	if (w->limit)
		timer_set(p->fs->world->loop, &p->limit, w->limit, on_limit, p);
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

/* ---- names ---- */

/* Names that always mean the same file below their parent may be cached by the kernel. */
static double entry_timeout(const struct node *n)
{
	return n->row->name && (n->row->of == O_WORLD || n->row->of == O_CONTEXT) && n->kind != N_LATEST ?
		       FIXED_NAME_S : 0;
}

static int entry_of(struct fs *fs, uint64_t ino, struct fuse_entry_param *e)
{
	struct node n;
	int err = node_get(fs->world, ino, &n);

	if (err)
		return err;
	if (n.row->shape == S_MIRROR)
		return mirror_root(fs->mirror, n.ctx->id, e);
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
		to_set &= ~(FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID);
		err = mirror_setattr(fs->mirror, ino, want, to_set, fi, &st);
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
	char target[PATH_MAX];
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
	int err = is_mirror(ino) ? mirror_statfs(fs->mirror, ino, &st) :
		  fstatvfs(fs->world->state, &st) < 0 ? -errno : 0;

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
	if (refused(req, ino))
		return;
	reply_err(req, is_mirror(ino) ?
			       mirror_setxattr(fs_of(req)->mirror, ino, name, value, size, flags) :
			       -EOPNOTSUPP);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	if (!refused(req, ino))
		reply_err(req, is_mirror(ino) ? mirror_removexattr(fs_of(req)->mirror, ino, name) : -EOPNOTSUPP);
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
	int err = mirror_open(fs->mirror, ino, fi);
	if (err)
		reply_err(req, err);
	else if (fuse_reply_open(req, fi))
		mirror_release(fs->mirror, fi);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param e;
	struct node dir, n;
	struct fuse_ctx who;
	uint64_t ino = 0;
	int err;

	if (refused(req, parent))
		return;
	if (is_mirror(parent)) {
		err = mirror_create(fs->mirror, parent, name, mode, box_ids(fs, parent, &who), fi, &e);
		if (!err)
			show_owner(fs, e.ino, &e.attr);
		if (err) {
			reply_err(req, err);
		} else if (fuse_reply_create(req, &e, fi)) {
			mirror_release(fs->mirror, fi);
			mirror_forget(fs->mirror, e.ino, 1);
		}
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

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct fs *fs = fs_of(req);
	struct fuse_bufvec v;

	if (!is_mirror(ino)) {
		op_start((struct op){ .fs = fs, .req = req, .try = try_read, .ino = ino, .fi = *fi,
				      .size = size, .off = off });
		return;
	}
	int err = mirror_read(fi, size, off, &v);
	if (err)
		reply_err(req, err);
	else
		fuse_reply_data(req, &v, FUSE_BUF_SPLICE_MOVE);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *p, size_t n, off_t off,
		     struct fuse_file_info *fi)
{
	size_t done = n;
	int err;

	fs_of(req);
	if (is_mirror(ino)) {
		struct fuse_bufvec in = FUSE_BUFVEC_INIT(n);
		in.buf[0].mem = (void *)p;
		err = mirror_write(fi, &in, off, &done);
	} else {
		err = shape_write(handle_of(fi), p, n, off);
	}
	if (err)
		reply_err(req, err);
	else
		fuse_reply_write(req, done);
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (!is_mirror(ino))
		shape_flush(handle_of(fi), fuse_req_ctx(req)->pid);
	reply_err(req, 0);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (is_mirror(ino))
		mirror_release(fs_of(req)->mirror, fi);
	else
		shape_release(handle_of(fi));
	reply_err(req, 0);
}

struct fsync_job {
	int fd;
	fuse_req_t req;
};

static int fsync_work(void *arg)
{
	struct fsync_job *j = arg;

	return fsync(j->fd) < 0 ? -errno : 0;
}

static void fsync_done(void *arg, int err)
{
	struct fsync_job *j = arg;

	close(j->fd);
	reply_err(j->req, err);
	free(j);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct handle *h = is_mirror(ino) ? NULL : handle_of(fi);

	if (is_mirror(ino)) {
		reply_err(req, mirror_fsync(fi, datasync));
	} else if (h->fd < 0) {
		reply_err(req, 0);
	} else {
		struct fsync_job *j = xcalloc(1, sizeof(*j));
		*j = (struct fsync_job){ fcntl(h->fd, F_DUPFD_CLOEXEC, 0), req };
		worker_do(fs_of(req)->world->worker, fsync_work, fsync_done, j);
	}
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
	if (is_mirror(parent))
		err = mirror_mkdir(fs->mirror, parent, name, mode, box_ids(fs, parent, &who), &e);
	else if (!(err = tree_mkdir(fs->world, parent, name, &ino)))
		err = entry_of(fs, ino, &e);
	reply_entry(req, err, &e);
}

/* Fifos, sockets and devices are nowhere here; a regular file is made by create. */
static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t dev)
{
	reply_err(req, -EPERM);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);
	struct fuse_entry_param e;
	struct fuse_ctx who;
	int err = -EPERM;

	if (refused(req, parent))
		return;
	if (is_mirror(parent))
		err = mirror_symlink(fs->mirror, target, parent, name, box_ids(fs, parent, &who), &e);
	reply_entry(req, err, &e);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e;
	int err = is_mirror(ino) != is_mirror(parent) ? -EXDEV : -EPERM;

	if (refused(req, ino) || refused(req, parent))
		return;
	if (is_mirror(ino) && is_mirror(parent))
		err = mirror_link(fs_of(req)->mirror, ino, parent, name, &e);
	reply_entry(req, err, &e);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fs *fs = fs_of(req);

	if (refused(req, parent))
		return;
	reply_err(req, is_mirror(parent) ? mirror_unlink(fs->mirror, parent, name) :
					   tree_unlink(fs->world, parent, name));
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
	if (is_mirror(parent) != is_mirror(newparent))
		err = -EXDEV;
	else if (is_mirror(parent))
		err = mirror_rename(fs->mirror, parent, name, newparent, to, flags);
	else
		err = tree_rename(fs->world, parent, name, newparent, to, flags);
	reply_err(req, err);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
			 struct fuse_file_info *fi)
{
	reply_err(req, is_mirror(ino) ? mirror_fallocate(fi, mode, off, len) : -EOPNOTSUPP);
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

static void op_copy_file_range(fuse_req_t req, fuse_ino_t in, off_t in_off, struct fuse_file_info *in_fi,
			       fuse_ino_t out, off_t out_off, struct fuse_file_info *out_fi, size_t len,
			       int flags)
{
	size_t n;
	int err = is_mirror(in) && is_mirror(out) && !flags ?
			  mirror_copy_file_range(in_fi, in_off, out_fi, out_off, len, &n) :
			  -EXDEV;

	if (err)
		reply_err(req, err);
	else
		fuse_reply_write(req, n);
}

/* ---- the connection ---- */

static void op_init(void *arg, struct fuse_conn_info *conn)
{
	struct fs *fs = arg;

	/* RELEASE is a background request: with a short queue, parked reads would keep it from coming. */
	conn->max_background = 7866;
	conn->congestion_threshold = 7866;
	conn->time_gran = 1000;
	conn->want &= ~(FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
			FUSE_CAP_SPLICE_READ);
	conn->want |= conn->capable & (FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE | FUSE_CAP_ATOMIC_O_TRUNC |
				       FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_PARALLEL_DIROPS);
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

static int open_workspace(void *arg, uint64_t owner)
{
	struct fs *fs = arg;
	struct object *o = object_get(fs->world, owner);

	if (!o || o->type != O_CONTEXT)
		return -ESTALE;
	auto_free char *path = context_path(o->ctx, "workspace");
	int fd = openat(fs->world->contexts_dir, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static void on_removed(void *arg, uint64_t id)
{
	struct fs *fs = arg;

	mirror_drop(fs->mirror, id);
}

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
	fs->mirror = mirror_new(open_workspace, fs);
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
