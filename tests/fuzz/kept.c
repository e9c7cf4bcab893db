/* Any bytes as the table behind the files that are kept of the one run of a context. The first says how long those are. */
#include "land.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char files[256] = "one\ntwo\n";
	auto_buf struct buf kept = { 0 }, record = { 0 }, journal = { 0 };

	if (!size)
		return 0;
	buf_add(&kept, files, *data);
	buf_add(&kept, data + 1, size - 1);
	buf_printf(&record, "{\"run\":1,\"status\":1,\"cell\":\"a.t\",\"code\":[0,0],\"kept\":[0,%zu,%zu,8]}\n", kept.n, size - 1);
	buf_printf(&journal,
		   "{\"seq\":1,\"type\":\"queued\",\"time\":\"2026-01-01T00:00:00.000000Z\",\"run\":1,"
		   "\"cell\":\"a.t\",\"language\":\"fake\",\"code\":[0,0]}\n"
		   "{\"seq\":2,\"type\":\"finished\",\"time\":\"2026-01-01T00:00:00.000000Z\",\"run\":1,"
		   "\"cell\":\"a.t\",\"language\":\"fake\",\"status\":\"ok\",\"mtime\":1,\"record\":[0,%zu]}\n",
		   record.n);
	land_clear();
	land_put("kept.bin", kept.s ? kept.s : "", kept.n);
	land_put("results.bin", record.s, record.n);
	land_put("journal.jsonl", journal.s, journal.n);
	land_look(land_context());
	return 0;
}
