#include "store.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

static const char *const names[L_COUNT] = {
	[L_OUT] = "stdout.log",	      [L_ERR] = "stderr.log", [L_RES] = "results.bin",
	[L_KEPT] = "kept.bin",	      [L_MADE] = "made.log",  [L_JOURNAL] = "journal.jsonl",
	[L_IDX] = "runs.idx",
};

void extents_add(struct extents *x, off_t off, off_t len)
{
	if (len <= 0)
		return;
	x->total += len;
	struct extent *last = x->n ? (struct extent *)extents_at(x, x->n - 1) : NULL;
	if (last && last->off + last->len == off) {
		last->len += len;
		return;
	}
	if (!x->n++) {
		x->one = (struct extent){ off, len };
		return;
	}
	if (!x->v || !(x->n & (x->n - 1)))
		x->v = x->v ? xrealloc(x->v, 2 * x->n * sizeof(*x->v)) : xcalloc(4, sizeof(*x->v));
	if (x->n == 2)
		x->v[0] = x->one;
	x->v[x->n - 1] = (struct extent){ off, len };
}

const struct extent *extents_at(const struct extents *x, size_t i)
{
	return x->v ? &x->v[i] : &x->one;
}

off_t extents_find(const struct extents *x, off_t pos, off_t *len)
{
	for (size_t i = 0; i < x->n; i++) {
		const struct extent *e = extents_at(x, i);
		if (pos < e->len) {
			*len = e->len - pos;
			return e->off + pos;
		}
		pos -= e->len;
	}
	return -1;
}

void extents_copy(struct extents *to, const struct extents *from)
{
	*to = (struct extents){ 0 };
	for (size_t i = 0; i < from->n; i++)
		extents_add(to, extents_at(from, i)->off, extents_at(from, i)->len);
}

void extents_free(struct extents *x)
{
	free(x->v);
	*x = (struct extents){ 0 };
}

void store_init(struct store *s, struct stores *all, int root, const char *dir)
{
	*s = (struct store){ .all = all, .root = root, .dirty_fd = -1 };
	snprintf(s->dir, sizeof(s->dir), "%s", dir);
	list_init(&s->lru);
	for (int i = 0; i < L_COUNT; i++)
		s->fd[i] = -1;
}

/* LOG grew, or has other bytes. Two texts of it are at least 1 ms apart, which the file system's own times need not be. */
static void grew(struct store *s, enum store_log log)
{
	s->unsynced |= 1u << log;
	if (log != L_OUT && log != L_ERR && log != L_JOURNAL)
		return;
	s->time[log] = MAX(wall_us(), s->time[log] + 1000);
	const struct timespec t = us_to_ts(s->time[log]);
	futimens(s->fd[log], (struct timespec[]){ t, t });
}

void store_close(struct store *s)
{
	for (int i = 0; i < L_COUNT; i++)
		drop_fd(&s->fd[i]);
	drop_fd(&s->dirty_fd);
	if (!list_empty(&s->lru)) {
		list_del(&s->lru);
		s->all->nopen--;
	}
}

void store_free(struct store *s)
{
	store_close(s);
	free(s->dirty);
	s->dirty = NULL;
}

/* S was used: it is the last to be closed. */
static void store_touch(struct store *s)
{
	struct stores *all = s->all;

	if (all->open.prev == &s->lru)
		return;
	if (list_empty(&s->lru))
		all->nopen++;
	else
		list_del(&s->lru);
	list_append(&all->open, &s->lru);
	list_for_safe(it, tmp, &all->open) {
		struct store *old = container_of(it, struct store, lru);
		if (all->nopen <= all->max_open || old == s)
			break;
		if (!old->unsynced) /* what is not synced yet is so within a second */
			store_close(old);
	}
}

static int store_openat(struct store *s, const char *name)
{
	char path[80];

	store_touch(s);
	snprintf(path, sizeof(path), "%s/%s", s->dir, name);
	int fd = openat(s->root, path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? -errno : fd;
}

int store_fd(struct store *s, enum store_log log)
{
	if (s->fd[log] < 0) {
		int fd = store_openat(s, names[log]);
		if (fd < 0)
			return fd;
		s->fd[log] = fd;
	} else {
		store_touch(s);
	}
	return s->fd[log];
}

int store_size(struct store *s)
{
	for (int i = 0; i < L_COUNT && !s->sized; i++) {
		struct stat st;
		int fd = store_fd(s, i);
		if (fd < 0)
			return fd;
		if (fstat(fd, &st) < 0)
			return -errno;
		s->end[i] = st.st_size;
		s->time[i] = ts_to_us(st.st_mtim);
	}
	s->sized = true;
	return 0;
}

int store_cut(struct store *s, enum store_log log, off_t end)
{
	int fd = store_fd(s, log);

	if (fd < 0)
		return fd;
	if (ftruncate(fd, end) < 0)
		return -errno;
	s->end[log] = end;
	return 0;
}

int store_replace(struct store *s, enum store_log log, const void *p, size_t n)
{
	auto_free char *path = xasprintf("%s/%s", s->dir, names[log]);
	int err = write_file(s->root, path, p, n, 0600);

	if (err)
		return err;
	drop_fd(&s->fd[log]);
	s->end[log] = n;
	s->unsynced |= 1u << log;
	return 0;
}

static int writev_all(int fd, struct iovec *iov, int n, off_t off)
{
	while (n) {
		if (!iov->iov_len) {
			iov++, n--;
			continue;
		}
		ssize_t w = pwritev(fd, iov, n, off);
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return w ? -errno : -EIO;
		off += w;
		for (; n && (size_t)w >= iov->iov_len; iov++, n--)
			w -= iov->iov_len;
		if (n) {
			iov->iov_base = (char *)iov->iov_base + w;
			iov->iov_len -= w;
		}
	}
	return 0;
}

int store_appendv(struct store *s, enum store_log log, struct iovec *iov, int n, off_t *off, bool must)
{
	struct iovec copy[8];
	size_t total = 0;

	for (int i = 0; i < n; i++)
		total += iov[i].iov_len;
	for (;;) {
		int fd = store_fd(s, log);
		if (fd < 0)
			return fd;
		memcpy(copy, iov, n * sizeof(*iov));
		int err = writev_all(fd, copy, n, s->end[log]);
		if (!err)
			break;
		if (ftruncate(fd, s->end[log]) < 0) { /* the next write overwrites it anyway */
		}
		if (!must || (err != -ENOSPC && err != -EDQUOT) || !s->all->make_room(s->all->arg))
			return err;
	}
	if (off)
		*off = s->end[log];
	s->end[log] += total;
	grew(s, log);
	return 0;
}

void store_grew(struct store *s, enum store_log log, off_t end)
{
	s->end[log] = end;
	if (store_fd(s, log) >= 0)
		grew(s, log);
}

int store_append(struct store *s, enum store_log log, const void *p, size_t n, off_t *off, bool must)
{
	struct iovec iov = { (void *)p, n };

	return store_appendv(s, log, &iov, 1, off, must);
}

ssize_t store_splice(struct store *s, enum store_log log, int pipe, size_t max)
{
	int fd = store_fd(s, log);

	if (fd < 0)
		return fd;
	loff_t off = s->end[log];
	ssize_t n = splice(pipe, NULL, fd, &off, max, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	if (n < 0)
		return -errno;
	s->end[log] += n;
	grew(s, log);
	return n;
}

int store_copy(struct store *s, enum store_log log, int from, off_t len, off_t *off)
{
	int fd = store_fd(s, log);
	off_t start = s->end[log];
	auto_free char *p = malloc(256 << 10);

	if (fd < 0)
		return fd;
	if (!p)
		return -ENOMEM;
	for (off_t done = 0; done < len;) {
		ssize_t n = pread(from, p, MIN(len - done, 256 << 10), done);
		int err = n < 0 ? -errno : n == 0 ? -EIO : pwrite_all(fd, p, n, start + done);
		if (err) {
			if (ftruncate(fd, start) < 0) { /* overwritten by the next write anyway */
			}
			return err;
		}
		done += n;
	}
	*off = start;
	s->end[log] = start + len;
	grew(s, log);
	return 0;
}

int store_read(struct store *s, enum store_log log, off_t off, size_t len, struct buf *out)
{
	int fd = store_fd(s, log);

	if (fd < 0)
		return fd;
	if (off < 0 || off > s->end[log] || len > (size_t)(s->end[log] - off))
		return -EIO;
	buf_grow(out, len);
	for (size_t done = 0; done < len;) {
		ssize_t n = pread(fd, out->s + out->n, len - done, off + done);
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		out->n += n;
		done += n;
	}
	out->s[out->n] = 0;
	return 0;
}

int store_overwrite(struct store *s, enum store_log log, off_t off, const void *p, size_t n)
{
	int fd = store_fd(s, log);

	if (fd < 0)
		return fd;
	int err = pwrite_all(fd, p, n, off);
	grew(s, log);
	return err;
}

void store_punch(struct store *s, enum store_log log, off_t off, off_t len)
{
	static const char zero[64 << 10];
	int fd = store_fd(s, log);

	if (fd < 0 || len <= 0)
		return;
	int err = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, len);
	for (off_t done = 0; err && done < len; done += sizeof(zero))
		if (pwrite_all(fd, zero, MIN(len - done, (off_t)sizeof(zero)), off + done))
			break;
	grew(s, log);
}

/* What a sync in the worker carries: its own fds, because ours may be closed meanwhile. */
struct sync_job {
	int fd[L_COUNT];
	void (*done)(void *, int);
	void *arg;
};

static int sync_work(void *arg)
{
	struct sync_job *j = arg;
	int err = 0;

	for (int i = 0; i < L_COUNT; i++)
		if (j->fd[i] >= 0 && fdatasync(j->fd[i]) < 0 && !err)
			err = -errno;
	return err;
}

static void sync_done(void *arg, int err)
{
	struct sync_job *j = arg;

	for (int i = 0; i < L_COUNT; i++)
		drop_fd(&j->fd[i]);
	if (j->done)
		j->done(j->arg, err);
	free(j);
}

void store_sync(struct store *s, struct worker *w, void (*done)(void *, int), void *arg)
{
	struct sync_job *j = xcalloc(1, sizeof(*j));

	j->done = done;
	j->arg = arg;
	for (int i = 0; i < L_COUNT; i++) {
		int fd = s->unsynced & 1u << i ? store_fd(s, i) : -1;
		j->fd[i] = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	}
	s->unsynced = 0;
	worker_do(w, sync_work, sync_done, j);
}

static int dirty_fd(struct store *s)
{
	if (s->dirty_fd < 0)
		s->dirty_fd = store_openat(s, "dirty");
	else
		store_touch(s);
	return s->dirty_fd;
}

int store_marks_load(struct store *s)
{
	int fd = dirty_fd(s);
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	s->ndirty = st.st_size / sizeof(*s->dirty);
	if (!s->ndirty)
		return 0;
	s->dirty = xrealloc(s->dirty, s->ndirty * sizeof(*s->dirty));
	ssize_t n = pread(fd, s->dirty, s->ndirty * sizeof(*s->dirty), 0);
	if (n != (ssize_t)(s->ndirty * sizeof(*s->dirty)))
		return n < 0 ? -errno : -EIO;
	for (size_t i = 0; i < s->ndirty; i++)
		s->dirty[i][255] = 0;
	return 0;
}

int store_mark(struct store *s, const char *cell, bool dirty)
{
	size_t slot = s->ndirty;
	int fd = dirty_fd(s);

	if (fd < 0)
		return fd;
	for (size_t i = 0; i < s->ndirty; i++) {
		if (!strcmp(s->dirty[i], cell)) {
			slot = i;
			break;
		}
		if (!s->dirty[i][0] && slot == s->ndirty)
			slot = i;
	}
	if (slot == s->ndirty) {
		if (!dirty)
			return 0;
		s->dirty = xrealloc(s->dirty, (slot + 1) * sizeof(*s->dirty));
		memset(s->dirty[slot], 0, sizeof(*s->dirty));
		s->ndirty++;
	} else if (dirty == !strcmp(s->dirty[slot], cell)) {
		return 0;
	}
	strncpy(s->dirty[slot], dirty ? cell : "", sizeof(*s->dirty) - 1);
	int err = pwrite_all(fd, s->dirty[slot], sizeof(*s->dirty), slot * sizeof(*s->dirty));
	if (err && dirty)
		s->dirty[slot][0] = 0;
	return err;
}
