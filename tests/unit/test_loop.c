/* loop and worker: order of timers, watches that go while they are due, queues of waiters, jobs. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "loop.h"
#include "worker.h"

static struct loop *l;

static int setup(void **state)
{
	l = loop_new();
	alarm(60);
	return 0;
}

static int teardown(void **state)
{
	loop_free(l);
	alarm(0);
	return 0;
}

static void nothing(void *arg)
{
}

static void quit(void *arg)
{
	loop_quit(l);
}

/* ---- timers ---- */

enum { TIMERS = 500 };
static struct timer timers[TIMERS];
static int64_t last_due;
static int fired;

static void on_timer(void *arg)
{
	struct timer *t = arg;

	assert_true(t->due >= last_due);
	assert_true(t->due <= mono_us());
	assert_int_equal(t->slot, 0);
	last_due = t->due;
	if (++fired == TIMERS / 2)
		loop_quit(l);
}

static void timers_come_in_order_whatever_was_stopped(void **state)
{
	int order[TIMERS];

	srand(5);
	last_due = fired = 0;
	for (int i = 0; i < TIMERS; i++) {
		order[i] = i;
		timer_set(l, &timers[i], rand() % 20000, on_timer, &timers[i]);
	}
	for (int i = 0; i < TIMERS; i++) {
		int k = rand() % TIMERS, o = order[i];
		order[i] = order[k];
		order[k] = o;
	}
	for (int i = 0; i < TIMERS; i++) /* half are set again, the other half is stopped */
		if (i % 2)
			timer_set(l, &timers[order[i]], rand() % 20000, on_timer, &timers[order[i]]);
		else
			timer_stop(l, &timers[order[i]]);
	timer_stop(l, &timers[order[0]]);
	loop_run(l, nothing, NULL);
	assert_int_equal(fired, TIMERS / 2);
}

/* The last of the heap takes the place of the one that is stopped, in another branch: it has to go up. */
static void stopping_keeps_the_heap_in_order(void **state)
{
	static const int ms[] = { 1, 2, 30000, 3, 4, 30001, 30002, 5 };
	const int late = 8;

	last_due = 0;
	fired = TIMERS / 2 - 5;
	for (size_t i = 0; i < ARRAY_SIZE(ms); i++)
		timer_set(l, &timers[i], ms[i] * 1000, on_timer, &timers[i]);
	timer_stop(l, &timers[5]);
	for (int i = late; i < 2 * late; i++) /* others are the last then */
		timer_set(l, &timers[i], 31000000, on_timer, &timers[i]);
	int64_t start = mono_us();
	loop_run(l, nothing, NULL);
	assert_int_equal(timers[7].slot, 0); /* the fifth to come was the one of 5 ms */
	assert_true(mono_us() - start < 30000000); /* and no other was waited for */
	for (int i = 0; i < 2 * late; i++)
		timer_stop(l, &timers[i]);
}

static struct timer other;

static void stop_other(void *arg)
{
	timer_stop(l, &other);
	timer_set(l, &timers[0], 1000, quit, NULL);
}

static void not_called(void *arg)
{
	fail_msg("stopped, and called");
}

static void a_timer_can_stop_one_that_is_due_too(void **state)
{
	timer_set(l, &timers[1], -5, stop_other, NULL);
	timer_set(l, &other, 0, not_called, NULL);
	loop_run(l, nothing, NULL);
}

/* ---- watches ---- */

static struct watch watches[2];
static int calls, batches;

static void drop_both(void *arg, uint32_t events)
{
	calls++;
	watch_del(l, &watches[0]);
	watch_del(l, &watches[1]);
	watch_del(l, &watches[1]);
}

static void after_batch(void *arg)
{
	if (++batches == 3)
		loop_quit(l);
}

static void a_watch_that_was_removed_is_not_called_in_the_same_batch(void **state)
{
	struct timer t = { 0 };
	int fd[2];

	calls = batches = 0;
	for (int i = 0; i < 2; i++) {
		fd[i] = eventfd(1, EFD_CLOEXEC);
		assert_int_equal(watch_add(l, &watches[i], fd[i], EPOLLIN, drop_both, NULL), 0);
	}
	timer_set(l, &t, 10000, quit, NULL);
	loop_run(l, nothing, NULL);
	assert_int_equal(calls, 1);
	assert_int_equal(watches[0].fd, -1);
	close(fd[0]);
	close(fd[1]);
}

static void a_watch_comes_as_long_as_it_is_not_read(void **state)
{
	int fd = eventfd(1, EFD_CLOEXEC);
	struct watch w = { 0 };
	struct timer t = { 0 };

	calls = batches = 0;
	assert_int_equal(watch_add(l, &w, fd, 0, drop_both, NULL), 0);
	watch_mod(l, &w, EPOLLIN);
	assert_int_equal(watch_add(l, &watches[1], fd, EPOLLIN, drop_both, NULL), -EEXIST);
	timer_set(l, &t, 5000000, not_called, NULL);
	loop_run(l, after_batch, NULL);
	assert_int_equal(calls, 3);
	timer_stop(l, &t);
	watch_del(l, &w);
	close(fd);
}

/* ---- queues of waiters ---- */

struct again {
	struct waiter waiter;
	struct waitq *q;
	struct again *also; /* to be taken off the queue when this one is called */
	int calls, err;
};

static void wait_again(struct waiter *w, int err)
{
	struct again *a = container_of(w, struct again, waiter);

	assert_true(list_empty(&w->link));
	a->calls++;
	a->err = err;
	if (a->also)
		list_del(&a->also->waiter.link);
	if (!err)
		waitq_add(a->q, w);
}

static void who_waits_again_is_not_called_in_the_same_round(void **state)
{
	struct waitq q;
	struct again a[3] = { 0 };

	waitq_init(&q);
	for (int i = 0; i < 3; i++) {
		a[i] = (struct again){ .waiter.fn = wait_again, .q = &q };
		waitq_add(&q, &a[i].waiter);
	}
	waitq_wake(&q, 0);
	waitq_wake(&q, 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(a[i].calls, 2);
	waitq_wake(&q, -ESTALE);
	assert_int_equal(a[2].err, -ESTALE);
	assert_true(list_empty(&q.waiters));
	waitq_wake(&q, 0);
	assert_int_equal(a[0].calls, 3);
}

static void who_leaves_during_a_wake_is_not_called(void **state)
{
	struct waitq q;
	struct again a[2] = { 0 };

	waitq_init(&q);
	for (int i = 0; i < 2; i++) {
		a[i] = (struct again){ .waiter.fn = wait_again, .q = &q };
		waitq_add(&q, &a[i].waiter);
	}
	a[0].also = &a[1];
	waitq_wake(&q, 0);
	assert_int_equal(a[0].calls, 1);
	assert_int_equal(a[1].calls, 0);
}

/* ---- worker ---- */

static int done_order[100], ndone, jobs[100];

static int job(void *arg)
{
	return -*(int *)arg;
}

static void job_done(void *arg, int err)
{
	assert_int_equal(err, -*(int *)arg);
	done_order[ndone++] = *(int *)arg;
	if (ndone == 100)
		loop_quit(l);
}

static void jobs_are_done_in_order_and_come_back(void **state)
{
	struct worker *w = worker_new(l);

	ndone = 0;
	for (int i = 0; i < 100; i++) {
		jobs[i] = i;
		worker_do(w, job, job_done, &jobs[i]);
	}
	worker_do(w, job, NULL, &jobs[0]);
	loop_run(l, nothing, NULL);
	for (int i = 0; i < 100; i++)
		assert_int_equal(done_order[i], i);
	worker_free(w);
}

static void what_is_queued_is_finished_at_the_end(void **state)
{
	struct worker *w = worker_new(l);

	ndone = 0;
	for (int i = 0; i < 99; i++) {
		jobs[i] = i;
		worker_do(w, job, job_done, &jobs[i]);
	}
	worker_free(w);
	assert_int_equal(ndone, 99);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(timers_come_in_order_whatever_was_stopped),
		TEST(stopping_keeps_the_heap_in_order),
		TEST(a_timer_can_stop_one_that_is_due_too),
		TEST(a_watch_that_was_removed_is_not_called_in_the_same_batch),
		TEST(a_watch_comes_as_long_as_it_is_not_read),
		TEST(who_waits_again_is_not_called_in_the_same_round),
		TEST(who_leaves_during_a_wake_is_not_called),
		TEST(jobs_are_done_in_order_and_come_back),
		TEST(what_is_queued_is_finished_at_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
