#include "worker.h"

#include "gate.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

struct job {
	struct list link;
	int (*work)(void *);
	void (*done)(void *, int);
	void *arg;
	int err;
};

struct worker {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct list todo, finished;
	bool stop, ended; /* ENDED: the thread is gone, what still comes is done at once */
	int event;
	struct watch watch;
	struct loop *loop;
};

static void *work(void *arg)
{
	struct worker *w = arg;

	pthread_mutex_lock(&w->lock);
	for (;;) {
		while (list_empty(&w->todo) && !w->stop)
			pthread_cond_wait(&w->more, &w->lock);
		if (list_empty(&w->todo))
			break;
		struct job *j = container_of(w->todo.next, struct job, link);
		list_del(&j->link);
		pthread_mutex_unlock(&w->lock);
		j->err = j->work(j->arg);
		pthread_mutex_lock(&w->lock);
		list_append(&w->finished, &j->link);
		eventfd_write(w->event, 1);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

void worker_reap(struct worker *w)
{
	struct list now;
	eventfd_t n;

	list_init(&now);
	eventfd_read(w->event, &n);
	pthread_mutex_lock(&w->lock);
	list_move_all(&now, &w->finished);
	pthread_mutex_unlock(&w->lock);
	while (!list_empty(&now)) {
		struct job *j = container_of(now.next, struct job, link);
		list_del(&j->link);
		if (j->done)
			j->done(j->arg, j->err);
		free(j);
	}
}

static void on_event(void *arg, uint32_t events)
{
	(void)events;
	worker_reap(arg);
}

struct worker *worker_new(struct loop *loop)
{
	struct worker *w = xcalloc(1, sizeof(*w));
	sigset_t all, old;

	w->loop = loop;
	list_init(&w->todo);
	list_init(&w->finished);
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->more, NULL);
	w->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->event < 0)
		die("eventfd: %s", strerror(errno));
	watch_add(loop, &w->watch, w->event, EPOLLIN, on_event, w);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&w->thread, NULL, work, w))
		die("cannot start a thread");
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return w;
}

void worker_free(struct worker *w)
{
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	pthread_cond_signal(&w->more);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	w->ended = true;
	while (!list_empty(&w->finished)) /* what is done may ask for more */
		worker_reap(w);
	watch_del(w->loop, &w->watch);
	close(w->event);
	free(w);
}

void worker_do(struct worker *w, int (*fn)(void *), void (*done)(void *, int), void *arg)
{
	struct job *j = xcalloc(1, sizeof(*j));

	*j = (struct job){ .work = fn, .done = done, .arg = arg };
	if (w->ended) {
		j->err = fn(arg);
		list_append(&w->finished, &j->link);
		return;
	}
	pthread_mutex_lock(&w->lock);
	list_append(&w->todo, &j->link);
	pthread_cond_signal(&w->more);
	pthread_mutex_unlock(&w->lock);
}

static DIR *open_dir(int dir, const char *name)
{
	int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	auto_close int fd = openat(dir, name, flags);

	if (fd < 0 && errno == EACCES && fchmodat(dir, name, 0700, 0) == 0)
		fd = openat(dir, name, flags);
	if (fd < 0)
		return NULL;
	DIR *d = fdopendir(fd);
	if (d)
		take(&fd);
	return d;
}

/* Empties directory D but for one directory, whose name goes to NAME and which is for later.
 * Returns 1 if there is one, 0 if D is empty, or -errno. */
static int empty_dir(DIR *d, char name[256])
{
	int err = 0;

	fchmod(dirfd(d), 0700);
	for (struct dirent *e; (e = readdir(d));) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (unlinkat(dirfd(d), e->d_name, 0) == 0)
			continue;
		if (errno != EISDIR && errno != EPERM) {
			err = -errno;
			continue;
		}
		if (unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR) == 0)
			continue;
		if (errno != ENOTEMPTY && errno != EEXIST)
			return -errno;
		memcpy(name, e->d_name, strlen(e->d_name) + 1);
		return 1;
	}
	return err;
}

static int move_up(int dir, const char *name, int up, unsigned *n)
{
	char moved[32];

	for (bool again = true;;) {
		snprintf(moved, sizeof(moved), ".deleted-%u", (*n)++);
		if (renameat(dir, name, up, moved) == 0)
			return 0;
		if (errno == EACCES && again) { /* its own .. is to be written */
			again = false;
			if (fchmodat(dir, name, 0700, 0) < 0)
				return -errno;
		} else if (errno != EEXIST && errno != ENOTEMPTY) {
			return -errno;
		}
	}
}

/* Iterative, because a cell can make a tree 10,000 deep: what lies below a directory's directory is moved
 * up beside it, so that the walk never goes deeper than two and needs no path. */
int delete_tree(int dir, const char *name)
{
	DIR *top = open_dir(dir, name);
	char sub[256], subsub[256];
	unsigned n = 0;
	int err;

	if (!top)
		return errno == ENOTDIR ? (unlinkat(dir, name, 0) < 0 ? -errno : 0) : -errno;
	while ((err = empty_dir(top, sub)) == 1) {
		DIR *d = open_dir(dirfd(top), sub);
		if (!d) {
			err = -errno;
			break;
		}
		while ((err = empty_dir(d, subsub)) == 1) {
			if ((err = move_up(dirfd(d), subsub, dirfd(top), &n)))
				break;
			rewinddir(d);
		}
		closedir(d);
		if (err)
			break;
		unlinkat(dirfd(top), sub, AT_REMOVEDIR);
		rewinddir(top);
	}
	closedir(top);
	if (!err && unlinkat(dir, name, AT_REMOVEDIR) < 0)
		err = -errno;
	return err;
}

/* Breadth first, with the paths of the directories still to be read. What goes meanwhile is nobody's. The top is given
 * last: as long as it is another's, the work is not done. */
int own_tree(int dir, const char *name, uid_t uid, gid_t gid)
{
	struct todo {
		struct list link;
		char *path;
	};
	struct list todo;
	int err = 0, n = 0;

	list_init(&todo);
	struct todo *t = xcalloc(1, sizeof(*t));
	t->path = xstrdup(name);
	list_append(&todo, &t->link);
	while (!list_empty(&todo)) {
		t = container_of(todo.next, struct todo, link);
		bool top = !strcmp(t->path, name);
		int fd = err ? -1 : gate_open_dir(dir, t->path);
		DIR *d = fd < 0 ? NULL : fdopendir(fd);
		if (!err && !d && (top || fd != -ENOENT))
			err = fd < 0 ? fd : -errno;
		for (struct dirent *e; d && !err && (e = readdir(d));) {
			if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
				continue;
			if (fchownat(fd, e->d_name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0 && errno != ENOENT)
				err = -errno;
			n = 1;
			if (e->d_type != DT_DIR)
				continue;
			struct todo *sub = xcalloc(1, sizeof(*sub));
			sub->path = xasprintf("%s/%s", t->path, e->d_name);
			list_append(&todo, &sub->link);
		}
		if (d)
			closedir(d);
		list_del(&t->link);
		free(t->path);
		free(t);
	}
	if (!err && fchownat(dir, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
		err = -errno;
	return err ? err : n;
}
