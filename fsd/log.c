#include "log.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

int log_open(struct log *l, int dir, const char *name)
{
	struct stat st;
	int fd = openat(dir, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		return -errno;
	fstat(fd, &st);
	l->fd = fd;
	l->size = st.st_size;
	l->time = st.st_size ? ts_to_us(st.st_mtim) : 0;
	return 0;
}

void log_close(struct log *l)
{
	drop_fd(&l->fd);
}

off_t log_start(const struct log *l)
{
	return l->size > LOG_KEEP ? l->size - LOG_KEEP : 0;
}

/* Drops the first half. Readers hold offsets into the file, so this is rare: once in 16 MiB. */
static void log_cut(struct log *l)
{
	off_t from = l->size - LOG_KEEP;
	auto_free char *p = malloc(LOG_KEEP);

	if (!p || pread(l->fd, p, LOG_KEEP, from) != LOG_KEEP)
		return;
	if (pwrite_all(l->fd, p, LOG_KEEP, 0) < 0 || ftruncate(l->fd, LOG_KEEP) < 0)
		return;
	l->size = LOG_KEEP;
}

void log_vline(struct log *l, const char *fmt, va_list ap)
{
	auto_buf struct buf b = { 0 };
	int64_t now = wall_us();

	buf_time(&b, now);
	buf_char(&b, ' ');
	size_t head = b.n;
	buf_vprintf(&b, fmt, ap);
	for (size_t i = head; i < b.n; i++)
		if ((unsigned char)b.s[i] < 0x20)
			b.s[i] = '?';
	buf_char(&b, '\n');
	if (l->to_stderr && write(2, b.s, b.n) < 0)
		l->to_stderr = false;
	if (l->fd < 0)
		return;
	if (l->size >= 2 * LOG_KEEP)
		log_cut(l);
	if (pwrite_all(l->fd, b.s, b.n, l->size) == 0) {
		l->size += b.n;
		l->time = MAX(now, l->time + 1000);
	}
}

void log_line(struct log *l, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_vline(l, fmt, ap);
	va_end(ap);
}
