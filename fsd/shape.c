#include "shape.h"

#include "packages.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>

enum { LOG_BUDGET = 2000000, VALUE_MAX = 64 << 10, FOREVER_S = 3600 };

/* ---- attributes ---- */

static mode_t type_of(const struct row *row)
{
	switch (row->shape) {
	case S_DIR:
		return S_IFDIR;
	case S_LINK:
		return S_IFLNK;
	default:
		return S_IFREG;
	}
}

static void fill(const struct node *n, struct stat *st, off_t size)
{
	struct timespec t = us_to_ts(node_time(n));

	*st = (struct stat){
		.st_ino = n->ino,
		.st_mode = type_of(n->row) | node_mode(n),
		.st_nlink = n->row->shape == S_DIR ? 2 : 1,
		.st_size = size,
		.st_blksize = 4096,
		.st_blocks = (size + 511) / 512,
		.st_atim = t,
		.st_mtim = t,
		.st_ctim = t,
	};
	node_owner(n, &st->st_uid, &st->st_gid);
}

/* An fd of a file that has no name any more, from one of its handles. */
static int open_handle_fd(struct handles *set, uint64_t ino)
{
	list_for(it, &set->all) {
		struct handle *h = container_of(it, struct handle, link);
		if (h->ino == ino && h->fd >= 0)
			return h->fd;
	}
	return -1;
}

static int body_attr(struct handles *set, const struct node *n, struct stat *st)
{
	struct stat real;

	if (n->body->unlinked) {
		int fd = open_handle_fd(set, n->ino);
		if (fd < 0 || fstat(fd, &real) < 0)
			return -ESTALE;
		if (n->body->cut >= 0)
			real.st_size = 0;
	} else {
		int err = body_stat(n->body, &real);
		if (err)
			return err;
	}
	fill(n, st, real.st_size);
	st->st_mode = S_IFREG | (real.st_mode & 0777);
	st->st_atim = real.st_atim;
	st->st_mtim = real.st_mtim;
	st->st_ctim = real.st_ctim;
	st->st_nlink = !n->body->unlinked;
	return 0;
}

static const struct log *lines_log(const struct node *n, struct log *scratch)
{
	if (n->kind == N_LOG)
		return &n->world->log;
	auto_free char *path = context_path(n->ctx, "log");
	*scratch = (struct log){ .fd = -1 };
	return log_open(scratch, n->world->contexts_dir, path) ? NULL : scratch;
}

static int lines_attr(const struct node *n, struct stat *st)
{
	struct log scratch = { .fd = -1 };
	const struct log *l = lines_log(n, &scratch);

	if (!l)
		return -EIO;
	fill(n, st, l->size - log_start(l));
	st->st_mtim = st->st_ctim = st->st_atim =
		us_to_ts(l->time ? l->time : n->ctx ? n->ctx->created : n->world->born);
	log_close(&scratch);
	return 0;
}

/* What is printed may change between a reader's open and its fstat: it is told the size of its copy. */
static off_t largest_copy(struct handles *set, uint64_t ino, off_t size)
{
	list_for(it, &set->all) {
		struct handle *h = container_of(it, struct handle, link);
		if (h->ino == ino && (h->shape == S_TEXT || h->shape == S_PROMISE))
			size = MAX(size, (off_t)h->text.n);
	}
	return size;
}

static off_t stream_size(const struct node *n)
{
	if (n->row->shape == S_LOG)
		return n->ctx->store.end[n->row->log];
	if (!n->run)
		return 0;
	return n->row->log == L_JOURNAL ? n->run->events.total : n->run->flow[n->row->log == L_ERR].x.total;
}

int shape_attr(struct handles *set, const struct node *n, struct stat *st, double *timeout)
{
	struct content c;

	*timeout = 0;
	switch (n->row->shape) {
	case S_BODY:
		return body_attr(set, n, st);
	case S_LINES:
		return lines_attr(n, st);
	case S_DIR:
		fill(n, st, 0);
		return 0;
	case S_LOG:
	case S_FOLLOW:
		fill(n, st, stream_size(n));
		return 0;
	default:
		break;
	}
	if (node_ready(n)) {
		fill(n, st, 0);
		return 0;
	}
	int err = node_content(n, &c);
	if (err)
		return err;
	fill(n, st, n->row->shape == S_TEXT ? largest_copy(set, n->ino, content_size(&c)) : content_size(&c));
	if (n->row->shape == S_PROMISE && run_ended(n->run))
		*timeout = FOREVER_S;
	content_free(&c);
	return 0;
}

/* Is N known? 0, LATER, or why not. */
static int wait_ready(const struct node *n, bool expired, bool no_limit, struct wait *w)
{
	int ready = node_ready(n);

	if (ready != -EAGAIN)
		return ready;
	if (expired)
		return n->row->at_limit && n->run ? 0 : -ETIMEDOUT;
	w->q = node_change(n);
	w->limit = no_limit ? 0 : n->ctx->conf.v[C_WAIT].v;
	return LATER;
}

int shape_getattr(struct handles *set, const struct node *n, bool expired, struct stat *st,
		  double *timeout, struct wait *w)
{
	/* The kernel checks rights itself, and so asks before each open, which has another limit than a stat. */
	bool opens = n->world->opt.allow_other;
	int err = n->row->shape == S_PROMISE ? wait_ready(n, expired, opens && n->row->no_limit, w) : 0;
	bool at_limit = err == LATER && n->row->at_limit;
	off_t copy = at_limit ? largest_copy(set, n->ino, 0) : 0;

	/* Who has it open was told what there is, and asks for the size of that. */
	if (copy || (at_limit && opens)) {
		fill(n, st, copy);
		*timeout = 0;
		return 0;
	}
	return err ? err : shape_attr(set, n, st, timeout);
}

int shape_access(const struct node *n, int mask, bool expired, struct wait *w)
{
	int err = n->row->shape == S_PROMISE ? wait_ready(n, expired, false, w) : 0;

	if (err)
		return err;
	if (mask & W_OK && !(n->row->mode & 0222))
		return n->run || n->row->of == O_CELL ? -EROFS : -EACCES;
	return mask & X_OK && type_of(n->row) == S_IFREG && n->row->shape != S_BODY ? -EACCES : 0;
}

/* ---- open ---- */

static struct handle *handle_new(struct handles *set, const struct node *n, struct fuse_file_info *fi)
{
	struct handle *h = xcalloc(1, sizeof(*h));

	h->set = set;
	h->ino = n->ino;
	h->shape = n->row->shape;
	h->log = n->row->log;
	h->fd = -1;
	h->nonblock = fi->flags & O_NONBLOCK;
	list_init(&h->poll.link);
	list_append(&set->all, &h->link);
	fi->fh = (uintptr_t)h;
	/* Saves a round trip at close, and a reader of a dying mount its error. */
	fi->noflush = (fi->flags & O_ACCMODE) == O_RDONLY;
	return h;
}

static int open_promise(struct handles *set, const struct node *n, struct fuse_file_info *fi, bool expired,
			struct wait *w)
{
	struct content c;
	int ready = wait_ready(n, expired, n->row->no_limit, w);

	if (ready == LATER && fi->flags & O_NONBLOCK)
		return -EAGAIN;
	if (ready)
		return ready;
	int err = node_content(n, &c);
	if (err)
		return err;
	struct handle *h = handle_new(set, n, fi);
	h->text = c.text;
	h->x = c.x;
	h->log = c.log;
	fi->keep_cache = run_ended(n->run);
	fi->direct_io = !run_ended(n->run);
	return 0;
}

static int open_body(struct handles *set, const struct node *n, struct fuse_file_info *fi, pid_t pid)
{
	bool writing = (fi->flags & O_ACCMODE) != O_RDONLY;
	struct body *b = n->body;

	if (writing && !b->unlinked) {
		int err = body_admit(n->ctx, b->dir, b->name);
		if (err)
			return err;
	}
	int fd = b->unlinked ? -ESTALE : body_open_fd(b, writing ? O_RDWR : (O_RDONLY | (fi->flags & O_TRUNC)));
	if (fd < 0)
		return fd;
	if (writing && fi->flags & O_TRUNC)
		body_cut(b, fd);
	struct handle *h = handle_new(set, n, fi);
	h->fd = fd;
	h->body = b;
	h->writing = writing;
	/* Through the page cache the kernel asks for security.capability twice before it writes. Who may only write cannot
	 * mmap and misses nothing. */
	fi->direct_io = set->direct_writes && (fi->flags & O_ACCMODE) == O_WRONLY;
	b->opens++;
	if (writing)
		body_opened(b, &h->writer, pid);
	return 0;
}

static int open_text(struct handles *set, const struct node *n, struct fuse_file_info *fi)
{
	struct handle *h = handle_new(set, n, fi);

	buf_grow(&h->text, 0);
	h->truncated = h->shape == S_VALUE && fi->flags & O_TRUNC;
	if (!h->truncated)
		n->row->print(n, &h->text);
	fi->direct_io = 1;
	return 0;
}

static int open_stream(struct handles *set, const struct node *n, struct fuse_file_info *fi)
{
	struct handle *h = handle_new(set, n, fi);

	h->budget = LOG_BUDGET;
	if (h->shape == S_FOLLOW && !n->run)
		h->start = n->ctx->store.end[h->log];
	fi->direct_io = 1;
	return 0;
}

static int open_lines(struct handles *set, const struct node *n, struct fuse_file_info *fi)
{
	struct log scratch = { .fd = -1 };
	const struct log *l = lines_log(n, &scratch);
	int fd = l ? fcntl(l->fd, F_DUPFD_CLOEXEC, 0) : -1;

	log_close(&scratch);
	if (fd < 0)
		return -EIO;
	handle_new(set, n, fi)->fd = fd;
	fi->direct_io = 1;
	return 0;
}

int shape_open(struct handles *set, const struct node *n, struct fuse_file_info *fi, pid_t pid, bool expired,
	       struct wait *w)
{
	bool writing = (fi->flags & O_ACCMODE) != O_RDONLY || fi->flags & O_TRUNC;

	if (writing && !(n->row->mode & 0222))
		return n->run ? -EROFS : -EPERM;
	switch (n->row->shape) {
	case S_PROMISE:
		return open_promise(set, n, fi, expired, w);
	case S_BODY:
		return open_body(set, n, fi, pid);
	case S_TEXT:
	case S_CTL:
	case S_VALUE:
		return open_text(set, n, fi);
	case S_LOG:
	case S_FOLLOW:
		return open_stream(set, n, fi);
	case S_LINES:
		return open_lines(set, n, fi);
	default:
		return -EISDIR;
	}
}

int shape_open_new(struct handles *set, const struct node *n, struct fuse_file_info *fi, pid_t pid)
{
	struct wait w;

	return shape_open(set, n, fi, pid, true, &w);
}

/* ---- read ---- */

/* Ranges of LOG as one answer. It must be complete: what the kernel caches has no second chance. */
static int read_extents(struct context *c, enum store_log log, const struct extents *x, off_t off,
			size_t size, struct reading *r)
{
	size_t pieces = 0, cap = 0;
	struct fuse_bufvec *v = NULL;
	off_t left;
	int fd = store_fd(&c->store, log);

	if (fd < 0)
		return fd;
	for (off_t at; size && (at = extents_find(x, off, &left)) >= 0;) {
		size_t n = MIN(size, (size_t)left);
		if (pieces == cap) {
			cap = cap ? cap * 2 : 1;
			v = xrealloc(v, sizeof(*v) + (cap - 1) * sizeof(v->buf[0]));
		}
		v->buf[pieces++] = (struct fuse_buf){ .size = n, .fd = fd, .pos = at,
						      .flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK };
		off += n;
		size -= n;
	}
	if (v) {
		v->count = pieces;
		v->idx = v->off = 0;
	}
	r->vec = v;
	return 0;
}

static int read_text(struct handle *h, const struct node *n, size_t size, off_t off, struct reading *r)
{
	if (off == 0 && n && h->shape == S_TEXT && h->seen) { /* a poller reads it again */
		buf_reset(&h->text);
		n->row->print(n, &h->text);
	}
	h->seen = 1;
	if (off < (off_t)h->text.n) {
		r->mem = h->text.s + off;
		r->n = MIN(size, h->text.n - off);
	}
	return 0;
}

static int read_log(struct handle *h, const struct node *n, size_t size, off_t off, bool expired,
		    struct reading *r, struct wait *w)
{
	struct context *c = n->ctx;
	struct extents all = { 0 };

	if (h->parked_at) {
		h->budget -= mono_us() - h->parked_at;
		h->parked_at = 0;
	}
	if (off < c->store.end[h->log]) {
		extents_add(&all, 0, c->store.end[h->log]);
		h->seen = MAX(h->seen, MIN(off + (off_t)size, c->store.end[h->log]));
		return read_extents(c, h->log, &all, off, size, r);
	}
	h->seen = MAX(h->seen, c->store.end[h->log]);
	if (expired || h->nonblock || h->budget <= 0 || !context_busy(c))
		return 0;
	h->parked_at = mono_us();
	*w = (struct wait){ &c->flow, h->budget };
	return LATER;
}

static const struct extents *live_extents(const struct node *n, enum store_log log)
{
	return log == L_JOURNAL ? &n->run->events : &n->run->flow[log == L_ERR].x;
}

static int read_follow(struct handle *h, const struct node *n, size_t size, off_t off, bool expired,
		       struct reading *r, struct wait *w)
{
	struct context *c = n->ctx;
	struct extents since = { 0 };
	const struct extents *x = &since;

	if (n->run)
		x = live_extents(n, h->log);
	else
		extents_add(&since, h->start, c->store.end[h->log] - h->start);
	if (off < x->total) {
		h->seen = MAX(h->seen, MIN(off + (off_t)size, x->total));
		return read_extents(c, h->log, x, off, size, r);
	}
	if (n->run && run_ended(n->run))
		return 0;
	if (expired)
		return -ETIMEDOUT;
	if (h->nonblock)
		return -EAGAIN;
	*w = (struct wait){ n->run ? &n->run->more : &c->flow, 0 };
	return LATER;
}

/* The daemon's logs are cut from the front now and then: offset 0 is their first line shown. */
static int read_lines(struct handle *h, const struct node *n, size_t size, off_t off, struct reading *r)
{
	struct log scratch = { .fd = -1 };
	const struct log *l = lines_log(n, &scratch);
	off_t start = l ? log_start(l) : 0, end = l ? l->size : 0;

	log_close(&scratch);
	if (start + off >= end)
		return 0;
	buf_reset(&h->text);
	buf_grow(&h->text, size);
	ssize_t got = pread(h->fd, h->text.s, MIN((off_t)size, end - start - off), start + off);
	if (got < 0)
		return -errno;
	r->mem = h->text.s;
	r->n = got;
	return 0;
}

/* GONE: why it has no name any more. One that was unlinked is read until it is closed. */
static int read_body(struct handle *h, int gone, size_t size, off_t off, struct reading *r)
{
	int err = body_settle(h->body);

	if (err)
		return err;
	buf_reset(&h->text);
	buf_grow(&h->text, size);
	ssize_t got = pread(h->fd, h->text.s, size, off);
	if (got < 0)
		return -errno;
	r->mem = h->text.s;
	r->n = got;
	return gone && !h->body->unlinked ? -ESTALE : 0;
}

int shape_read(struct handle *h, size_t size, off_t off, bool expired, struct reading *r, struct wait *w)
{
	struct node n;
	int gone = node_get(h->set->world, h->ino, &n);

	*r = (struct reading){ 0 };
	switch (h->shape) {
	case S_TEXT:
	case S_CTL:
	case S_VALUE:
		return gone ? gone : read_text(h, &n, size, off, r);
	case S_BODY:
		return read_body(h, gone, size, off, r);
	default:
		break;
	}
	if (gone)
		return gone;
	switch (h->shape) {
	case S_PROMISE:
		return h->x.n ? read_extents(n.ctx, h->log, &h->x, off, size, r) : read_text(h, NULL, size, off, r);
	case S_LOG:
		return read_log(h, &n, size, off, expired, r, w);
	case S_FOLLOW:
		return read_follow(h, &n, size, off, expired, r, w);
	case S_LINES:
		return read_lines(h, &n, size, off, r);
	default:
		return -EIO;
	}
}

/* ---- write ---- */

static int write_value(struct handle *h, const struct node *n, const char *p, size_t size, off_t off)
{
	auto_buf struct buf text = { 0 };

	if (off + size > VALUE_MAX)
		return -EFBIG;
	buf_add(&text, h->text.s, MIN((off_t)h->text.n, off));
	while ((off_t)text.n < off)
		buf_char(&text, 0);
	buf_add(&text, p, size);
	if (off + size < h->text.n)
		buf_add(&text, h->text.s + off + size, h->text.n - off - size);
	h->wrote = true; /* also if it is refused: then what was there stays */
	int err = value_write(n->ctx, node_body_dir(n), value_node_name(n), text.s, text.n);
	if (err)
		return err;
	buf_reset(&h->text);
	buf_add(&h->text, text.s, text.n);
	return 0;
}

static int write_body(struct handle *h, const char *p, size_t n, off_t off)
{
	int err = body_write(h->body, &h->writer, off + n);

	if (!err)
		err = body_put(h->body, h->fd, p, n, off);
	if (err)
		body_refused(h->body, err);
	return err;
}

/* What belongs together may come in pieces, which end anywhere: it is done when the file is closed. What is wrong with
 * whole lines is told at once, because few look at what close says. */
static int write_ctl(struct handle *h, const struct node *n, const char *p, size_t size)
{
	bool gone = false;

	if (!context_holds(n->row->name))
		return context_take(n->ctx, n->row->name, p, size, &gone);
	size_t was = h->held.n;
	buf_add(&h->held, p, size);
	const char *nl = memrchr(h->held.s, '\n', h->held.n);
	int err = h->held.n > VALUE_MAX ? -EFBIG : nl ? packages_check(n->ctx, h->held.s, nl + 1 - h->held.s) : 0;
	if (err)
		h->held.n = was;
	return err;
}

int shape_write(struct handle *h, const char *p, size_t size, off_t off)
{
	struct node n;
	int err;

	if (h->shape == S_BODY)
		return h->body->ctx ? write_body(h, p, size, off) : -ESTALE;
	err = node_get(h->set->world, h->ino, &n);
	if (err)
		return err;
	if (h->shape == S_CTL)
		return write_ctl(h, &n, p, size);
	return h->shape == S_VALUE ? write_value(h, &n, p, size, off) : -EPERM;
}

static int truncate_body(struct handles *set, const struct node *n, struct handle *h, off_t size)
{
	auto_close int own = -1;
	int fd = h && h->fd >= 0 ? h->fd : open_handle_fd(set, n->ino);

	if (size > CELL_MAX)
		return -EFBIG;
	int err = body_settle(n->body);
	if (err)
		return err;
	if (fd < 0)
		fd = own = body_open_fd(n->body, O_RDWR);
	if (fd < 0)
		return fd;
	return ftruncate(fd, size) < 0 ? -errno : 0;
}

int shape_truncate(struct handles *set, const struct node *n, struct handle *h, off_t size)
{
	switch (n->row->shape) {
	case S_CTL:
		return 0;
	case S_VALUE:
		if (!h) {
			list_for(it, &set->all) {
				struct handle *other = container_of(it, struct handle, link);
				if (other->ino == n->ino && other->shape == S_VALUE)
					h = other;
			}
		}
		if (!h)
			return size ? -EINVAL : value_write(n->ctx, node_body_dir(n), value_node_name(n), "", 0);
		h->text.n = MIN((off_t)h->text.n, size);
		h->truncated = true;
		return 0;
	case S_BODY:
		return truncate_body(set, n, h, size);
	default:
		return n->run ? -EROFS : -EPERM;
	}
}

int shape_flush(struct handle *h, pid_t pid)
{
	struct node n;
	bool gone = false;

	if (h->shape == S_BODY && h->writing)
		body_flushed(h->body, &h->writer, pid);
	if (!h->held.n || node_get(h->set->world, h->ino, &n))
		return 0;
	int err = context_take(n.ctx, n.row->name, h->held.s, h->held.n, &gone);
	buf_reset(&h->held);
	return err;
}

void shape_release(struct handle *h)
{
	struct node n;

	if (h->shape == S_VALUE && h->truncated && !h->wrote && !node_get(h->set->world, h->ino, &n))
		value_write(n.ctx, node_body_dir(&n), value_node_name(&n), "", 0);
	list_del(&h->poll.link);
	if (h->ph)
		fuse_pollhandle_destroy(h->ph);
	list_del(&h->link);
	if (h->body && h->fd == h->body->cut) {
		body_settle(h->body);
		h->body->cut = -1;
	}
	drop_fd(&h->fd);
	if (h->body)
		body_closed(h->body, h->writing ? &h->writer : NULL);
	buf_free(&h->text);
	buf_free(&h->held);
	extents_free(&h->x);
	free(h);
}

/* ---- poll ---- */

static bool text_changed(struct handle *h, const struct node *n)
{
	auto_buf struct buf now = { 0 };

	if (!h->seen)
		return true;
	n->row->print(n, &now);
	return now.n != h->text.n || memcmp(now.s, h->text.s, now.n);
}

unsigned shape_poll(struct handle *h, struct waitq **q)
{
	struct node n;
	const unsigned always = POLLIN | POLLRDNORM | POLLOUT | POLLWRNORM, in = POLLIN | POLLRDNORM;

	*q = NULL;
	if (node_get(h->set->world, h->ino, &n))
		return always | POLLERR;
	switch (h->shape) {
	case S_TEXT:
		*q = node_change(&n);
		return text_changed(h, &n) ? in : 0;
	case S_LOG:
		*q = &n.ctx->flow;
		return n.ctx->store.end[h->log] > h->seen ? in : 0;
	case S_FOLLOW:
		if (!n.run) {
			*q = &n.ctx->flow;
			return n.ctx->store.end[h->log] - h->start > h->seen ? in : 0;
		}
		*q = &n.run->more;
		return run_ended(n.run) || live_extents(&n, h->log)->total > h->seen ? in : 0;
	default:
		return always;
	}
}
