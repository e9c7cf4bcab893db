/* Any bytes as runs.idx beside a good journal. Bytes alone would hardly get past the checksum: with an odd
 * first byte the rest are records whose length and checksum are made right. */
#include "land.h"

/* As in index.c. */
struct idx {
	uint32_t check;
	uint16_t len;
	uint8_t kind, status;
	uint64_t number, off, fin_off, from, end;
	int64_t time;
	uint32_t size, fin_len, kib;
	uint16_t na, nb;
	int64_t sum[7], disk_seen;
};

static void make_right(struct buf *b, const uint8_t **data, size_t *size)
{
	struct idx x;
	size_t at = b->n;
	uint32_t h = 2166136261u;

	memcpy(&x, *data, sizeof(x));
	*data += sizeof(x), *size -= sizeof(x);
	/* Small numbers are what there is. */
	x.number %= x.fin_len % 2 ? 5 : 4096;
	x.off %= 300, x.size %= 300, x.end %= 500, x.from %= 500, x.fin_off %= 500;
	x.na = MIN(x.na % 8, *size);
	x.nb = MIN(x.nb % 8, *size - x.na);
	x.kind = (x.kind & 0x80) | x.kind % 8; /* some are parts */
	x.len = sizeof(x) + x.na + x.nb;
	buf_add(b, &x, sizeof(x));
	buf_add(b, *data, x.na + x.nb);
	*data += x.na + x.nb, *size -= x.na + x.nb;
	for (size_t i = at + 4; i < b->n; i++)
		h = (h ^ (unsigned char)b->s[i]) * 16777619u;
	memcpy(b->s + at, &h, 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char record[] = "{\"run\":1,\"status\":1,\"cell\":\"a.t\",\"code\":[0,3],\"out\":[0,4]}\n";
	auto_buf struct buf b = { 0 }, journal = { 0 };

	if (!size)
		return 0;
	bool right = *data++ & 1;
	size--;
	while (right && size >= sizeof(struct idx))
		make_right(&b, &data, &size);
	buf_add(&b, data, size);
	land_clear();
	for (int n = 1; n <= 2; n++)
		buf_printf(&journal,
			   "{\"seq\":%d,\"type\":\"queued\",\"time\":\"2026-01-01T00:00:00.000000Z\",\"run\":%d,"
			   "\"cell\":\"a.t\",\"language\":\"fake\",\"code\":[0,3]}\n", n, n);
	buf_printf(&journal, "{\"seq\":3,\"type\":\"finished\",\"run\":1,\"status\":\"ok\",\"record\":[0,%zu]}\n",
		   sizeof(record) - 1);
	land_put("journal.jsonl", journal.s, journal.n);
	land_put("results.bin", record, sizeof(record) - 1);
	land_put("stdout.log", "one\ntwo\n", 8);
	land_put("runs.idx", b.s, b.n);
	land_look(land_context());
	return 0;
}
