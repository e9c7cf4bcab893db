#include "pass.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

/* Of <linux/fuse.h>, which may be older than the kernel. */
#define INIT_EXT (1u << 30)
#define INIT2_PASSTHROUGH (1u << 5)
#define OPEN_PASSTHROUGH (1u << 7)
#define STACK_DEPTH 1 /* what lies below is no stack itself */

struct init_out {
	uint32_t major, minor, max_readahead, flags;
	uint16_t max_background, congestion_threshold;
	uint32_t max_write, time_gran;
	uint16_t max_pages, map_alignment;
	uint32_t flags2, max_stack_depth, unused[6];
};

struct open_out {
	uint64_t fh;
	uint32_t open_flags;
	int32_t backing;
};

struct backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};

#define BACKING_OPEN _IOW(229, 1, struct backing_map)
#define BACKING_CLOSE _IOW(229, 2, uint32_t)

/* IOV: a header, then the answer. Kernels that know nothing of it ignore the flags. */
static void complete(struct pass *p, struct iovec *iov, int count)
{
	size_t n = count == 2 ? iov[1].iov_len : 0;
	char *end = n ? (char *)iov[1].iov_base + n : NULL;

	if (p->init && n >= sizeof(struct init_out)) {
		struct init_out *o = iov[1].iov_base;
		o->flags |= INIT_EXT;
		o->flags2 |= INIT2_PASSTHROUGH;
		o->max_stack_depth = STACK_DEPTH;
	} else if (p->backing && n >= sizeof(struct open_out)) {
		struct open_out o;
		memcpy(&o, end - sizeof(o), sizeof(o));
		o.open_flags |= OPEN_PASSTHROUGH;
		o.backing = p->backing;
		memcpy(end - sizeof(o), &o, sizeof(o));
	}
	p->init = false;
	p->backing = 0;
}

static ssize_t on_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct pass *p = userdata;

	if (p->init || p->backing)
		complete(p, iov, count);
	return writev(fd, iov, count);
}

static ssize_t on_read(int fd, void *buf, size_t size, void *userdata)
{
	(void)userdata;
	return read(fd, buf, size);
}

static ssize_t on_splice(int in, off_t *in_off, int out, off_t *out_off, size_t len, unsigned int flags,
			 void *userdata)
{
	(void)userdata;
	return splice(in, in_off, out, out_off, len, flags);
}

void pass_start(struct pass *p, struct fuse_session *se, bool wanted)
{
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 14)
	static const struct fuse_custom_io io = { .writev = on_writev, .read = on_read,
						  .splice_receive = on_splice, .splice_send = on_splice };

	/* The kernel asks for CAP_SYS_ADMIN, which a user's daemon has not. */
	p->fd = fuse_session_fd(se);
	p->on = wanted && geteuid() == 0 && fuse_session_custom_io(se, &io, p->fd) == 0;
#else
	(void)se;
	(void)wanted;
#endif
}

int pass_open(struct pass *p, int fd)
{
	struct backing_map map = { .fd = fd };
	int id = p->on ? ioctl(p->fd, BACKING_OPEN, &map) : -1;

	if (id > 0)
		return id;
	if (p->on && errno != ENOMEM && errno != ENOSPC)
		p->on = false; /* an older kernel, or a file system that cannot */
	return -EOPNOTSUPP;
}

void pass_close(struct pass *p, int backing)
{
	uint32_t id = backing;

	ioctl(p->fd, BACKING_CLOSE, &id);
}
