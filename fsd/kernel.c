#include "kernel.h"

#include "box.h"
#include "gate.h"
#include "json.h"
#include "packages.h"
#include "spare.h"
#include "spawn.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

enum {
	PROTO = 1,
	LINE_MAX_BYTES = 65536,
	COMMANDS_MAX = 4 << 20,    /* bytes that a driver may leave unread */
	MESSAGES_MAX = 200000,     /* events of one run */
	START_US = 30 * 1000000,
	CLOSED_US = 2 * 1000000,
	SIGNAL_US = 20000,         /* a runtime that hears of signals in a thread of its own has heard of it then */
};

/* ---- life ---- */

enum kernel_event { E_START, E_READY, E_EXEC, E_DONE, E_KILL, E_GONE, E_COUNT };

static const unsigned char steps[K_STATES][E_COUNT] = {
	[K_STOPPED] = { [E_START] = K_STARTING },
	[K_STARTING] = { [E_READY] = K_IDLE, [E_KILL] = K_DYING, [E_GONE] = K_STOPPED },
	[K_IDLE] = { [E_EXEC] = K_BUSY, [E_KILL] = K_DYING, [E_GONE] = K_STOPPED },
	[K_BUSY] = { [E_DONE] = K_IDLE, [E_KILL] = K_DYING, [E_GONE] = K_STOPPED },
	[K_DYING] = { [E_GONE] = K_STOPPED },
};

/* Takes the step if the table has it. */
static bool step(struct kernel *k, enum kernel_event e)
{
	if (!steps[k->state][e])
		return false;
	k->state = steps[k->state][e];
	return true;
}

const char *kernel_state_name(const struct kernel *k)
{
	static const char *const names[] = { [K_STOPPED] = "stopped", [K_STARTING] = "starting",
					     [K_IDLE] = "idle",	      [K_BUSY] = "busy",
					     [K_DYING] = "stopping" };

	return names[k->state];
}

enum box_use kernel_use(const struct kernel *k)
{
	return k->lang->installs ? FOR_INSTALLS : FOR_CELLS;
}

bool kernel_alive(const struct kernel *k)
{
	return k->state != K_STOPPED;
}

static void tell_state(struct kernel *k, const char *why)
{
	auto_buf struct buf b = { 0 };

	event_begin(k->ctx, &b, "kernel", NULL);
	buf_str(&b, ",\"language\":");
	buf_json_str(&b, k->key);
	buf_printf(&b, ",\"state\":\"%s\"", kernel_state_name(k));
	if (why) {
		buf_str(&b, ",\"why\":");
		buf_json_str(&b, why);
	}
	event_end(k->ctx, &b, NULL);
	context_touch(k->ctx);
}

struct kernel *kernel_named(struct context *c, const char *key)
{
	list_for(it, &c->kernels) {
		struct kernel *k = container_of(it, struct kernel, link);
		if (!strcmp(k->key, key))
			return k;
	}
	return NULL;
}

struct kernel *kernel_new(struct context *c, const char *key, const struct lang *lang)
{
	struct kernel *k = xcalloc(1, sizeof(*k));

	k->ctx = c;
	k->key = xstrdup(key);
	k->lang = lang;
	k->state = K_STOPPED;
	k->pidfd = k->driver = k->cmd = k->ack = k->guard = k->lifeline = k->code_dir = k->spool = -1;
	list_append(&c->kernels, &k->link);
	return k;
}

struct speaker kernel_speaker(struct context *c, const char *cell)
{
	const struct langs *ls = &c->world->langs;
	const struct lang *in = &ls->installer, *lang = lang_for_cell(ls, cell);
	const char *ext = cell_ext(cell), *text = ext ? map_get(&c->overrides, ext) : NULL;

	if (in->name && !strcmp(cell, in->name))
		return (struct speaker){ in, in->name, NULL };
	if (!text)
		return (struct speaker){ lang, lang ? lang->name : NULL, NULL };
	const struct lang *same = lang_named(ls, ext);
	const char *key = same ? same->dotted : ext;
	if (*text == '/')
		return (struct speaker){ lang && !lang->spec ? lang : NULL, key, text };
	return (struct speaker){ lang_named(ls, text), key, NULL };
}

bool kernel_is_cell(struct context *c, const char *name)
{
	const char *ext = cell_ext(name);

	return ext && (lang_for_ext(&c->world->langs, ext) || map_get(&c->overrides, ext));
}

struct kernel *kernel_for(struct context *c, const char *cell)
{
	struct speaker s = kernel_speaker(c, cell);
	struct kernel *k = s.lang ? kernel_named(c, s.key) : NULL;

	if (!s.lang)
		return NULL;
	if (!k)
		k = kernel_new(c, s.key, s.lang);
	if (k->state == K_STOPPED) {
		k->lang = s.lang;
		free(k->interpreter);
		k->interpreter = s.interpreter ? xstrdup(s.interpreter) : NULL;
	}
	return k;
}

int kernel_check_override(struct context *c, const char *ext, const char *text, size_t n)
{
	auto_free char *s = xstrndup(text, n);
	struct who who = context_namer(c);
	const struct lang *lang = lang_for_ext(&c->world->langs, ext);

	if (*s == '/' && (!lang || lang->spec)) {
		context_log(c, "config/kernel/%s: no path: %s", ext, lang ? "a Jupyter kernel's language has no interpreter" :
			    "no language has the extension");
		return -EINVAL;
	}
	int inside = *s == '/' && c->world->sandbox.mode == SANDBOX_FULL ? box_check_interpreter(c, s) : 1;
	if (inside <= 0)
		return inside ? -EINVAL : 0;
	if (*s == '/' && who.uid != geteuid() && geteuid() != 0) {
		context_log(c, "%s: this daemon is not root's: only who mounted may name a path here", s);
		return -EACCES;
	}
	if (*s == '/')
		return may_execute(&who, s) ? -EINVAL : 0;
	return lang_named(&c->world->langs, s) ? 0 : -EINVAL;
}

static void close_all(struct kernel *k)
{
	struct loop *l = k->ctx->world->loop;
	struct watch *fds[] = { &k->w_ev, &k->w_io[0], &k->w_io[1], &k->w_report };

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		int fd = fds[i]->fn ? fds[i]->fd : -1;
		watch_del(l, fds[i]);
		drop_fd(&fd);
	}
	watch_del(l, &k->w_cmd);
	watch_del(l, &k->w_pid);
	drop_fd(&k->cmd);
	drop_fd(&k->pidfd);
	drop_fd(&k->driver);
	drop_fd(&k->ack);
	drop_fd(&k->guard);
	drop_fd(&k->lifeline);
	drop_fd(&k->code_dir);
	drop_fd(&k->spool);
	gauge_close(&k->gauge);
	timer_stop(l, &k->timer);
	timer_stop(l, &k->pause);
	buf_free(&k->in);
	buf_free(&k->out);
}

/* A kernel that is forgotten already, until its processes have ended. */
struct orphan {
	struct world *world;
	struct watch watch;
	pid_t pid, joined;
	int report;
};

static void on_orphan_gone(void *arg, uint32_t mask)
{
	struct orphan *o = arg;
	struct loop *l = o->world->loop;
	int fd = o->watch.fd, pid;
	char line[BOX_LINE];

	(void)mask;
	while (!o->joined && o->report >= 0 && sandbox_recv(o->report, line, NULL, NULL) > 0)
		if (sscanf(line, "joined %d", &pid) == 1 && pid > 1)
			o->joined = pid;
	watch_del(l, &o->watch);
	if (driver_next(&o->pid, &fd, o->joined)) {
		watch_add(l, &o->watch, fd, EPOLLIN, on_orphan_gone, o);
		return;
	}
	o->world->kernels_running--;
	world_touch(o->world);
	drop_fd(&o->report);
	free(o);
}

static void orphan_new(struct world *w, pid_t pid, pid_t joined, int pidfd, int report)
{
	struct orphan *o = xcalloc(1, sizeof(*o));

	*o = (struct orphan){ .world = w, .pid = pid, .joined = joined, .report = report };
	watch_add(w->loop, &o->watch, pidfd, EPOLLIN, on_orphan_gone, o);
}

void kernel_orphan(struct world *w, struct driver *d)
{
	orphan_new(w, d->pid, d->joined, take(&d->pidfd), take(&d->fds[BOX_OWN + 1]));
}

void kernel_free(struct kernel *k)
{
	if (kernel_alive(k) && k->pidfd >= 0) {
		int report = k->w_report.fn ? k->w_report.fd : -1;
		watch_del(k->ctx->world->loop, &k->w_report);
		watch_del(k->ctx->world->loop, &k->w_pid);
		orphan_new(k->ctx->world, k->box, k->joined, take(&k->pidfd), report);
	} else if (kernel_alive(k)) {
		k->ctx->world->kernels_running--;
	}
	spare_drop(k->spare);
	close_all(k);
	for (int i = 0; i < 2; i++)
		flow_free(&k->late[i]);
	list_del(&k->link);
	buf_free(&k->env);
	buf_free(&k->cwd);
	free(k->key);
	free(k->interpreter);
	free(k->lost_why);
	free(k->death);
	free(k->failed);
	free(k);
}

/* Did it die without box having told yet? (Its pipes may live on in processes that it left.) */
static bool is_dead(const struct kernel *k)
{
	struct pollfd p = { .fd = k->driver, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

/* Is its box ending under it? */
static bool has_lost_box(const struct kernel *k)
{
	return k->boxed && box_ended(k->ctx, kernel_use(k));
}

/* ---- output ---- */

static struct flow *flow_of(struct kernel *k, int stream)
{
	return k->run ? &k->run->flow[stream] : &k->late[stream];
}

/* Takes what is in the pipe now, and no more: a flood cannot hold the loop. */
static void drain(struct kernel *k, int stream)
{
	int left = 0, fd = k->w_io[stream].fd;

	if (!k->w_io[stream].fn || ioctl(fd, FIONREAD, &left) < 0)
		return;
	while (left > 0) {
		ssize_t n = flow_take(flow_of(k, stream), fd, left);
		if (n <= 0)
			break;
		left -= n;
	}
}

static void drain_all(struct kernel *k)
{
	drain(k, 0);
	drain(k, 1);
}

static void on_io(struct kernel *k, int stream, uint32_t events)
{
	int left = 0, fd = k->w_io[stream].fd;

	ioctl(fd, FIONREAD, &left);
	if (left > 0) {
		drain(k, stream);
	} else if (events & (EPOLLHUP | EPOLLERR)) {
		watch_del(k->ctx->world->loop, &k->w_io[stream]);
		close(fd);
	}
}

static void on_stdout(void *arg, uint32_t events)
{
	on_io(arg, 0, events);
}

static void on_stderr(void *arg, uint32_t events)
{
	on_io(arg, 1, events);
}

/* ---- commands ---- */

static void flush_commands(struct kernel *k)
{
	while (k->out.n && k->cmd >= 0) {
		ssize_t n = write(k->cmd, k->out.s, k->out.n);
		if (n < 0)
			break;
		memmove(k->out.s, k->out.s + n, k->out.n - n);
		k->out.n -= n;
	}
	if (k->cmd >= 0 && k->w_cmd.fn)
		watch_mod(k->ctx->world->loop, &k->w_cmd, k->out.n ? EPOLLOUT : 0);
}

static void on_cmd(void *arg, uint32_t events)
{
	struct kernel *k = arg;

	if (events & EPOLLERR) /* nobody reads any more: its end is seen elsewhere */
		watch_del(k->ctx->world->loop, &k->w_cmd);
	else
		flush_commands(k);
}

/* An address of a package may have a password, and cells see all that is in spool/code. */
static const char *code_sub(const struct kernel *k)
{
	return k->lang->installs ? "spool/install" : "spool/code";
}

/* Is there anything that a later cell could miss? */
static bool has_state(const struct kernel *k)
{
	return k->count && !k->lang->installs;
}

static void send_line(struct kernel *k, const struct buf *line)
{
	buf_add(&k->out, line->s, line->n);
	buf_char(&k->out, '\n');
	flush_commands(k);
	if (k->out.n > COMMANDS_MAX)
		kernel_kill(k, "it does not read its commands");
}

/* The value of config/cwd or of an option, as a path that the kernel can enter. */
static char *kernel_path(struct context *c, const char *path)
{
	if (path && *path == '/')
		return xstrdup(path);
	auto_free char *ws = context_inside(c, "workspace");
	return path && *path ? xasprintf("%s/%s", ws, path) : xstrdup(ws);
}

static void send_init(struct kernel *k)
{
	auto_buf struct buf b = { 0 };
	auto_free char *sub = xasprintf("spool/out/%s", k->key);
	auto_free char *spool = context_inside(k->ctx, sub);

	buf_printf(&b, "{\"op\":\"init\",\"proto\":%d,\"spool\":", PROTO);
	buf_json_str(&b, spool);
	buf_printf(&b, ",\"env\":%s,\"cwd\":", k->env.s);
	buf_json_str(&b, k->cwd.s);
	buf_str(&b, ",\"opts\":{}}");
	send_line(k, &b);
	if (!k->nameless)
		return;
	buf_reset(&b);
	buf_str(&b, "{\"op\":\"set\",\"env\":{\"CELLFS_CONTEXT\":");
	buf_json_str(&b, k->ctx->name);
	buf_str(&b, "}}");
	send_line(k, &b);
	k->nameless = false;
}

static int check_dir(struct kernel *k, const char *path)
{
	struct stat st;

	if (k->boxed)
		return box_check_dir(k->ctx, kernel_use(k), path);
	if (stat(path, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

/* Tells what changed in config/env and config/cwd since the kernel was told last. Returns 0, or -errno of a
 * cwd that cannot be entered: then nothing was told. */
static int send_set(struct kernel *k)
{
	struct context *c = k->ctx;
	auto_buf struct buf env = { 0 }, b = { 0 }, set = { 0 };
	auto_free char *cwd = kernel_path(c, c->conf.v[C_CWD].text);
	bool same_cwd = !strcmp(cwd, k->cwd.s);

	driver_env(c, &env, NULL);
	if (!strcmp(env.s, k->env.s) && same_cwd)
		return 0;
	int err = same_cwd ? 0 : check_dir(k, cwd);
	if (err)
		return err;
	auto_json struct json *was = json_parse(k->env.s, k->env.n, NULL);
	auto_json struct json *is = json_parse(env.s, env.n, NULL);
	for (void *it = json_iter(was); it; it = json_iter_next(was, it)) {
		if (json_get(is, json_iter_key(it)))
			continue;
		buf_str(&set, set.n ? "," : "");
		buf_json_str(&set, json_iter_key(it));
		buf_str(&set, ":null");
	}
	if (env.n > 2) {
		buf_str(&set, set.n ? "," : "");
		buf_add(&set, env.s + 1, env.n - 2);
	}
	buf_printf(&b, "{\"op\":\"set\",\"env\":{%s}", set.s ? set.s : "");
	if (!same_cwd) {
		buf_str(&b, ",\"cwd\":");
		buf_json_str(&b, cwd);
		buf_reset(&k->cwd);
		buf_str(&k->cwd, cwd);
	}
	buf_char(&b, '}');
	buf_reset(&k->env);
	buf_add(&k->env, env.s, env.n);
	send_line(k, &b);
	return 0;
}

/* Writes the cell, its option lines blank, where the driver reads it; of an install what is to be done. Returns 0 or
 * -errno. */
static int put_code(struct kernel *k, struct run *r)
{
	auto_buf struct buf code = { 0 };
	struct cell_options again;
	int err = store_read(&k->ctx->store, L_RES, r->code.off, r->code.len, &code);

	if (err)
		return err;
	options_parse(&again, code.s, code.n, k->lang->comment);
	options_clear(&again);
	if (k->lang->installs)
		packages_plan(k->ctx, &code);
	unlinkat(k->code_dir, r->cell_name, 0);
	auto_close int fd = openat(k->code_dir, r->cell_name,
				   O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	return fd < 0 ? -errno : pwrite_all(fd, code.s, code.n, 0);
}

static void send_exec(struct kernel *k, struct run *r)
{
	auto_buf struct buf b = { 0 };
	auto_free char *sub = xasprintf("%s/%s/%s", code_sub(k), k->key, r->cell_name);
	auto_free char *path = context_inside(k->ctx, sub);

	buf_printf(&b, "{\"op\":\"exec\",\"id\":%llu,\"n\":%lld,\"path\":", (unsigned long long)k->exec_id,
		   (long long)k->count);
	buf_json_str(&b, path);
	buf_str(&b, ",\"name\":");
	buf_json_str(&b, r->cell_name);
	for (char **e = r->opt.env; e && *e; e++) {
		buf_str(&b, e == r->opt.env ? ",\"env\":{" : ",");
		size_t n = strcspn(*e, "=");
		buf_json(&b, *e, n);
		buf_char(&b, ':');
		buf_json_str(&b, *e + n + 1);
		if (!e[1])
			buf_char(&b, '}');
	}
	if (r->opt.cwd) {
		auto_free char *cwd = kernel_path(k->ctx, r->opt.cwd);
		buf_str(&b, ",\"cwd\":");
		buf_json_str(&b, cwd);
	}
	buf_char(&b, '}');
	send_line(k, &b);
}

static char *memory_limit(struct context *c)
{
	auto_buf struct buf size = { 0 };

	buf_size(&size, box_limit(c, C_MEMORY));
	return xasprintf("memory limit %s", size.s);
}

/* A child of the cell was the victim, and the kernel lives. */
static void tell_ooms(struct kernel *k, enum run_status how)
{
	if (how == ST_OOM || box_oom_kills(k->ctx, kernel_use(k)) <= k->ooms)
		return;
	auto_free char *limit = memory_limit(k->ctx);
	notice(k->ctx, k->run, "a process of this cell was killed: %s", limit);
	context_log(k->ctx, "%s: a process of cell %s was killed: %s", k->key, k->run->cell_name, limit);
}

/* The run of K has ended so: nobody but the daemon says when, and what comes later is nobody's. */
static void end_run(struct kernel *k, enum run_status how, const char *reason)
{
	struct run *r = k->run;

	if (!r)
		return;
	drain_all(k);
	tell_ooms(k, how);
	k->run = NULL;
	if (k->code_dir >= 0)
		unlinkat(k->code_dir, r->cell_name, 0);
	run_finish(r, how, reason);
	if (k->restart || k->lang->installs) { /* an install's box has a network: it does not stay */
		k->restart = false;
		kernel_kill(k, "restarted");
	}
}

void kernel_restart(struct kernel *k)
{
	if (k->run && k->run->state == R_RUNNING) {
		k->restart = true;
		run_interrupt(k->run, ST_INTERRUPTED, "restart");
	} else {
		kernel_kill(k, "restarted");
	}
}

static void exec_run(struct kernel *k)
{
	struct run *r = k->run;
	int err;

	err = send_set(k);
	if (err) {
		auto_free char *why = xasprintf("config/cwd: %s: %s", k->ctx->conf.v[C_CWD].text, strerror(-err));
		run_error(r, "DirectoryError", why);
		end_run(k, ST_ERROR, why);
		context_schedule(k->ctx);
		return;
	}
	for (int i = 0; i < 2; i++) { /* what the kernel printed before is told, then it is this run's */
		flow_end(&k->late[i]);
		flow_free(&k->late[i]);
		flow_init(&k->late[i], k->ctx, NULL, k->lang->name, i);
		k->late[i].limit = k->ctx->conf.v[C_OUTPUT].v;
	}
	err = put_code(k, r);
	if (!err)
		err = run_start(r, k, k->count + 1, k->generation);
	if (err) {
		auto_free char *why = xasprintf("cannot be started: %s", strerror(-err));
		end_run(k, ST_ERROR, why);
		context_schedule(k->ctx);
		return;
	}
	if (k->lost_why) {
		auto_free char *line =
			xasprintf("cellfs: a new %s kernel (generation %lld), the state of earlier cells is "
				  "lost: %s\n", k->lang->title, (long long)k->generation, k->lost_why);
		flow_print(&r->flow[1], line, strlen(line));
		notice(k->ctx, r, "%.*s", (int)strlen(line) - 9, line + 8);
		str_set(&k->lost_why, NULL);
	}
	k->ooms = box_oom_kills(k->ctx, kernel_use(k));
	k->count++;
	k->exec_id++;
	k->messages = 0;
	k->ending = false;
	step(k, E_EXEC);
	send_exec(k, r);
}

/* ---- events ---- */

static void broken(struct kernel *k, const char *why)
{
	auto_free char *s = xasprintf("the driver broke the protocol: %s", why);

	context_log(k->ctx, "kernel %s: %s", k->key, s);
	kernel_kill(k, s);
}

static void drain_report(struct kernel *k);

static void on_hello(struct kernel *k, const struct json *ev)
{
	int64_t proto = 0, min = 0;

	json_int(ev, "proto", &proto);
	json_int(ev, "min_proto", &min);
	if (k->state != K_STARTING)
		return;
	if (PROTO < (min ? min : proto) || PROTO > proto) {
		auto_free char *s = xasprintf("the driver speaks protocol %lld to %lld, the daemon %d",
					      (long long)(min ? min : proto), (long long)proto, PROTO);
		context_log(k->ctx, "kernel %s: %s", k->key, s);
		kernel_kill(k, s);
		return;
	}
	drain_report(k); /* it was told before: whom to interrupt is known from here */
	send_init(k);
}

static void on_ready(struct kernel *k, const struct json *ev)
{
	(void)ev;
	if (!step(k, E_READY))
		return;
	timer_stop(k->ctx->world->loop, &k->timer);
	k->again = false;
	tell_state(k, NULL);
	spares_want(k->ctx->world->spares, k->lang);
	if (k->run)
		exec_run(k);
	else if (k->lang->installs)
		kernel_kill(k, "nothing to install");
	else
		context_schedule(k->ctx);
}

/* The run that EV is of, or NULL. */
static struct run *event_run(struct kernel *k, const struct json *ev)
{
	int64_t id = -1;

	json_int(ev, "id", &id);
	return k->state == K_BUSY && k->run && (uint64_t)id == k->exec_id ? k->run : NULL;
}

static void ack(struct kernel *k)
{
	if (k->ack >= 0 && write(k->ack, "a", 1) < 0) { /* full: the driver has more acks than it asked for */
	}
}

static void on_display(struct kernel *k, const struct json *ev)
{
	struct run *r = event_run(k, ev);
	char why[160];
	int err = 0;

	if (r)
		err = run_display(r, ev, k->spool, why);
	else if (k->messages < 100)
		notice(k->ctx, NULL, "a display of the %s kernel came while it ran nothing", k->key);
	ack(k);
	if (err)
		broken(k, why);
}

static void on_clear(struct kernel *k, const struct json *ev)
{
	if (event_run(k, ev))
		run_clear(k->run, ev);
}

static void on_error(struct kernel *k, const struct json *ev)
{
	const char *name = json_str(ev, "name"), *message = json_str(ev, "message");

	if (event_run(k, ev))
		run_set_error(k->run, ev);
	else if (k->messages < 100)
		notice(k->ctx, NULL, "%s kernel, in the background: %s: %.200s", k->key, name ? name : "error",
		       message ? message : "");
}

static void on_ending(struct kernel *k, const struct json *ev)
{
	k->ending |= event_run(k, ev) != NULL;
	ack(k);
}

static void on_stream(struct kernel *k, const struct json *ev)
{
	const char *name = json_str(ev, "name");
	size_t n;
	const char *text = json_text(json_get(ev, "text"), &n);
	struct flow *f = flow_of(k, name && !strcmp(name, "stderr"));

	if (text)
		flow_add(f, text, n);
}

static void on_log(struct kernel *k, const struct json *ev)
{
	const char *text = json_str(ev, "text");

	if (text && k->messages < 1000)
		context_log(k->ctx, "kernel %s says: %.500s", k->key, text);
}

static void on_done(struct kernel *k, const struct json *ev)
{
	static const struct {
		const char *word;
		enum run_status status;
	} words[] = { { "ok", ST_OK }, { "error", ST_ERROR }, { "interrupted", ST_INTERRUPTED },
		      { "exit", ST_OK } };
	const char *word = json_str(ev, "status");
	struct run *r = event_run(k, ev);
	enum run_status how = ST_NONE;
	int64_t code = 0;

	for (size_t i = 0; word && i < ARRAY_SIZE(words); i++)
		if (!strcmp(word, words[i].word))
			how = words[i].status;
	if (!r || !how) {
		broken(k, "`done` of a run that is not under way");
		return;
	}
	json_int(ev, "code", &code);
	const char *lost = json_str(ev, "lost");
	if (lost) { /* before another cell is sent to what is left of it */
		r->state_preserved = false;
		str_set(&k->lost_why, lost);
		k->restart = true;
	}
	if (!strcmp(word, "exit") || (k->lang->exit_status && how != ST_INTERRUPTED)) {
		auto_free char *s = xasprintf("exit status %lld", (long long)code);
		r->exit_code = code;
		if (code)
			run_error(r, "ExitStatus", s);
		if (!strcmp(word, "exit") && code)
			how = ST_ERROR;
	}
	step(k, E_DONE);
	end_run(k, how, NULL);
	context_schedule(k->ctx);
}

static const struct {
	const char *name;
	void (*fn)(struct kernel *, const struct json *);
} events[] = {
	{ "hello", on_hello }, { "ready", on_ready },	{ "display", on_display },
	{ "clear", on_clear }, { "error", on_error },	{ "stream", on_stream },
	{ "log", on_log },     { "ending", on_ending }, { "done", on_done },
};

static void on_line(struct kernel *k, const char *line, size_t n)
{
	char why[160];
	auto_json struct json *ev = json_parse(line, n, why);
	const char *name = json_str(ev, "ev");

	if (!ev || !name) {
		broken(k, ev ? "an event without `ev`" : why);
		return;
	}
	if (++k->messages > MESSAGES_MAX) {
		broken(k, "more than 200,000 events in one run");
		return;
	}
	drain_all(k);
	for (size_t i = 0; i < ARRAY_SIZE(events); i++) {
		if (!strcmp(name, events[i].name)) {
			events[i].fn(k, ev);
			return;
		}
	}
	if (k->messages < 100)
		context_log(k->ctx, "kernel %s: unknown event %.100s", k->key, name);
}

static void on_closed(void *arg);

static void on_ev(void *arg, uint32_t mask)
{
	struct kernel *k = arg;
	int fd = k->w_ev.fd;

	(void)mask;
	buf_grow(&k->in, LINE_MAX_BYTES);
	ssize_t n = read(fd, k->in.s + k->in.n, LINE_MAX_BYTES + 1 - MIN(k->in.n, LINE_MAX_BYTES));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		watch_del(k->ctx->world->loop, &k->w_ev);
		close(fd);
		/* An orderly end closes it too: give box the time to tell which it is. */
		timer_set(k->ctx->world->loop, &k->timer, CLOSED_US, on_closed, k);
		return;
	}
	k->in.n += n;
	size_t at = 0;
	for (char *nl; k->w_ev.fn && (nl = memchr(k->in.s + at, '\n', k->in.n - at));) {
		size_t len = nl - (k->in.s + at);
		if (len >= LINE_MAX_BYTES)
			break;
		on_line(k, k->in.s + at, len);
		if (!k->in.s) /* it is dead and cleaned up */
			return;
		at += len + 1;
	}
	if (!k->w_ev.fn)
		return;
	memmove(k->in.s, k->in.s + at, k->in.n - at);
	k->in.n -= at;
	if (k->in.n > LINE_MAX_BYTES)
		broken(k, "a line of more than 65,536 bytes");
}

/* ---- process ---- */

static void take_line(struct kernel *k, const char *line, int pidfd)
{
	int v;

	if (sscanf(line, "joined %d", &v) == 1 && v > 1) {
		k->joined = v;
	} else if (sscanf(line, "started %d", &v) == 1 && k->driver < 0 && pidfd >= 0) {
		k->driver = pidfd;
		k->pid = sandbox_pid(pidfd);
		return;
	} else if (sscanf(line, "exited %d", &v) == 1) {
		k->exit_code = v;
	} else if (sscanf(line, "signaled %d", &v) == 1) {
		k->exit_signal = v;
	} else if (!strncmp(line, "failed ", 7)) {
		str_set(&k->failed, line + 7);
	}
	drop_fd(&pidfd);
}

static void on_report(void *arg, uint32_t mask)
{
	struct kernel *k = arg;
	int fd = k->w_report.fd, fds[BOX_UP_FDS], nfds = 0;
	char line[BOX_LINE];
	ssize_t n = sandbox_recv(fd, line, fds, &nfds);

	(void)mask;
	if (n == -EAGAIN)
		return;
	if (n <= 0) {
		watch_del(k->ctx->world->loop, &k->w_report);
		close(fd);
		return;
	}
	for (int i = 1; i < nfds; i++)
		close(fds[i]);
	take_line(k, line, nfds ? fds[0] : -1);
}

static void drain_report(struct kernel *k)
{
	struct pollfd p = { .fd = k->w_report.fd, .events = POLLIN };

	while (k->w_report.fn && poll(&p, 1, 0) == 1)
		on_report(k, 0);
}

/* What ended the kernel, in words. */
static char *cause_of_death(struct kernel *k)
{
	if (k->death)
		return xstrdup(k->death);
	if (k->failed)
		return xasprintf("the %s kernel cannot be started: %s", k->lang->title, k->failed);
	if (k->exit_signal > 0)
		return xasprintf("signal %d (%s)", k->exit_signal, strsignal(k->exit_signal));
	if (k->exit_code >= 0)
		return xasprintf("the %s kernel ended with exit code %d", k->lang->title, k->exit_code);
	return xasprintf("the %s kernel ended", k->lang->title);
}

/* Was it the group's limit? Then nobody could tell but the count of the kernel of the host. */
static bool was_oom(const struct kernel *k)
{
	return !k->death && k->exit_signal == SIGKILL && box_oom_kills(k->ctx, kernel_use(k)) > k->ooms;
}

/* Every process of the kernel is gone, or there never was one. */
static void kernel_gone(struct kernel *k)
{
	struct context *c = k->ctx;
	bool oom = was_oom(k);
	auto_free char *why = oom ? memory_limit(c) : cause_of_death(k);
	bool during_start = k->state == K_STARTING;
	bool again = during_start && k->run && !oom && !k->again && has_lost_box(k);
	/* Its run, if it has one, came meanwhile, or has not begun. */
	bool waits = k->state == K_DYING || k->state == K_IDLE || again;

	step(k, E_KILL); /* it is gone already: nothing that ends its run is to end it once more */
	if (!waits && k->run) {
		k->run->state_preserved = false;
		end_run(k, oom ? ST_OOM : ST_KILLED, why);
	} else {
		drain_all(k);
	}
	for (int i = 0; i < 2; i++)
		flow_end(&k->late[i]);
	if (has_state(k) && !k->lost_why)
		str_set(&k->lost_why, why);
	if (during_start || !k->death)
		context_log(c, "kernel %s: %s%s", k->key, oom ? "out of memory: " : "", why);
	step(k, E_GONE);
	spare_drop(k->spare);
	k->spare = NULL;
	if (k->lang->installs)
		packages_forget_settings(c);
	c->world->kernels_running--;
	k->count = 0;
	k->pid = k->box = k->joined = 0;
	oom |= k->oomed;
	k->restart = k->boxed = k->sweeping = k->oomed = false;
	k->again = again;
	close_all(k);
	tell_state(k, why);
	str_set(&k->death, NULL);
	str_set(&k->failed, NULL);
	world_touch(c->world);
	box_left(c, kernel_use(k), oom);
	if (k->run)
		kernel_run(k, k->run);
	else
		context_schedule(c);
}

static void on_gone(void *arg, uint32_t mask)
{
	struct kernel *k = arg;
	siginfo_t how = { 0 };
	pid_t was = k->box;

	(void)mask;
	drain_report(k);
	watch_del(k->ctx->world->loop, &k->w_pid);
	waitid(P_PID, k->box, &how, WEXITED | WNOWAIT);
	usage_of_dead(k, k->box);
	if (driver_next(&k->box, &k->pidfd, k->joined)) {
		watch_add(k->ctx->world->loop, &k->w_pid, k->pidfd, EPOLLIN, on_gone, k);
		return;
	}
	bool killed = was == k->joined && how.si_code != CLD_EXITED;
	if (killed && box_sweep(k->ctx, kernel_use(k))) {
		k->sweeping = true;
		drop_fd(&k->lifeline);
	} else {
		kernel_gone(k);
	}
}

/* ---- what the box tells ---- */

static void launch(struct kernel *k);

/* Each may end runs, and so start and free other things: who is next is looked for anew. */
static struct kernel *first_kernel(struct context *c, enum box_use use, bool (*fits)(const struct kernel *))
{
	list_for(it, &c->kernels) {
		struct kernel *k = container_of(it, struct kernel, link);
		if (kernel_use(k) == use && fits(k))
			return k;
	}
	return NULL;
}

static bool waits_for_box(const struct kernel *k)
{
	return k->state == K_STARTING && !k->boxed && !k->box;
}

static bool was_started(const struct kernel *k)
{
	return k->generation;
}

static bool has_no_box(const struct kernel *k)
{
	return k->boxless;
}

static bool is_sweeping(const struct kernel *k)
{
	return k->sweeping;
}

void kernels_box_up(struct context *c, enum box_use use)
{
	struct kernel *k;

	while ((k = first_kernel(c, use, waits_for_box))) {
		auto_buf struct buf why = { 0 };
		int need = box_need(c, use, k->interpreter, &why);
		if (need > 0)
			return;
		if (need < 0) {
			str_set(&k->failed, why.s);
			kernel_gone(k);
		} else {
			launch(k);
		}
	}
}

void kernels_box_failed(struct context *c, enum box_use use, const char *why)
{
	struct kernel *k;

	list_for(it, &c->kernels) {
		k = container_of(it, struct kernel, link);
		k->boxless = kernel_use(k) == use && waits_for_box(k); /* not who will wait for the next one */
	}
	while ((k = first_kernel(c, use, has_no_box))) {
		k->boxless = false;
		str_set(&k->failed, why);
		kernel_gone(k);
	}
}

void kernels_swept(struct context *c, enum box_use use)
{
	struct kernel *k;

	while ((k = first_kernel(c, use, is_sweeping)))
		kernel_gone(k);
}

static void kill_as(struct kernel *k, const char *why, enum run_status how)
{
	k->oomed = how == ST_OOM;
	if (k->run) {
		k->run->state_preserved = false;
		end_run(k, how, why);
	}
	kernel_kill(k, why);
}

/* The one in that box that runs something; false if there is none. */
static bool kill_busy(struct context *c, enum box_use use, const char *why, enum run_status how)
{
	struct kernel *busy = c->active ? c->active->kernel : NULL;

	if (!busy || kernel_use(busy) != use)
		return false;
	kill_as(busy, why, how);
	return true;
}

/* All in that box. */
static void kill_all(struct context *c, enum box_use use, const char *why)
{
	if (use == FOR_CELLS) {
		context_stop(c, why, false);
		return;
	}
	list_for_safe(it, tmp, &c->kernels) {
		struct kernel *k = container_of(it, struct kernel, link);
		if (kernel_use(k) == use)
			kernel_kill(k, why);
	}
}

/* Memory that is no process's goes with the box only. */
void kernels_over_memory(struct context *c, enum box_use use)
{
	auto_free char *why = memory_limit(c);

	context_log(c, "out of memory: %s", why);
	if (!kill_busy(c, use, why, ST_OOM))
		kill_all(c, use, why);
}

void kernels_kill(struct context *c, enum box_use use, const char *why)
{
	if (!kill_busy(c, use, why, ST_KILLED))
		kill_all(c, use, why);
}

static void on_start_limit(void *arg)
{
	kernel_kill(arg, "the driver did not answer within 30 s of its start");
}

static void on_closed_limit(void *arg)
{
	kernel_kill(arg, "it closed its control pipe");
}

static void on_closed(void *arg)
{
	struct kernel *k = arg;

	if (is_dead(k)) {
		/* Box will tell how, as soon as it gets the processor: unless a cell has stopped it. */
		timer_set(k->ctx->world->loop, &k->timer, START_US, on_closed_limit, k);
	} else if (box_oom_kills(k->ctx, kernel_use(k)) > k->ooms) {
		/* Its files are closed, but its memory is still being freed, which can take seconds. */
		auto_free char *why = memory_limit(k->ctx);
		kill_as(k, why, ST_OOM);
	} else {
		on_closed_limit(k);
	}
}

/* An empty directory KEY of SUB, a directory that the kernels of the context may write. It is made elsewhere, so that
 * nobody can put something in its place meanwhile. Returns it open, or -errno. */
static int fresh_dir(struct context *c, const char *sub, const char *key, bool give)
{
	auto_free char *path = context_path(c, sub);
	auto_close int dir = openat(c->world->contexts_dir, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	uid_t uid;
	gid_t gid;

	if (dir < 0)
		return -errno;
	delete_tree(dir, key);
	if (mkdirat(dir, key, 0755) < 0)
		return -errno;
	auto_close int fd = gate_open_dir(dir, key);
	if (fd < 0)
		return fd;
	context_box_ids(c, &uid, &gid);
	if (give && geteuid() == 0 && fchown(fd, uid, gid) < 0)
		return -errno;
	return take(&fd);
}

static int open_spool(struct kernel *k)
{
	drop_fd(&k->code_dir);
	drop_fd(&k->spool);
	k->code_dir = fresh_dir(k->ctx, code_sub(k), k->key, false);
	k->spool = fresh_dir(k->ctx, "spool/out", k->key, true);
	return k->code_dir < 0 ? k->code_dir : MIN(k->spool, 0);
}

/* Takes over what D has. */
static void watch_all(struct kernel *k, struct driver *d)
{
	struct loop *l = k->ctx->world->loop;

	k->box = d->pid;
	k->joined = d->joined;
	k->pidfd = take(&d->pidfd);
	k->cmd = take(&d->fds[3]);
	k->ack = take(&d->fds[5]);
	k->guard = take(&d->fds[6]);
	k->lifeline = take(&d->fds[BOX_OWN]);
	watch_add(l, &k->w_io[0], take(&d->fds[1]), EPOLLIN, on_stdout, k);
	watch_add(l, &k->w_io[1], take(&d->fds[2]), EPOLLIN, on_stderr, k);
	watch_add(l, &k->w_cmd, k->cmd, 0, on_cmd, k);
	watch_add(l, &k->w_ev, take(&d->fds[4]), EPOLLIN, on_ev, k);
	watch_add(l, &k->w_report, take(&d->fds[BOX_OWN + 1]), EPOLLIN, on_report, k);
	watch_add(l, &k->w_pid, k->pidfd, EPOLLIN, on_gone, k);
	timer_set(l, &k->timer, START_US, on_start_limit, k);
}

/* What it is told first. */
static void set_told(struct kernel *k, const char *env, const char *cwd)
{
	buf_reset(&k->env);
	buf_str(&k->env, env);
	buf_reset(&k->cwd);
	buf_str(&k->cwd, cwd);
}

static int start_driver(struct kernel *k, struct driver *d)
{
	struct context *c = k->ctx;
	auto_free char *cwd = kernel_path(c, c->conf.v[C_CWD].text);
	auto_buf struct buf env = { 0 };
	struct driver_plan plan = { .world = c->world, .ctx = c, .box = k->boxed ? c->box[kernel_use(k)] : NULL, .lang = k->lang,
				    .interpreter = k->interpreter, .cwd = cwd };

	driver_env(c, &env, NULL);
	set_told(k, env.s, cwd);
	return driver_start(&plan, d);
}

/* A spare was started with no environment of this context, and elsewhere: exec_run() tells it the rest. */
static bool take_spare(struct kernel *k, struct driver *d)
{
	struct spare *s = k->spare;

	k->spare = NULL;
	if (!s || !spare_take(s, d))
		return false;
	set_told(k, "{}", "/");
	k->nameless = true;
	return true;
}

static int start_process(struct kernel *k)
{
	struct driver d;
	bool foreign;
	int err = k->boxed ? 0 : context_make_dirs(k->ctx, &foreign);

	if (!err)
		err = open_spool(k);
	if (!err && !take_spare(k, &d))
		err = start_driver(k, &d);
	if (err)
		return err;
	watch_all(k, &d);
	driver_close(&d);
	return 0;
}

static void launch(struct kernel *k)
{
	k->boxed = k->ctx->world->sandbox.mode == SANDBOX_FULL;
	int err = start_process(k);

	if (!err)
		return;
	str_set(&k->failed, strerror(-err));
	kernel_gone(k);
}

static void start(struct kernel *k)
{
	struct context *c = k->ctx;
	bool used = first_kernel(c, FOR_CELLS, was_started) || first_kernel(c, FOR_INSTALLS, was_started);

	k->exit_code = k->exit_signal = -1;
	k->pid = 0;
	k->messages = 0;
	k->ending = false;
	k->ooms = box_oom_kills(c, kernel_use(k));
	for (int i = 0; i < 2; i++) {
		flow_free(&k->late[i]);
		flow_init(&k->late[i], c, NULL, k->lang->name, i);
		k->late[i].limit = c->conf.v[C_OUTPUT].v;
	}
	step(k, E_START);
	k->generation++;
	c->world->kernels_running++;
	index_note(c, IDX_KERNEL, k->key, NULL, k->generation);
	tell_state(k, NULL);
	world_touch(c->world);
	if (c->world->sandbox.mode != SANDBOX_FULL) {
		launch(k);
		return;
	}
	/* Root's boxes have a uid each: all that an older context has would have to be given to another one. */
	if (!k->interpreter && !(used && geteuid() == 0))
		k->spare = spare_reserve(c, k->lang);
	kernels_box_up(c, kernel_use(k));
}

static void on_pause_over(void *arg)
{
	struct kernel *k = arg;

	if (k->state == K_IDLE && k->run)
		exec_run(k);
}

void kernel_run(struct kernel *k, struct run *r)
{
	if (k->state == K_IDLE && (is_dead(k) || has_lost_box(k))) {
		step(k, E_KILL);
		drop_fd(&k->lifeline);
	}
	k->run = r;
	int64_t pause = k->signalled ? k->signalled + SIGNAL_US - mono_us() : 0;
	if (k->state == K_IDLE && pause > 0)
		timer_set(k->ctx->world->loop, &k->pause, pause, on_pause_over, k);
	else if (k->state == K_IDLE)
		exec_run(k);
	else if (k->state == K_STOPPED)
		start(k);
}

/* To the group itself, not by way of box: when kill() returns, the signal is there, so none is on its way
 * any more when an `ending` is acked. The pidfd tells that the number is still the driver's. */
void kernel_signal(struct kernel *k)
{
	if (k->pid <= 0 || k->ending || is_dead(k))
		return;
	kill(-k->pid, SIGINT);
	k->signalled = mono_us();
}

void kernel_guard(struct kernel *k)
{
	if (k->guard >= 0 && write(k->guard, "g", 1) < 0) { /* full: it was told often enough */
	}
}

void kernel_kill(struct kernel *k, const char *why)
{
	if (!step(k, E_KILL))
		return;
	str_set(&k->death, why);
	if (has_state(k) && !k->lost_why)
		str_set(&k->lost_why, why);
	if (k->run) {
		k->run->state_preserved = false;
		end_run(k, ST_KILLED, why);
	}
	timer_stop(k->ctx->world->loop, &k->timer);
	int fd = k->w_ev.fn ? k->w_ev.fd : -1;
	watch_del(k->ctx->world->loop, &k->w_ev);
	drop_fd(&fd);
	drop_fd(&k->lifeline); /* its supervisor ends everything, then itself: on_gone */
	context_touch(k->ctx);
	if (!k->box && !k->sweeping) {
		kernel_gone(k);
		return;
	}
	context_schedule(k->ctx);
}
