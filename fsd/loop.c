#include "loop.h"

enum { BATCH = 64 };

struct loop {
	int ep;
	bool quit;
	struct epoll_event batch[BATCH];
	int nbatch, at;
	struct timer **heap;
	size_t ntimers, cap;
};

struct loop *loop_new(void)
{
	struct loop *l = xcalloc(1, sizeof(*l));

	l->ep = epoll_create1(EPOLL_CLOEXEC);
	if (l->ep < 0)
		die("epoll: %s", strerror(errno));
	return l;
}

void loop_free(struct loop *l)
{
	close(l->ep);
	free(l->heap);
	free(l);
}

void loop_quit(struct loop *l)
{
	l->quit = true;
}

int watch_add(struct loop *l, struct watch *w, int fd, uint32_t events,
	      void (*fn)(void *, uint32_t), void *arg)
{
	struct epoll_event ev = { .events = events, .data.ptr = w };

	if (epoll_ctl(l->ep, EPOLL_CTL_ADD, fd, &ev) < 0)
		return -errno;
	*w = (struct watch){ fd, fn, arg };
	return 0;
}

void watch_mod(struct loop *l, struct watch *w, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = w };

	epoll_ctl(l->ep, EPOLL_CTL_MOD, w->fd, &ev);
}

void watch_del(struct loop *l, struct watch *w)
{
	if (!w->fn)
		return;
	epoll_ctl(l->ep, EPOLL_CTL_DEL, w->fd, NULL);
	for (int i = l->at; i < l->nbatch; i++)
		if (l->batch[i].data.ptr == w)
			l->batch[i].data.ptr = NULL;
	*w = (struct watch){ .fd = -1 };
}

static void heap_place(struct loop *l, size_t i, struct timer *t)
{
	l->heap[i] = t;
	t->slot = i + 1;
}

static void heap_up(struct loop *l, size_t i)
{
	struct timer *t = l->heap[i];

	for (; i && l->heap[(i - 1) / 2]->due > t->due; i = (i - 1) / 2)
		heap_place(l, i, l->heap[(i - 1) / 2]);
	heap_place(l, i, t);
}

static void heap_down(struct loop *l, size_t i)
{
	struct timer *t = l->heap[i];

	for (;;) {
		size_t kid = 2 * i + 1;
		if (kid + 1 < l->ntimers && l->heap[kid + 1]->due < l->heap[kid]->due)
			kid++;
		if (kid >= l->ntimers || l->heap[kid]->due >= t->due)
			break;
		heap_place(l, i, l->heap[kid]);
		i = kid;
	}
	heap_place(l, i, t);
}

void timer_stop(struct loop *l, struct timer *t)
{
	if (!t->slot)
		return;
	size_t i = t->slot - 1;
	struct timer *last = l->heap[--l->ntimers];

	t->slot = 0;
	if (last == t)
		return;
	heap_place(l, i, last);
	heap_up(l, i);
	heap_down(l, last->slot - 1);
}

void timer_set(struct loop *l, struct timer *t, int64_t delay_us, void (*fn)(void *), void *arg)
{
	timer_stop(l, t);
	if (l->ntimers == l->cap) {
		l->cap = l->cap ? l->cap * 2 : 16;
		l->heap = xrealloc(l->heap, l->cap * sizeof(*l->heap));
	}
	t->due = mono_us() + MAX(delay_us, 0);
	t->fn = fn;
	t->arg = arg;
	l->heap[l->ntimers++] = t;
	heap_up(l, l->ntimers - 1);
}

static int next_timeout_ms(struct loop *l)
{
	if (!l->ntimers)
		return -1;
	int64_t left = l->heap[0]->due - mono_us();
	return left <= 0 ? 0 : (int)MIN((left + 999) / 1000, 3600 * 1000);
}

static void run_timers(struct loop *l)
{
	int64_t now = l->ntimers ? mono_us() : 0;

	while (l->ntimers && l->heap[0]->due <= now) {
		struct timer *t = l->heap[0];
		timer_stop(l, t);
		t->fn(t->arg);
	}
}

void loop_run(struct loop *l, void (*after)(void *), void *arg)
{
	l->quit = false;
	while (!l->quit) {
		l->nbatch = epoll_wait(l->ep, l->batch, BATCH, next_timeout_ms(l));
		for (l->at = 0; l->at < l->nbatch;) {
			struct epoll_event ev = l->batch[l->at++];
			struct watch *w = ev.data.ptr;
			if (w)
				w->fn(w->arg, ev.events);
		}
		l->nbatch = 0;
		run_timers(l);
		after(arg);
	}
}

void waitq_wake(struct waitq *q, int err)
{
	struct list now;

	/* Who looks again and goes on waiting joins the queue anew, not this round. */
	list_init(&now);
	list_move_all(&now, &q->waiters);
	while (!list_empty(&now)) {
		struct waiter *w = container_of(now.next, struct waiter, link);
		list_del(&w->link);
		w->fn(w, err);
	}
}
