/* What a driver says on its control pipe, line by line into the real handler, of a kernel that starts or
 * runs a cell. The kernel is one that box could not start: its handlers are taken from its watches. */
#include "land.h"

#include <sys/ioctl.h>
#include <sys/wait.h>

static void (*on_ev)(void *, uint32_t), (*on_gone)(void *, uint32_t);

static struct run *queue_run(struct context *c)
{
	struct run *r = run_new(c, cell_make(c, "a.t"), "a.t");

	must(run_queue(r, "code\n", 5) == 0);
	c->active = r;
	return r;
}

static void find_handlers(void)
{
	struct context *c = land_context();
	struct kernel *k;

	must(context_load(c) == 0);
	k = kernel_new(c, "fake", lang_named(&land.langs, "fake"));
	kernel_run(k, queue_run(c));
	must(k->w_ev.fn && k->w_pid.fn);
	on_ev = k->w_ev.fn;
	on_gone = k->w_pid.fn;
	/* It waits for box, /bin/true. */
	on_gone(k, 0);
	context_free(c);
	land.opt.box = "/nowhere/box"; /* nothing starts from now on */
}

static int open_dir(const char *sub)
{
	auto_free char *path = xasprintf(LAND_UUID "/%s", sub);
	int fd;

	mkdirat(land.contexts_dir, path, 0700);
	fd = openat(land.contexts_dir, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(fd >= 0);
	return fd;
}

static struct kernel *fake_kernel(struct context *c, bool busy, int events)
{
	struct kernel *k = kernel_new(c, "fake", lang_named(&land.langs, "fake"));
	struct run *r = queue_run(c);

	k->run = r;
	k->exit_code = k->exit_signal = -1;
	k->generation = 1;
	k->box = getpid(); /* nobody to wait for: 0 would be any child of libFuzzer's */
	buf_str(&k->env, "{}");
	buf_str(&k->cwd, "/");
	close(open_dir("spool/fake"));
	k->code_dir = open_dir("spool/fake/code");
	k->spool = open_dir("spool/fake/out");
	for (int i = 0; i < 2; i++)
		flow_init(&k->late[i], c, NULL, k->lang->name, i);
	must(watch_add(land.loop, &k->w_ev, events, EPOLLIN, on_ev, k) == 0);
	land.kernels_running++;
	k->state = K_STARTING;
	if (busy) {
		k->state = K_BUSY;
		k->count = k->exec_id = 1;
		must(run_start(r, k, 1, 1) == 0);
	}
	return k;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct context *c;
	struct kernel *k;
	int p[2], left;

	if (!size || size > 200000)
		return 0;
	land_clear();
	if (!on_ev)
		find_handlers();
	land_clear();
	c = land_context();
	must(context_load(c) == 0);
	must(pipe2(p, O_CLOEXEC | O_NONBLOCK) == 0);
	fcntl(p[1], F_SETPIPE_SZ, 1 << 18);
	k = fake_kernel(c, data[0] & 1, p[0]);
	land_put("spool/fake/out/p", "payload", 7);
	must(write(p[1], data + 1, size - 1) == (ssize_t)(size - 1));
	while (k->w_ev.fn && !ioctl(k->w_ev.fd, FIONREAD, &left) && left)
		on_ev(k, EPOLLIN);
	close(p[1]);
	if (k->w_ev.fn)
		on_ev(k, EPOLLHUP);
	on_gone(k, 0);
	if (context_busy(c))
		abort(); /* whatever it said, its run has ended */
	land_look(c);
	return 0;
}
