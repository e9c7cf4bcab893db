#include "lock.h"

#include <sys/file.h>
#include <sys/mman.h>

#include "gate.h"

struct locker {
	struct list link;
	struct lock_of of; /* VIA: of the last request; FD is our own */
	pid_t pid;         /* who asked last */
};

static struct locker *find(struct list *locks, const struct lock_of *of)
{
	list_for(it, locks) {
		struct locker *l = container_of(it, struct locker, link);

		if (l->of.ino == of->ino && l->of.owner == of->owner)
			return l;
	}
	return NULL;
}

/* Another description of what stands for a file with nothing real behind it. */
static int open_stand_in(struct list *locks, uint64_t ino)
{
	list_for(it, locks) {
		struct locker *l = container_of(it, struct locker, link);

		if (l->of.ino == ino)
			return gate_reopen(l->of.fd, S_IFREG, O_RDWR);
	}
	int fd = memfd_create("lock", MFD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* To be written too if that can be had, since an owner may come through open files of both kinds. If the mode of the
 * file has changed so that it cannot be opened any more, the descriptor of who asks serves. */
static int open_own(struct list *locks, const struct lock_of *of)
{
	int fd;

	if (of->fd < 0)
		return open_stand_in(locks, of->ino);
	fd = gate_reopen(of->fd, S_IFREG, O_RDWR);
	if (fd < 0)
		fd = gate_reopen(of->fd, S_IFREG, fcntl(of->fd, F_GETFL) & O_ACCMODE);
	if (fd < 0)
		fd = fcntl(of->fd, F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

/* The locker of who asks, made if need be. */
static int locker_for(struct list *locks, const struct lock_of *of, struct locker **out)
{
	struct locker *l = find(locks, of);

	if (!l) {
		int fd = open_own(locks, of);
		if (fd < 0)
			return fd;
		l = xcalloc(1, sizeof(*l));
		l->of = *of;
		l->of.fd = fd;
		list_append(locks, &l->link);
	}
	l->of.via = of->via;
	*out = l;
	return 0;
}

static void locker_free(struct locker *l)
{
	close(l->of.fd);
	list_del(&l->link);
	free(l);
}

int lock_set(struct list *locks, const struct lock_of *of, const struct flock *lock)
{
	struct flock f = *lock;
	struct locker *l;

	if (f.l_type == F_UNLCK && !find(locks, of))
		return 0;
	int err = locker_for(locks, of, &l);
	if (err)
		return err;
	l->pid = lock->l_pid;
	f.l_pid = 0;
	if (fcntl(l->of.fd, F_OFD_SETLK, &f) == 0)
		return 0;
	return errno == EACCES ? -EAGAIN : -errno;
}

int lock_get(struct list *locks, const struct lock_of *of, struct flock *lock)
{
	struct flock f = *lock;
	struct locker *l;
	int err = locker_for(locks, of, &l);

	if (err)
		return err;
	f.l_pid = 0;
	if (fcntl(l->of.fd, F_OFD_GETLK, &f) < 0)
		return -errno;
	if (f.l_type != F_UNLCK && f.l_pid < 0) { /* a description's, so no process is known below */
		f.l_pid = 0;
		list_for(it, locks) {
			struct locker *other = container_of(it, struct locker, link);

			if (other != l && other->of.ino == of->ino)
				f.l_pid = other->pid;
		}
	}
	*lock = f;
	return 0;
}

int lock_whole(struct list *locks, const struct lock_of *of, int op)
{
	struct locker *l;

	if (op & LOCK_UN && !find(locks, of))
		return 0;
	int err = locker_for(locks, of, &l);
	if (err)
		return err;
	return flock(l->of.fd, op | LOCK_NB) < 0 ? -errno : 0;
}

void lock_closed(struct list *locks, uint64_t ino, uint64_t owner)
{
	struct locker *l = find(locks, &(struct lock_of){ .ino = ino, .owner = owner });

	if (l)
		locker_free(l);
}

void lock_released(struct list *locks, uint64_t via)
{
	list_for_safe(it, next, locks) {
		struct locker *l = container_of(it, struct locker, link);

		if (l->of.via == via)
			locker_free(l);
	}
}

void lock_free(struct list *locks)
{
	list_for_safe(it, next, locks)
		locker_free(container_of(it, struct locker, link));
}
