/* A kernel without a process: what its driver says, and its supervisor, is written by a fuzzer into the pipes that
 * the real handlers read. One kernel is started again and again, as the daemon does it, and its context is kept
 * over many inputs: making one anew takes longer than all that an input does. */
#ifndef CELLFS_FUZZ_DRIVER_H
#define CELLFS_FUZZ_DRIVER_H

#include "land.h"

#include <sys/ioctl.h>
#include <sys/socket.h>

static struct fake_driver {
	struct context *c;
	struct kernel *k;
	int events, commands, acks, report; /* the other ends */
	int code, out;                      /* its directories */
	unsigned starts;
	void (*on_ev)(void *, uint32_t), (*on_gone)(void *, uint32_t), (*on_report)(void *, uint32_t);
} driver = { .events = -1, .commands = -1, .acks = -1, .report = -1 };

/* The numbers of processes are what a fuzzer says they are, so nobody is ever signalled here, least of all all. */
int kill(pid_t pid, int sig)
{
	if (pid == -1 || pid == 0)
		abort();
	errno = ESRCH;
	return -1;
}

/* The context's next run. */
static inline struct run *driver_queue(void)
{
	struct context *c = driver.c;
	struct cell *cell = cell_make(c, "a.t");
	struct run *r = run_new(c, cell, "a.t");

	must(run_queue(r, "code\n", 5) == 0);
	cell->newest = r->number;
	c->active = r;
	return r;
}

static inline int driver_dir(const char *sub)
{
	auto_free char *path = xasprintf(LAND_UUID "/%s/fake", sub);

	mkdirat(land.contexts_dir, path, 0700);
	int fd = openat(land.contexts_dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(fd >= 0);
	return fd;
}

static inline void driver_open(void)
{
	land_clear();
	driver.c = land_context();
	must(context_load(driver.c) == 0);
	driver.k = kernel_new(driver.c, "fake", lang_named(&land.langs, "fake"));
}

/* The handlers are static. They are taken from the watches of a kernel that was really started: its box is true(1). */
static inline void driver_find(void)
{
	struct kernel *k;

	driver_open();
	k = driver.k;
	kernel_run(k, driver_queue());
	must(k->w_ev.fn && k->w_pid.fn && k->w_report.fn);
	driver.on_ev = k->w_ev.fn;
	driver.on_gone = k->w_pid.fn;
	driver.on_report = k->w_report.fn;
	driver.on_gone(k, 0); /* waits for it */
	context_free(driver.c);
	land.sandbox.program = "/nowhere/box"; /* nothing starts from now on */
	driver.code = driver_dir("spool/code");
	driver.out = driver_dir("spool/out");
	driver_open();
}

static inline void driver_pipe(int *ours, int *theirs, bool they_write)
{
	int p[2];

	must(pipe2(p, O_CLOEXEC | O_NONBLOCK) == 0);
	*ours = p[they_write ? 0 : 1];
	*theirs = p[they_write ? 1 : 0];
}

/* As start() of kernel.c, but for the process. */
static inline void fake_start(void)
{
	struct kernel *k = driver.k;
	auto_free char *cwd = context_inside(driver.c, "workspace");
	int ev, report[2];

	must(k->state == K_STOPPED);
	k->exit_code = k->exit_signal = -1;
	k->pid = 0;
	k->messages = 0;
	k->ending = false;
	k->box = getpid(); /* nobody to wait for: 0 would be any child of libFuzzer's */
	for (int i = 0; i < 2; i++) {
		flow_free(&k->late[i]);
		flow_init(&k->late[i], driver.c, NULL, k->lang->name, i);
		k->late[i].limit = driver.c->conf.v[C_OUTPUT].v;
	}
	k->state = K_STARTING;
	k->generation++;
	land.kernels_running++;
	driver.starts++;
	buf_reset(&k->env);
	buf_str(&k->env, "{}");
	buf_reset(&k->cwd);
	buf_str(&k->cwd, cwd);
	k->code_dir = fcntl(driver.code, F_DUPFD_CLOEXEC, 0);
	k->spool = fcntl(driver.out, F_DUPFD_CLOEXEC, 0);
	driver_pipe(&ev, &driver.events, true);
	fcntl(driver.events, F_SETPIPE_SZ, 1 << 18);
	driver_pipe(&k->cmd, &driver.commands, false);
	driver_pipe(&k->ack, &driver.acks, false);
	must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, report) == 0);
	driver.report = report[1];
	must(watch_add(land.loop, &k->w_ev, ev, EPOLLIN, driver.on_ev, k) == 0);
	must(watch_add(land.loop, &k->w_report, report[0], EPOLLIN, driver.on_report, k) == 0);
}

/* Its cell runs, without a word from it. */
static inline void driver_busy(void)
{
	driver.k->state = K_BUSY;
	driver.k->count = driver.k->exec_id = 1;
	must(run_start(driver.k->run, driver.k, 1, driver.k->generation) == 0);
}

/* The process has ended, and whatever it said, its run has too. */
static inline void driver_stop(void)
{
	struct kernel *k = driver.k;

	drop_fd(&driver.events);
	if (k->w_ev.fn)
		driver.on_ev(k, EPOLLHUP);
	for (int i = 0; k->state != K_STOPPED; i++) {
		must(i < 3); /* it, the supervisor that it named */
		driver.on_gone(k, 0);
	}
	drop_fd(&driver.commands);
	drop_fd(&driver.acks);
	drop_fd(&driver.report);
	if (context_busy(driver.c) || land.kernels_running)
		abort();
}

/* The daemon reads what is in the pipe. */
static inline void driver_read(void)
{
	struct kernel *k = driver.k;
	int left;

	while (k->w_ev.fn && !ioctl(k->w_ev.fd, FIONREAD, &left) && left)
		driver.on_ev(k, EPOLLIN);
}

/* Says it as the driver does; what comes after the end of the kernel is lost. */
static inline void driver_say(const char *p, size_t n)
{
	while (n && driver.k->w_ev.fn) {
		ssize_t w = write(driver.events, p, n);
		must(w > 0);
		driver_read();
		p += w, n -= w;
	}
}

/* The driver takes its commands and acks. */
static inline void driver_listen(void)
{
	char b[65536];

	while (read(driver.commands, b, sizeof(b)) > 0 || read(driver.acks, b, sizeof(b)) > 0)
		;
}

/* Looks at what there is of the context, and begins anew. */
static inline void driver_look(void)
{
	land_look(driver.c);
	driver_open();
}

#endif
