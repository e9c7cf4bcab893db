/* Any bytes as the record of the one run of a context. */
#include "land.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_buf struct buf b = { 0 };

	if (!size)
		return 0;
	land_clear();
	buf_printf(&b,
		   "{\"seq\":1,\"type\":\"queued\",\"time\":\"2026-01-01T00:00:00.000000Z\",\"run\":1,"
		   "\"cell\":\"a.t\",\"language\":\"fake\",\"code\":[0,0]}\n"
		   "{\"seq\":2,\"type\":\"finished\",\"time\":\"2026-01-01T00:00:00.000000Z\",\"run\":1,"
		   "\"cell\":\"a.t\",\"language\":\"fake\",\"status\":\"ok\",\"mtime\":1,\"record\":[0,%zu]}\n",
		   size);
	land_put("journal.jsonl", b.s, b.n);
	land_put("results.bin", data, size);
	land_put("stdout.log", "one\ntwo\n", 8);
	struct context *c = land_context();
	if (!context_load(c)) {
		struct run *r = context_run(c, 1);
		auto_buf struct buf again = { 0 };
		if (r) {
			/* What was read is written so that it can be read again. */
			run_save(r, &again);
			auto_json struct json *j = json_parse(again.s, again.n, NULL);
			struct run *second = j ? run_load(c, 1, j) : NULL;
			if (!second)
				abort();
			run_free(second);
		}
	}
	land_look(c);
	return 0;
}
