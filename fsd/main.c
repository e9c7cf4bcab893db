/* cellfs: options, signals, wiring, and the order of shutdown. */
#include "config.h"
#include "context.h"
#include "fs.h"
#include "spawn.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

enum { QUEUE_DEFAULT = 1000, SPARES_DEFAULT = 1, SPARES_MAX = 16, STOP_US = 3000000 };

static const char usage[] =
	"usage: cellfs [STATE_DIR] MOUNTPOINT [-f] [-o options]\n"
	"\n"
	"  -f             stay in the foreground, log to stderr\n"
	"  -o OPTIONS     timeout= wait= output= cwd= idle_timeout= keep=   defaults of config/\n"
	"                 memory= disk= processes= cpus= network=\n"
	"                 sandbox=full|weak|none  bind=HOST:BOX  queue=N  sync=always\n"
	"                 spares=N     kernels of each language in use that are started ahead (1)\n"
	"                 kernelspecs=DIR:DIR...|off  where Jupyter kernels are looked for\n"
	"                 kernels=DIR  box=PATH\n"
	"                 allow_other  everybody may make contexts, which are theirs alone\n"
	"  -h, --help     this text\n"
	"  -V, --version  the version\n"
	"\n"
	"STATE_DIR is $XDG_STATE_HOME/cellfs, ~/.local/state/cellfs, or /var/lib/cellfs for root, when it is\n"
	"left out or `none`. See cellfs(1) and cellfs(5).\n";

struct daemon {
	struct world world;
	struct fs *fs;
	struct watch signals;
	struct timer patience;
	bool ready, stopping, told_ready;
	int status_pipe; /* to the process that waits for the mount; -1 in the foreground */
};

/* ---- options ---- */

/* Options of mount(8) and fstab(5) that mean nothing here, or are in force anyway. */
static const char *const ignored[] = {
	"rw", "nofail", "user", "users", "nouser", "owner", "group", "auto", "noauto", "defaults", "_netdev", "dev",
	"suid", "exec", "atime", "diratime", "nodiratime",
	"relatime", "norelatime", "strictatime", "sync", "async", "fsname", "subtype", "comment",
	"default_permissions",
};

static bool is_ignored(const char *key)
{
	if (!strncmp(key, "x-", 2) || !strncmp(key, "X-", 2))
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
		if (!strcmp(key, ignored[i]))
			return true;
	return false;
}

static bool is_mount_flag(const char *key)
{
	static const char *const flags[] = { "nodev", "nosuid", "noexec", "noatime" };

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (!strcmp(key, flags[i]))
			return true;
	return false;
}

/* Is what is before COLON in VALUE there? */
static int access_dir(const char *value, const char *colon)
{
	auto_free char *path = xstrndup(value, colon - value);

	return access(path, R_OK);
}

static void set_option(struct options *o, char *item)
{
	char *value = strchr(item, '=');
	char *end;

	if (value)
		*value++ = 0;
	int key = setting_find(item);
	if (key >= 0) {
		if (!value || setting_set(&o->defaults, key, value, strlen(value), NULL))
			die("option %s: not %s", item, setting_form(key));
	} else if (!strcmp(item, "queue") && value) {
		o->queue = strtoll(value, &end, 10);
		if (*end || o->queue < 1 || o->queue > 1000000)
			die("option queue: not a number from 1 to 1000000");
	} else if (!strcmp(item, "spares") && value) {
		o->spares = strtol(value, &end, 10);
		if (!*value || *end || o->spares < 0 || o->spares > SPARES_MAX)
			die("option spares: not a number from 0 to %d", SPARES_MAX);
	} else if (!strcmp(item, "sync") && value) {
		if (strcmp(value, "always"))
			die("option sync: only sync=always is known");
		o->sync_always = true;
	} else if (!strcmp(item, "passthrough") && value) {
		if (strcmp(value, "on") && strcmp(value, "off"))
			die("option passthrough: on or off");
		o->no_passthrough = !strcmp(value, "off");
	} else if (!strcmp(item, "kernels") && value) {
		o->kernels_dir = realpath(value, NULL);
		if (!o->kernels_dir)
			die("option kernels: %s: %s", value, strerror(errno));
	} else if (!strcmp(item, "kernelspecs") && value) {
		if (strcmp(value, "off") && *value != '/')
			die("option kernelspecs: %s: not off, nor absolute paths with `:` between", value);
		free((char *)o->kernelspecs);
		o->kernelspecs = xstrdup(value);
	} else if (!strcmp(item, "box") && value) {
		o->box = realpath(value, NULL);
		if (!o->box)
			die("option box: %s: %s", value, strerror(errno));
	} else if (!strcmp(item, "sandbox") && value) {
		int mode = sandbox_mode_named(value);
		if (mode < 0)
			die("option sandbox: full, weak or none");
		o->sandbox = mode;
	} else if (!strcmp(item, "bind") && value) {
		char *colon = strrchr(value, ':');
		if (*value != '/' || !colon || colon[1] != '/' || strstr(colon, "/..") || access_dir(value, colon))
			die("option bind: %s: not HOST:BOX, two absolute paths, the first of which exists", value);
		strings_addf(&o->binds, "%s", value);
	} else if (!strcmp(item, "allow_other")) {
		o->allow_other = true;
	} else if (is_mount_flag(item)) {
		if (!strstr(o->mount_flags, item))
			snprintf(o->mount_flags + strlen(o->mount_flags),
				 sizeof(o->mount_flags) - strlen(o->mount_flags), ",%s", item);
	} else if (!is_ignored(item)) {
		die("unknown option: %s (cellfs --help lists them)", item);
	}
}

static void set_options(struct options *o, const char *list)
{
	auto_free char *copy = xstrdup(list);
	char *rest = copy, *item;

	while ((item = strsep(&rest, ",")))
		if (*item)
			set_option(o, item);
}

static char *default_state_dir(void)
{
	const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

	if (xdg && *xdg == '/')
		return xasprintf("%s/cellfs", xdg);
	if (geteuid() == 0)
		return xstrdup("/var/lib/cellfs");
	if (!home || *home != '/')
		die("no STATE_DIR given, and HOME is not set");
	return xasprintf("%s/.local/state/cellfs", home);
}

static char *absolute(const char *path)
{
	char cwd[PATH_MAX];

	if (*path == '/')
		return xstrdup(path);
	if (!getcwd(cwd, sizeof(cwd)))
		die("the current directory: %s", strerror(errno));
	return xasprintf("%s/%s", cwd, path);
}

static void parse_args(struct options *o, int argc, char **argv)
{
	const char *names[2] = { NULL, NULL };
	int n = 0;

	*o = (struct options){ .queue = QUEUE_DEFAULT, .spares = SPARES_DEFAULT };
	config_init(&o->defaults, NULL);
	for (int i = 1; i < argc; i++) {
		const char *a = argv[i];
		if (!strcmp(a, "-h") || !strcmp(a, "--help")) {
			fputs(usage, stdout);
			exit(0);
		} else if (!strcmp(a, "-V") || !strcmp(a, "--version")) {
			puts("cellfs " CELLFS_VERSION);
			exit(0);
		} else if (!strcmp(a, "-f")) {
			o->foreground = true;
		} else if (!strncmp(a, "-o", 2)) {
			if (!a[2] && i + 1 == argc) {
				fprintf(stderr, "cellfs: -o needs options\n%s", usage);
				exit(2);
			}
			set_options(o, a[2] ? a + 2 : argv[++i]);
		} else if (a[0] == '-' && a[1]) {
			fprintf(stderr, "cellfs: unknown option: %s\n%s", a, usage);
			exit(2);
		} else if (n < 2) {
			names[n++] = a;
		} else {
			n = 3;
		}
	}
	if (n < 1 || n > 2) {
		fputs(usage, stderr);
		exit(2);
	}
	o->mountpoint = names[n - 1];
	bool none = n == 1 || !strcmp(names[0], "none") || !strcmp(names[0], "cellfs");
	o->state_dir = none ? default_state_dir() : absolute(names[0]);
}

/* The parts lie beside the program where it was built, and where `make install` puts them. */
static void find_parts(struct options *o)
{
	static const char *const boxes[] = { "box", "../libexec/cellfs/box" };
	static const char *const kernels[] = { "../kernels", "../../kernels", "../share/cellfs/kernels" };
	char exe[PATH_MAX], real[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	if (n < 0)
		die("/proc/self/exe: %s (is /proc mounted?)", strerror(errno));
	exe[n] = 0;
	*strrchr(exe, '/') = 0;
	for (size_t i = 0; !o->box && i < ARRAY_SIZE(boxes); i++) {
		auto_free char *p = xasprintf("%s/%s", exe, boxes[i]);
		if (realpath(p, real) && access(real, X_OK) == 0)
			o->box = xstrdup(real);
	}
	for (size_t i = 0; !o->kernels_dir && i < ARRAY_SIZE(kernels); i++) {
		auto_free char *p = xasprintf("%s/%s", exe, kernels[i]);
		auto_free char *one = xasprintf("%s/python/manifest.json", p);
		if (access(one, R_OK) == 0 && realpath(p, real))
			o->kernels_dir = xstrdup(real);
	}
	if (!o->box)
		die("box is not beside %s nor in ../libexec/cellfs: build it, or name it with -o box=PATH", exe);
	if (!o->kernels_dir)
		die("no kernels found near %s: name their directory with -o kernels=DIR", exe);
}

/* ---- the mountpoint ---- */

static bool is_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return !strncmp(path, dir, n) && (path[n] == '/' || !path[n] || n == 1);
}

/* Resolves what exists of PATH; the rest follows as it is. */
static char *resolve(const char *path)
{
	char real[PATH_MAX];
	auto_free char *head = xstrdup(path);
	auto_buf struct buf tail = { 0 };

	while (!realpath(head, real)) {
		char *slash = strrchr(head, '/');
		if (!slash || slash == head)
			return xstrdup(path);
		auto_free char *old = xstrdup(tail.s ? tail.s : "");
		buf_reset(&tail);
		buf_printf(&tail, "%s%s", slash, old);
		*slash = 0;
	}
	return xasprintf("%s%s", strcmp(real, "/") ? real : "", tail.s ? tail.s : "");
}

/* A daemon that died leaves a mount that answers ENOTCONN. */
static void mend_stale_mount(const char *path)
{
	struct stat st;

	if (stat(path, &st) == 0 || (errno != ENOTCONN && errno != ECONNABORTED))
		return;
	if (umount2(path, MNT_DETACH) == 0)
		return;
	char *argv[] = { "fusermount3", "-uz", (char *)path, NULL };
	auto_buf struct buf out = { 0 };
	int status;
	if (spawn_ask(argv, 5000, &out, &status))
		die("%s: a stale mount, and there is no fusermount3 to remove it: apt-get install fuse3", path);
}

static void check_mountpoint(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		die("%s: %s: make the mountpoint first: mkdir %s", path, strerror(errno), path);
	if (!S_ISDIR(st.st_mode))
		die("%s: not a directory: a mountpoint is an empty directory", path);
	DIR *d = opendir(path);
	if (!d)
		die("%s: %s", path, strerror(errno));
	for (struct dirent *e; (e = readdir(d));)
		if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
			die("%s: not empty (it has %s): mount on an empty directory, or unmount what is "
			    "there: fusermount3 -u %s", path, e->d_name, path);
	closedir(d);
}

static void check_fuse(void)
{
	char *argv[] = { "fusermount3", "-V", NULL };
	auto_buf struct buf out = { 0 };
	int status = -1;

	if (access("/dev/fuse", F_OK) < 0)
		die("/dev/fuse is missing: modprobe fuse; in a container: --device /dev/fuse");
	if (geteuid() == 0)
		return;
	if (access("/dev/fuse", R_OK | W_OK) < 0)
		die("/dev/fuse: %s: it must be readable and writable for all (chmod 666 /dev/fuse as root)",
		    strerror(errno));
	if (spawn_ask(argv, 5000, &out, &status) || status)
		die("fusermount3 is missing, which a user other than root needs: apt-get install fuse3");
}

static void check_paths(struct options *o)
{
	auto_free const char *given_state = o->state_dir;
	auto_free char *given_mount = absolute(o->mountpoint);
	char *state = resolve(given_state);

	mend_stale_mount(given_mount);
	check_mountpoint(given_mount);
	char *mount = resolve(given_mount);
	o->mountpoint = mount;
	o->state_dir = state;
	if (is_below(state, mount) || is_below(mount, state))
		die("STATE_DIR %s and MOUNTPOINT %s may not contain one another: choose another STATE_DIR",
		    state, mount);
}

/* ---- telling others ---- */

static void notify(const char *text)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	size_t n = path ? strlen(path) : 0;

	if (n < 2 || n >= sizeof(a.sun_path))
		return;
	auto_close int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	memcpy(a.sun_path, path, n);
	if (a.sun_path[0] == '@')
		a.sun_path[0] = 0;
	if (fd >= 0)
		sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&a,
		       offsetof(struct sockaddr_un, sun_path) + n);
}

/* Forks; the parent waits until the mount answers or the child has failed, and exits with its status. */
static int go_to_background(void)
{
	int p[2], status;
	char c;

	if (pipe2(p, O_CLOEXEC) < 0)
		die("pipe: %s", strerror(errno));
	pid_t pid = fork();
	if (pid < 0)
		die("fork: %s", strerror(errno));
	if (pid == 0) {
		close(p[0]);
		setsid();
		return p[1];
	}
	close(p[1]);
	if (read(p[0], &c, 1) == 1)
		_exit(0);
	waitpid(pid, &status, 0);
	_exit(WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : 1);
}

static void tell_ready(struct daemon *d)
{
	notify("READY=1\n");
	if (d->status_pipe < 0)
		return;
	if (write(d->status_pipe, "k", 1) != 1) { /* nobody waits any more */
	}
	drop_fd(&d->status_pipe);
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int i = 0; i < 3; i++)
		dup2(null, i);
	close(null);
}

/* ---- life ---- */

static void on_patience(void *arg)
{
	struct daemon *d = arg;

	loop_quit(d->world.loop);
}

static void stop(struct daemon *d)
{
	if (d->stopping)
		return;
	d->stopping = true;
	notify("STOPPING=1\n");
	log_line(&d->world.log, "stopping");
	/* First: what the runs become now is not what their readers waited for. */
	if (d->fs)
		fs_answer_all(d->fs);
	world_stop(&d->world);
	timer_set(d->world.loop, &d->patience, STOP_US, on_patience, d);
}

static void on_signal(void *arg, uint32_t events)
{
	struct daemon *d = arg;
	struct signalfd_siginfo si;

	(void)events;
	if (read(d->signals.fd, &si, sizeof(si)) == sizeof(si))
		stop(d);
}

static void on_ready(void *arg)
{
	((struct daemon *)arg)->ready = true;
}

static void on_ended(void *arg)
{
	stop(arg);
}

static void after_batch(void *arg)
{
	struct daemon *d = arg;

	if (d->ready && !d->told_ready) {
		d->told_ready = true;
		log_line(&d->world.log, "mounted at %s, state in %s", d->world.opt.mountpoint,
			 d->world.opt.state_dir);
		tell_ready(d);
		world_mounted(&d->world);
	}
	if (d->stopping && world_quiet(&d->world))
		loop_quit(d->world.loop);
}

static void watch_signals(struct daemon *d)
{
	const struct sigaction ignore = { .sa_handler = SIG_IGN };
	sigset_t set;

	sigaction(SIGPIPE, &ignore, NULL);
	sigaction(SIGXFSZ, &ignore, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0 || watch_add(d->world.loop, &d->signals, fd, EPOLLIN, on_signal, d) < 0)
		die("signalfd: %s", strerror(errno));
}

/* The ranges of the limits. STATE_DIR is not known yet, and a disk may grow. */
static void find_host(void)
{
	static const char *const knobs[] = { "/proc/sys/kernel/threads-max", "/proc/sys/kernel/pid_max" };
	int64_t processes = 0;

	for (size_t i = 0; i < ARRAY_SIZE(knobs); i++) {
		auto_buf struct buf b = { 0 };
		if (!read_file(AT_FDCWD, knobs[i], 64, &b) && b.n)
			processes = processes ? MIN(processes, strtoll(b.s, NULL, 10)) : strtoll(b.s, NULL, 10);
	}
	config_host((int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE), 1LL << 50, sysconf(_SC_NPROCESSORS_ONLN),
		    processes ? processes : 1 << 15);
}

/* As many files as we may: kernels and mirrored files take them. */
static void raise_limits(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

static void free_options(struct options *o)
{
	free((char *)o->state_dir);
	free((char *)o->mountpoint);
	free((char *)o->kernels_dir);
	free((char *)o->kernelspecs);
	free((char *)o->box);
	config_clear(&o->defaults);
	strings_clear(&o->binds);
}

int main(int argc, char **argv)
{
	struct daemon d = { .status_pipe = -1 };
	struct options opt;
	auto_buf struct buf why = { 0 };

	find_host();
	parse_args(&opt, argc, argv);
	if (opt.allow_other && opt.sandbox != SANDBOX_FULL)
		die("allow_other with sandbox=weak or none: everybody's cells would have the rights of who mounts");
	find_parts(&opt);
	check_fuse();
	check_paths(&opt);
	umask(0);
	if (!opt.foreground)
		d.status_pipe = go_to_background();
	raise_limits();
	d.world.loop = loop_new();
	d.world.log.fd = -1;
	d.world.log.to_stderr = true;
	watch_signals(&d);
	if (world_open(&d.world, &opt, &why) < 0)
		die("%s", why.s);
	d.world.log.to_stderr = opt.foreground;
	d.fs = fs_mount(&d.world, opt.mountpoint, on_ready, on_ended, &d, &why);
	if (!d.fs)
		die("%s", why.s);
	if (chdir("/") < 0)
		log_line(&d.world.log, "chdir /: %s", strerror(errno));
	loop_run(d.world.loop, after_batch, &d);

	fs_unmount(d.fs);
	timer_stop(d.world.loop, &d.patience);
	world_close(&d.world);
	int fd = d.signals.fd;
	watch_del(d.world.loop, &d.signals);
	close(fd);
	loop_free(d.world.loop);
	free_options(&opt);
	return 0;
}
