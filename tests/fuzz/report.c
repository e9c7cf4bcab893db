/* What the program box says: of a kernel on its report, of a box on its socket. A line of the input is a message, its
 * first byte the number of descriptors that go with it. box.c is included, so that there can be a box without
 * processes; its other copy is what kernel.c calls. */
#include "driver.h"

#define box_need         own_need
#define box_run          own_run
#define box_retire       own_retire
#define box_left         own_left
#define box_end          own_end
#define box_forget       own_forget
#define box_sweep        own_sweep
#define box_configured   own_configured
#define box_json_pending own_json_pending
#define box_oom_kills    own_oom_kills
#define box_limit        own_limit
#define box_check_dir    own_check_dir
#define box_check_interpreter own_check_interpreter
#define box_over         own_over
#define box_disk_room    own_disk_room
#define box_disk_grew    own_disk_grew
#define box_new_empty    own_new_empty
#define box_suits        own_suits
#define box_give         own_give
#define box_drop         own_drop
#define box_ids          own_ids
#define box_group        own_group
#define box_ended        own_ended
#define box_is_empty     own_is_empty
#include "box.c"

enum { FDS = 14 };

static void tell(int socket, const char *line, size_t n)
{
	static int null = -1, self = -1;
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(FDS * sizeof(int))];
	} c = { 0 };
	int fds[FDS], nfds = n ? (unsigned char)*line % (FDS + 1) : 0;
	struct iovec v = { (char *)line + 1, n ? n - 1 : 0 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };

	if (null < 0) {
		null = open("/dev/null", O_RDWR | O_CLOEXEC);
		self = syscall(SYS_pidfd_open, getpid(), 0);
	}
	for (int i = 0; i < nfds; i++)
		fds[i] = i || !(*line & 16) ? null : self;
	if (nfds) {
		m.msg_control = c.space;
		m.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		c.h = (struct cmsghdr){ CMSG_LEN(nfds * sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
		memcpy(CMSG_DATA(&c.h), fds, nfds * sizeof(int));
	}
	must(sendmsg(socket, &m, MSG_NOSIGNAL) >= 0 || errno == EPIPE || errno == ENOTCONN);
}

/* As start() of box.c, but for the processes. */
static struct box *fake_box(int *theirs)
{
	struct box *b = xcalloc(1, sizeof(*b));
	int s[2];

	*b = (struct box){ .world = &land, .ctx = driver.c, .state = BOX_STARTING };
	memset(b->fds, -1, sizeof(b->fds));
	driver.c->box[FOR_CELLS] = b;
	land.boxes_running++;
	must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s) == 0);
	must(watch_add(land.loop, &b->w_socket, s[0], EPOLLIN, on_socket, b) == 0);
	*theirs = s[1];
	return b;
}

static void end_box(struct box *b)
{
	pid_t init = b->init;

	end(b);
	if (init)
		on_init(b, 0); /* whoever that is, he is no child of ours */
	if (land.boxes_running)
		abort();
}

static void hear_box(struct box **b)
{
	if (*b && (*b)->w_socket.fn)
		on_socket(*b, EPOLLIN);
	if (!land.boxes_running)
		*b = NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int inputs;
	struct box *b = NULL;
	int socket = -1;

	if (!size)
		return 0;
	if (!driver.on_ev)
		driver_find();
	auto_close int before = fcntl(driver.out, F_DUPFD_CLOEXEC, 3);
	fake_start();
	driver.k->run = driver_queue();
	if (*data & 1)
		driver_busy();
	if (*data & 2) {
		b = fake_box(&socket);
		driver.k->boxed = *data & 5; /* it is in the box, or, when it starts, may wait for it */
		driver.k->box = driver.k->boxed ? getpid() : 0;
	}
	const char *p = (const char *)data + 1, *end_of = (const char *)data + size;
	for (const char *nl; p < end_of; p = nl + 1) {
		nl = memchr(p, '\n', end_of - p);
		nl = nl ? nl : end_of;
		tell(b ? socket : driver.report, p, MIN(nl - p, 2000));
		if (b)
			hear_box(&b);
		else if (driver.k->w_report.fn)
			driver.on_report(driver.k, EPOLLIN);
	}
	if (b)
		end_box(b);
	drop_fd(&socket);
	driver_stop();
	auto_close int after = fcntl(driver.out, F_DUPFD_CLOEXEC, 3);
	must(after <= before + 8); /* the store's files, no more */
	if (++inputs % 500 == 0)
		driver_look();
	return 0;
}
