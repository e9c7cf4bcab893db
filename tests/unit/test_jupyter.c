/* jupyter: kernelspecs become languages, their kernels are asked once. The bridge is a shell's script here, and the
 * answer of a kernel is in its kernelspec. */
#include "opened.h"

static const char fake_bridge[] =
	"case $1 in\n"
	"*SLOW*) sleep 1000;;\n"
	"*MUTE*) echo 'no word' >&2; exit 1;;\n"
	"*FAILED*) answer='\"failed\":\"its command ended:\\nfirst\\nthe last line\\n\"';;\n"
	"*) ext=${1#*'EXT\":\"'} answer='\"ver\":\"1.2\",\"engine\":\"fake 3\",\"extension\":\"'${ext%%'\"'*}'\"';;\n"
	"esac\n"
	"echo asked >> \"$0.asked\"\n"
	"echo '{\"ev\":\"log\",\"text\":\"x\"}' >&4\n"
	"printf '%s\\n' \"{\\\"ev\\\":\\\"hello\\\",\\\"proto\\\":1,$answer}\" >&4\n";

static char *specs_dir(void)
{
	return xasprintf("%s/specs", d.dir);
}

static void make_dirs(const char *path)
{
	auto_free char *p = xstrdup(path);

	for (char *s = p + 1; *s; s++) {
		if (*s != '/')
			continue;
		*s = 0;
		mkdir(p, 0755);
		*s = '/';
	}
	mkdir(path, 0755);
}

static void put_spec(const char *dir, const char *name, const char *text)
{
	auto_free char *folder = xasprintf("%s/%s", dir, name);
	auto_free char *file = xasprintf("%s/kernel.json", folder);

	make_dirs(folder);
	must(write_file(AT_FDCWD, file, text, strlen(text), 0644) == 0);
}

static void spec(const char *name, const char *ext)
{
	auto_free char *dir = specs_dir();
	auto_free char *text = xasprintf("{\"argv\":[\"/bin/true\"],\"env\":{\"EXT\":\"%s\"}}", ext);

	put_spec(dir, name, text);
}

static void put_bridge(const char *interpreter)
{
	auto_free char *dir = xasprintf("%s/kernels/jupyter", d.dir);
	auto_free char *driver = xasprintf("%s/driver", dir);
	auto_free char *manifest = xasprintf("%s/manifest.json", dir);
	auto_buf struct buf b = { 0 };

	make_dirs(dir);
	must(write_file(AT_FDCWD, driver, fake_bridge, sizeof(fake_bridge) - 1, 0755) == 0);
	buf_printf(&b, "{\"name\":\"jupyter\",\"kernelspecs\":true,\"extensions\":[],\"interpreters\":[\"%s\"],"
		   "\"probe\":[\"-c\",\"echo 1\"],\"argv\":[\"{interpreter}\",\"{dir}/driver\",\"{spec}\"],"
		   "\"install\":\"apt-get install something\"}", interpreter);
	must(write_file(AT_FDCWD, manifest, b.s, b.n, 0644) == 0);
}

static int setup_bridge(void **state)
{
	must(domain_make(&d, 0));
	put_bridge("/bin/sh");
	d.opt.kernelspecs = specs_dir();
	alarm(120);
	return 0;
}

static int teardown_bridge(void **state)
{
	free((char *)d.opt.kernelspecs);
	return teardown(state);
}

static bool is_asked(struct domain *x)
{
	return !jupyter_busy(x->w.jupyter);
}

static void ask(void)
{
	world_mounted(&d.w);
	assert_true(domain_until(&d, is_asked));
}

static void open_and_ask(void)
{
	domain_open(&d);
	ask();
}

static void reopen_and_ask(void)
{
	domain_close(&d);
	open_and_ask();
}

static int times_asked(void)
{
	auto_free char *path = xasprintf("%s/kernels/jupyter/driver.asked", d.dir);
	auto_buf struct buf b = { 0 };

	read_file(AT_FDCWD, path, 65536, &b);
	return b.n / 6;
}

static bool log_has(const char *text)
{
	auto_buf struct buf b = { 0 };

	return !read_file(d.w.state, "log", 1 << 20, &b) && strstr(b.s, text);
}

static bool text_has(const char *text)
{
	auto_buf struct buf b = { 0 };

	langs_print(&d.w.langs, &b);
	return strstr(b.s, text);
}

static const char *owner(const char *ext)
{
	const struct lang *l = lang_for_ext(&d.w.langs, ext);

	return l ? l->name : "nobody";
}

static void an_answer_makes_a_language(void **state)
{
	spec("one", ".one");
	domain_open(&d);
	const struct lang *l = lang_named(&d.w.langs, "one");
	int64_t before = d.w.languages_time;
	assert_non_null(l);
	assert_string_equal(owner("one"), "nobody");
	assert_true(text_has("not asked"));
	ask();
	assert_string_equal(owner("one"), "one");
	assert_ptr_equal(lang_named(&d.w.langs, "one"), l);
	assert_true(d.w.languages_time >= before + 1000);
	assert_true(text_has("1.2 fake 3"));
}

static void it_is_asked_once(void **state)
{
	spec("one", ".one");
	spec("two", ".two");
	open_and_ask();
	assert_int_equal(times_asked(), 2);
	reopen_and_ask();
	assert_int_equal(times_asked(), 2);
	assert_string_equal(owner("two"), "two");
	spec("two", ".other");
	reopen_and_ask();
	assert_int_equal(times_asked(), 3);
	assert_string_equal(owner("two"), "nobody");
	assert_string_equal(owner("other"), "two");
	must(write_file(d.w.state, "kernelspecs.json", "{ no", 4, 0600) == 0);
	reopen_and_ask();
	assert_int_equal(times_asked(), 5);
}

static void failures_are_told_and_remembered(void **state)
{
	spec("failed", "FAILED");
	spec("mute", "MUTE");
	open_and_ask();
	assert_true(text_has("failed: its command ended: the last line  "));
	assert_true(text_has("failed: it ended without an answer no word  "));
	assert_true(log_has("language mute: "));
	reopen_and_ask();
	assert_int_equal(times_asked(), 1); /* the mute one does not count */
	assert_true(text_has("failed: it ended without an answer"));
}

static void clashes_go_by_name_after_ours(void **state)
{
	spec("b", ".same");
	spec("a", ".same");
	spec("c", ".t");
	spec("fake", ".own");
	open_and_ask();
	assert_string_equal(owner("same"), "a");
	assert_string_equal(owner("t"), "fake");
	assert_string_equal(owner("own"), "jupyter-fake");
	assert_true(log_has("language b: the extension .same is already a's"));
	assert_true(log_has("language c: the extension .t is already fake's"));
	auto_buf struct buf exts = { 0 };
	langs_print_exts(&d.w.langs, &exts);
	assert_string_equal(exts.s, ".t .u .same .own");
}

/* A name in front of another that was asked before takes the extension over. */
static void a_later_answer_may_be_the_first(void **state)
{
	spec("b", ".same");
	open_and_ask();
	assert_string_equal(owner("same"), "b");
	spec("a", ".same");
	reopen_and_ask();
	assert_string_equal(owner("same"), "a");
	assert_true(log_has("language b: the extension .same is now a's"));
}

static void what_cannot_be_a_kernelspec_is_logged(void **state)
{
	static const char *const texts[][2] = {
		{ "no-json", "{" }, { "no-argv", "{}" }, { "argv-of-numbers", "{\"argv\":[1]}" }, { "list", "[]" },
		{ "sp ace", "{\"argv\":[\"/bin/true\"]}" }, { "-dash", "{\"argv\":[\"/bin/true\"]}" },
	};
	auto_free char *dir = specs_dir();

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		put_spec(dir, texts[i][0], texts[i][1]);
	put_spec(dir, "lost", "{\"argv\":[\"no-such-program\"]}");
	spec("draft", ".txt");
	spec("long", ".an-extension-of-many-letters");
	spec("dots", ".a.b");
	spec("none", "");
	open_and_ask();
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		auto_free char *path = xasprintf("kernelspec %s/%s/kernel.json: ", dir, texts[i][0]);
		assert_true(log_has(path));
		assert_null(lang_named(&d.w.langs, texts[i][0]));
	}
	assert_true(text_has("missing: the program no-such-program of "));
	assert_string_equal(owner("txt"), "nobody");
	assert_string_equal(owner("b"), "nobody");
	assert_true(log_has("language draft: the extension .txt"));
	assert_true(log_has("language dots: the extension .a.b"));
	assert_true(log_has("language long: "));
	assert_non_null(lang_named(&d.w.langs, "none"));
}

static void without_the_bridges_interpreter_nothing_is_asked(void **state)
{
	put_bridge("/no/such/python");
	spec("one", ".one");
	open_and_ask();
	assert_true(text_has("missing: apt-get install something"));
	assert_int_equal(times_asked(), 0);
}

static void python_is_the_bridges(void **state)
{
	static const char *const names[] = { "python", "python3", "python3.11" };
	auto_free char *dir = specs_dir();

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		auto_free char *text = xasprintf("{\"argv\":[\"%s\"]}", names[i]);
		put_spec(dir, names[i], text);
	}
	put_spec(dir, "near", "{\"argv\":[\"{resource_dir}/program\"],\"display_name\":\"Near \\\" it\"}");
	auto_free char *program = xasprintf("%s/near/program", dir);
	must(write_file(AT_FDCWD, program, "#!/bin/sh\n", 10, 0755) == 0);
	domain_open(&d);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		assert_string_equal(lang_named(&d.w.langs, names[i])->needs[1], "/bin/sh");
	const struct lang *near = lang_named(&d.w.langs, "near");
	assert_string_equal(near->needs[1], program);
	assert_string_equal(near->title, "Near \" it");
	assert_non_null(strstr(near->argv[2], program));
}

/* Jupyter's own order. */
static void where_jupyter_looks(void **state)
{
	auto_free char *home = xasprintf("%s/home", d.dir), *path = xasprintf("%s/p1:%s/p2", d.dir, d.dir);
	auto_free char *p1 = xasprintf("%s/p1/kernels", d.dir), *p2 = xasprintf("%s/p2/kernels", d.dir);
	auto_free char *user = xasprintf("%s/.local/share/jupyter/kernels", home);
	auto_free char *first = xasprintf("%s/cellfs-x/kernel.json", p1), *last = xasprintf("%s/cellfs-z/kernel.json", user);
	auto_free char *old_home = xstrdup(getenv("HOME") ? getenv("HOME") : "/");
	static const char text[] = "{\"argv\":[\"/bin/true\"]}";

	free((char *)d.opt.kernelspecs);
	d.opt.kernelspecs = NULL;
	put_spec(p1, "cellfs-x", text);
	put_spec(p2, "Cellfs-X", text);
	put_spec(p2, "cellfs-y", text);
	put_spec(user, "cellfs-y", text);
	put_spec(user, "cellfs-z", text);
	setenv("JUPYTER_PATH", path, 1);
	setenv("HOME", home, 1);
	unsetenv("XDG_DATA_HOME");
	unsetenv("JUPYTER_DATA_DIR");
	domain_open(&d);
	setenv("HOME", old_home, 1);
	unsetenv("JUPYTER_PATH");
	assert_string_equal(lang_named(&d.w.langs, "cellfs-x")->spec, first);
	assert_non_null(strstr(lang_named(&d.w.langs, "cellfs-y")->spec, "/p2/"));
	assert_string_equal(lang_named(&d.w.langs, "cellfs-z")->spec, last);
}

static bool has_home(struct domain *x)
{
	return faccessat(x->w.state, "ask", F_OK, 0) == 0;
}

static void a_stop_ends_the_question(void **state)
{
	spec("slow", "SLOW");
	domain_open(&d);
	world_mounted(&d.w);
	assert_true(domain_until(&d, has_home));
	domain_reopen(&d); /* it waits until all is quiet */
	assert_true(text_has("not asked"));
}

int main(void)
{
#define with_bridge(test) cmocka_unit_test_setup_teardown(test, setup_bridge, teardown_bridge)
	const struct CMUnitTest tests[] = {
		with_bridge(an_answer_makes_a_language),
		with_bridge(it_is_asked_once),
		with_bridge(failures_are_told_and_remembered),
		with_bridge(clashes_go_by_name_after_ours),
		with_bridge(a_later_answer_may_be_the_first),
		with_bridge(what_cannot_be_a_kernelspec_is_logged),
		with_bridge(without_the_bridges_interpreter_nothing_is_asked),
		with_bridge(python_is_the_bridges),
		with_bridge(where_jupyter_looks),
		with_bridge(a_stop_ends_the_question),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
