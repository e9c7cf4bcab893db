#include "lang.h"

#include "json.h"
#include "spawn.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

enum { PROBE_MS = 10000, MANIFEST_MAX = 64 << 10, EXTS_MAX = 16 };

static char **strings(const struct json *arr)
{
	char **v = xcalloc(json_len(arr) + 1, sizeof(*v));
	size_t n = 0, len;

	for (size_t i = 0; i < json_len(arr); i++) {
		const char *s = json_text(json_at(arr, i), &len);
		if (s)
			v[n++] = xstrdup(s);
	}
	return v;
}

static void lang_clear(struct lang *l)
{
	free(l->name);
	free(l->title);
	free(l->dir);
	free(l->comment);
	free(l->install);
	free(l->interpreter);
	free(l->version);
	free(l->dotted);
	free(l->spec);
	free_strings(l->needs);
	free_strings(l->packages);
	free_strings(l->exts);
	free_strings(l->argv);
	free_strings(l->env);
}

void langs_free(struct langs *ls)
{
	for (size_t i = 0; i < ls->n; i++)
		lang_clear(&ls->v[i]);
	lang_clear(&ls->bridge);
	lang_clear(&ls->installer);
	free(ls->v);
	*ls = (struct langs){ 0 };
}

char *lang_arg(const char *arg, const char *dir)
{
	return strncmp(arg, "{dir}", 5) ? xstrdup(arg) : xasprintf("%s%s", dir, arg + 5);
}

/* A directory can be entered, so access() alone would take it. */
static bool is_program(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

char *lang_program(const char *name)
{
	const char *path = getenv("PATH");

	if (strchr(name, '/'))
		return is_program(name) ? xstrdup(name) : NULL;
	for (const char *p = path ? path : "/usr/bin:/bin"; *p;) {
		size_t n = strcspn(p, ":");
		auto_free char *full = xasprintf("%.*s/%s", (int)n, p, name);
		if (*full == '/' && is_program(full))
			return xstrdup(full);
		p += n + (p[n] == ':');
	}
	return NULL;
}

/* Asks PROGRAM for its version by the manifest's probe. Returns 0 good, 1 second-rate, -1 unfit. */
static int probe(const struct lang *l, const char *program, const struct json *args, char **version)
{
	struct strings argv = { 0 };
	auto_buf struct buf out = { 0 };
	size_t len;
	int status = -1;

	strings_add(&argv, xstrdup(program));
	for (size_t i = 0; i < json_len(args); i++) {
		const char *arg = json_text(json_at(args, i), &len);
		if (arg)
			strings_add(&argv, lang_arg(arg, l->dir));
	}
	int err = spawn_ask(argv.v, PROBE_MS, &out, &status);
	strings_clear(&argv);
	if (err || (status != 0 && status != 1) || !out.n)
		return -1;
	*version = xstrndup(out.s, strcspn(out.s, "\n"));
	return status;
}

static void find_interpreter(struct lang *l, const struct json *m)
{
	struct json *names = json_arr(m, "interpreters");
	size_t len;

	for (size_t i = 0; i < json_len(names); i++) {
		const char *name = json_text(json_at(names, i), &len);
		char *program = name ? lang_program(name) : NULL, *version = NULL;
		int how = program ? probe(l, program, json_arr(m, "probe"), &version) : -1;
		if (how == 0 || (how == 1 && !l->interpreter)) {
			free(l->interpreter);
			free(l->version);
			l->interpreter = program;
			l->version = version;
		} else {
			free(program);
			free(version);
		}
		if (how == 0)
			break;
	}
}

static char **env_strings(const struct json *obj)
{
	size_t n = 0, len;

	for (void *it = json_iter(obj); it; it = json_iter_next(obj, it))
		n++;
	char **v = xcalloc(n + 1, sizeof(*v));
	n = 0;
	for (void *it = json_iter(obj); it; it = json_iter_next(obj, it)) {
		const char *s = json_text(json_iter_value(it), &len);
		if (s)
			v[n++] = xasprintf("%s=%s", json_iter_key(it), s);
	}
	return v;
}

static char *dup_or(const char *s, const char *other)
{
	return xstrdup(s ? s : other);
}

/* Fills L from the manifest in folder DIR; ROLE: what it is if it is no language, else NULL. Returns 0, or -1 with the
 * reason in WHY. */
static int lang_read(struct langs *ls, struct lang *l, const char *dir, struct lang **role, char why[160])
{
	auto_free char *path = xasprintf("%s/manifest.json", dir);
	auto_buf struct buf text = { 0 };
	int err = read_file(AT_FDCWD, path, MANIFEST_MAX, &text);

	if (err) {
		snprintf(why, 160, "%s", strerror(-err));
		return -1;
	}
	auto_json struct json *m = json_parse(text.s, text.n, why);
	if (!m)
		return -1;
	const char *name = json_str(m, "name");
	*role = json_bool(m, "kernelspecs") ? &ls->bridge : json_bool(m, "installs") ? &ls->installer : NULL;
	if (!name || (!*role && !json_len(json_arr(m, "extensions"))) || !json_len(json_arr(m, "argv")) ||
	    !json_len(json_arr(m, "interpreters"))) {
		snprintf(why, 160, "needs name, extensions, interpreters and argv");
		return -1;
	}
	*l = (struct lang){
		.name = xstrdup(name),
		.dotted = xasprintf(".%s", name),
		.title = dup_or(json_str(m, "title"), name),
		.dir = xstrdup(dir),
		.exts = strings(json_arr(m, "extensions")),
		.comment = dup_or(json_str(m, "comment"), "#|"),
		.argv = strings(json_arr(m, "argv")),
		.env = env_strings(json_obj(m, "env")),
		.install = dup_or(json_str(m, "install"), ""),
		.guard = json_bool(m, "guard"),
		.exit_status = json_bool(m, "exit_status"),
		.spare = json_bool(m, "spare"),
		.packages = strings(json_arr(m, "packages")),
		.installs = json_bool(m, "installs"),
	};
	find_interpreter(l, m);
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct lang *)a)->name, ((const struct lang *)b)->name);
}

int langs_load(struct langs *ls, const char *dir, struct log *log)
{
	char real[PATH_MAX], why[160];
	DIR *d = realpath(dir, real) ? opendir(real) : NULL;

	if (!d)
		return -errno;
	for (struct dirent *e; (e = readdir(d));) {
		auto_free char *sub = xasprintf("%s/%s", real, e->d_name);
		auto_free char *manifest = xasprintf("%s/manifest.json", sub);
		if (e->d_name[0] == '.' || access(manifest, F_OK) < 0)
			continue;
		struct lang l;
		struct lang *role;
		if (lang_read(ls, &l, sub, &role, why) < 0) {
			log_line(log, "language %s: %s/manifest.json: %s", e->d_name, sub, why);
			continue;
		}
		if (role) {
			lang_clear(role);
			*role = l;
			continue;
		}
		ls->v = xrealloc(ls->v, (ls->n + 1) * sizeof(*ls->v));
		ls->v[ls->n++] = l;
	}
	closedir(d);
	if (ls->n)
		qsort(ls->v, ls->n, sizeof(*ls->v), by_name);
	for (size_t i = 0; i < ls->n; i++)
		for (char **x = ls->v[i].exts; *x; x++) {
			const struct lang *first = lang_for_ext(ls, *x);
			if (first != &ls->v[i])
				log_line(log, "language %s: the extension .%s is already %s's",
					 ls->v[i].name, *x, first->name);
		}
	return 0;
}

const struct lang *lang_named(const struct langs *ls, const char *name)
{
	for (size_t i = 0; i < ls->n; i++)
		if (!strcmp(ls->v[i].name, name))
			return &ls->v[i];
	return NULL;
}

const struct lang *lang_for_ext(const struct langs *ls, const char *ext)
{
	for (size_t i = 0; i < ls->n; i++)
		for (char **x = ls->v[i].exts; *x; x++)
			if (!strcmp(*x, ext))
				return &ls->v[i];
	return NULL;
}

const struct lang *lang_for_packages(const struct langs *ls, const char *name)
{
	for (size_t i = 0; i < ls->n; i++)
		for (char **p = ls->v[i].packages; p && *p; p++)
			if (!strcmp(*p, name))
				return &ls->v[i];
	return NULL;
}

const char *cell_ext(const char *name)
{
	const char *dot = strrchr(name, '.');

	return dot && dot != name && name[0] != '.' && dot[1] ? dot + 1 : NULL;
}

const struct lang *lang_for_cell(const struct langs *ls, const char *name)
{
	const char *ext = cell_ext(name);

	return ext ? lang_for_ext(ls, ext) : NULL;
}

/* Its extensions that are its own. */
static void print_own_exts(const struct langs *ls, const struct lang *l, struct buf *out)
{
	for (char **x = l->exts; *x; x++)
		if (lang_for_ext(ls, *x) == l)
			buf_printf(out, "%s.%s", out->n ? " " : "", *x);
}

void langs_print(const struct langs *ls, struct buf *out)
{
	for (size_t i = 0; i < ls->n; i++) {
		const struct lang *l = &ls->v[i];
		auto_buf struct buf exts = { 0 };
		print_own_exts(ls, l, &exts);
		buf_printf(out, "%-12s %-20s ", l->name, exts.n ? exts.s : "-");
		if (!l->interpreter) {
			buf_printf(out, "missing: %s\n", *l->install ? l->install : "no interpreter found");
			continue;
		}
		buf_str(out, l->version);
		if (l->exts[0] && !exts.n)
			buf_printf(out, "  (echo %s > config/kernel/%s)", l->name, l->exts[0]);
		buf_printf(out, "  %s\n", l->spec ? l->spec : l->interpreter);
	}
}

void langs_print_exts(const struct langs *ls, struct buf *out)
{
	for (size_t i = 0; i < ls->n; i++)
		print_own_exts(ls, &ls->v[i], out);
}
