#include "spare.h"

#include "box.h"
#include "kernel.h"

enum { REFILL_US = 250000 }; /* who just got one is to have the processor first */

struct spare {
	struct list link;       /* in spares->waiting, alone once it is reserved */
	struct spares *all;
	const struct lang *lang;
	struct box *box;        /* NULL: it is gone */
	struct driver driver;   /* without descriptors until its box is up */
	struct watch w_pid;     /* the process that joins its box, which is reaped; its supervisor is its kernel's */
	struct watch w_hello;   /* its first word, which is for its kernel; then only its end */
	bool started, ready;
};

struct spares {
	struct world *world;
	struct list waiting;
	struct timer refill;
	const struct lang **wanted;
	size_t nwanted;
};

struct spares *spares_new(struct world *w)
{
	struct spares *all = xcalloc(1, sizeof(*all));

	all->world = w;
	list_init(&all->waiting);
	return all;
}

void spares_free(struct spares *all)
{
	if (!all)
		return;
	spares_stop(all);
	free(all->wanted);
	free(all);
}

static struct spare *spare_at(const struct list *it)
{
	return container_of(it, struct spare, link);
}

void spares_stop(struct spares *all)
{
	timer_stop(all->world->loop, &all->refill);
	all->nwanted = 0;
	while (!list_empty(&all->waiting))
		spare_drop(spare_at(all->waiting.next));
}

/* ---- one ---- */

/* One that nobody has taken is lost: until a kernel of its language starts again there is no other, so that what
 * always fails is not tried for ever. */
static void lost(struct spare *s)
{
	struct spares *all = s->all;

	log_line(&all->world->log, "spare %s kernel: it ended", s->lang->name);
	for (size_t i = 0; i < all->nwanted; i++)
		if (all->wanted[i] == s->lang)
			all->wanted[i--] = all->wanted[--all->nwanted];
	spare_drop(s);
}

static void on_hello(void *arg, uint32_t events)
{
	struct spare *s = arg;

	if (events & (EPOLLHUP | EPOLLERR)) {
		lost(s);
		return;
	}
	s->ready = true;
	watch_mod(s->all->world->loop, &s->w_hello, 0);
	world_touch(s->all->world);
}

static void on_joined(void *arg, uint32_t events)
{
	struct spare *s = arg;

	(void)events;
	watch_del(s->all->world->loop, &s->w_pid);
	if (!driver_joined(&s->driver)) {
		s->started = false;
		s->all->world->kernels_running--;
		lost(s);
	}
}

void spare_box_up(struct spare *s)
{
	struct world *w = s->all->world;
	struct driver_plan plan = { .world = w, .box = s->box, .lang = s->lang, .cwd = "/" };
	int err = driver_start(&plan, &s->driver);

	if (err) {
		log_line(&w->log, "spare %s kernel: %s", s->lang->name, strerror(-err));
		lost(s);
		return;
	}
	s->started = true;
	w->kernels_running++;
	watch_add(w->loop, &s->w_pid, s->driver.pidfd, EPOLLIN, on_joined, s);
	watch_add(w->loop, &s->w_hello, s->driver.fds[4], EPOLLIN, on_hello, s);
}

void spare_box_gone(struct spare *s)
{
	s->box = NULL;
	if (!list_empty(&s->link))
		lost(s);
}

void spare_box_ends(struct spare *s)
{
	if (s->started)
		kernel_orphan(s->all->world, &s->driver);
	s->started = false;
	driver_close(&s->driver);
}

static void spare_start(struct spares *all, const struct lang *l)
{
	struct spare *s = xcalloc(1, sizeof(*s));

	s->all = all;
	s->lang = l;
	driver_init(&s->driver);
	list_append(&all->waiting, &s->link);
	int err = box_new_empty(all->world, s, &s->box);
	if (err) {
		log_line(&all->world->log, "spare box: %s", strerror(-err));
		lost(s);
	}
}

void spare_drop(struct spare *s)
{
	if (!s)
		return;
	list_del(&s->link);
	watch_del(s->all->world->loop, &s->w_pid);
	watch_del(s->all->world->loop, &s->w_hello);
	spare_box_ends(s);
	if (s->box)
		box_drop(s->box);
	world_touch(s->all->world);
	free(s);
}

bool spare_take(struct spare *s, struct driver *d)
{
	if (!s->box) {
		spare_drop(s);
		return false;
	}
	*d = s->driver;
	driver_init(&s->driver);
	s->started = false;
	s->all->world->kernels_running--;
	spare_drop(s);
	return true;
}

/* ---- all ---- */

static int count(const struct spares *all, const struct lang *l)
{
	int n = 0;

	list_for(it, &all->waiting)
		n += spare_at(it)->lang == l;
	return n;
}

static void refill(void *arg)
{
	struct spares *all = arg;

	for (size_t i = 0; i < all->nwanted; i++) {
		const struct lang *l = all->wanted[i];
		for (int n = count(all, l); n < all->world->opt.spares && i < all->nwanted && all->wanted[i] == l; n++)
			spare_start(all, l);
	}
}

void spares_want(struct spares *all, const struct lang *l)
{
	struct world *w = all->world;
	size_t i = 0;

	if (!l->spare || !l->interpreter || !w->opt.spares || w->sandbox.mode != SANDBOX_FULL || w->stopping)
		return;
	while (i < all->nwanted && all->wanted[i] != l)
		i++;
	if (i == all->nwanted) {
		all->wanted = xrealloc(all->wanted, (i + 1) * sizeof(*all->wanted));
		all->wanted[all->nwanted++] = l;
	}
	if (!all->refill.slot)
		timer_set(w->loop, &all->refill, REFILL_US, refill, all);
}

/* What a runtime reads only when it starts: then it is started with it. */
static void look_at_env(void *arg, const char *name)
{
	static const char *const prefixes[] = { "LD_", "LC_", "LANG", "TZ", "MALLOC_", "GLIBC_", "PYTHON", "NODE_",
						"R_", "JAVA_", "_JAVA", "JDK_", "CLASSPATH", "OMP_", "OPENBLAS_",
						"MKL_", "BASH_", "FONTCONFIG_" };

	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
		*(bool *)arg |= !strncmp(name, prefixes[i], strlen(prefixes[i]));
}

struct spare *spare_reserve(struct context *c, const struct lang *l)
{
	struct spares *all = c->world->spares;
	struct spare *s = NULL;
	bool early = false;

	list_for(it, &all->waiting) {
		struct spare *one = spare_at(it);
		if (one->lang == l && one->started && box_is_empty(one->box) && (!s || (one->ready && !s->ready)))
			s = one;
	}
	if (!s || !box_suits(c))
		return NULL;
	context_each_file(c, B_ENV, look_at_env, &early);
	if (early)
		return NULL;
	list_del(&s->link);
	watch_del(c->world->loop, &s->w_pid);
	watch_del(c->world->loop, &s->w_hello);
	if (box_give(s->box, c)) {
		spare_drop(s);
		return NULL;
	}
	spares_want(all, l);
	world_touch(c->world);
	return s;
}

void spares_print(const struct spares *all, struct buf *out)
{
	size_t before = out->n;

	list_for(it, &all->waiting)
		if (spare_at(it)->ready && box_is_empty(spare_at(it)->box))
			buf_printf(out, "%s%s", out->n > before ? " " : "", spare_at(it)->lang->name);
	if (out->n == before)
		buf_str(out, "none");
}

void spares_count(const struct spares *all, int *kernels, int *boxes)
{
	list_for(it, &all->waiting) {
		*kernels += spare_at(it)->started;
		*boxes += spare_at(it)->box != NULL;
	}
}
