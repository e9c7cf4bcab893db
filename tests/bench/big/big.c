/* Fills the context `big` of a STATE_DIR with N ended runs, by the daemon's own code but without a kernel:
 * what a mount has to read is what N real runs of ten cells leave. big STATE_DIR KERNELS BOX N */
#include "context.h"

#include <stdio.h>

int main(int argc, char **argv)
{
	struct options opt = { .queue = 1000 };
	struct world w = { .log.fd = -1 };
	auto_buf struct buf why = { 0 };
	struct context *c;
	char name[16];

	if (argc != 5)
		die("usage: big STATE_DIR KERNELS BOX N");
	opt.state_dir = argv[1];
	opt.kernels_dir = argv[2];
	opt.box = argv[3];
	config_init(&opt.defaults, NULL);
	w.loop = loop_new();
	if (world_open(&w, &opt, &why) < 0)
		die("%s", why.s);
	if (world_mkdir(&w, "big", &c))
		die("the context cannot be made");
	for (long n = atol(argv[4]); n-- > 0;) {
		snprintf(name, sizeof(name), "c%ld.sh", n % 10);
		struct cell *cell = cell_make(c, name);
		struct run *r = run_new(c, cell, name);
		if (run_queue(r, ":\n", 2))
			die("run %ld cannot be queued", n);
		cell->newest = r->number;
		flow_print(&r->flow[0], "one line of output\n", 19);
		run_finish(r, ST_OK, NULL);
		context_run(c, 1); /* keeps the number of runs in memory small, as a reader would */
	}
	world_close(&w);
	loop_free(w.loop);
	config_clear(&opt.defaults);
	return 0;
}
