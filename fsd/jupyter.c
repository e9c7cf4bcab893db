#include "jupyter.h"

#include "json.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum {
	SPEC_MAX = 64 << 10,
	SPECS_MAX = 64,
	ANSWERS_MAX = 1 << 20,
	SAID_MAX = 64 << 10,
	ASK_US = 60 * 1000000,
	EXT_MAX = 16,
	WORDS_MAX = 200, /* of a failure, on a line */
};

static const char answers_file[] = "kernelspecs.json", home_name[] = "ask";

struct spec {
	char *name, *file; /* of the language; kernel.json */
	char *dir;
	char *program;     /* absolute; NULL there is none */
	char *wanted;      /* what kernel.json calls it */
	char *stamp;       /* another one when the answer may be another */
	struct json *json;
	struct lang *lang;
	char *answer;      /* what is remembered, a JSON object; NULL it is not known */
};

struct jupyter {
	struct jupyter_host host;
	struct langs *langs;
	struct spec *specs;
	size_t n;
	struct spec *asked;       /* under way */
	bool stopping;
	char *home;
	int said, errors;         /* what it writes: memory */
	int lifeline, report;
	pid_t pid;
	struct watch w_pid;
	struct timer limit;
};

/* ---- finding ---- */

/* What Jupyter takes for a name; and no dot in front, it becomes one of directories. */
static bool name_ok(const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)name[i]) && !strchr("._-", name[i]))
			return false;
	return n && n <= 64 && isalnum((unsigned char)*name);
}

static bool is_python(const char *program)
{
	return !strcmp(program, "python") ||
	       (!strncmp(program, "python3", 7) && strspn(program + 7, ".0123456789") == strlen(program + 7));
}

/* As Jupyter's own client does it, `python` is the Python of who starts the kernel. */
static char *resolve_program(const struct langs *ls, const char *dir, const char *name)
{
	static const char in_dir[] = "{resource_dir}";

	if (is_python(name) && ls->bridge.interpreter)
		return xstrdup(ls->bridge.interpreter);
	if (!strncmp(name, in_dir, sizeof(in_dir) - 1)) {
		auto_free char *path = xasprintf("%s%s", dir, name + sizeof(in_dir) - 1);
		return lang_program(path);
	}
	return strchr(name, '/') && *name != '/' ? NULL : lang_program(name);
}

static char *make_stamp(const char *file, const char *program)
{
	struct stat spec = { 0 }, bin = { 0 };

	if (stat(file, &spec) < 0 || (program && stat(program, &bin) < 0))
		return xstrdup("");
	return xasprintf("%lld %lld %s %lld", (long long)ts_to_us(spec.st_mtim), (long long)spec.st_size,
			 program ? program : "-", (long long)ts_to_us(bin.st_mtim));
}

static void spec_clear(struct spec *s)
{
	free(s->name);
	free(s->file);
	free(s->dir);
	free(s->program);
	free(s->wanted);
	free(s->stamp);
	free(s->answer);
	json_free(s->json);
}

/* Is PATH root's alone, or is that no matter? What root's daemon asks runs as root. */
static bool is_roots(const char *path)
{
	struct stat st;

	return geteuid() != 0 || (stat(path, &st) == 0 && !st.st_uid && !(st.st_mode & 022));
}

/* Returns 0, or -1 with the reason in WHY. */
static int spec_read(struct spec *s, const struct langs *ls, const char *dir, const char *name, char why[160])
{
	auto_buf struct buf text = { 0 };
	size_t len;

	*s = (struct spec){ .dir = xasprintf("%s/%s", dir, name), .name = xstrdup(name) };
	for (char *p = s->name; *p; p++)
		*p = tolower((unsigned char)*p);
	s->file = xasprintf("%s/kernel.json", s->dir);
	int err = read_file(AT_FDCWD, s->file, SPEC_MAX, &text);
	if (err) {
		snprintf(why, 160, "%s", strerror(-err));
		return -1;
	}
	if (!is_roots(s->file)) {
		snprintf(why, 160, "it is not root's alone, and this daemon is root's");
		return -1;
	}
	s->json = json_parse(text.s, text.n, why);
	if (!s->json)
		return -1;
	const char *program = json_text(json_at(json_arr(s->json, "argv"), 0), &len);
	if (!program) {
		snprintf(why, 160, "it has no argv");
		return -1;
	}
	s->wanted = xstrdup(program);
	s->program = resolve_program(ls, s->dir, program);
	if (s->program && !is_roots(s->program)) {
		snprintf(why, 160, "its program is not root's alone, and this daemon is root's");
		return -1;
	}
	s->stamp = make_stamp(s->file, s->program);
	return 0;
}

static struct spec *spec_named(const struct jupyter *j, const char *name)
{
	for (size_t i = 0; i < j->n; i++)
		if (!strcasecmp(j->specs[i].name, name))
			return &j->specs[i];
	return NULL;
}

static void find_in(struct jupyter *j, const char *dir)
{
	DIR *d = opendir(dir);
	char why[160];

	for (struct dirent *e; d && (e = readdir(d));) {
		auto_free char *file = xasprintf("%s/%s/kernel.json", dir, e->d_name);
		if (e->d_name[0] == '.' || access(file, F_OK) < 0 || spec_named(j, e->d_name))
			continue;
		if (!name_ok(e->d_name)) {
			log_line(j->host.log, "kernelspec %s: not a name of letters, digits, `.`, `_` and `-`", file);
			continue;
		}
		if (j->n == SPECS_MAX) {
			log_line(j->host.log, "kernelspec %s: more than %d kernelspecs", file, SPECS_MAX);
			continue;
		}
		struct spec s;
		if (spec_read(&s, j->langs, dir, e->d_name, why) < 0) {
			log_line(j->host.log, "kernelspec %s: %s", file, why);
			spec_clear(&s);
			continue;
		}
		j->specs = xrealloc(j->specs, (j->n + 1) * sizeof(*j->specs));
		j->specs[j->n++] = s;
	}
	if (d)
		closedir(d);
}

static void find_below(struct jupyter *j, const char *dir, size_t n, const char *sub)
{
	auto_free char *path = xasprintf("%.*s%s", (int)n, dir, sub);

	if (*path == '/')
		find_in(j, path);
}

static void each_part(struct jupyter *j, const char *path, const char *sub)
{
	for (const char *p = path; p && *p;) {
		size_t n = strcspn(p, ":");
		find_below(j, p, n, sub);
		p += n + (p[n] == ':');
	}
}

/* Jupyter's order: the first of a name wins. */
static void find_all(struct jupyter *j, const char *path)
{
	const char *home = getenv("HOME"), *xdg = getenv("XDG_DATA_HOME"), *data = getenv("JUPYTER_DATA_DIR");
	const char *python = j->langs->bridge.interpreter, *slash = python ? strrchr(python, '/') : NULL;

	if (path) {
		each_part(j, path, "");
		return;
	}
	each_part(j, getenv("JUPYTER_PATH"), "/kernels");
	if (data)
		find_below(j, data, strlen(data), "/kernels");
	else if (xdg)
		find_below(j, xdg, strlen(xdg), "/jupyter/kernels");
	else if (home)
		find_below(j, home, strlen(home), "/.local/share/jupyter/kernels");
	if (slash && slash - python > 4 && !strncmp(slash - 4, "/bin", 4))
		find_below(j, python, slash - 4 - python, "/share/jupyter/kernels");
	find_in(j, "/usr/local/share/jupyter/kernels");
	find_in(j, "/usr/share/jupyter/kernels");
}

/* ---- languages ---- */

/* Of what it says that is of use on one line: the beginning, and the end, where the error is. */
static char *short_words(const char *text)
{
	size_t head = strcspn(text, "\n"), n = strlen(text);
	auto_buf struct buf b = { 0 };

	while (n && isspace((unsigned char)text[n - 1]))
		n--;
	const char *last = n > head ? memrchr(text, '\n', n) : NULL;
	buf_add(&b, text, MIN(head, (size_t)WORDS_MAX));
	if (last)
		buf_printf(&b, " %.*s", (int)MIN(text + n - last - 1, WORDS_MAX), last + 1);
	auto_buf struct buf clean = { 0 };
	buf_printable(&clean, b.s);
	return utf8_clean(clean.s);
}

static const char *member(const struct json *o, const char *key, const char *otherwise)
{
	const char *s = json_str(o, key);

	return s ? s : otherwise;
}

/* The bridge's argument: kernel.json may be out of its sight. */
static char *make_argument(const struct spec *s)
{
	const struct json *argv = json_arr(s->json, "argv"), *env = json_obj(s->json, "env");
	struct buf b = { 0 };
	size_t len;

	buf_str(&b, "{\"name\":");
	buf_json_str(&b, s->name);
	buf_str(&b, ",\"resource_dir\":");
	buf_json_str(&b, s->dir);
	buf_str(&b, ",\"language\":");
	buf_json_str(&b, member(s->json, "language", ""));
	buf_str(&b, ",\"interrupt_mode\":");
	buf_json_str(&b, member(s->json, "interrupt_mode", "signal"));
	buf_str(&b, ",\"argv\":[");
	buf_json_str(&b, s->program ? s->program : "");
	for (size_t i = 1; i < json_len(argv); i++) {
		const char *arg = json_text(json_at(argv, i), &len);
		buf_char(&b, ',');
		buf_json_str(&b, arg ? arg : "");
	}
	buf_str(&b, "],\"env\":");
	if (env)
		json_dump(env, &b);
	else
		buf_str(&b, "{}");
	buf_char(&b, '}');
	return b.s;
}

/* As `.m`. Names that drafts have belong to nobody. */
static bool extension_ok(const char *ext)
{
	static const char *const drafts[] = { "txt", "md", "json", "tmp", "bak", "log", "csv" };
	size_t n = strlen(ext);

	if (*ext != '.' || n < 2 || n > EXT_MAX)
		return false;
	for (size_t i = 1; i < n; i++)
		if (!isalnum((unsigned char)ext[i]) && !strchr("_+-", ext[i]))
			return false;
	for (size_t i = 0; i < ARRAY_SIZE(drafts); i++)
		if (!strcmp(ext + 1, drafts[i]))
			return false;
	return true;
}

static void set_exts(struct lang *l, const char *ext)
{
	free_strings(l->exts);
	l->exts = xcalloc(2, sizeof(*l->exts));
	if (ext && *ext)
		l->exts[0] = xstrdup(ext);
}

/* What is remembered of it makes the language. */
static void apply(struct jupyter *j, struct spec *s)
{
	struct lang *l = s->lang;
	auto_json struct json *a = s->answer ? json_parse(s->answer, strlen(s->answer), NULL) : NULL;
	const char *failed = json_str(a, "failed"), *ext = member(a, "extension", "");

	str_set(&l->comment, member(a, "comment", "#|"));
	free(l->version);
	if (!a) {
		l->version = xstrdup("not asked for its extension yet");
		return;
	}
	if (failed) {
		auto_free char *words = short_words(failed);
		l->version = xasprintf("failed: %s", words);
		set_exts(l, NULL);
		return;
	}
	auto_free char *version = xasprintf("%.40s %.80s", member(a, "ver", ""), member(a, "engine", ""));
	l->version = short_words(version);
	if (*ext && !extension_ok(ext)) {
		log_line(j->host.log, "language %s: the extension %.40s of %s is none that a language can have", l->name,
			 ext, s->file);
		ext = "";
	}
	set_exts(l, *ext ? ext + 1 : NULL);
	const struct lang *first = *ext ? lang_for_ext(j->langs, ext + 1) : NULL;
	if (first && first != l)
		log_line(j->host.log, "language %s: the extension %s is already %s's; `echo %s > config/kernel/%s` chooses %s "
			 "in one context", l->name, ext, first->name, l->name, ext + 1, l->name);
	for (size_t i = 0; *ext && first == l && i < j->n; i++) {
		const struct lang *other = j->specs[i].lang;
		if (other != l && other && other->exts[0] && !strcmp(other->exts[0], ext + 1))
			log_line(j->host.log, "language %s: the extension %s is now %s's", other->name, ext, l->name);
	}
}

/* Of the bridge's argv {spec} becomes ARGUMENT; its env has none. */
static char **copy_strings(char **v, const char *argument)
{
	size_t n = 0;

	while (v[n])
		n++;
	char **copy = xcalloc(n + 1, sizeof(*copy));
	for (size_t i = 0; i < n; i++)
		copy[i] = xstrdup(strcmp(v[i], "{spec}") ? v[i] : argument);
	return copy;
}

/* MADE are those that are no languages of LS yet. */
static void make_lang(struct jupyter *j, struct spec *s, struct lang *l, const struct lang *made)
{
	const struct lang *bridge = &j->langs->bridge;
	auto_free char *argument = make_argument(s);

	*l = (struct lang){
		.name = lang_named(j->langs, s->name) ? xasprintf("jupyter-%s", s->name) : xstrdup(s->name),
		.title = xstrdup(member(s->json, "display_name", s->name)),
		.dir = xstrdup(bridge->dir),
		.exts = xcalloc(1, sizeof(*l->exts)),
		.comment = xstrdup("#|"),
		.argv = copy_strings(bridge->argv, argument),
		.env = copy_strings(bridge->env, argument),
		.spec = xstrdup(s->file),
		.needs = xcalloc(3, sizeof(*l->needs)),
	};
	if (!bridge->interpreter)
		l->install = xstrdup(bridge->install);
	else if (!s->program)
		l->install = xasprintf("the program %s of %s", s->wanted, s->file);
	else
		l->install = xstrdup("");
	if (bridge->interpreter && s->program)
		l->interpreter = xstrdup(bridge->interpreter);
	l->needs[0] = xstrdup(s->file);
	if (s->program)
		l->needs[1] = xstrdup(s->program);
	for (const struct lang *other = made; other < l; other++) {
		if (strcmp(other->name, l->name))
			continue;
		free(l->name);
		l->name = xasprintf("jupyter-%s-%zu", s->name, (size_t)(l - made) + 1);
		other = made - 1;
	}
	l->dotted = xasprintf(".%s", l->name);
	if (strcmp(l->name, s->name))
		log_line(j->host.log, "kernelspec %s: there is a language %s already: it is called %s", s->file, s->name,
			 l->name);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct spec *)a)->name, ((const struct spec *)b)->name);
}

/* Once, because kernels point to languages. */
static void add_languages(struct jupyter *j)
{
	struct langs *ls = j->langs;

	if (!j->n)
		return;
	qsort(j->specs, j->n, sizeof(*j->specs), by_name);
	struct lang *made = xcalloc(j->n, sizeof(*made));
	for (size_t i = 0; i < j->n; i++)
		make_lang(j, &j->specs[i], &made[i], made);
	ls->v = xrealloc(ls->v, (ls->n + j->n) * sizeof(*ls->v));
	memcpy(ls->v + ls->n, made, j->n * sizeof(*made));
	for (size_t i = 0; i < j->n; i++)
		j->specs[i].lang = &ls->v[ls->n + i];
	ls->n += j->n;
	free(made);
}

/* ---- answers ---- */

static void recall(struct jupyter *j)
{
	auto_buf struct buf text = { 0 };

	if (read_file(j->host.state, answers_file, ANSWERS_MAX, &text))
		text.n = 0;
	auto_json struct json *all = text.n ? json_parse(text.s, text.n, NULL) : NULL;
	for (size_t i = 0; i < j->n; i++) {
		struct spec *s = &j->specs[i];
		struct json *a = json_obj(all, s->file);
		const char *stamp = json_str(a, "stamp");
		if (stamp && *stamp && !strcmp(stamp, s->stamp)) {
			struct buf b = { 0 };
			json_dump(a, &b);
			s->answer = b.s;
		}
		apply(j, s);
	}
}

static void remember(struct jupyter *j)
{
	auto_buf struct buf b = { 0 };

	buf_char(&b, '{');
	for (size_t i = 0; i < j->n; i++) {
		const struct spec *s = &j->specs[i];
		if (!s->answer)
			continue;
		buf_str(&b, b.n > 1 ? ",\n" : "\n");
		buf_json_str(&b, s->file);
		buf_printf(&b, ":%s", s->answer);
	}
	buf_str(&b, "\n}\n");
	int err = write_file(j->host.state, answers_file, b.s, b.n, 0600);
	if (err)
		log_line(j->host.log, "%s: %s", answers_file, strerror(-err));
}

/* The event `hello` of what the driver said, or NULL. */
static struct json *find_hello(const struct buf *said)
{
	for (size_t at = 0; at < said->n;) {
		char *nl = memchr(said->s + at, '\n', said->n - at);
		struct json *ev = nl ? json_parse(said->s + at, nl - said->s - at, NULL) : NULL;
		if (ev && !strcmp(member(ev, "ev", ""), "hello"))
			return ev;
		json_free(ev);
		if (!nl)
			break;
		at = nl - said->s + 1;
	}
	return NULL;
}

static void add_member(struct buf *b, const char *key, const char *value)
{
	buf_printf(b, ",\"%s\":", key);
	buf_json_str(b, value);
}

static char *make_answer(const struct spec *s, const struct json *hello, const char *why, const char *errors)
{
	static const char *const keys[] = { "ver", "engine", "extension", "comment", "failed" };
	struct buf b = { 0 };

	buf_str(&b, "{\"stamp\":");
	buf_json_str(&b, s->stamp);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (json_str(hello, keys[i]))
			add_member(&b, keys[i], json_str(hello, keys[i]));
	if (!hello) {
		auto_free char *failed = xasprintf("%s\n%s", why, errors);
		add_member(&b, "failed", failed);
	}
	buf_char(&b, '}');
	return b.s;
}

/* ---- asking ---- */

static void ask_next(struct jupyter *j);

static int remove_home(void *arg)
{
	const struct jupyter *j = arg;

	return delete_tree(j->host.state, home_name);
}

static void read_memory(int fd, size_t max, struct buf *out)
{
	buf_grow(out, max);
	ssize_t n = pread(fd, out->s, max, 0);
	out->n = MAX(n, 0);
	out->s[out->n] = 0;
}

static void close_all(struct jupyter *j)
{
	drop_fd(&j->said);
	drop_fd(&j->errors);
	drop_fd(&j->lifeline);
	drop_fd(&j->report);
}

/* The driver and all that came of it are gone. */
static void on_gone(void *arg, uint32_t mask)
{
	struct jupyter *j = arg;
	struct spec *s = j->asked;
	auto_buf struct buf said = { 0 }, errors = { 0 };
	int fd = j->w_pid.fd;

	(void)mask;
	watch_del(j->host.loop, &j->w_pid);
	drop_fd(&fd);
	waitpid(j->pid, NULL, 0);
	timer_stop(j->host.loop, &j->limit);
	read_memory(j->said, SAID_MAX, &said);
	read_memory(j->errors, SAID_MAX, &errors);
	bool late = j->lifeline < 0;
	close_all(j);
	j->asked = NULL;
	if (j->stopping) {
		worker_do(j->host.worker, remove_home, NULL, j);
		return;
	}
	auto_json struct json *hello = find_hello(&said);
	free(s->answer);
	s->answer = make_answer(s, hello, late ? "it gave no answer within 60 s" : "it ended without an answer", errors.s);
	apply(j, s);
	if (!hello || json_str(hello, "failed"))
		log_line(j->host.log, "language %s: %s: %s", s->lang->name, s->file, s->lang->version);
	remember(j);
	j->host.changed(j->host.arg);
	ask_next(j);
}

static void on_limit(void *arg)
{
	struct jupyter *j = arg;

	drop_fd(&j->lifeline);
}

/* As a kernel without a box: its supervisor ends what it leaves. Its commands are at their end from the beginning, so
 * the driver says hello and ends in order. */
static int launch(struct jupyter *j)
{
	const struct lang *l = j->asked->lang;
	struct strings args = { 0 }, env = { 0 };
	int life[2] = { -1, -1 }, report[2] = { -1, -1 }, pidfd = -1;

	j->said = memfd_create("events", MFD_CLOEXEC);
	j->errors = memfd_create("stderr", MFD_CLOEXEC);
	if (j->said < 0 || j->errors < 0 || pipe2(life, O_CLOEXEC) < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, report) < 0) {
		int err = -errno;
		drop_fd(&life[0]);
		drop_fd(&life[1]);
		return err;
	}
	strings_addf(&args, "--lifeline=%d", BOX_OWN);
	strings_addf(&args, "--report=%d", BOX_OWN + 1);
	strings_addf(&args, "--cwd=%s", j->home);
	strings_addf(&args, "--");
	for (char **a = l->argv; *a; a++)
		strings_add(&args, strcmp(*a, "{interpreter}") ? lang_arg(*a, l->dir) : xstrdup(l->interpreter));
	strings_addf(&env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	strings_addf(&env, "HOME=%s", j->home);
	strings_addf(&env, "TMPDIR=%s", j->home);
	strings_addf(&env, "LANG=C.UTF-8");
	strings_addf(&env, "TERM=dumb");
	strings_add(&env, NULL);
	int fds[BOX_OWN + 2] = { [0] = -1, -1, j->errors, -1, j->said, -1, -1, life[0], report[1] };
	int err = sandbox_run(j->host.sandbox, NULL, NULL, fds, &args, env.v, &j->pid, &pidfd);
	strings_clear(&args);
	strings_clear(&env);
	drop_fd(&life[0]);
	drop_fd(&report[1]);
	j->lifeline = life[1];
	j->report = report[0];
	if (err)
		return err;
	watch_add(j->host.loop, &j->w_pid, pidfd, EPOLLIN, on_gone, j);
	timer_set(j->host.loop, &j->limit, ASK_US, on_limit, j);
	return 0;
}

static int make_home(void *arg)
{
	const struct jupyter *j = arg;

	delete_tree(j->host.state, home_name);
	return mkdirat(j->host.state, home_name, 0700) < 0 ? -errno : 0;
}

static void ask_next(struct jupyter *j);

static void home_made(void *arg, int err)
{
	struct jupyter *j = arg;
	struct spec *s = j->asked;

	if (!err && !j->stopping)
		err = launch(j);
	if (!err && !j->stopping)
		return;
	close_all(j);
	j->asked = NULL;
	if (!err || j->stopping)
		return;
	log_line(j->host.log, "language %s: its kernel cannot be asked: %s", s->lang->name, strerror(-err));
	str_set(&s->stamp, ""); /* the next start asks again */
	s->answer = make_answer(s, NULL, strerror(-err), "");
	apply(j, s);
	j->host.changed(j->host.arg);
	ask_next(j);
}

static void ask_next(struct jupyter *j)
{
	for (size_t i = 0; i < j->n && !j->stopping; i++) {
		struct spec *s = &j->specs[i];
		if (s->answer || !s->lang->interpreter)
			continue;
		j->asked = s;
		worker_do(j->host.worker, make_home, home_made, j);
		return;
	}
	worker_do(j->host.worker, remove_home, NULL, j);
}

/* ---- */

struct jupyter *jupyter_find(const struct jupyter_host *h, struct langs *ls, const char *path)
{
	struct jupyter *j = xcalloc(1, sizeof(*j));

	j->host = *h;
	j->langs = ls;
	j->home = xasprintf("%s/%s", h->state_dir, home_name);
	j->said = j->errors = j->lifeline = j->report = -1;
	if (!ls->bridge.name || (path && !strcmp(path, "off")))
		return j;
	find_all(j, path);
	add_languages(j);
	recall(j);
	return j;
}

void jupyter_ask(struct jupyter *j)
{
	for (size_t i = 0; i < j->n; i++) {
		if (!j->specs[i].answer && j->specs[i].lang->interpreter) {
			ask_next(j);
			return;
		}
	}
}

void jupyter_stop(struct jupyter *j)
{
	j->stopping = true;
	drop_fd(&j->lifeline);
}

bool jupyter_busy(const struct jupyter *j)
{
	return j->asked;
}

void jupyter_free(struct jupyter *j)
{
	if (!j)
		return;
	int fd = j->w_pid.fn ? j->w_pid.fd : -1;
	watch_del(j->host.loop, &j->w_pid);
	drop_fd(&fd);
	timer_stop(j->host.loop, &j->limit);
	close_all(j);
	for (size_t i = 0; i < j->n; i++)
		spec_clear(&j->specs[i]);
	free(j->specs);
	free(j->home);
	free(j);
}
