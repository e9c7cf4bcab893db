#include "driver.h"

#include "box.h"
#include "packages.h"
#include "spawn.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	PIPE_BYTES = 1 << 20,
	FILES_MAX = 1024, /* open in one process */
};

/* ---- environment ---- */

struct env_arg {
	struct context *ctx;
	struct buf *json;
	struct strings *list;
};

static void one_env(void *arg, const char *name)
{
	struct env_arg *e = arg;
	auto_buf struct buf value = { 0 };
	struct stat st;

	if (!env_name_ok(name) || value_read(e->ctx, B_ENV, name, &value, &st))
		return;
	if (value.n && value.s[value.n - 1] == '\n')
		value.s[--value.n] = 0;
	if (e->json->n > 1)
		buf_char(e->json, ',');
	buf_json_str(e->json, name);
	buf_char(e->json, ':');
	buf_json(e->json, value.s ? value.s : "", value.n);
	if (e->list)
		strings_addf(e->list, "%s=%s", name, value.s ? value.s : "");
}

void driver_env(struct context *c, struct buf *json, struct strings *list)
{
	struct env_arg e = { c, json, list };

	buf_char(json, '{');
	context_each_file(c, B_ENV, one_env, &e);
	buf_char(json, '}');
}

/* Takes ENTRY over; what has its name already is replaced. */
static void put_env(struct strings *env, char *entry)
{
	size_t len = strcspn(entry, "=") + 1;

	for (size_t i = 0; i < env->n; i++) {
		if (!strncmp(env->v[i], entry, len)) {
			free(env->v[i]);
			env->v[i] = entry;
			return;
		}
	}
	strings_add(env, entry);
}

static void make_env(const struct driver_plan *p, struct strings *env)
{
	auto_free char *home = p->ctx ? context_inside(p->ctx, "home") : xstrdup("/home/user");
	auto_buf struct buf json = { 0 };
	struct strings own = { 0 };

	packages_env(p->world, p->ctx, p->lang, env);
	if (!p->lang->installs)
		strings_addf(env, "HOME=%s", home);
	strings_addf(env, "LANG=C.UTF-8");
	strings_addf(env, "TERM=dumb");
	if (p->ctx)
		strings_addf(env, "CELLFS_CONTEXT=%s", p->ctx->name);
	for (char **e = p->lang->env; *e; e++)
		put_env(env, xstrdup(*e));
	if (p->ctx)
		driver_env(p->ctx, &json, &own);
	for (size_t i = 0; i < own.n; i++)
		put_env(env, xstrdup(own.v[i]));
	strings_clear(&own);
}

/* ---- command ---- */

static int64_t limit(const struct driver_plan *p, enum setting_key key)
{
	return p->ctx ? box_limit(p->ctx, key) : p->world->opt.defaults.v[key].v;
}

/* What sandbox=weak lets it read and write. */
static void add_weak(const struct driver_plan *p, struct strings *args)
{
	static const char *const ro[] = { "/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/proc", "/dev" };
	static const char *const rw[] = { "/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/ptmx", "/dev/pts", "/dev/shm" };
	bool installs = p->lang->installs, net = installs || p->ctx->conf.v[C_NETWORK].v != NETWORK_OFF;
	const char *const own[] = { "workspace", "spool/out", installs ? NULL : "home", net ? "packages" : NULL };
	auto_free char *prefix = p->interpreter ? sandbox_prefix(p->interpreter) : NULL;
	auto_free char *code = context_abspath(p->ctx, installs ? "spool/install" : "spool/code");
	auto_free char *packages = context_abspath(p->ctx, "packages");

	strings_addf(args, "--weak");
	if (net)
		strings_addf(args, "--tcp");
	for (size_t i = 0; i < ARRAY_SIZE(ro); i++)
		strings_addf(args, "--ro=%s", ro[i]);
	for (size_t i = 0; i < ARRAY_SIZE(rw); i++)
		strings_addf(args, "--rw=%s", rw[i]);
	strings_addf(args, "--ro=%s", p->world->opt.kernels_dir);
	strings_addf(args, "--ro=%s/artifacts", p->world->opt.state_dir);
	strings_addf(args, "--ro=%s", code);
	if (prefix)
		strings_addf(args, "--ro=%s", prefix);
	for (char **need = p->lang->needs; need && *need; need++) {
		auto_free char *dir = sandbox_prefix(*need);
		if (dir)
			strings_addf(args, "--ro=%s", dir);
	}
	strings_addf(args, "--ro=%s", packages);
	for (size_t i = 0; i < ARRAY_SIZE(own); i++) {
		auto_free char *path = own[i] ? context_abspath(p->ctx, own[i]) : NULL;
		if (path)
			strings_addf(args, "--rw=%s", path);
	}
}

static void add_command(const struct driver_plan *p, struct strings *args)
{
	const struct lang *l = p->lang;
	const char *program = p->interpreter ? p->interpreter : l->interpreter;
	bool full = p->world->sandbox.mode == SANDBOX_FULL;
	auto_free char *dir = full ? xasprintf("/kernels%s", strrchr(l->dir, '/')) : xstrdup(l->dir);

	for (char **a = l->argv; *a; a++) {
		if (!strcmp(*a, "{interpreter}"))
			strings_addf(args, "%s", program ? program : "missing");
		else
			strings_add(args, lang_arg(*a, dir));
	}
}

/* Without a box there is nothing to wait for while the worker reads: these modes are for who trusts what runs. */
static void add_settings(const struct driver_plan *p, struct strings *args)
{
	auto_free char *at = context_abspath(p->ctx, "settings");
	struct settings s;

	settings_init(&s, p->ctx);
	settings_put(&s);
	if (p->world->sandbox.mode == SANDBOX_WEAK) {
		strings_addf(args, "--ro=%s", at);
		strings_addf(args, "--rw=%s/home", at);
		for (size_t i = 0; i < s.named.n; i++)
			strings_addf(args, "--ro=%s", s.named.v[i]);
	}
	settings_clear(&s);
}

/* Options of box, and the driver's command. */
static void make_args(const struct driver_plan *p, struct strings *args)
{
	enum sandbox_mode mode = p->world->sandbox.mode;

	strings_addf(args, "--lifeline=%d", BOX_OWN);
	strings_addf(args, "--report=%d", BOX_OWN + 1);
	strings_addf(args, "--cwd=%s", p->cwd);
	if (mode != SANDBOX_NONE) {
		strings_addf(args, "--data=%lld", (long long)limit(p, C_MEMORY));
		strings_addf(args, "--fsize=%lld", (long long)limit(p, C_DISK));
		strings_addf(args, "--files=%d", FILES_MAX);
	}
	if (mode == SANDBOX_FULL) /* elsewhere all processes of the user would count */
		strings_addf(args, "--processes=%lld", (long long)limit(p, C_PROCESSES));
	if (mode == SANDBOX_WEAK)
		add_weak(p, args);
	if (mode != SANDBOX_FULL && p->lang->installs)
		add_settings(p, args);
	strings_addf(args, "--");
	add_command(p, args);
}

/* ---- pipes ---- */

/* The report is a socket. [i][0] is ours, [i][1] the child's descriptor I. */
static int open_pipes(int fds[BOX_OWN + 2][2])
{
	static const char theirs_reads[BOX_OWN + 2] = { [3] = 1, [5] = 1, [6] = 1, [7] = 1 };

	for (int i = 1; i < BOX_OWN + 2; i++) {
		int p[2];
		if (i == BOX_OWN + 1 ? socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p) < 0 :
				       pipe2(p, O_CLOEXEC) < 0)
			return -errno;
		fds[i][0] = p[theirs_reads[i] ? 1 : 0];
		fds[i][1] = p[theirs_reads[i] ? 0 : 1];
		fcntl(fds[i][0], F_SETFL, O_NONBLOCK);
	}
	fcntl(fds[1][0], F_SETPIPE_SZ, PIPE_BYTES);
	fcntl(fds[2][0], F_SETPIPE_SZ, PIPE_BYTES);
	return 0;
}

/* For who opens /dev/stdout: a pipe has an owner too. */
static int give_pipes(const struct driver_plan *p, int fds[BOX_OWN + 2][2])
{
	uid_t uid;
	gid_t gid;

	if (p->ctx)
		context_box_ids(p->ctx, &uid, &gid);
	else
		box_ids(p->box, &uid, &gid);
	for (int i = 1; i < BOX_OWN && uid != geteuid(); i++)
		if (fchown(fds[i][1], uid, gid) < 0)
			return -errno;
	return 0;
}

static int spawn_driver(const struct driver_plan *p, int fds[BOX_OWN + 2][2], struct driver *d)
{
	struct strings args = { 0 }, env = { 0 };
	int theirs[BOX_OWN + 2] = { -1 };

	make_env(p, &env);
	make_args(p, &args);
	strings_add(&env, NULL);
	for (int i = 1; i < BOX_OWN + 2; i++)
		theirs[i] = fds[i][1];
	int err = p->box ? box_run(p->box, theirs, &args, env.v, &d->pid, &d->pidfd) :
			   sandbox_run(&p->world->sandbox, NULL, NULL, theirs, &args, env.v, &d->pid, &d->pidfd);
	strings_clear(&env);
	strings_clear(&args);
	return err;
}

int driver_start(const struct driver_plan *p, struct driver *d)
{
	int fds[BOX_OWN + 2][2];

	memset(fds, -1, sizeof(fds));
	driver_init(d);
	int err = open_pipes(fds);
	if (!err)
		err = give_pipes(p, fds);
	if (!err)
		err = spawn_driver(p, fds, d);
	for (int i = 0; i < BOX_OWN + 2; i++) {
		drop_fd(&fds[i][1]);
		d->fds[i] = fds[i][0];
	}
	if (err)
		driver_close(d);
	return err;
}

void driver_init(struct driver *d)
{
	*d = (struct driver){ .pidfd = -1 };
	memset(d->fds, -1, sizeof(d->fds));
}

bool driver_next(pid_t *pid, int *fd, pid_t joined)
{
	waitpid(*pid, NULL, 0);
	drop_fd(fd);
	bool more = joined && joined != *pid;
	*pid = more ? joined : 0;
	*fd = more ? spawn_adopt(*pid) : -1;
	return *fd >= 0;
}

bool driver_joined(struct driver *d)
{
	char line[BOX_LINE];
	int pid;

	if (!d->joined && sandbox_recv(d->fds[BOX_OWN + 1], line, NULL, NULL) > 0 && sscanf(line, "joined %d", &pid) == 1 &&
	    pid > 1)
		d->joined = pid;
	return driver_next(&d->pid, &d->pidfd, d->joined);
}

void driver_close(struct driver *d)
{
	drop_fd(&d->pidfd);
	for (int i = 0; i < BOX_OWN + 2; i++)
		drop_fd(&d->fds[i]);
}
