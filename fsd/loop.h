/* The event loop: epoll, timers, and queues of waiters. One thread. Knows nothing of FUSE or kernels. */
#ifndef CELLFS_LOOP_H
#define CELLFS_LOOP_H

#include "util.h"

#include <sys/epoll.h>

struct loop;

struct loop *loop_new(void);
void loop_free(struct loop *l);
/* Runs until loop_quit. AFTER is called after each batch of events, before the next wait. */
void loop_run(struct loop *l, void (*after)(void *), void *arg);
void loop_quit(struct loop *l);

/* A watched fd, in its owner's storage. The fd stays the owner's; remove the watch before closing it.
 * A watch may be removed from inside any callback: the rest of the batch forgets it. */
struct watch {
	int fd; /* -1: not watched */
	void (*fn)(void *arg, uint32_t events);
	void *arg;
};
/* Returns 0 or -errno. */
int watch_add(struct loop *l, struct watch *w, int fd, uint32_t events,
	      void (*fn)(void *, uint32_t), void *arg);
void watch_mod(struct loop *l, struct watch *w, uint32_t events);
void watch_del(struct loop *l, struct watch *w);

/* A one-shot timer, in its owner's storage. */
struct timer {
	int64_t due; /* us, monotonic */
	size_t slot; /* index in the heap + 1; 0: not set */
	void (*fn)(void *arg);
	void *arg;
};
void timer_set(struct loop *l, struct timer *t, int64_t delay_us, void (*fn)(void *), void *arg);
void timer_stop(struct loop *l, struct timer *t);

/* Those who wait for something to change. A waiter is unlinked, then called: with 0 to look again, or
 * with an -errno that ends its wait. */
struct waitq {
	struct list waiters;
};
struct waiter {
	struct list link;
	void (*fn)(struct waiter *w, int err);
};
static inline void waitq_init(struct waitq *q)
{
	list_init(&q->waiters);
}
static inline void waitq_add(struct waitq *q, struct waiter *w)
{
	list_append(&q->waiters, &w->link);
}
void waitq_wake(struct waitq *q, int err);

#endif
