/* Any bytes as the journal of a context without index. */
#include "land.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char record[] = "{\"run\":1,\"status\":1,\"cell\":\"a.t\",\"code\":[0,3],\"out\":[0,4],"
				     "\"items\":[{\"k\":1}],\"files\":[{\"at\":[0,3],\"item\":0,\"mime\":\"text/plain\"}]}\n";

	land_clear();
	land_put("journal.jsonl", data, size);
	land_put("results.bin", record, sizeof(record) - 1);
	land_put("stdout.log", "one\ntwo\n", 8);
	land_look(land_context());
	return 0;
}
