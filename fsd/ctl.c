/* The verbs of a context's ctl. */
#include "context.h"

#include "box.h"
#include "kernel.h"

enum { LINES_MAX = 64 };

struct command {
	const struct verb *verb;
	char *args; /* the rest of its line, without spaces around */
};

static bool is_number(const char *s, uint64_t *n)
{
	char *end;

	*n = strtoull(s, &end, 10);
	return *s && !*end;
}

/* Is R the run, or of the cell, that S names? Empty names every run. */
static bool names_run(const struct run *r, const char *s)
{
	uint64_t n;

	return !*s || !strcmp(s, "all") || (is_number(s, &n) && r->number == n) ||
	       (r->cell && r->cell->name && !strcmp(r->cell->name, s)) || !strcmp(r->cell_name, s);
}

static int check_interrupt(struct context *c, char *args)
{
	return c->active && c->active->state == R_RUNNING && names_run(c->active, args) ? 0 : -ESRCH;
}

static void do_interrupt(struct context *c, char *args)
{
	(void)args;
	run_interrupt(c->active, ST_INTERRUPTED, NULL);
}

static int check_cancel(struct context *c, char *args)
{
	list_for(it, &c->live) {
		struct run *r = container_of(it, struct run, link);
		if (*args && r->state == R_QUEUED && names_run(r, args))
			return 0;
	}
	return *args ? -ESRCH : -EINVAL;
}

static void do_cancel(struct context *c, char *args)
{
	list_for_safe(it, tmp, &c->live) {
		struct run *r = container_of(it, struct run, link);
		if (r->state == R_QUEUED && names_run(r, args))
			run_cancel(r, "ctl");
	}
}

/* The next word of *S, ended by a NUL, or NULL. */
static char *next_word(char **s)
{
	*s += strspn(*s, " \t");
	if (!**s)
		return NULL;
	char *word = *s;
	*s += strcspn(*s, " \t");
	if (**s)
		*(*s)++ = 0;
	return word;
}

struct cell_list {
	struct context *ctx;
	struct listed_cell {
		char *name;
		uint64_t first;
	} *v;
	size_t n;
};

static void add_cell(void *arg, const char *name)
{
	struct cell_list *l = arg;
	struct cell *cell = cell_find(l->ctx, name);

	if (!kernel_is_cell(l->ctx, name))
		return;
	if (l->n % 64 == 0)
		l->v = xrealloc(l->v, (l->n + 64) * sizeof(*l->v));
	l->v[l->n].name = xstrdup(name);
	l->v[l->n++].first = cell && cell->first ? cell->first : UINT64_MAX;
}

static int by_first_run(const void *a, const void *b)
{
	const struct listed_cell *x = a, *y = b;

	if (x->first != y->first)
		return x->first < y->first ? -1 : 1;
	return strcmp(x->name, y->name);
}

static void list_cells(struct context *c, char *args, struct cell_list *l)
{
	*l = (struct cell_list){ .ctx = c };
	if (!strcmp(args, "all")) {
		context_each_file(c, B_CELLS, add_cell, l);
		if (l->n)
			qsort(l->v, l->n, sizeof(*l->v), by_first_run);
		return;
	}
	auto_free char *copy = xstrdup(args);
	char *rest = copy, *word;
	while ((word = next_word(&rest)))
		add_cell(l, word);
}

static void free_cells(struct cell_list *l)
{
	while (l->n)
		free(l->v[--l->n].name);
	free(l->v);
}

static int check_run(struct context *c, char *args)
{
	auto_free char *copy = xstrdup(args);
	char *rest = copy, *word;
	struct cell_list l;
	int err = *args ? 0 : -EINVAL;

	while (strcmp(args, "all") && (word = next_word(&rest)))
		if (!body_find(c, B_CELLS, word) || !kernel_is_cell(c, word))
			err = -ESRCH;
	list_cells(c, args, &l);
	if (!err && !l.n)
		err = -ESRCH;
	if (!err && (int64_t)(c->nqueued + l.n) > c->world->opt.queue) {
		context_log(c, "ctl run: the queue holds at most %lld runs (option queue)",
			    (long long)c->world->opt.queue);
		err = -ENOSPC;
	}
	free_cells(&l);
	return err;
}

static void do_run(struct context *c, char *args)
{
	struct cell_list l;
	struct run *r;
	int group = strcmp(args, "all") ? 0 : ++c->groups;

	list_cells(c, args, &l);
	for (size_t i = 0; i < l.n; i++)
		if (!context_submit(c, l.v[i].name, &r))
			r->then_of = group;
	free_cells(&l);
	context_schedule(c);
}

static int check_restart(struct context *c, char *args)
{
	if (!*args)
		return 0;
	if (kernel_named(c, args))
		return 0;
	return lang_named(&c->world->langs, args) ? -ESRCH : -EINVAL;
}

static void do_restart(struct context *c, char *args)
{
	list_for_safe(it, tmp, &c->live) {
		struct run *r = container_of(it, struct run, link);
		const char *key = kernel_speaker(c, r->cell_name).key; /* NULL: config/kernel no more says whose it is */
		if (r->state == R_QUEUED && (!*args || (key && !strcmp(key, args))))
			run_cancel(r, "restart");
	}
	if (!*args)
		box_retire(c); /* the next cell gets a new one, with the values now in config/ */
	list_for_safe(it, tmp, &c->kernels) {
		struct kernel *k = container_of(it, struct kernel, link);
		if (!*args || !strcmp(k->key, args))
			kernel_restart(k);
	}
}

static int check_nothing(struct context *c, char *args)
{
	(void)c;
	return *args ? -EINVAL : 0;
}

static void do_stop(struct context *c, char *args)
{
	(void)args;
	context_stop(c, "stopped", true);
}

static void do_clear(struct context *c, char *args)
{
	(void)args;
	for (uint64_t n = 1; n <= c->nruns; n++)
		if (c->recs[n - 1].status != ST_NONE)
			context_forget(c, n);
}

static const struct verb {
	const char *name, *help;
	int (*check)(struct context *, char *args);
	void (*run)(struct context *, char *args);
} verbs[] = {
	{ "interrupt", "[CELL|N]        stop the running cell, keep the state", check_interrupt, do_interrupt },
	{ "run", "CELL...|all     run again", check_run, do_run },
	{ "cancel", "CELL|N|all      what is queued", check_cancel, do_cancel },
	{ "restart", "[LANGUAGE]      a new kernel; all of them if none is named", check_restart, do_restart },
	{ "stop", "                end the kernels, keep the files", check_nothing, do_stop },
	{ "clear", "                forget the ended runs, not the variables", check_nothing, do_clear },
	{ "remove", "                remove the context", check_nothing, NULL },
};

void context_print_ctl(struct buf *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		buf_printf(out, "%-10s %s\n", verbs[i].name, verbs[i].help);
}

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		if (!strcmp(verbs[i].name, name))
			return &verbs[i];
	return NULL;
}

/* Splits TEXT (changed) into commands and checks each. Returns how many, or -errno. */
static int parse(struct context *c, char *text, struct command *commands)
{
	int n = 0;

	for (char *line = text, *next; line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = 0;
		for (size_t len = strlen(line); len && strchr(" \t\r", line[len - 1]);)
			line[--len] = 0;
		char *name = next_word(&line);
		if (!name)
			continue;
		if (n == LINES_MAX)
			return -E2BIG;
		line += strspn(line, " \t");
		const struct verb *v = find_verb(name);
		int err = v ? v->check(c, line) : -EINVAL;
		if (err) {
			context_log(c, "ctl: %s%s%s: %s", name, *line ? " " : "", line,
				    !v ? "no such verb (read ctl for the list)" : strerror(-err));
			return err;
		}
		commands[n++] = (struct command){ v, line };
	}
	return n;
}

int context_ctl(struct context *c, const char *text, size_t n, bool *gone)
{
	struct command commands[LINES_MAX];
	auto_free char *copy = xstrndup(text, n);
	int count = memchr(text, 0, n) ? -EINVAL : parse(c, copy, commands);

	for (int i = 0; i < count; i++) {
		if (!commands[i].verb->run) {
			world_remove(c->world, c);
			*gone = true;
			return 0;
		}
		/* What was right for all may not be for this one any more, after those before it. */
		if (!commands[i].verb->check(c, commands[i].args))
			commands[i].verb->run(c, commands[i].args);
	}
	return MIN(count, 0);
}
