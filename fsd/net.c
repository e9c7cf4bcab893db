#include "net.h"

#include "spawn.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* The box's side is the same with both programs. */
#define BOX_ADDR "10.0.2.100"
#define GATEWAY "10.0.2.2"
#define RESOLVER "10.0.2.3"

enum {
	START_US = 10 * 1000000, /* until then the interface is up, or there will be none */
	LOG_MAX = 2000,
};

struct net_link {
	struct list link;
	struct loop *loop;
	struct watch w_log, w_pid;
	struct timer limit;
	struct buf log; /* what the program said until it was up */
	pid_t pid;      /* the supervisor's */
	int pidfd, lifeline, logfd;
	bool up, over;  /* FN has been called with NULL; with a sentence */
	char *name;
	void (*fn)(void *arg, const char *why); /* NULL: stopped */
	void *arg;
};

/* --- what there is --- */

static char *find_in(const char *path, const char *name)
{
	auto_free char *dirs = xstrdup(path);
	char *save;

	for (char *d = strtok_r(dirs, ":", &save); d; d = strtok_r(NULL, ":", &save)) {
		struct stat st;
		char *p = xasprintf("%s/%s", d, name);
		if (*p == '/' && stat(p, &st) == 0 && S_ISREG(st.st_mode) && access(p, X_OK) == 0)
			return p;
		free(p);
	}
	return NULL;
}

static char *find(const char *name)
{
	const char *path = getenv("PATH");
	char *p = path ? find_in(path, name) : NULL;

	return p ? p : find_in("/usr/bin:/bin:/usr/sbin:/usr/local/bin", name);
}

/* slirp4netns is for an ordinary user only. Where it can sandbox itself it needs a root that the boxes'
 * user namespaces do not have, and the root that it stays otherwise would face the box's packets with the
 * host's /run and /etc in reach; pasta first leaves every file behind. */
void net_find(struct net *n)
{
	list_init(&n->links);
	n->kind = NET_PASTA;
	n->program = find("pasta");
	if (!n->program && geteuid() != 0) {
		n->kind = NET_SLIRP;
		n->program = find("slirp4netns");
	}
	if (!n->program)
		n->kind = NET_NONE;
}

const char *net_name(const struct net *n)
{
	static const char *const names[] = { NULL, "pasta", "slirp4netns" };

	return names[n->kind];
}

int net_check(const struct net *n, struct buf *why)
{
	if (n->kind == NET_NONE) {
		buf_printf(why, "network = on needs the program pasta%s: install the package passt",
			   geteuid() ? " or slirp4netns" : "");
		return -ENOENT;
	}
	auto_close int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		return 0;
	int err = -errno;
	if (err == -EACCES || err == -EPERM)
		buf_printf(why, "network = on needs /dev/net/tun, which this user may not open: as root, chmod 666 "
				"/dev/net/tun");
	else
		buf_printf(why, "network = on needs /dev/net/tun: %s; as root, modprobe tun, or start the container "
				"with --device /dev/net/tun", strerror(-err));
	return err;
}

/* --- one link --- */

static void link_free(struct net_link *k)
{
	watch_del(k->loop, &k->w_log);
	watch_del(k->loop, &k->w_pid);
	timer_stop(k->loop, &k->limit);
	drop_fd(&k->pidfd);
	drop_fd(&k->lifeline);
	drop_fd(&k->logfd);
	list_del(&k->link);
	buf_free(&k->log);
	free(k->name);
	free(k);
}

static bool is_noise(const char *line)
{
	static const char *const heads[] = { "", "started ", "exited ", "WARNING:", "Failed to send ",
					     "sent tapfd", "received tapfd" };

	if (!*line)
		return true;
	for (size_t i = 1; i < ARRAY_SIZE(heads); i++)
		if (!strncmp(line, heads[i], strlen(heads[i])))
			return true;
	return false;
}

/* There is no network, or none any more: WHY, or else the program's own words. */
static void fail(struct net_link *k, const char *why)
{
	auto_buf struct buf b = { 0 };

	timer_stop(k->loop, &k->limit);
	drop_fd(&k->lifeline);
	if (k->over || !k->fn)
		return;
	k->over = true;
	buf_printf(&b, "%s: ", k->name);
	if (why) {
		buf_str(&b, why);
	} else if (k->up) {
		buf_str(&b, "it has ended; the box has no network any more");
	} else {
		size_t start = b.n;
		for (char *save, *s = strtok_r(k->log.s, "\n", &save); s; s = strtok_r(NULL, "\n", &save)) {
			if (is_noise(s))
				continue;
			if (b.n > start)
				buf_str(&b, "; ");
			buf_printable(&b, s);
		}
		if (b.n == start)
			buf_str(&b, "it ended without a word");
	}
	k->fn(k->arg, b.s);
}

/* Both programs write a number when the interface is up: pasta its pid as a line, slirp4netns a 1. Nothing
 * else that they or box write starts with a digit. */
static bool says_up(const struct buf *log)
{
	for (size_t i = 0; i < log->n; i++)
		if (log->s[i] >= '0' && log->s[i] <= '9' && (i == 0 || log->s[i - 1] == '\n'))
			return true;
	return false;
}

/* What comes after it is up is read as well, and dropped. False: there is nothing to read. */
static bool take_log(struct net_link *k)
{
	char text[1024];
	ssize_t n = read(k->logfd, text, sizeof(text));

	if (n == 0)
		watch_del(k->loop, &k->w_log);
	if (n <= 0)
		return false;
	if (k->up || k->over || k->log.n + n > LOG_MAX)
		return true;
	buf_add(&k->log, text, n);
	if (!says_up(&k->log))
		return true;
	k->up = true;
	timer_stop(k->loop, &k->limit);
	if (k->fn)
		k->fn(k->arg, NULL);
	return true;
}

static void on_log(void *arg, uint32_t mask)
{
	take_log(arg);
}

/* Box, and so all of it, has ended. Only from here on may net_stop free K, so this asks for nothing of it
 * after the last call of FN. */
static void on_gone(void *arg, uint32_t mask)
{
	struct net_link *k = arg;

	while (take_log(k))
		;
	waitpid(k->pid, NULL, 0);
	k->pid = 0;
	watch_del(k->loop, &k->w_pid);
	if (k->fn)
		fail(k, NULL);
	else
		link_free(k);
}

static void on_limit(void *arg)
{
	fail(arg, "the interface was not up in time");
}

void net_stop(struct net_link *k)
{
	if (!k)
		return;
	k->fn = NULL;
	fail(k, NULL);
	if (!k->pid)
		link_free(k);
}

void net_free(struct net *n)
{
	list_for_safe(it, tmp, &n->links) {
		struct net_link *k = container_of(it, struct net_link, link);
		drop_fd(&k->lifeline);
		if (k->pid)
			waitpid(k->pid, NULL, 0);
		link_free(k);
	}
	free(n->program);
	n->program = NULL;
	n->kind = NET_NONE;
}

/* --- its program --- */

/* Descriptors of the program: newer pastas close all others before they look at a path below /proc/self/fd. */
enum { FD_USER, FD_NET, FD_LOG, FD_LIFELINE = 7, FD_REPORT, N_FDS };
#define FD_PATH(n) "/proc/self/fd/" n

static int run(struct net_link *k, const struct net *n, const char *box, const int *fds)
{
	/* --runas: as root pasta would become nobody, who may not enter a namespace that root made. */
	static const char *const pasta[] = {
		"-q", "-f", "--config-net", "--userns", FD_PATH("0"), "--netns", FD_PATH("1"),
		"-P", FD_PATH("2"), "-I", "eth0", "-a", BOX_ADDR, "-n", "24", "-g", GATEWAY,
		"--dns-forward", RESOLVER, "--no-map-gw", "-t", "none", "-u", "none", "-T", "none",
		"-U", "none", NULL,
	};
	static const char *const slirp[] = {
		"-c", "-r", "3", "--mtu=65520", "--disable-host-loopback", "--enable-seccomp",
		"--userns-path=" FD_PATH("0"), "--netns-type=path", FD_PATH("1"), "eth0", NULL,
	};
	const char *argv[48] = { "box", "--lifeline=7", "--report=8", "--", n->program };
	const char *const env[] = { "PATH=/usr/bin:/bin", NULL };
	int argc = 5;

	if (n->kind == NET_PASTA && geteuid() == 0) {
		argv[argc++] = "--runas";
		argv[argc++] = "0:0";
	}
	for (const char *const *p = n->kind == NET_PASTA ? pasta : slirp; *p; p++)
		argv[argc++] = *p;
	return spawn(box, (char *const *)argv, (char *const *)env, fds, N_FDS, &k->pid, &k->pidfd);
}

static int no_pipe(struct buf *why)
{
	int err = -errno;

	buf_printf(why, "cannot make a pipe: %s", strerror(-err));
	return err;
}

int net_start(struct net *n, struct loop *l, const char *box, int user_ns, int net_ns,
	      void (*fn)(void *arg, const char *why), void *arg, struct net_link **out,
	      struct buf *why)
{
	int err = net_check(n, why), life[2], log[2];

	if (err)
		return err;
	if (pipe2(life, O_CLOEXEC) < 0)
		return no_pipe(why);
	auto_close int life_theirs = life[0], life_ours = life[1];
	if (pipe2(log, O_CLOEXEC | O_NONBLOCK) < 0)
		return no_pipe(why);
	auto_close int log_ours = log[0], log_theirs = log[1];

	struct net_link *k = xcalloc(1, sizeof(*k));
	*k = (struct net_link){ .loop = l, .pidfd = -1, .lifeline = -1, .logfd = -1, .fn = fn, .arg = arg,
				.w_log.fd = -1, .w_pid.fd = -1, .name = xstrdup(net_name(n)) };
	list_init(&k->link);
	/* 3 is where slirp4netns writes its 1; 4 to 6 box wants to be open */
	int fds[N_FDS] = { user_ns, net_ns, log_theirs, log_theirs, -1, -1, -1, life_theirs, log_theirs };
	err = run(k, n, box, fds);
	if (err) {
		buf_printf(why, "cannot run %s: %s", box, strerror(-err));
		link_free(k);
		return err;
	}
	list_append(&n->links, &k->link);
	k->lifeline = take(&life_ours);
	k->logfd = take(&log_ours);
	watch_add(l, &k->w_log, k->logfd, EPOLLIN, on_log, k);
	watch_add(l, &k->w_pid, k->pidfd, EPOLLIN, on_gone, k);
	timer_set(l, &k->limit, START_US, on_limit, k);
	*out = k;
	return 0;
}

/* --- names --- */

/* Loopback is the host's own resolver, behind RESOLVER; an address with a scope means nothing in the box. */
static bool is_reachable(const char *addr)
{
	struct in6_addr a6;
	struct in_addr a4;

	if (inet_pton(AF_INET, addr, &a4) == 1)
		return ntohl(a4.s_addr) >> 24 != 127 && a4.s_addr;
	return inet_pton(AF_INET6, addr, &a6) == 1 && !IN6_IS_ADDR_LOOPBACK(&a6) &&
	       !IN6_IS_ADDR_UNSPECIFIED(&a6) && !IN6_IS_ADDR_V4MAPPED(&a6);
}

/* The program's forwarder first, which asks the first of the host's, then the next ones themselves. libc
 * uses three. */
void net_resolv(const char *path, struct buf *out)
{
	auto_buf struct buf host = { 0 };
	int n = 0;

	buf_str(out, "nameserver " RESOLVER "\n");
	if (read_file(AT_FDCWD, path, 65536, &host))
		return;
	for (char *save, *s = strtok_r(host.s, "\n", &save); s && n < 2; s = strtok_r(NULL, "\n", &save)) {
		char addr[64];
		if (sscanf(s, "nameserver %63s", addr) == 1 && is_reachable(addr)) {
			buf_printf(out, "nameserver %s\n", addr);
			n++;
		}
	}
}
