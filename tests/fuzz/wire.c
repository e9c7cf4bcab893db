/* What a driver says on its control pipe: any bytes, into the real handler, of a kernel that starts or runs a cell. */
#include "driver.h"

enum { INPUTS = 500, BYTES = 4 << 20 }; /* of one context */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int inputs;

	if (!size || size > 200000)
		return 0;
	if (!driver.on_ev)
		driver_find();
	fake_start();
	driver.k->run = driver_queue();
	if (data[0] & 1)
		driver_busy();
	must(write_file(driver.out, "p", "payload", 7, 0600) == 0);
	driver_say((const char *)data + 1, size - 1);
	driver_stop();
	if (++inputs % INPUTS && driver.c->store.end[L_JOURNAL] + driver.c->store.end[L_RES] < BYTES)
		return 0;
	driver_look();
	return 0;
}
