/* Makes a box, and is its pid 1.
 *
 *   box up [--ids=UID:GID] [--net=host] [--tmp=BYTES] [--shm=BYTES] [--text=FILE=TEXT]... [--ro=HOST:BOX]... [--rw=HOST:BOX]... [--prefix=HOST:BOX]...
 *          [--dir=BOX]...
 *
 * Descriptor 7 is a socket to the daemon, 16 and 17 are the seccomp programs, 18 to 22 its cgroups. Messages:
 *
 *   pid PID             of the box's pid 1, outside: it is a child of the daemon (clone3 with CLONE_PARENT)
 *   up                  with BOX_UP_FDS descriptors
 *   failed STEP ERRNO TEXT
 *   swept               the answer to a message "sweep": every process that lost its supervisor is gone
 *
 * When the socket ends, so does pid 1, and with it every process of the box.
 *
 * A --dir is an empty directory, for `box bind` (bind.c). A --prefix is read-only too; its HOST was named by somebody whose rights are not ours, so no symbolic link may be in
 * it; what cannot be bound is missing in the box. With --ids, which needs root, UID:GID of the host are those inside; else the caller's are. A HOST that is
 * missing fails. */
#include "box.h"

#include "filter.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <limits.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/rtnetlink.h>
#include <linux/sched.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	SOCKET = BOX_OWN,
	MOUNTS_MAX = 160,
	TEXTS_MAX = 8,
	DIRS_MAX = 8,
};

struct plan {
	uid_t uid;
	gid_t gid;
	bool given; /* ids other than ours: we are root */
	bool host_net;
	const char *tmp, *shm; /* bytes */
	char *args;            /* the command line, as long as it is */
	size_t args_len;
	const char *texts[TEXTS_MAX];
	int ntexts;
	struct box_bind binds[MOUNTS_MAX];
	const char *dirs[DIRS_MAX]; /* empty ones, that something is bound to later */
	int ndirs;
	int nbinds;
};

/* Of the host, where it has them. Nothing below /etc that could name a person, a host or a secret. */
static const char *const system_trees[] = {
	"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
};
/* Without it each first plot reads every font. */
static const char font_cache[] = "/var/cache/fontconfig";
static const char *const system_etc[] = {
	"alternatives", "ca-certificates", "ca-certificates.conf", "ssl/certs", "ssl/openssl.cnf", "fonts",
	"ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "timezone", "mime.types", "magic",
	"magic.mime", "protocols", "services", "locale.alias", "terminfo", "papersize", "matplotlibrc",
	"perl", "R", "octave.conf", "inputrc", "java-*", "python3*", "ImageMagick-*", "julia",
};

static const struct {
	const char *path, *text;
} own_files[] = {
	{ "etc/passwd", "user:x:1000:1000:user:/home/user:/bin/bash\n"
			"nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n" },
	{ "etc/group", "user:x:1000:\nnogroup:x:65534:\n" },
	{ "etc/hosts", "127.0.0.1 localhost sandbox\n::1 localhost sandbox\n" },
	{ "etc/hostname", "sandbox\n" },
	{ "etc/host.conf", "multi on\n" },
	{ "etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n" },
};

static const char *const devices[] = { "null", "zero", "full", "random", "urandom" };

static const struct {
	const char *to, *name;
} dev_links[] = {
	{ "/proc/self/fd", "dev/fd" },	    { "/proc/self/fd/0", "dev/stdin" }, { "/proc/self/fd/1", "dev/stdout" },
	{ "/proc/self/fd/2", "dev/stderr" }, { "pts/ptmx", "dev/ptmx" },
};

/* In the box's user namespace: a cell cannot use up what the host's user has of these. */
static const struct {
	const char *name, *text;
} user_max[] = {
	{ "max_user_namespaces", "0" }, { "max_inotify_instances", "32" }, { "max_inotify_watches", "16384" },
	{ "max_fanotify_groups", "0" }, { "max_fanotify_marks", "0" },
};

/* The step that failed: a word that the daemon knows, see fsd/sandbox.c. */
static int failed(const char *step)
{
	box_say(SOCKET, NULL, 0, "failed %s %d %s", step, errno, strerror(errno));
	return -1;
}

/* ---- the plan ---- */

static bool add_bind(struct plan *p, const char *from, const char *to, uint64_t attrs, bool needed)
{
	if (p->nbinds == MOUNTS_MAX || *from != '/' || *to != '/')
		return false;
	p->binds[p->nbinds++] = (struct box_bind){ from, to + 1, attrs, needed, false, -1, false };
	return true;
}

static bool parse_bind(struct plan *p, char *text, uint64_t attrs)
{
	if (p->nbinds == MOUNTS_MAX || !box_parse_bind(&p->binds[p->nbinds], text, attrs))
		return false;
	p->nbinds++;
	return true;
}

static bool parse(struct plan *p, int argc, char **argv)
{
	static const struct option options[] = {
		{ "ids", required_argument, NULL, 'i' },  { "net", required_argument, NULL, 'n' },
		{ "tmp", required_argument, NULL, 't' },  { "shm", required_argument, NULL, 's' },
		{ "text", required_argument, NULL, 'x' }, { "ro", required_argument, NULL, 'r' },
		{ "rw", required_argument, NULL, 'w' },	  { "prefix", required_argument, NULL, 'p' },
		{ "dir", required_argument, NULL, 'd' },  { 0 },
	};
	const uint64_t safe = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
	bool ok = true;
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		if (c == 'i')
			ok &= p->given = sscanf(optarg, "%u:%u", &p->uid, &p->gid) == 2 && p->uid && p->gid;
		else if (c == 'n')
			ok &= p->host_net = !strcmp(optarg, "host");
		else if (c == 't')
			p->tmp = optarg;
		else if (c == 's')
			p->shm = optarg;
		else if (c == 'x' && p->ntexts < TEXTS_MAX)
			p->texts[p->ntexts++] = optarg;
		else if (c == 'd' && *optarg == '/' && p->ndirs < DIRS_MAX)
			p->dirs[p->ndirs++] = optarg + 1;
		else if (c == 'r')
			ok &= parse_bind(p, optarg, safe | MOUNT_ATTR_RDONLY);
		else if (c == 'w')
			ok &= parse_bind(p, optarg, safe);
		else if (c == 'p' && (ok &= parse_bind(p, optarg, safe | MOUNT_ATTR_RDONLY)))
			p->binds[p->nbinds - 1].straight = true;
		else
			ok = false;
	}
	return ok && optind == argc;
}

/* Opens what comes from the host: with its root directory, as the caller. */
static int open_binds(struct plan *p)
{
	for (int i = 0; i < p->nbinds; i++) {
		struct box_bind *b = &p->binds[i];
		if (box_open_bind(b) < 0) {
			bool absent = errno == ENOENT || errno == EACCES || (b->straight && (errno == ELOOP || errno == ENOTDIR));
			if ((b->needed && !b->straight) || !absent) {
				box_say(SOCKET, NULL, 0, "failed bind %d %.200s: %s", errno, b->from,
					strerror(errno));
				return -1;
			}
			close(b->tree);
			b->tree = -1;
		}
	}
	return 0;
}

static bool matches(const char *pattern, const char *name)
{
	size_t n = strlen(pattern);

	return pattern[n - 1] == '*' ? !strncmp(pattern, name, n - 1) : !strcmp(pattern, name);
}

static void plan_etc(struct plan *p, const char *pattern, uint64_t attrs)
{
	if (!strchr(pattern, '*')) {
		char *path;
		if (asprintf(&path, "/etc/%s", pattern) > 0)
			add_bind(p, path, path, attrs, false);
		return;
	}
	DIR *d = opendir("/etc");
	for (struct dirent *e; d && (e = readdir(d));) {
		char *path;
		if (matches(pattern, e->d_name) && asprintf(&path, "/etc/%s", e->d_name) > 0)
			add_bind(p, path, path, attrs, false);
	}
	if (d)
		closedir(d);
}

/* What every box has. The trees that are symbolic links are made anew as such (make_root). */
static void plan_system(struct plan *p)
{
	const uint64_t attrs = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_RDONLY;
	struct stat st;

	for (size_t i = 0; i < sizeof(system_trees) / sizeof(system_trees[0]); i++)
		if (!lstat(system_trees[i], &st) && S_ISDIR(st.st_mode))
			add_bind(p, system_trees[i], system_trees[i], attrs, true);
	add_bind(p, font_cache, font_cache, attrs, false);
	for (size_t i = 0; i < sizeof(system_etc) / sizeof(system_etc[0]); i++)
		plan_etc(p, system_etc[i], attrs);
	for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++) {
		char *path;
		if (asprintf(&path, "/dev/%s", devices[i]) > 0)
			add_bind(p, path, path, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, true);
	}
}

/* ---- building, in the new root, as the box's own user ---- */

static int mount_tmpfs(const char *to, const char *mode, const char *size)
{
	char options[128];
	uint64_t bytes = strtoull(size, NULL, 10);

	mkdir(to, 0755);
	/* An inode for each 4 KiB, which is what the smallest file takes. */
	snprintf(options, sizeof(options), "mode=%s,size=%llu,nr_inodes=%llu", mode, (unsigned long long)bytes,
		 (unsigned long long)(bytes / 4096 + 64));
	return mount("tmpfs", to, "tmpfs", MS_NOSUID | MS_NODEV, options);
}

static int make_links(void)
{
	struct stat st;
	char to[256];

	for (size_t i = 0; i < sizeof(system_trees) / sizeof(system_trees[0]); i++) {
		ssize_t n = -1;
		char host[300];
		snprintf(host, sizeof(host), "%s", system_trees[i]);
		if (!lstat(host, &st) && S_ISLNK(st.st_mode))
			n = readlink(host, to, sizeof(to) - 1);
		if (n <= 0)
			continue;
		to[n] = 0;
		if (symlink(to, host + 1))
			return -1;
	}
	for (size_t i = 0; i < sizeof(dev_links) / sizeof(dev_links[0]); i++)
		if (symlink(dev_links[i].to, dev_links[i].name))
			return -1;
	return 0;
}

static int make_texts(const struct plan *p)
{
	for (size_t i = 0; i < sizeof(own_files) / sizeof(own_files[0]); i++)
		if (box_make_file(own_files[i].path, own_files[i].text))
			return -1;
	for (int i = 0; i < p->ntexts; i++) {
		char path[PATH_MAX];
		const char *text = strchr(p->texts[i], '=');
		if (!text || *p->texts[i] != '/')
			continue;
		snprintf(path, sizeof(path), "%.*s", (int)(text - p->texts[i]) - 1, p->texts[i] + 1);
		if (box_make_file(path, text + 1))
			return -1;
	}
	return 0;
}

static int seal(const char *path)
{
	struct mount_attr a = { .attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV };

	return syscall(SYS_mount_setattr, AT_FDCWD, path, 0, &a, sizeof(a));
}

/* The directory that the new root is put upon is covered only for the moment until pivot_root. */
static int make_root(const struct plan *p)
{
	static const char *const dirs[] = { "proc", "dev", "dev/pts", "tmp", "home", "var", "var/tmp", "run" };

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return failed("private");
	if (mount("tmpfs", "/usr", "tmpfs", MS_NOSUID, "mode=755,size=4m,nr_inodes=4096"))
		return failed("tmpfs");
	if (chdir("/usr"))
		return failed("tmpfs");
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
		mkdir(dirs[i], 0755);
	/* Before the binds: an interpreter may lie below the host's /tmp. */
	if (mount_tmpfs("tmp", "1777", p->tmp))
		return failed("tmpfs");
	for (int i = 0; i < p->nbinds; i++) {
		/* An interpreter's may be below another's, which is read-only: then that one has no such file. */
		if (box_place_bind(&p->binds[i]) && !p->binds[i].straight) {
			box_say(SOCKET, NULL, 0, "failed bind %d /%.200s: %s", errno, p->binds[i].to,
				strerror(errno));
			return -1;
		}
	}
	for (int i = 0; i < p->ndirs; i++) {
		box_make_parents(p->dirs[i]);
		if (mkdir(p->dirs[i], 0755) && errno != EEXIST)
			return failed("root");
	}
	if (make_links() || make_texts(p))
		return failed("root");
	if (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL))
		return failed("proc");
	if (mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620,max=64"))
		return failed("devpts");
	if (mount_tmpfs("dev/shm", "1777", p->shm))
		return failed("tmpfs");
	if (symlink("../tmp", "var/tmp") && errno == EEXIST && (rmdir("var/tmp") || symlink("../tmp", "var/tmp")))
		return failed("root");
	if (syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/"))
		return failed("pivot_root");
	if (seal("/"))
		return failed("seal");
	return 0;
}

static int loopback_up(void)
{
	struct ifreq ifr = { .ifr_name = "lo" };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	int r = ioctl(fd, SIOCGIFFLAGS, &ifr);
	if (!r) {
		ifr.ifr_flags |= IFF_UP;
		r = ioctl(fd, SIOCSIFFLAGS, &ifr);
	}
	close(fd);
	return r;
}

/* Clouds hand out their machine's credentials at these addresses to who asks. Before a box gets a network its way
 * there is closed; it cannot change its routes. */
static int close_metadata(void)
{
	static const struct {
		int family;
		unsigned char length, address[16];
	} hosts[] = {
		{ AF_INET, 4, { 169, 254, 169, 254 } },
		{ AF_INET6, 16, { 0xfd, 0, 0x0e, 0xc2, [14] = 2, [15] = 0x54 } },
	};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		struct {
			struct nlmsghdr head;
			struct rtmsg route;
			struct rtattr to;
			unsigned char address[16];
		} ask = {
			.head = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct rtmsg)) + RTA_LENGTH(hosts[i].length),
				  .nlmsg_type = RTM_NEWROUTE,
				  .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL },
			.route = { .rtm_family = hosts[i].family, .rtm_dst_len = hosts[i].length * 8,
				   .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_STATIC,
				   .rtm_type = RTN_UNREACHABLE },
			.to = { RTA_LENGTH(hosts[i].length), RTA_DST },
		};
		struct {
			struct nlmsghdr head;
			struct nlmsgerr err;
			char rest[256];
		} answer;
		memcpy(ask.address, hosts[i].address, hosts[i].length);
		if (send(fd, &ask, ask.head.nlmsg_len, 0) < 0 ||
		    recv(fd, &answer, sizeof(answer), 0) < (ssize_t)sizeof(answer.head) + (ssize_t)sizeof(answer.err)) {
			close(fd);
			return -1;
		}
		/* A host without IPv6 has no such address either. */
		if (answer.err.error && hosts[i].family == AF_INET) {
			errno = -answer.err.error;
			close(fd);
			return -1;
		}
	}
	return close(fd);
}

static int set_maxima(void)
{
	char path[64];

	for (size_t i = 0; i < sizeof(user_max) / sizeof(user_max[0]); i++) {
		snprintf(path, sizeof(path), "/proc/sys/user/%s", user_max[i].name);
		int err = box_write(path, user_max[i].text);
		if (err && err != -ENOENT) { /* this kernel may have no fanotify */
			errno = -err;
			return -1;
		}
	}
	return 0;
}

/* ---- pid 1 ---- */

static int open_up_fds(int fds[BOX_UP_FDS])
{
	char path[64];

	for (int i = 0; i < BOX_NS; i++) {
		snprintf(path, sizeof(path), "/proc/self/ns/%s", box_ns[i].name);
		fds[i] = open(path, O_RDONLY | O_CLOEXEC);
		if (fds[i] < 0)
			return failed("namespaces");
	}
	fds[BOX_UP_PROC] = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fds[BOX_UP_ROOT] = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	fds[BOX_UP_SHM] = open("/proc/sysvipc/shm", O_RDONLY | O_CLOEXEC);
	if (fds[BOX_UP_SHM] < 0)
		fds[BOX_UP_SHM] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (fds[BOX_UP_PROC] < 0 || fds[BOX_UP_ROOT] < 0 || fds[BOX_UP_SHM] < 0)
		return failed("namespaces");
	return 0;
}

/* Reaps, and ends the children of a supervisor that was killed when the daemon says so. All it needs. */
static void be_init(void)
{
	static struct box b;
	struct pollfd p = { .fd = SOCKET, .events = POLLIN };
	char text[64];
	sigset_t none;

	sigemptyset(&none);
	for (;;) {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		if (ppoll(&p, 1, NULL, &none) < 0)
			continue;
		ssize_t n = recv(SOCKET, text, sizeof(text), 0);
		if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
			_exit(0);
		if (n == 5 && !memcmp(text, "sweep", 5)) {
			box_end_all(&b);
			box_say(SOCKET, NULL, 0, "swept");
		}
	}
}

static void on_child(int sig)
{
	(void)sig; /* it only ends ppoll() */
}

/* The signals of pid 1: none ends it from inside; SIGCHLD, for which it needs a handler, wakes it from ppoll(). */
static void set_signals(void)
{
	const unsigned long dfl[8] = { 0 };
	sigset_t chld;

	for (int sig = 1; sig <= 64; sig++)
		syscall(SYS_rt_sigaction, sig, dfl, NULL, 8);
	sigaction(SIGCHLD, &(struct sigaction){ .sa_handler = on_child, .sa_flags = SA_NOCLDSTOP }, NULL);
	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_SETMASK, &chld, NULL);
}

static void become_init(struct plan *p, int go)
{
	static const struct box_limits limits = { .data = 64 << 20, .fsize = 0, .processes = -1 };
	int fds[BOX_UP_FDS];
	char c;

	/* The daemon may die before there is anyone who reads its socket; the maps are written behind this. */
	if (read(go, &c, 1) != 1)
		_exit(1);
	close(go);
	set_signals();
	if (unshare(CLONE_NEWCGROUP)) /* with CLONE_INTO_CGROUP its root would be the group that we came from */
		_exit((failed("cgroup"), 1));
	if (setsid() < 0 && errno != EPERM)
		_exit(1);
	if (!p->given && open_binds(p))
		_exit(1);
	if ((setgroups(0, NULL) && p->given) || setresgid(BOX_ID, BOX_ID, BOX_ID) ||
	    setresuid(BOX_ID, BOX_ID, BOX_ID))
		_exit((failed("ids"), 1));
	umask(022);
	if (make_root(p))
		_exit(1);
	if (!p->host_net && (loopback_up() || close_metadata()))
		_exit((failed("loopback"), 1));
	if (sethostname("sandbox", 7))
		_exit((failed("hostname"), 1));
	if (set_maxima())
		_exit((failed("maxima"), 1));
	if (open_up_fds(fds))
		_exit(1);
	prctl(PR_SET_DUMPABLE, 0); /* not before: then its namespaces could not be opened */
	if (box_set_limits(&limits) || box_drop_rights(true))
		_exit((failed("rights"), 1));
	if (box_filter())
		_exit((failed("seccomp"), 1));
	memset(p->args, 0, p->args_len); /* the box reads /proc/1/cmdline: no path of the host */
	/* Now, and not before, it is safe to have company. */
	errno = -box_say(SOCKET, fds, BOX_UP_FDS, "up");
	if (errno)
		_exit((failed("send"), 1));
	close_range(0, SOCKET - 1, 0);
	close_range(SOCKET + 1, ~0U, 0);
	box_limit(RLIMIT_NOFILE, 64);
	be_init();
}

/* ---- the process that makes it ---- */

static int write_maps(const struct plan *p, pid_t pid)
{
	char path[64], text[64];
	int err;

	snprintf(path, sizeof(path), "/proc/%d/uid_map", pid);
	snprintf(text, sizeof(text), "%d %u 1", BOX_ID, p->uid);
	if ((err = box_write(path, text)))
		return err;
	snprintf(path, sizeof(path), "/proc/%d/setgroups", pid);
	if (!p->given && (err = box_write(path, "deny")))
		return err;
	snprintf(path, sizeof(path), "/proc/%d/gid_map", pid);
	snprintf(text, sizeof(text), "%d %u 1", BOX_ID, p->gid);
	return box_write(path, text);
}

int box_up(int argc, char **argv)
{
	static struct plan plan = { .tmp = "268435456", .shm = "67108864" };
	struct clone_args args = { .flags = CLONE_PARENT };
	int go[2];

	plan.args = argv[0];
	plan.args_len = argv[argc - 1] + strlen(argv[argc - 1]) - argv[0];
	plan.uid = getuid();
	plan.gid = getgid();
	plan_system(&plan);
	if (!parse(&plan, argc, argv)) {
		errno = EINVAL;
		failed("options");
		return 2;
	}
	for (int i = 0; i < BOX_NS; i++)
		if (i != NS_CGROUP && (i != NS_NET || !plan.host_net))
			args.flags |= box_ns[i].flag;
	if (pipe2(go, O_CLOEXEC))
		return failed("pipe"), 1;
	/* Root opens them with rights that it has outside only, above a directory of another user's, say. */
	if (plan.given && open_binds(&plan))
		return 1;
	box_enter_cgroups(&args);
	pid_t pid = syscall(SYS_clone3, &args, sizeof(args));
	if (pid < 0)
		return failed("clone"), 1;
	if (pid == 0) {
		close(go[1]);
		become_init(&plan, go[0]);
	}
	box_say(SOCKET, NULL, 0, "pid %d", pid);
	errno = -write_maps(&plan, pid);
	if (errno)
		return failed("maps"), 1;
	return write(go[1], "g", 1) == 1 ? 0 : 1;
}
