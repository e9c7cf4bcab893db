/* config: the forms of the values in config/, and the option lines of a cell. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "config.h"
#include "json.h"

#define S 1000000LL
#define BAD -1

static const struct {
	enum setting_key key;
	const char *text;
	int64_t v; /* BAD: refused */
	int unit;
} forms[] = {
	{ C_TIMEOUT, "90", 90 * S },
	{ C_TIMEOUT, "90s\n", 90 * S },
	{ C_TIMEOUT, "1.5m", 90 * S },
	{ C_TIMEOUT, "1H", 3600 * S },
	{ C_TIMEOUT, "1d \r\n", 86400 * S },
	{ C_TIMEOUT, "0", 0 },
	{ C_TIMEOUT, "0.25", S / 4 },
	{ C_TIMEOUT, "365d", 365 * 86400 * S },
	{ C_TIMEOUT, "366d", BAD },
	{ C_TIMEOUT, "-1", BAD },
	{ C_TIMEOUT, "+1", BAD },
	{ C_TIMEOUT, " 1", BAD },
	{ C_TIMEOUT, ".5", BAD },
	{ C_TIMEOUT, "1.2.3", BAD },
	{ C_TIMEOUT, "1e3", BAD },
	{ C_TIMEOUT, "0x10", BAD },
	{ C_TIMEOUT, "nan", BAD },
	{ C_TIMEOUT, "inf", BAD },
	{ C_TIMEOUT, "1w", BAD },
	{ C_TIMEOUT, "1 s", BAD },
	{ C_TIMEOUT, "1s2", BAD },
	{ C_TIMEOUT, "1\n2", BAD },
	{ C_TIMEOUT, "9999999999999999999", BAD },
	{ C_WAIT, "5m", 300 * S },
	{ C_WAIT, "soon", BAD },
	{ C_IDLE, "10h", 36000 * S },
	{ C_IDLE, "never", BAD },
	{ C_OUTPUT, "0", 0 },
	{ C_OUTPUT, "1000", 1000 },
	{ C_OUTPUT, "64K", 64 << 10 },
	{ C_OUTPUT, "1.5m", 3 << 19 },
	{ C_OUTPUT, "1T", 1LL << 40 },
	{ C_OUTPUT, "2T", BAD },
	{ C_OUTPUT, "1KB", BAD },
	{ C_OUTPUT, "1s", BAD },
	{ C_KEEP, "all", 0, KEEP_ALL },
	{ C_KEEP, "1000", 1000, KEEP_RUNS },
	{ C_KEEP, "10 runs", 10, KEEP_RUNS },
	{ C_KEEP, "10runs", 10, KEEP_RUNS },
	{ C_KEEP, "0", 0, KEEP_RUNS },
	{ C_KEEP, "30d", 30 * 86400 * S, KEEP_AGE },
	{ C_KEEP, "12h", 12 * 3600 * S, KEEP_AGE },
	{ C_KEEP, "2G", 2LL << 30, KEEP_BYTES },
	{ C_KEEP, "none", BAD },
	{ C_KEEP, "all ", 0, KEEP_ALL },
	{ C_KEEP, "10 days", BAD },
	{ C_MEMORY, "512M", 512 << 20 },
	{ C_MEMORY, "32M", 32 << 20 },
	{ C_MEMORY, "33554432", 32 << 20 },
	{ C_MEMORY, "33554431", BAD },
	{ C_MEMORY, "1.5G", 3LL << 29 },
	{ C_MEMORY, "24.7G", 26521423053 },
	{ C_MEMORY, "24.8G", BAD },
	{ C_MEMORY, "0", BAD },
	{ C_MEMORY, "-1", BAD },
	{ C_MEMORY, "much", BAD },
	{ C_DISK, "1M", 1 << 20 },
	{ C_DISK, "1000K", BAD },
	{ C_DISK, "100G", 100LL << 30 },
	{ C_DISK, "100.1G", BAD },
	{ C_DISK, "0", BAD },
	{ C_PROCESSES, "8", 8 },
	{ C_PROCESSES, "32768", 32768 },
	{ C_PROCESSES, "32769", BAD },
	{ C_PROCESSES, "7", BAD },
	{ C_PROCESSES, "0", BAD },
	{ C_PROCESSES, "8.5", BAD },
	{ C_PROCESSES, "1K", BAD },
	{ C_CPUS, "0", 0 },
	{ C_CPUS, "0.0", 0 },
	{ C_CPUS, "0.5", 500 },
	{ C_CPUS, "1.5\n", 1500 },
	{ C_CPUS, "2", 2000 },
	{ C_CPUS, "0.01", 10 },
	{ C_CPUS, "0.009", BAD },
	{ C_CPUS, "0.0001", BAD },
	{ C_CPUS, "2.01", BAD },
	{ C_CPUS, "0.", 0 },
	{ C_CPUS, "0.0.0", BAD },
	{ C_CPUS, "50%", BAD },
	{ C_CPUS, "-1", BAD },
	{ C_NETWORK, "off", NETWORK_OFF },
	{ C_NETWORK, "on\n", NETWORK_ON },
	{ C_NETWORK, "host", NETWORK_HOST },
	{ C_NETWORK, "ON", BAD },
	{ C_NETWORK, "1", BAD },
	{ C_NETWORK, "hos", BAD },
	{ C_CWD, "data", 0 },
	{ C_CWD, "./a/../b/", 0 },
	{ C_CWD, "a//..//b", 0 },
	{ C_CWD, "a/...", 0 },
	{ C_CWD, "/srv/anywhere", 0 },
	{ C_CWD, "..", BAD },
	{ C_CWD, "a/../..", BAD },
	{ C_CWD, "./..", BAD },
	{ C_CWD, "a/../../a", BAD },
};

static void every_form_is_read_or_refused(void **state)
{
	struct config c;

	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		config_init(&c, NULL);
		int64_t before = c.v[forms[i].key].v;
		int err = setting_set(&c, forms[i].key, forms[i].text, strlen(forms[i].text), NULL);

		if (err != (forms[i].v == BAD ? -EINVAL : 0) ||
		    c.v[forms[i].key].v != (err ? before : forms[i].v) ||
		    (!err && (int)c.v[forms[i].key].unit != forms[i].unit) ||
		    (err && c.v[forms[i].key].text))
			fail_msg("%s = %s: %d, %lld", setting_names[forms[i].key], forms[i].text, err,
				 (long long)c.v[forms[i].key].v);
		config_clear(&c);
	}
}

static void nul_and_endless_paths_are_refused(void **state)
{
	char path[4200];
	struct config c;

	config_init(&c, NULL);
	assert_int_equal(setting_set(&c, C_TIMEOUT, "1\0002", 3, NULL), -EINVAL);
	memset(path, 'a', sizeof(path));
	assert_int_equal(setting_set(&c, C_CWD, path, sizeof(path), NULL), -EINVAL);
	assert_int_equal(setting_set(&c, C_CWD, path, 4095, NULL), 0);
	config_clear(&c);
}

static void a_refused_value_changes_nothing(void **state)
{
	struct config c;

	config_init(&c, NULL);
	assert_int_equal(setting_set(&c, C_TIMEOUT, "5m\n", 3, NULL), 0);
	assert_int_equal(setting_set(&c, C_TIMEOUT, "5x", 2, NULL), -EINVAL);
	assert_int_equal(c.v[C_TIMEOUT].v, 300 * S);
	assert_string_equal(setting_text(&c, C_TIMEOUT, NULL), "5m");
	config_clear(&c);
}

static void empty_means_the_default(void **state)
{
	struct config def, c;

	config_init(&def, NULL);
	assert_int_equal(def.v[C_TIMEOUT].v, 3600 * S);
	assert_int_equal(setting_set(&def, C_TIMEOUT, "7s", 2, NULL), 0);
	assert_int_equal(setting_set(&def, C_CWD, "sub", 3, NULL), 0);
	config_init(&c, &def);
	assert_int_equal(c.v[C_TIMEOUT].v, 7 * S);
	assert_string_equal(setting_text(&c, C_TIMEOUT, &def), "7s");
	assert_string_equal(c.v[C_CWD].text, "sub");
	assert_int_equal(setting_set(&c, C_TIMEOUT, "9s", 2, &def), 0);
	assert_int_equal(setting_set(&c, C_TIMEOUT, "\n", 1, &def), 0);
	assert_int_equal(c.v[C_TIMEOUT].v, 7 * S);
	config_clear(&c);
	config_clear(&def);
}

/* A host of 24.7 GiB and a bit. */
static void this_host(void)
{
	config_host((247LL << 30) / 10 + 5000, 100LL << 30, 2, 32768);
}

static void a_form_names_what_the_host_has_at_most(void **state)
{
	assert_non_null(strstr(setting_form(C_MEMORY), "from 32M to 24.7G"));
	assert_non_null(strstr(setting_form(C_DISK), "from 1M to 100G"));
	assert_non_null(strstr(setting_form(C_PROCESSES), "from 8 to 32768"));
	assert_non_null(strstr(setting_form(C_CPUS), "to 2,"));
}

static void a_default_is_never_more_than_the_host_has(void **state)
{
	static const struct {
		int64_t ram, disk, processes;
		const char *memory_text, *disk_text, *processes_text;
	} hosts[] = {
		{ 1LL << 40, 1LL << 50, 1 << 22, "2G", "2G", "128" },
		{ 1000 << 20, 900LL << 20, 100, "1000M", "900M", "100" },
		{ 1, 1, 1, "32M", "1M", "8" },
		{ (3LL << 29) + 1, (1LL << 30) + 12345, 128, "1.5G", "1G", "128" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(hosts); i++) {
		struct config c;
		config_host(hosts[i].ram, hosts[i].disk, 1, hosts[i].processes);
		config_init(&c, NULL);
		assert_string_equal(setting_text(&c, C_MEMORY, NULL), hosts[i].memory_text);
		assert_string_equal(setting_text(&c, C_DISK, NULL), hosts[i].disk_text);
		assert_string_equal(setting_text(&c, C_PROCESSES, NULL), hosts[i].processes_text);
		for (int k = C_MEMORY; k <= C_PROCESSES; k++) {
			const char *shown = setting_text(&c, k, NULL);
			int64_t v = c.v[k].v;
			assert_true(v > 0);
			assert_int_equal(setting_set(&c, k, shown, strlen(shown), NULL), 0);
			assert_int_equal(c.v[k].v, v);
		}
		config_clear(&c);
	}
	this_host();
}

static void every_setting_is_found_and_described(void **state)
{
	for (int k = 0; k < C_COUNT; k++) {
		assert_int_equal(setting_find(setting_names[k]), k);
		assert_true(*setting_form(k));
	}
	assert_int_equal(setting_find("Timeout"), -1);
	assert_int_equal(setting_find(""), -1);
}

static void names_of_variables(void **state)
{
	static const char *const good[] = { "A", "_", "a1_B" };
	static const char *const bad[] = { "", "1A", "A-B", "A=B", "A B", "\xc3\xa9" };

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_true(env_name_ok(good[i]));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(env_name_ok(bad[i]));
}

/* ---- the option lines of a cell ---- */

static const struct {
	const char *in, *out, *json, *problem; /* PROBLEM: a part of it */
} cells[] = {
	{ "x = 1\n", "x = 1\n", "{}", NULL },
	{ "", "", "{}", NULL },
	{ "#| timeout: 5s\nx", "              \nx", "{\"timeout\":\"5s\"}", NULL },
	{ "#|timeout:5s\r\nx\r\n", "            \r\nx\r\n", "{\"timeout\":\"5s\"}", NULL },
	{ "#!/usr/bin/x\n#| echo: false\ny", "#!/usr/bin/x\n              \ny", "{\"echo\":\"false\"}", NULL },
	{ "#!/bin/x", "#!/bin/x", "{}", NULL },
	/* A shebang that is not the first line ends the options, as any other line does. */
	{ "#| echo: a\n#!x\n#| echo: b", "          \n#!x\n#| echo: b", "{\"echo\":\"a\"}", NULL },
	{ "\n#| echo: a", "\n#| echo: a", "{}", NULL },
	{ "#| cwd: \"a b\"\n", "             \n", "{\"cwd\":\"a b\"}", NULL },
	{ "#| cwd: 'a:b'", "             ", "{\"cwd\":\"a:b\"}", NULL },
	{ "#| label: \"half", "               ", "{\"label\":\"\\\"half\"}", NULL },
	{ "#| echo: a\n#| echo: b", "          \n          ", "{\"echo\":\"b\"}", NULL },
	{ "#|\n#| \n#| echo: a", "  \n   \n          ", "{\"echo\":\"a\"}", NULL },
	{ "#| tags: [a, b]", "               ", "{\"tags\":\"[a, b]\"}", NULL },
	{ "#| tags:\n#|   - a\n#|   - b", "        \n        \n        ", "{\"tags\":\"- a\\n- b\"}", NULL },
	{ "#| fig-cap: |\n#|   one\n#|   two", "             \n        \n        ",
	  "{\"fig-cap\":\"|\\none\\ntwo\"}", NULL },
	{ "#| label: \"q\\uote\"", "                  ", "{\"label\":\"q\\\\uote\"}", NULL },
	{ "#| nonsense: 1", "              ", "{\"nonsense\":\"1\"}", "unknown option: nonsense" },
	{ "#| timeout", "          ", "{}", "option line is not" },
	{ "#| : 5", "      ", "{}", "option line is not" },
	{ "#|   - a", "        ", "{}", "option line is not" },
	{ "#| timeout: soon", "                ", "{\"timeout\":\"soon\"}", "option timeout: soon" },
	{ "#| cwd: ../x", "            ", "{\"cwd\":\"../x\"}", "option cwd" },
	{ "#| env.1A: x", "            ", "{\"env.1A\":\"x\"}", "not a name" },
	/* The first thing that is wrong is the one told. */
	{ "#| bad: 1\n#| worse: 2", "         \n           ", "{\"bad\":\"1\",\"worse\":\"2\"}", "unknown option: bad" },
};

static void option_lines_are_read_and_made_blank(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(cells); i++) {
		auto_free char *code = xstrdup(cells[i].in);
		struct cell_options o;

		options_parse(&o, code, strlen(code), "#|");
		assert_string_equal(code, cells[i].out);
		assert_string_equal(o.json, cells[i].json);
		if (!cells[i].problem != !o.problem ||
		    (o.problem && !strstr(o.problem, cells[i].problem)))
			fail_msg("%s: %s", cells[i].in, o.problem ? o.problem : "no problem");
		options_clear(&o);
	}
}

static void option_values_are_in_force(void **state)
{
	char code[] = "#| timeout: 90s\n#| cwd: sub\n#| env.A: 1\n#| env.B: x=y\n#| eval: False\nx";
	struct cell_options o;

	options_parse(&o, code, sizeof(code) - 1, "#|");
	assert_null(o.problem);
	assert_int_equal(o.timeout_us, 90 * S);
	assert_string_equal(o.cwd, "sub");
	assert_string_equal(o.env[0], "A=1");
	assert_string_equal(o.env[1], "B=x=y");
	assert_null(o.env[2]);
	assert_true(o.eval_false);
	options_clear(&o);
	assert_int_equal(o.timeout_us, -1);
	assert_null(o.json);
}

static void the_prefix_is_the_languages(void **state)
{
	char code[] = "//| timeout: 1\n#| timeout: 2";
	struct cell_options o;

	options_parse(&o, code, sizeof(code) - 1, "//|");
	assert_int_equal(o.timeout_us, S);
	assert_string_equal(code, "              \n#| timeout: 2");
	options_clear(&o);
}

/* Bytes of any kind: the length and the line ends stay where they are, and the JSON parses. */
static void any_bytes_keep_their_lines(void **state)
{
	static const char *const parts[] = { "#|", " ", "timeout", ":", "\n", "\r\n", "5s", "\"", "'", "-",
					     "\t", "env.A", "#!", "\xff", "x" };

	srand(3);
	for (int round = 0; round < 20000; round++) {
		struct cell_options o;
		struct buf b = { 0 };

		buf_str(&b, rand() % 2 ? "#|" : "");
		for (int n = rand() % 20; n; n--)
			buf_str(&b, parts[rand() % ARRAY_SIZE(parts)]);
		auto_free char *was = xstrndup(b.s, b.n);
		options_parse(&o, b.s, b.n, "#|");
		assert_int_equal(strlen(b.s), strlen(was));
		for (size_t i = 0; i < b.n; i++)
			assert_int_equal(was[i] == '\n', b.s[i] == '\n');
		auto_json struct json *j = json_parse(o.json, strlen(o.json), NULL);
		assert_true(json_isobj(j));
		options_clear(&o);
		buf_free(&b);
	}
}

static void too_many_options_are_told(void **state)
{
	auto_buf struct buf b = { 0 };
	struct cell_options o;

	for (int i = 0; i < 300; i++)
		buf_printf(&b, "#| env.A%d: x\n", i);
	options_parse(&o, b.s, b.n, "#|");
	assert_non_null(o.problem);
	assert_int_equal(strspn(b.s, " \n"), b.n);
	options_clear(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_form_is_read_or_refused),
		cmocka_unit_test(nul_and_endless_paths_are_refused),
		cmocka_unit_test(a_refused_value_changes_nothing),
		cmocka_unit_test(empty_means_the_default),
		cmocka_unit_test(every_setting_is_found_and_described),
		cmocka_unit_test(a_form_names_what_the_host_has_at_most),
		cmocka_unit_test(a_default_is_never_more_than_the_host_has),
		cmocka_unit_test(names_of_variables),
		cmocka_unit_test(option_lines_are_read_and_made_blank),
		cmocka_unit_test(option_values_are_in_force),
		cmocka_unit_test(the_prefix_is_the_languages),
		cmocka_unit_test(any_bytes_keep_their_lines),
		cmocka_unit_test(too_many_options_are_told),
	};

	this_host();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
