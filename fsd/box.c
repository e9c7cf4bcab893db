#include "box.h"

#include "gate.h"
#include "kernel.h"
#include "meter.h"
#include "packages.h"
#include "rights.h"
#include "spare.h"
#include "spawn.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

enum {
	START_US = 30 * 1000000,
	GROUP_RETRY_US = 50000,
	NEEDS_MAX = 60, /* prefixes for Jupyter kernels: box has room for more binds than that */
};

/* Out of memory, or by an administrator. */
#define FIRST_ENDED "its first process ended"

/* In the id of a meter: it is an install's. */
#define OF_INSTALLS (1ULL << 63)

enum box_event { E_UP, E_EMPTY, E_GIVE, E_END, E_COUNT };

static const unsigned char steps[BOX_STATES][E_COUNT] = {
	[BOX_STARTING] = { [E_UP] = BOX_UP, [E_EMPTY] = BOX_EMPTY, [E_END] = BOX_DYING },
	[BOX_EMPTY] = { [E_GIVE] = BOX_BINDING, [E_END] = BOX_DYING },
	[BOX_BINDING] = { [E_UP] = BOX_UP, [E_END] = BOX_DYING },
	[BOX_UP] = { [E_END] = BOX_DYING },
};

struct box {
	struct world *world;
	struct context *ctx;          /* NULL: it is nobody's yet, or the context is gone, or has another box */
	enum box_use use;
	struct metered own_metered;   /* of one for installs; its context's is that of its cells */
	struct spare *spare;          /* who has to hear of it, as long as the driver in it is nobody's */
	uid_t uid;                    /* of the host */
	gid_t gid;
	enum box_state state;
	bool retired, giving;         /* GIVING: its files are made its own */
	bool entered;                 /* a kernel was started in it */
	pid_t launcher, init;         /* not reaped yet; LAUNCHER: what makes it, or binds */
	struct watch w_launcher, w_init, w_socket;
	struct timer limit;           /* of the start */
	int fds[BOX_UP_FDS];          /* namespaces, /proc, / */
	struct cgroup group;
	bool grouped;
	struct net_link *net;
	char *failure;
	struct strings prefixes;      /* what it has of interpreters */
	struct strings named;         /* FROM:TO, of an install: what the settings of the host's user name */
	int64_t memory, processes, network;
};

static bool step(struct box *b, enum box_event e)
{
	if (!steps[b->state][e])
		return false;
	b->state = steps[b->state][e];
	return true;
}

/* A path of the box that no HOST directory stands behind but its own. */
static bool is_inside(const char *path)
{
	return !strncmp(path, "/workspace/", 11) || !strncmp(path, "/home/user/", 11);
}

static void drop_watch(struct box *b, struct watch *w)
{
	int fd = w->fn ? w->fd : -1;

	watch_del(b->world->loop, w);
	drop_fd(&fd);
}

/* ---- the end ---- */

/* A group whose last process has ended may stay busy for a moment. */
struct grave {
	struct world *world;
	struct cgroup group;
	struct timer timer;
	int tries;
};

static void bury(void *arg)
{
	struct grave *g = arg;

	if (cgroup_remove(&g->group) == -EBUSY && g->tries++ < 200 && !g->world->stopping) {
		timer_set(g->world->loop, &g->timer, GROUP_RETRY_US, bury, g);
		return;
	}
	free(g);
}

static void remove_group(struct box *b)
{
	if (!b->grouped || cgroup_remove(&b->group) != -EBUSY)
		return;
	struct grave *g = xcalloc(1, sizeof(*g));
	*g = (struct grave){ .world = b->world, .group = b->group };
	timer_set(b->world->loop, &g->timer, GROUP_RETRY_US, bury, g);
}

static struct metered *metered_of(struct box *b)
{
	return b->use == FOR_CELLS ? &b->ctx->metered : &b->own_metered;
}

static void watch_disk(struct context *c);

/* All its processes are gone. */
static void gone(struct box *b)
{
	struct context *c = b->ctx;
	struct world *w = b->world;
	enum box_use use = b->use;
	auto_free char *why = b->failure;

	net_stop(b->net);
	if (c || b->use == FOR_INSTALLS)
		meter_del(w->meter, metered_of(b));
	remove_group(b);
	timer_stop(w->loop, &b->limit);
	drop_watch(b, &b->w_socket);
	for (int i = 0; i < BOX_UP_FDS; i++)
		drop_fd(&b->fds[i]);
	strings_clear(&b->prefixes);
	strings_clear(&b->named);
	w->boxes_running--;
	if (b->spare)
		spare_box_gone(b->spare);
	free(b);
	world_touch(w);
	if (!c)
		return;
	c->box[use] = NULL;
	if (use == FOR_INSTALLS) /* for who asks what the context takes now */
		watch_disk(c);
	kernels_swept(c, use);
	if (why)
		kernels_box_failed(c, use, why);
	else
		kernels_box_up(c, use); /* who waited for its end starts another */
}

static void try_gone(struct box *b)
{
	if (b->state == BOX_DYING && !b->launcher && !b->init && !b->giving)
		gone(b);
}

static void on_socket(void *arg, uint32_t mask);

/* Whoever makes the box has ended: it may have said of whom nobody has heard yet, and who has to be reaped. */
static void hear_last(struct box *b)
{
	if (!b->init && b->w_socket.fn)
		on_socket(b, EPOLLIN);
	drop_watch(b, &b->w_socket);
}

static void end(struct box *b)
{
	if (!step(b, E_END))
		return;
	if (b->spare && b->ctx)
		spare_box_ends(b->spare);
	if (b->w_socket.fn)
		shutdown(b->w_socket.fd, SHUT_WR); /* pid 1 reads its end, and everybody dies with it */
	if (!b->launcher)
		hear_last(b);
	timer_stop(b->world->loop, &b->limit);
	try_gone(b);
}

/* Without a spare's box there is still an ordinary one, and after one that kernels were in a new one: that is no failure. */
static void fail(struct box *b, const char *why)
{
	if (b->ctx && !b->entered && b->state != BOX_DYING)
		b->failure = xstrdup(why);
	if (b->ctx)
		context_log(b->ctx, "box: %s", why);
	else if (b->spare)
		log_line(&b->world->log, "spare box: %s", why);
	end(b);
}

static void announce(struct box *b);

static void on_launcher(void *arg, uint32_t mask)
{
	struct box *b = arg;
	int status = 0;

	(void)mask;
	waitpid(b->launcher, &status, 0);
	b->launcher = 0;
	drop_watch(b, &b->w_launcher);
	if (b->state == BOX_BINDING && status) {
		fail(b, WIFEXITED(status) ? strerror(WEXITSTATUS(status)) : "binding was killed");
	} else if (b->state == BOX_BINDING) {
		announce(b);
	} else if (b->state == BOX_EMPTY) {
		world_touch(b->world);
	} else if (b->state == BOX_DYING) {
		hear_last(b);
		try_gone(b);
	} /* else its last messages are still to be read; without any the socket ends */
}

static void on_init(void *arg, uint32_t mask)
{
	struct box *b = arg;

	(void)mask;
	waitpid(b->init, NULL, 0);
	b->init = 0;
	drop_watch(b, &b->w_init);
	if (b->state != BOX_STARTING && b->state != BOX_DYING)
		fail(b, FIRST_ENDED);
	else
		try_gone(b);
}

/* ---- the start ---- */

static void on_limit(void *arg)
{
	fail(arg, "it was not up within 30 s");
}

static void on_net(void *arg, const char *why);

static void announce(struct box *b)
{
	timer_stop(b->world->loop, &b->limit);
	if (b->ctx && step(b, E_UP))
		kernels_box_up(b->ctx, b->use);
	else if (b->spare && step(b, E_EMPTY))
		spare_box_up(b->spare);
}

static void start_net(struct box *b)
{
	auto_buf struct buf why = { 0 };
	struct world *w = b->world;

	if (b->network != NETWORK_ON) {
		announce(b);
		return;
	}
	if (net_start(&w->net, w->loop, w->opt.box, b->fds[0], b->fds[3], on_net, b, &b->net, &why))
		fail(b, why.s);
}

static void on_net(void *arg, const char *why)
{
	struct box *b = arg;

	if (!why)
		announce(b);
	else if (b->state == BOX_STARTING || b->state == BOX_EMPTY)
		fail(b, why);
	else if (b->ctx)
		context_log(b->ctx, "network: %s", why);
}

/* The directories that config/disk is about; -1 for one that is not there. */
static void open_dirs(struct context *c, int dirs[METER_DIRS])
{
	static const char *const subs[METER_DIRS] = { "workspace", "home", "packages" };

	for (size_t i = 0; i < METER_DIRS; i++) {
		auto_free char *path = context_path(c, subs[i]);
		dirs[i] = openat(c->world->contexts_dir, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	}
}

static void watch_dirs(struct context *c, struct metered *x, int proc)
{
	int dirs[METER_DIRS];

	open_dirs(c, dirs);
	meter_add(c->world->meter, x, proc, dirs);
	for (size_t i = 0; i < METER_DIRS; i++)
		drop_fd(&dirs[i]);
}

/* Nobody in the box can write yet. */
static void start_meter(struct box *b)
{
	if (!b->ctx)
		return;
	watch_dirs(b->ctx, metered_of(b), b->fds[BOX_UP_PROC]);
	meter_shm(metered_of(b), b->fds[BOX_UP_SHM]);
}

/* ---- the disk of who writes through the mount ---- */

enum { DISK_WATCH_US = 10 * 1000000, DISK_LOG_US = 1000000 };

/* Nobody has written for a while: nothing has to be known. */
static void unwatch_disk(void *arg)
{
	struct context *c = arg;

	if (!c->box[FOR_CELLS])
		meter_del(c->world->meter, &c->metered);
}

static void watch_disk(struct context *c)
{
	timer_set(c->world->loop, &c->disk_timer, DISK_WATCH_US, unwatch_disk, c);
	if (c->box[FOR_CELLS])
		return;
	meter_limit(&c->metered, 0, c->conf.v[C_DISK].v);
	if (list_empty(&c->metered.link))
		watch_dirs(c, &c->metered, -1);
}

int box_disk_room(struct context *c, int64_t bytes, int64_t files)
{
	watch_disk(c);
	struct meter_usage left = meter_left(&c->metered);
	bool over = bytes > left.bytes;

	if (!over && files <= left.files)
		return 0;
	if (mono_us() - c->disk_told >= DISK_LOG_US) {
		auto_buf struct buf limit = { 0 };
		c->disk_told = mono_us();
		buf_size(&limit, c->conf.v[C_DISK].v);
		if (!over) {
			buf_reset(&limit);
			buf_printf(&limit, "%lld files", (long long)meter_max_files(c->conf.v[C_DISK].v));
		}
		context_log(c, "disk limit %s: what was written through the mount does not fit any more (config/disk)",
			    limit.s);
	}
	return -ENOSPC;
}

void box_disk_grew(struct context *c, int64_t bytes, int64_t files)
{
	meter_beside(&c->metered, bytes, files);
}

static void on_message(struct box *b, const char *line, int nfds)
{
	int pid;

	if (sscanf(line, "pid %d", &pid) == 1 && !b->init && pid > 1) {
		int fd = spawn_adopt(pid);
		if (fd < 0) {
			fail(b, strerror(-fd));
			return;
		}
		b->init = pid;
		watch_add(b->world->loop, &b->w_init, fd, EPOLLIN, on_init, b);
	} else if (!strcmp(line, "up") && nfds == BOX_UP_FDS && b->state == BOX_STARTING) {
		start_meter(b);
		start_net(b);
	} else if (!strncmp(line, "failed ", 7)) {
		fail(b, line + 7);
	} else if (!strcmp(line, "swept") && b->ctx) {
		kernels_swept(b->ctx, b->use);
	}
}

static void on_socket(void *arg, uint32_t mask)
{
	struct box *b = arg;
	char line[BOX_LINE];
	int fds[BOX_UP_FDS], nfds = 0;
	ssize_t n = sandbox_recv(b->w_socket.fd, line, fds, &nfds);

	(void)mask;
	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n <= 0) {
		drop_watch(b, &b->w_socket);
		if (b->state == BOX_STARTING)
			fail(b, "box ended before it was up");
		else if (b->state != BOX_DYING)
			fail(b, FIRST_ENDED); /* it closes its files before it lets go of the box */
		return;
	}
	for (int i = 0; i < nfds; i++) {
		if (b->fds[i] < 0)
			b->fds[i] = fds[i];
		else
			close(fds[i]);
	}
	on_message(b, line, nfds);
}

/* Whoever installs below his home (in ~/bin, in ~/.local/bin) does not show all of it to his cells. */
static bool is_home(const struct who *who, const char *dir)
{
	static const char *const signs[] = { ".profile", ".bashrc", ".bash_history", ".ssh", ".config" };
	auto_close int fd = open_as(who, dir);
	const char *slash = strrchr(dir, '/');

	if (slash && !strcmp(slash, "/.local")) /* what programs keep of him is in its share and state */
		return true;

	for (size_t i = 0; fd >= 0 && i < ARRAY_SIZE(signs); i++)
		if (faccessat(fd, signs[i], F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			return true;
	return false;
}

/* An interpreter from elsewhere: where WHO named it, and where it is. What he could not enter is not added. */
static void add_prefix(struct box *b, struct strings *opts, const struct who *who, const char *interpreter)
{
	auto_free char *real = interpreter && !is_inside(interpreter) ? resolve_as(who, interpreter) : NULL;
	char *dirs[] = { real ? sandbox_prefix(interpreter) : NULL, real ? sandbox_prefix(real) : NULL };

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		const char *part = dirs[i] && is_home(who, dirs[i]) ? "/bin" : "";
		auto_free char *to = dirs[i] ? xasprintf("%s%s", dirs[i], part) : NULL;
		auto_free char *from = to && !strchr(to, ':') ? resolve_as(who, to) : NULL;
		if (from && !strchr(from, ':') && !strings_have(&b->prefixes, dirs[i])) {
			strings_addf(opts, "--prefix=%s:%s", from, to);
			strings_add(&b->prefixes, dirs[i]);
		} else {
			free(dirs[i]);
		}
	}
}

static void add_interpreters(struct box *b, struct strings *opts)
{
	struct context *c = b->ctx;
	struct who self = { geteuid(), getegid(), 0 }, namer = c ? context_namer(c) : self;

	for (size_t i = 0; i < b->world->langs.n; i++) {
		const struct lang *l = &b->world->langs.v[i];
		add_prefix(b, opts, &self, l->interpreter);
		for (char **need = l->needs; need && *need && b->prefixes.n < NEEDS_MAX; need++)
			add_prefix(b, opts, &self, *need);
	}
	for (size_t i = 0; c && i < c->overrides.n; i++) {
		const char *text = c->overrides.entries[i].value;
		if (*text == '/')
			add_prefix(b, opts, &namer, text);
	}
}

/* What a context has in its box, or, before it is one's, where that will be. What cells without a network could put
 * among the packages would have one when more are installed. */
static void add_own(const struct box *b, struct strings *opts)
{
	bool installs = b->use == FOR_INSTALLS;
	const struct {
		const char *sub, *to;
		bool writable;
	} own[] = {
		{ "workspace", "/workspace", true },
		{ installs ? NULL : "home", "/home/user", true }, /* ssh reads its settings there, whatever HOME is */
		{ "packages", "/packages", b->network != NETWORK_OFF || installs },
		{ installs ? "spool/install" : "spool/code", installs ? "/spool/install" : "/spool/code", false },
		{ "spool/out", "/spool/out", true },
	};

	for (size_t i = 0; i < ARRAY_SIZE(own); i++) {
		auto_free char *path = b->ctx && own[i].sub ? context_abspath(b->ctx, own[i].sub) : NULL;
		if (path)
			strings_addf(opts, "--%s=%s:%s", own[i].writable ? "rw" : "ro", path, own[i].to);
		else
			strings_addf(opts, "--dir=%s", own[i].to);
	}
}

/* How the host's user gets packages; what that names is at the same path. */
static void add_settings(struct box *b, struct strings *opts)
{
	auto_free char *settings = context_abspath(b->ctx, "settings");

	strings_addf(opts, "--ro=%s:/settings", settings);
	for (size_t i = 0; i < b->named.n; i++)
		strings_addf(opts, "--prefix=%s", b->named.v[i]);
}

static void add_options(struct box *b, struct strings *opts)
{
	struct world *w = b->world;

	if (geteuid() == 0)
		strings_addf(opts, "--ids=%u:%u", b->uid, b->gid);
	if (b->network == NETWORK_HOST)
		strings_addf(opts, "--net=host");
	if (b->network != NETWORK_OFF) {
		auto_buf struct buf text = { 0 };
		if (b->network == NETWORK_ON)
			net_resolv("/etc/resolv.conf", &text);
		else
			read_file(AT_FDCWD, "/etc/resolv.conf", 65536, &text);
		strings_addf(opts, "--text=/etc/resolv.conf=%s", text.s ? text.s : "");
	}
	add_own(b, opts);
	if (b->use == FOR_INSTALLS)
		add_settings(b, opts);
	strings_addf(opts, "--ro=%s:/kernels", w->opt.kernels_dir);
	strings_addf(opts, "--ro=%s/artifacts:/artifacts", w->opt.state_dir);
	add_interpreters(b, opts);
	for (size_t i = 0; i < w->opt.binds.n; i++)
		strings_addf(opts, "--ro=%s", w->opt.binds.v[i]);
}

static struct cgroup_limits group_limits(const struct config *conf)
{
	return (struct cgroup_limits){ conf->v[C_MEMORY].v, conf->v[C_PROCESSES].v, conf->v[C_CPUS].v / 1000.0 };
}

static void make_group(struct box *b, const struct config *conf)
{
	struct cgroup_limits l = group_limits(conf);
	auto_free char *name = b->use == FOR_INSTALLS ? xasprintf("%s-packages", b->ctx->uuid) :
			       b->ctx ? xstrdup(b->ctx->uuid) :
					xasprintf("spare-%llu", (unsigned long long)++b->world->spare_boxes);
	int err = cgroup_make(&b->world->sandbox.cgroups, name, &l, &b->group);

	b->grouped = !err;
	if (err && err != -ENOSYS && b->ctx)
		context_log(b->ctx, "box: no resource group: %s: its limits are of each process", strerror(-err));
}

static void set_meter(struct box *b)
{
	struct context *c = b->ctx;
	bool enforced = b->grouped && b->world->sandbox.cgroups.memory;

	meter_limit(metered_of(b), enforced ? 0 : b->memory, c->conf.v[C_DISK].v);
}

static int launch(struct box *b)
{
	struct world *w = b->world;
	struct strings opts = { 0 };
	int socket = -1, pidfd = -1;

	add_options(b, &opts);
	int err = sandbox_up(&w->sandbox, &opts, b->grouped ? &b->group : NULL, &socket, &b->launcher, &pidfd);
	strings_clear(&opts);
	if (err)
		return err;
	watch_add(w->loop, &b->w_launcher, pidfd, EPOLLIN, on_launcher, b);
	watch_add(w->loop, &b->w_socket, socket, EPOLLIN, on_socket, b);
	timer_set(w->loop, &b->limit, START_US, on_limit, b);
	return 0;
}

/* What has to be done first, and by the worker: files that are still another's are given to the box, one chown each; for
 * an install the settings of the host's user are read, which may lie anywhere. */
struct gift {
	struct box *box;
	bool foreign, installs;
	struct settings settings;
	struct strings named;
};

static int give(void *arg)
{
	struct gift *g = arg;
	struct settings *s = &g->settings;

	if (g->installs)
		settings_put(s);
	for (size_t i = 0; i < s->named.n; i++) {
		auto_free char *real = realpath(s->named.v[i], NULL);
		if (real && !strchr(real, ':') && !strchr(s->named.v[i], ':'))
			strings_addf(&g->named, "%s:%s", real, s->named.v[i]);
	}
	return g->foreign ? context_give_files(s->contexts, s->uuid, s->uid, s->gid) : 0;
}

static int bind_own(struct box *b);

static void has_files(void *arg)
{
	struct box *b = arg;
	int err = b->state == BOX_BINDING ? bind_own(b) : launch(b);

	if (err)
		fail(b, strerror(-err));
}

static void given(void *arg, int r)
{
	struct gift *g = arg;
	struct box *b = g->box;
	struct timespec tick;

	b->named = g->named;
	for (size_t i = 0; b->ctx && i < g->settings.left.n; i++)
		context_log(b->ctx, "packages: %s is not shown to the install: no such file, or one that is kept from it",
			    g->settings.left.v[i]);
	settings_clear(&g->settings);
	free(g);
	b->giving = false;
	if (b->state != BOX_STARTING && b->state != BOX_BINDING) {
		try_gone(b);
	} else if (r < 0) {
		fail(b, strerror(-r));
	} else if (r > 0) { /* what the first run makes is to have a later time than these have got now */
		clock_getres(CLOCK_REALTIME_COARSE, &tick);
		timer_set(b->world->loop, &b->limit, 1000 + ts_to_us(tick), has_files, b);
	} else {
		has_files(b);
	}
}

/* Then launches it, or binds. */
static void give_files(struct box *b, bool foreign)
{
	struct gift *g = xcalloc(1, sizeof(*g));

	g->box = b;
	g->foreign = foreign;
	g->installs = b->use == FOR_INSTALLS;
	settings_init(&g->settings, b->ctx);
	b->giving = true;
	worker_do(b->world->worker, give, given, g);
}

/* What is installed mostly comes from elsewhere; without a network what lies here can still be. */
static int64_t network_for(struct context *c, enum box_use use, int64_t set)
{
	auto_buf struct buf why = { 0 };

	if (use == FOR_CELLS || set != NETWORK_OFF)
		return set;
	if (!net_check(&c->world->net, &why))
		return NETWORK_ON;
	context_log(c, "packages: no network: %s", why.s);
	return NETWORK_OFF;
}

static struct box *box_alloc(struct world *w, struct context *c, enum box_use use, const struct config *conf)
{
	struct box *b = xcalloc(1, sizeof(*b));

	*b = (struct box){ .world = w, .ctx = c, .use = use, .state = BOX_STARTING, .memory = conf->v[C_MEMORY].v,
			   .processes = conf->v[C_PROCESSES].v, .network = network_for(c, use, conf->v[C_NETWORK].v) };
	if (use == FOR_INSTALLS)
		metered_init(&b->own_metered, c->id | OF_INSTALLS);
	memset(b->fds, -1, sizeof(b->fds));
	w->boxes_running++;
	make_group(b, conf);
	return b;
}

static int start(struct context *c, enum box_use use, struct buf *why)
{
	bool foreign;
	int err = context_make_dirs(c, &foreign);

	if (err) {
		buf_printf(why, "the directories of its box cannot be made ready: %s", strerror(-err));
		return err;
	}
	struct box *b = box_alloc(c->world, c, use, &c->conf);
	context_box_ids(c, &b->uid, &b->gid);
	c->box[use] = b;
	set_meter(b);
	if (foreign || use == FOR_INSTALLS) {
		give_files(b, foreign);
	} else if ((err = launch(b))) {
		buf_printf(why, "box: %s", strerror(-err));
		b->ctx = NULL;
		c->box[use] = NULL;
		b->state = BOX_DYING;
		gone(b);
		return err;
	}
	world_touch(c->world);
	return 1;
}

/* ---- empty ones ---- */

int box_new_empty(struct world *w, struct spare *s, struct box **out)
{
	struct box *b = box_alloc(w, NULL, FOR_CELLS, &w->opt.defaults);

	b->uid = b->gid = geteuid() == 0 ? world_new_uid(w) : geteuid();
	if (geteuid())
		b->gid = getegid();
	int err = launch(b);
	if (err) {
		b->state = BOX_DYING;
		gone(b);
		return err;
	}
	b->spare = s;
	*out = b;
	return 0;
}

bool box_suits(const struct context *c)
{
	static const enum setting_key fixed[] = { C_MEMORY, C_DISK, C_PROCESSES, C_NETWORK };

	if (c->world->sandbox.mode != SANDBOX_FULL || c->box[FOR_CELLS])
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
		if (c->conf.v[fixed[i]].v != c->world->opt.defaults.v[fixed[i]].v)
			return false;
	for (size_t i = 0; i < c->overrides.n; i++)
		if (*(const char *)c->overrides.entries[i].value == '/')
			return false;
	return true;
}

static int bind_own(struct box *b)
{
	struct strings opts = { 0 };
	int pidfd;

	add_own(b, &opts);
	int err = sandbox_bind(&b->world->sandbox, b->fds, &opts, &b->launcher, &pidfd);
	strings_clear(&opts);
	if (err)
		return err;
	watch_add(b->world->loop, &b->w_launcher, pidfd, EPOLLIN, on_launcher, b);
	timer_set(b->world->loop, &b->limit, START_US, on_limit, b);
	return 0;
}

bool box_is_empty(const struct box *b)
{
	return b->state == BOX_EMPTY && !b->launcher;
}

int box_give(struct box *b, struct context *c)
{
	bool foreign;

	if (!box_is_empty(b) || !step(b, E_GIVE))
		return -EAGAIN;
	b->ctx = c;
	c->box[FOR_CELLS] = b;
	context_take_ids(c, b->uid);
	int err = context_make_dirs(c, &foreign);
	if (!err) {
		box_configured(c);
		start_meter(b);
	}
	if (!err && foreign)
		give_files(b, true);
	else if (!err)
		err = bind_own(b);
	if (err)
		end(b);
	return err;
}

void box_drop(struct box *b)
{
	b->spare = NULL;
	if (!b->ctx)
		end(b);
}

void box_ids(const struct box *b, uid_t *uid, gid_t *gid)
{
	*uid = b->uid;
	*gid = b->gid;
}

/* ---- for kernels ---- */

static bool is_used(const struct context *c, enum box_use use)
{
	list_for(it, &c->kernels) {
		const struct kernel *k = container_of(it, struct kernel, link);
		if (k->boxed && kernel_use(k) == use)
			return true;
	}
	return false;
}

static bool has_interpreter(const struct box *b, const char *interpreter)
{
	auto_free char *prefix = interpreter && *interpreter == '/' ? sandbox_prefix(interpreter) : NULL;

	return !prefix || is_inside(interpreter) || strings_have(&b->prefixes, prefix);
}

bool box_ended(struct context *c, enum box_use use)
{
	struct box *b = c->box[use];
	struct pollfd hung_up = { .fd = b ? b->w_socket.fd : -1 };

	if (b && b->state == BOX_UP && poll(&hung_up, 1, 0) == 1)
		fail(b, FIRST_ENDED);
	return !b || b->state == BOX_DYING;
}

int box_need(struct context *c, enum box_use use, const char *interpreter, struct buf *why)
{
	struct box *b = c->box[use];

	if (!b)
		return start(c, use, why);
	if (!b->retired && !box_ended(c, use) && !has_interpreter(b, interpreter)) {
		if (is_used(c, use)) {
			buf_printf(why, "its box, which other kernels are in, was made before config/kernel named %s: "
					"echo restart > ctl", interpreter);
			return -ENOENT;
		}
		box_retire(c);
		return 1;
	}
	return b->state == BOX_UP && !b->retired ? 0 : 1;
}

int box_run(struct box *b, const int *fds, const struct strings *args, char *const envp[], pid_t *pid, int *pidfd)
{
	b->entered = true;
	return sandbox_run(&b->world->sandbox, b->fds, b->grouped ? &b->group : NULL, fds, args, envp, pid, pidfd);
}

void box_left(struct context *c, enum box_use use, bool oom)
{
	struct box *b = c->box[use];

	if (!b || is_used(c, use) || !(b->retired || oom || use == FOR_INSTALLS))
		return;
	b->retired = true;
	end(b);
}

void box_retire(struct context *c)
{
	for (enum box_use use = 0; use < BOX_USES; use++) {
		if (!c->box[use])
			continue;
		c->box[use]->retired = true;
		box_left(c, use, false);
	}
}

void box_end(struct context *c)
{
	for (enum box_use use = 0; use < BOX_USES; use++) {
		if (!c->box[use])
			continue;
		c->box[use]->retired = true;
		end(c->box[use]);
	}
}

void box_forget(struct context *c)
{
	timer_stop(c->world->loop, &c->disk_timer);
	meter_del(c->world->meter, &c->metered);
	for (enum box_use use = 0; use < BOX_USES; use++) {
		struct box *b = c->box[use];
		if (!b)
			continue;
		c->box[use] = NULL;
		b->ctx = NULL;
		end(b);
	}
}

bool box_sweep(struct context *c, enum box_use use)
{
	struct box *b = c->box[use];

	return b && b->state == BOX_UP && b->w_socket.fn && send(b->w_socket.fd, "sweep", 5, MSG_NOSIGNAL) == 5;
}

/* ---- limits ---- */

static void configure(struct box *b)
{
	if (b->grouped) {
		struct cgroup_limits l = group_limits(&b->ctx->conf);
		l.memory = b->memory;
		l.processes = b->processes;
		int err = cgroup_limit(&b->group, &l);
		if (err)
			context_log(b->ctx, "box: %s", strerror(-err));
	}
	set_meter(b);
}

void box_configured(struct context *c)
{
	if (c->conf.v[C_CPUS].v && !c->world->sandbox.cgroups.cpu)
		context_log(c, "config/cpus: nothing enforces it here (`limits` in the root status says why)");
	for (enum box_use use = 0; use < BOX_USES; use++)
		if (c->box[use])
			configure(c->box[use]);
}

void box_json_pending(struct context *c, struct buf *out)
{
	bool first = true;

	buf_char(out, '[');
	for (enum setting_key key = 0; key < C_COUNT; key++) {
		if (box_limit(c, key) == c->conf.v[key].v)
			continue;
		buf_printf(out, "%s\"%s\"", first ? "" : ",", setting_names[key]);
		first = false;
	}
	buf_char(out, ']');
}

int64_t box_oom_kills(struct context *c, enum box_use use)
{
	struct box *b = c->box[use];
	int64_t n = b && b->grouped ? cgroup_oom_kills(&b->group) : 0;

	return MAX(n, 0);
}

struct cgroup *box_group(struct context *c, enum box_use use)
{
	struct box *b = c->box[use];

	return b && b->grouped ? &b->group : NULL;
}

int64_t box_limit(const struct context *c, enum setting_key key)
{
	const struct box *b = c->box[FOR_CELLS];

	switch (b ? key : C_COUNT) {
	case C_MEMORY:
		return b->memory;
	case C_PROCESSES:
		return b->processes;
	case C_NETWORK:
		return b->network;
	default:
		return c->conf.v[key].v;
	}
}

int box_check_dir(struct context *c, enum box_use use, const char *path)
{
	struct open_how how = { .flags = O_PATH | O_DIRECTORY | O_CLOEXEC,
				.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
	struct box *b = c->box[use];

	if (!b || b->fds[BOX_UP_ROOT] < 0)
		return 0;
	auto_close int fd = syscall(SYS_openat2, b->fds[BOX_UP_ROOT], path, &how, sizeof(how));
	return fd < 0 ? -errno : 0;
}

int box_check_interpreter(struct context *c, const char *path)
{
	bool home = !strncmp(path, "/home", 5);
	auto_free char *sub = context_path(c, home ? "home" : "workspace");

	if (!is_inside(path))
		return 1;
	auto_close int dir = openat(c->world->contexts_dir, sub, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	auto_close int fd = dir < 0 ? -errno : gate_path(dir, path + 11); /* "/workspace/", "/home/user/" */
	return fd < 0 ? fd : 0;
}

void box_over(void *arg, uint64_t id, enum meter_over what, int64_t amount)
{
	struct object *o = object_get(arg, id & ~OF_INSTALLS);
	enum box_use use = id & OF_INSTALLS ? FOR_INSTALLS : FOR_CELLS;
	auto_buf struct buf why = { 0 };

	if (!o || o->type != O_CONTEXT || !o->ctx->box[use])
		return;
	struct context *c = o->ctx;
	switch (what) {
	case OVER_MEMORY:
		kernels_over_memory(c, use);
		return;
	case OVER_DISK:
		buf_str(&why, "disk limit ");
		buf_size(&why, c->conf.v[C_DISK].v);
		break;
	case OVER_FILES:
		buf_printf(&why, "disk limit %lld files", (long long)meter_max_files(c->conf.v[C_DISK].v));
		break;
	case OVER_FLOOR:
		buf_str(&why, "the disk of the host is almost full");
		break;
	}
	context_log(c, "%s: %lld in use", why.s, (long long)amount);
	kernels_kill(c, use, why.s);
}
