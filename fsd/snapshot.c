#include "snapshot.h"

#include "gate.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>

enum { BLOCK = 4096, SLICE_US = 10000 };

bool snapshot_same(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* Shares the blocks of FD with the log. Its place has to begin where a block does. */
static bool reflink(struct snapshot *s, int fd, off_t size, off_t *off)
{
	off_t at = (s->end + BLOCK - 1) / BLOCK * BLOCK;
	struct file_clone_range r = { .src_fd = fd, .dest_offset = at };
	struct stat st;

	if (s->no_reflink || !size)
		return false;
	if (ioctl(s->log, FICLONERANGE, &r) < 0) {
		s->no_reflink = errno != EAGAIN && errno != EINTR;
		return false;
	}
	/* All of it was taken, which may be more or less than what SIZE was when it was looked at. */
	if (fstat(s->log, &st) < 0 || st.st_size < at)
		return false;
	*off = at;
	return true;
}

/* Returns how many bytes there were, of SIZE at most, or -errno. */
static off_t copy(struct snapshot *s, int fd, off_t size)
{
	off_t done = 0;
	char buf[64 << 10];

	while (done < size) {
		ssize_t n = pread(fd, buf, MIN(size - done, (off_t)sizeof(buf)), done);
		if (n <= 0)
			break; /* it shrank, or cannot be read: what was there is served */
		int err = pwrite_all(s->log, buf, n, s->end + done);
		if (err)
			return err;
		done += n;
	}
	return done;
}

static void keep_file(struct snapshot *s, struct snap_file *f, int fd)
{
	struct stat log;
	off_t n;

	f->type = SNAP_LIVE;
	f->size = f->st.st_size;
	if (reflink(s, fd, f->size, &f->off)) {
		f->type = SNAP_FILE;
		if (fstat(s->log, &log) == 0)
			f->size = log.st_size - f->off;
		s->end = f->off + f->size;
		s->cloned += f->size; /* its own as soon as the origin changes */
		return;
	}
	if (f->size > SNAP_COPY_MAX - s->copied)
		return;
	n = copy(s, fd, f->size);
	if (n < 0) {
		if (ftruncate(s->log, s->end) < 0) /* the next write overwrites it anyway */
			s->err = -errno;
		return;
	}
	f->type = SNAP_FILE;
	f->off = s->end;
	f->size = n;
	s->end += n;
	s->copied += n;
}

static void keep_link(struct snapshot *s, struct snap_file *f)
{
	char target[PATH_MAX];
	auto_close int fd = gate_path(s->root, f->path);
	ssize_t n = fd < 0 ? -1 : readlinkat(fd, "", target, sizeof(target) - 1);

	if (n <= 0 || n == sizeof(target) - 1 || fstat(fd, &f->st) < 0)
		return;
	target[n] = 0;
	if (!s->link_ok(f->path, target) || pwrite_all(s->log, target, n, s->end))
		return;
	f->type = SNAP_LINK;
	f->off = s->end;
	f->size = n;
	s->end += n;
	snprintf(f->mime, sizeof(f->mime), "inode/symlink");
}

static void keep(struct snapshot *s, struct snap_file *f)
{
	auto_close int fd = gate_open_file(s->root, f->path, O_RDONLY, 0);

	if (fd == -ELOOP) {
		keep_link(s, f);
		return;
	}
	if (fd < 0 && fd != -EACCES && fd != -EAGAIN)
		return;
	if (fd < 0) { /* it is closed to us, or leased: what it holds stays where it is */
		auto_close int path = gate_path(s->root, f->path);
		if (path < 0 || fstat(path, &f->st) < 0 || !S_ISREG(f->st.st_mode))
			return;
		f->type = SNAP_LIVE;
		f->size = f->st.st_size;
		snprintf(f->mime, sizeof(f->mime), "application/octet-stream");
		return;
	}
	if (fstat(fd, &f->st) < 0)
		return;
	if (!f->known.st_ino || !snapshot_same(&f->known, &f->st)) {
		int64_t start = mono_us();
		mime_of(s->mime, fd, s->patience > 0, f->mime);
		s->patience -= mono_us() - start;
	}
	keep_file(s, f, fd);
}

static void write_table(struct snapshot *s)
{
	auto_buf struct buf b = { 0 };

	for (size_t i = 0; i < s->n; i++) {
		const struct snap_file *f = &s->v[i];
		if (f->type == SNAP_GONE)
			continue;
		buf_printf(&b, "%c %lld %lld %s", f->type, (long long)f->off, (long long)f->size, f->mime);
		buf_char(&b, 0);
		buf_add(&b, f->path, strlen(f->path) + 1);
	}
	s->table = s->end;
	int err = b.n ? pwrite_all(s->log, b.s, b.n, s->end) : 0;
	s->end += b.n;
	s->err = s->err ? s->err : err;
}

int snapshot_work(void *arg)
{
	struct snapshot *s = arg;
	int64_t end = mono_us() + SLICE_US;

	if (!s->at && ftruncate(s->log, s->start) < 0) /* what a crash left there */
		s->err = -errno;
	while (s->at < s->n && !s->err && mono_us() < end)
		keep(s, &s->v[s->at++]);
	s->more = s->at < s->n && !s->err;
	if (s->more)
		return 0;
	if (!s->err)
		write_table(s);
	if (s->err) {
		s->end = s->table = s->start;
		if (ftruncate(s->log, s->start) < 0) { /* nothing names it */
		}
	}
	return s->err;
}

void snapshot_clear(struct snapshot *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->v[i].path);
	free(s->v);
	drop_fd(&s->root);
	drop_fd(&s->log);
}

int snapshot_read(char *p, size_t n, void (*fn)(void *, const struct snap_file *), void *arg)
{
	for (size_t at = 0; at < n;) {
		struct snap_file f = { 0 };
		long long off, size;
		char type, *head = p + at;
		size_t len = strnlen(head, n - at);
		char *path = head + len + 1;
		if (len == n - at || sscanf(head, "%c %lld %lld %63s", &type, &off, &size, f.mime) != 4)
			return -EIO;
		at += len + 1;
		len = strnlen(path, n - at);
		if (len == n - at || !gate_is_plain(path) || off < 0 || size < 0 ||
		    (type != SNAP_FILE && type != SNAP_LINK && type != SNAP_LIVE))
			return -EIO;
		at += len + 1;
		f.path = path;
		f.type = type;
		f.off = off;
		f.size = size;
		fn(arg, &f);
	}
	return 0;
}
