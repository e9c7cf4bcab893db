/* util: bytes, JSON strings, UTF-8, the map, files. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "json.h"
#include "util.h"

static void json_strings_are_escaped(void **state)
{
	static const struct {
		const char *in;
		size_t n;
		const char *out;
	} cases[] = {
		{ "", 0, "\"\"" },
		{ "plain", 5, "\"plain\"" },
		{ "a\"b\\c", 5, "\"a\\\"b\\\\c\"" },
		{ "\b\f\n\r\t", 5, "\"\\b\\f\\n\\r\\t\"" },
		{ "\0\x01\x1f\x7f", 4, "\"\\u0000\\u0001\\u001f\\u007f\"" },
		{ "h\xc3\xa9\xf0\x9f\x98\x80", 7, "\"h\xc3\xa9\xf0\x9f\x98\x80\"" },
		{ "\xff", 1, "\"\xef\xbf\xbd\"" },
		{ "a\xc3", 2, "\"a\xef\xbf\xbd\"" },
		/* overlong, a surrogate, above U+10FFFF: each byte is one that cannot be */
		{ "\xc0\xaf", 2, "\"\xef\xbf\xbd\xef\xbf\xbd\"" },
		{ "\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" },
		{ "\xf4\x90\x80\x80", 4, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		auto_buf struct buf b = { 0 };

		buf_json(&b, cases[i].in, cases[i].n);
		assert_string_equal(b.s, cases[i].out);
	}
}

/* Whatever the bytes are: what is written parses, and valid text comes back as it was. */
static void json_strings_come_back(void **state)
{
	srand(1);
	for (int round = 0; round < 20000; round++) {
		auto_buf struct buf b = { 0 };
		char s[12];
		size_t n = rand() % sizeof(s), m;

		for (size_t i = 0; i < n; i++)
			s[i] = rand() % 4 ? rand() % 128 : rand();
		buf_json(&b, s, n);
		auto_json struct json *j = json_parse(b.s, b.n, NULL);
		assert_non_null(j);
		const char *back = json_text(j, &m);
		assert_true(utf8_valid(back, m));
		if (!utf8_valid(s, n))
			continue;
		assert_int_equal(m, n);
		assert_memory_equal(back, s, n);
	}
}

/* The encoder of the standard, which the table of utf8_len has to agree with. */
static size_t encode(unsigned c, char *s)
{
	if (c < 0x80)
		return s[0] = c, 1;
	if (c < 0x800)
		return s[0] = 0xc0 | c >> 6, s[1] = 0x80 | (c & 63), 2;
	if (c < 0x10000)
		return s[0] = 0xe0 | c >> 12, s[1] = 0x80 | (c >> 6 & 63), s[2] = 0x80 | (c & 63), 3;
	return s[0] = 0xf0 | c >> 18, s[1] = 0x80 | (c >> 12 & 63), s[2] = 0x80 | (c >> 6 & 63),
	       s[3] = 0x80 | (c & 63), 4;
}

static void utf8_is_the_standards(void **state)
{
	unsigned valid = 0;
	char s[4];

	for (unsigned c = 0; c < 0x140000; c++) {
		size_t n = encode(c, s);
		bool ok = c < 0x110000 && (c < 0xd800 || c > 0xdfff);

		if (utf8_len(s, n) != (ok ? n : 0))
			fail_msg("U+%04X", c);
		if (n > 1 && utf8_len(s, n - 1))
			fail_msg("U+%04X, cut", c);
	}
	/* Of all sequences of three bytes these many are one character. */
	for (unsigned v = 0; v < 1 << 24; v++)
		valid += utf8_len((char[]){ v >> 16, v >> 8, v }, 3) == 3;
	assert_int_equal(valid, 0x10000 - 0x800 - 0x800);
	assert_int_equal(utf8_len("", 0), 0);
	assert_int_equal(utf8_len("\x80", 1), 0);
	assert_true(utf8_valid("", 0));
	assert_false(utf8_valid("ok\xc3", 3));
}

static void a_buffer_grows_and_ends_with_nul(void **state)
{
	auto_buf struct buf b = { 0 };

	buf_printf(&b, "%d-%s", 7, "x");
	assert_string_equal(b.s, "7-x");
	for (int i = 0; i < 100000; i++)
		buf_char(&b, 'y');
	assert_int_equal(b.n, 100003);
	assert_int_equal(b.s[b.n], 0);
	buf_reset(&b);
	assert_string_equal(b.s, "");
	buf_printable(&b, "a\nb\x7f\xc3\xa9");
	assert_string_equal(b.s, "a?b?\xc3\xa9");
}

enum { KEYS = 300 };

/* A model: VALUE[i] is what key i has, 0 nothing. */
static void the_map_agrees_with_a_model(void **state)
{
	static char keys[KEYS][16];
	static uintptr_t value[KEYS];
	struct map m = { 0 };
	size_t n = 0;

	srand(2);
	for (int i = 0; i < KEYS; i++)
		snprintf(keys[i], sizeof(keys[i]), "k%d", i % 1000);
	for (int round = 0; round < 200000; round++) {
		/* Phases that grow and that shrink, so that both ends of its size are met. */
		int i = rand() % KEYS, grow = round / 20000 % 2 ? 30 : 70;
		uintptr_t old = value[i];

		if (rand() % 100 < grow) {
			value[i] = round + 1;
			n += !old;
			assert_ptr_equal(map_put(&m, keys[i], (void *)value[i]), (void *)old);
		} else {
			value[i] = 0;
			n -= !!old;
			assert_ptr_equal(map_del(&m, keys[i]), (void *)old);
		}
		assert_int_equal(m.n, n);
		i = rand() % KEYS;
		assert_ptr_equal(map_get(&m, keys[i]), (void *)value[i]);
	}
	for (size_t k = 0; k < m.n; k++)
		assert_ptr_equal(map_get(&m, m.entries[k].key), m.entries[k].value);
	for (int i = 0; i < KEYS; i++)
		assert_ptr_equal(map_get(&m, keys[i]), (void *)value[i]);
	map_free(&m);
	assert_null(map_get(&m, "k1"));
	assert_null(map_del(&m, "k1"));
}

static void the_map_keeps_the_order_of_insertion(void **state)
{
	static const char *const keys[] = { "d", "a", "c", "b" };
	struct map m = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		map_put(&m, keys[i], (void *)keys[i]);
	map_put(&m, "a", "again");
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		assert_string_equal(m.entries[i].key, keys[i]);
	map_del(&m, "a");
	assert_string_equal(m.entries[1].key, "b");
	map_free(&m);
}

static void times_are_rfc_3339(void **state)
{
	auto_buf struct buf b = { 0 };

	buf_time(&b, 1700000000123456);
	assert_string_equal(b.s, "2023-11-14T22:13:20.123456Z");
	buf_reset(&b);
	buf_time(&b, 0);
	assert_string_equal(b.s, "1970-01-01T00:00:00.000000Z");
}

static void files_are_replaced_whole(void **state)
{
	char dir[] = "/tmp/cellfs-util-XXXXXX";
	auto_buf struct buf b = { 0 };

	assert_non_null(mkdtemp(dir));
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(write_file(fd, "f", "first", 5, 0600), 0);
	assert_int_equal(write_file(fd, "f", "2nd", 3, 0600), 0);
	assert_int_equal(read_file(fd, "f", 3, &b), 0);
	assert_string_equal(b.s, "2nd");
	assert_int_equal(read_file(fd, "f", 2, &b), -EFBIG);
	assert_int_equal(read_file(fd, "none", 9, &b), -ENOENT);
	assert_int_equal(write_file(fd, "no/f", "x", 1, 0600), -ENOENT);
	/* What cannot be put in place leaves nothing behind. */
	assert_int_equal(mkdirat(fd, "d", 0700), 0);
	assert_int_equal(write_file(fd, "d", "x", 1, 0600), -EISDIR);
	assert_int_equal(unlinkat(fd, ".cellfs.tmp", 0), -1);
	assert_int_equal(unlinkat(fd, "f", 0), 0);
	assert_int_equal(unlinkat(fd, "d", AT_REMOVEDIR), 0);
	assert_int_equal(rmdir(dir), 0);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(json_strings_are_escaped),
		cmocka_unit_test(json_strings_come_back),
		cmocka_unit_test(utf8_is_the_standards),
		cmocka_unit_test(a_buffer_grows_and_ends_with_nul),
		cmocka_unit_test(the_map_agrees_with_a_model),
		cmocka_unit_test(the_map_keeps_the_order_of_insertion),
		cmocka_unit_test(times_are_rfc_3339),
		cmocka_unit_test(files_are_replaced_whole),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
