/* Lines for ctl, in a context with ended, waiting and forgotten runs. No kernel can be started. */
#include "land.h"

static void add(struct context *c, const char *name)
{
	struct run *r;

	must(context_submit(c, name, &r) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool gone = false;
	struct context *c;

	land_clear();
	land.sandbox.program = "/nowhere/box";
	land_put("cells/a.t", "#| eval: false\n", 15);
	land_put("cells/b.t", "x\n", 2);
	land_put("cells/c d.t", "y\n", 2);
	c = land_context();
	must(context_load(c) == 0);
	add(c, "a.t");
	add(c, "b.t");
	context_schedule(c);
	c->scheduling = true; /* what comes now waits */
	add(c, "b.t");
	add(c, "a.t");
	c->scheduling = size && data[0] & 1;
	if (size)
		data++, size--;
	/* Removing it would take its directory away: the verb is known well enough. */
	if (memmem(data, size, "remove", 6))
		c->scheduling = true;
	else
		context_ctl(c, (const char *)data, size, &gone);
	c->scheduling = false;
	context_schedule(c);
	land_look(c);
	return 0;
}
