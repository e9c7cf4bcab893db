#include "packages.h"

#include "gate.h"
#include "kernel.h"
#include "worker.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	LINES_MAX = 1000,
	LIST_MAX = 1 << 20,     /* bytes that are shown of each language */
	SETTING_MAX = 64 << 10,
	NAMED_MAX = 8,          /* files of the host that settings may name */
};

extern char **environ;

/* ---- what is installed ---- */

/* What list/NAME holds. Installers write it, and so can cells. */
static void read_list(struct context *c, const char *name, struct buf *out)
{
	auto_free char *path = context_path(c, "packages"), *sub = xasprintf("list/%s", name);
	auto_close int dir = openat(c->world->contexts_dir, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	auto_close int fd = dir < 0 ? -1 : gate_open_file(dir, sub, O_RDONLY, 0);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size > LIST_MAX)
		return;
	buf_grow(out, st.st_size + 1);
	ssize_t n = pread(fd, out->s, st.st_size, 0);
	out->n = MAX(n, 0);
	out->s[out->n] = 0;
}

void packages_print(struct context *c, struct buf *out)
{
	const struct langs *ls = &c->world->langs;

	for (size_t i = 0; i < ls->n; i++) {
		const char *name = ls->v[i].packages ? ls->v[i].packages[0] : NULL;
		auto_buf struct buf list = { 0 };
		if (!name)
			continue;
		read_list(c, name, &list);
		for (char *line = list.s, *next; line && *line; line = next) {
			next = line + strcspn(line, "\n");
			if (*next)
				*next++ = 0;
			buf_printf(out, "%s: ", name);
			buf_printable(out, line);
			buf_char(out, '\n');
		}
	}
}

int64_t packages_time(struct context *c)
{
	auto_free char *path = context_path(c, "packages/list");
	struct stat st;

	return fstatat(c->world->contexts_dir, path, &st, AT_SYMLINK_NOFOLLOW) ? c->created : ts_to_us(st.st_mtim);
}

/* ---- lines ---- */

struct package {
	const struct lang *lang;
	const char *spec; /* in the line */
	bool removes;
};

/* The language that LINE begins with, which is passed; NULL if it begins with none. *UNKNOWN: a name that is no language's. */
static const struct lang *take_lang(const struct langs *ls, char **line, char **unknown)
{
	size_t n = strspn(*line, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789");

	if (!n || (*line)[n] != ':' || !strncmp(*line + n, "://", 3))
		return lang_for_packages(ls, "python");
	char *name = xstrndup(*line, n);
	const struct lang *l = lang_for_packages(ls, name);
	*unknown = l ? NULL : name;
	if (l)
		free(name);
	*line += n + 1;
	return l;
}

/* Takes LINE, which is changed, apart. Returns 0, 1 if it says nothing, or -EINVAL with a sentence in WHY. */
static int parse_line(const struct langs *ls, char *line, struct package *it, struct buf *why)
{
	auto_free char *unknown = NULL;

	for (size_t n = strlen(line); n && strchr(" \t\r", line[n - 1]);)
		line[--n] = 0;
	line += strspn(line, " \t");
	if (!*line || *line == '#')
		return 1;
	it->removes = *line == '-';
	line += it->removes;
	line += strspn(line, " \t");
	it->lang = take_lang(ls, &line, &unknown);
	it->spec = line + strspn(line, " \t");
	for (const char *p = it->spec; *p; p++)
		if (iscntrl((unsigned char)*p)) {
			buf_str(why, "a control character in a package's name");
			return -EINVAL;
		}
	if (it->lang && *it->spec && *it->spec != '-')
		return 0;
	if (it->lang) {
		buf_str(why, *it->spec ? "a package's name cannot begin with -" : "no package is named");
		return -EINVAL;
	}
	buf_printf(why, "no language here has packages called %s; there are", unknown ? unknown : "python");
	for (size_t i = 0; i < ls->n; i++)
		if (ls->v[i].packages && ls->v[i].packages[0])
			buf_printf(why, " %s:", ls->v[i].packages[0]);
	return -EINVAL;
}

static bool is_listed(const struct package *it, const struct buf *list)
{
	auto_free char *line = xasprintf("%s: %s\n", it->lang->packages[0], it->spec);
	const char *at = list->n ? strstr(list->s, line) : NULL;

	while (at && at > list->s && at[-1] != '\n')
		at = strstr(at + 1, line);
	return at;
}

/* Do they mean the same package? SPEC begins with NAME, and goes on with what is no part of a name. */
static bool is_of(const struct package *spec, const struct package *name)
{
	size_t n = strlen(name->spec);
	unsigned char after = strncasecmp(spec->spec, name->spec, n) ? 'x' : spec->spec[n];

	return spec->lang == name->lang && !isalnum(after) && (!after || !strchr("-_./", after));
}

/* The packages of TEXT, which is changed. Returns how many, or -errno with a sentence in WHY. */
static int parse_text(const struct langs *ls, char *text, struct package *v, struct buf *why)
{
	int n = 0;

	for (char *line = text, *next; line; line = next) {
		next = strchr(line, '\n');
		if (next)
			*next++ = 0;
		if (n == LINES_MAX) {
			buf_printf(why, "more than %d lines", LINES_MAX);
			return -E2BIG;
		}
		int r = parse_line(ls, line, &v[n], why);
		if (r < 0)
			return r;
		n += !r;
	}
	for (int i = 0; i < n; i++)
		for (int k = 0; v[i].removes && k < n; k++)
			if (!v[k].removes && is_of(&v[k], &v[i])) {
				buf_printf(why, "%s is to be removed and to be installed", v[i].spec);
				return -EINVAL;
			}
	return n;
}

/* Calls FN for every line of TEXT that says something that is not so yet. Returns how many, or -errno. */
static int each_item(struct context *c, const char *text, size_t n,
		     void (*fn)(struct context *c, struct buf *out, const struct package *it), struct buf *out, struct buf *why)
{
	auto_free char *copy = xstrndup(text, n);
	auto_buf struct buf list = { 0 };
	struct package v[LINES_MAX];
	int all = parse_text(&c->world->langs, copy, v, why), count = 0;

	packages_print(c, &list);
	for (int i = 0; i < all; i++) {
		if (!v[i].removes && is_listed(&v[i], &list))
			continue;
		count++;
		if (fn)
			fn(c, out, &v[i]);
	}
	return all < 0 ? all : count;
}

/* How many lines of TEXT there is something to do for, or -EINVAL with a line in the log. */
static int count_items(struct context *c, const char *text, size_t n)
{
	auto_buf struct buf why = { 0 };
	const struct lang *in = &c->world->langs.installer;
	int count = -EINVAL;

	if (!in->interpreter)
		buf_printf(&why, "nothing installs here: %s", in->name ? in->install : "there is no kernels/packages");
	else if (memchr(text, 0, n))
		buf_str(&why, "a NUL byte");
	else
		count = each_item(c, text, n, NULL, NULL, &why);
	if (count < 0)
		context_log(c, "packages: not accepted: %s", why.s);
	return count;
}

int packages_check(struct context *c, const char *text, size_t n)
{
	int count = count_items(c, text, n);

	return count > 0 ? queue_admit(c, c->world->langs.installer.name) : count;
}

int packages_write(struct context *c, const char *text, size_t n)
{
	struct run *r;
	int count = count_items(c, text, n);

	if (count <= 0)
		return count;
	int err = context_queue(c, c->world->langs.installer.name, text, n, &r);
	if (!err)
		context_schedule(c);
	return err;
}

/* The one that config/kernel names for the language's cells, but for what cells may have put there. */
static const char *interpreter_of(struct context *c, const struct lang *l)
{
	auto_free char *cell = xasprintf("x.%s", l->exts[0]);
	struct speaker s = kernel_speaker(c, cell);

	if (s.lang == l && s.interpreter && strncmp(s.interpreter, "/workspace/", 11) && strncmp(s.interpreter, "/home/user/", 11))
		return s.interpreter;
	return l->interpreter ? l->interpreter : "missing";
}

static void plan_item(struct context *c, struct buf *out, const struct package *it)
{
	const struct lang *l = it->lang;
	bool full = c->world->sandbox.mode == SANDBOX_FULL;

	buf_printf(out, "%s\t%s%s\t%s\t%c\t%s\n", l->packages[0], full ? "/kernels" : "", full ? strrchr(l->dir, '/') : l->dir,
		   interpreter_of(c, l), it->removes ? '-' : '+', it->spec);
}

void packages_plan(struct context *c, struct buf *code)
{
	auto_buf struct buf out = { 0 }, why = { 0 };

	each_item(c, code->s, code->n, plan_item, &out, &why);
	buf_reset(code);
	buf_add(code, out.s ? out.s : "", out.n);
}

/* ---- where packages are, and come from ---- */

/* What an install has of the daemon's environment: how things are fetched, not where they are put. */
static bool is_setting(const char *entry)
{
	static const char *const prefixes[] = { "PIP_", "npm_config_", "NPM_CONFIG_" };
	static const char *const names[] = { "http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy", "HTTP_PROXY",
					     "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR",
					     "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS" };
	static const char *const others[] = { "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON", "PIP_CACHE_DIR",
					      "PIP_LOG", "PIP_REQUIRE_VIRTUALENV", "PIP_CONFIG_FILE" };
	size_t n = strcspn(entry, "=");

	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (n == strlen(others[i]) && !strncmp(entry, others[i], n))
			return false;
	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
		if (!strncmp(entry, prefixes[i], strlen(prefixes[i])))
			return true;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (n == strlen(names[i]) && !strncmp(entry, names[i], n))
			return true;
	return false;
}

void packages_env(struct world *w, const struct context *c, const struct lang *l, struct strings *env)
{
	bool full = w->sandbox.mode == SANDBOX_FULL;
	auto_free char *at = c ? context_inside(c, "packages") : xstrdup("/packages");
	static const char system[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	const char *kernels = full ? "/kernels" : w->opt.kernels_dir;

	if (l->installs) /* cells with a network may have put any program among the packages */
		strings_addf(env, "PATH=%s:%s/bin", system, at);
	else
		strings_addf(env, "PATH=%s/packages/bin:%s/bin:%s", kernels, at, system);
	strings_addf(env, "CELLFS_PACKAGES=%s", at);
	strings_addf(env, "PYTHONPATH=%s/packages/python", kernels);
	strings_addf(env, "NODE_PATH=%s/lib/node_modules", at);
	if (!l->installs)
		return;
	/* What cells have put into their home is no setting: a new box has an empty /tmp. */
	auto_free char *settings = context_inside(c, "settings");
	strings_addf(env, "HOME=%s%s", full ? "/tmp" : settings, full ? "" : "/home");
	strings_addf(env, "CELLFS_SETTINGS=%s", settings);
	if (!full)
		strings_addf(env, "TMPDIR=%s/home", settings);
	for (char **e = environ; *e; e++)
		if (is_setting(*e))
			strings_add(env, xstrdup(*e));
}

/* A file of settings: of the variables that may name it the first that is set, else PATH, below HOME if it begins with ~. */
static const struct setting_file {
	const char *name, *variables[2], *path;
} setting_files[] = {
	{ "pip/1", { NULL }, "/etc/xdg/pip/pip.conf" },
	{ "pip/2", { NULL }, "/etc/pip.conf" },
	{ "pip/3", { NULL }, "~/.pip/pip.conf" },
	{ "pip/4", { NULL }, "~/.config/pip/pip.conf" },
	{ "pip/5", { "PIP_CONFIG_FILE" }, NULL },
	{ "npm/global", { "npm_config_globalconfig", "NPM_CONFIG_GLOBALCONFIG" }, "/etc/npmrc" },
	{ "npm/user", { "npm_config_userconfig", "NPM_CONFIG_USERCONFIG" }, "~/.npmrc" },
	{ "R/Rprofile", { "R_PROFILE_USER" }, "~/.Rprofile" },
	{ "R/Renviron", { "R_ENVIRON_USER" }, "~/.Renviron" },
};

/* Settings and variables whose values are files that an install has to see. */
static const char *const naming[] = { "find-links", "cert", "client-cert", "constraint", "cafile", "PIP_FIND_LINKS", "PIP_CERT",
				      "PIP_CLIENT_CERT", "PIP_CONSTRAINT", "npm_config_cafile", "NPM_CONFIG_CAFILE",
				      "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
				      "NODE_EXTRA_CA_CERTS" };

static bool is_naming(const char *key, size_t n)
{
	for (size_t i = 0; i < ARRAY_SIZE(naming); i++)
		if (n == strlen(naming[i]) && !strncmp(key, naming[i], n))
			return true;
	return false;
}

/* PATH, its ~ replaced; NULL if it is not absolute then. */
static char *host_path(const char *path)
{
	const char *home = getenv("HOME");

	if (path && *path == '/')
		return xstrdup(path);
	return path && home && *home == '/' && !strncmp(path, "~/", 2) ? xasprintf("%s%s", home, path + 1) : NULL;
}

static char *setting_path(const struct setting_file *f)
{
	for (size_t i = 0; i < ARRAY_SIZE(f->variables); i++)
		if (f->variables[i] && getenv(f->variables[i]))
			return host_path(getenv(f->variables[i]));
	return host_path(f->path);
}

/* Is PATH at, below or above DIR? */
static bool overlaps(const char *path, const char *dir)
{
	size_t n = strlen(path), m = strlen(dir);

	return !strncmp(path, dir, MIN(n, m)) && (n == m || (n < m ? dir[n] : path[m]) == '/');
}

/* What a box cannot have at its own place, or must not. */
static bool is_kept(const struct settings *s, const char *path)
{
	static const char *const own[] = { "/workspace", "/packages", "/home/user", "/spool", "/kernels", "/settings",
					   "/artifacts", "/proc", "/dev", "/sys" };
	const char *home = getenv("HOME");
	bool is = !path[1] || (home && !strncmp(path, home, strlen(path)) && strlen(path) <= strlen(home));

	for (size_t i = 0; i < ARRAY_SIZE(own); i++)
		is |= overlaps(path, own[i]);
	for (size_t i = 0; i < ARRAY_SIZE(s->out); i++)
		is |= overlaps(path, s->out[i]);
	return is;
}

/* WORD, which a setting names, is shown to the install if it is a file of the host. */
static void add_named(struct settings *s, const char *word)
{
	auto_free char *path = host_path(strncmp(word, "file://", 7) ? word : word + 7);
	struct stat st;

	if (!path || strings_have(&s->named, path))
		return;
	auto_free char *real = is_kept(s, path) ? NULL : realpath(path, NULL);
	if (real && !is_kept(s, real) && s->named.n < NAMED_MAX && !stat(real, &st) &&
	    (S_ISDIR(st.st_mode) || S_ISREG(st.st_mode)))
		strings_addf(&s->named, "%s", path);
	else
		strings_addf(&s->left, "%s", path);
}

static void add_words(struct settings *s, const char *text, size_t n)
{
	static const char ends[] = " \t\r\"'";
	auto_free char *copy = xstrndup(text, n);

	for (char *word = copy + strspn(copy, ends), *next; *word; word = next) {
		next = word + strcspn(word, ends);
		if (*next)
			*next++ = 0;
		next += strspn(next, ends);
		add_named(s, word);
	}
}

/* Lines `key = value`; what is indented goes on with the value before it. */
static void add_lines(struct settings *s, const char *text)
{
	bool names = false;

	for (const char *line = text, *end; *line; line = end + (*end != 0)) {
		end = line + strcspn(line, "\n");
		size_t indent = strspn(line, " \t"), key = strcspn(line + indent, " \t=\n");
		const char *value = line;
		if (line[indent] == '#' || line[indent] == ';')
			continue;
		if (!indent) {
			names = is_naming(line, key);
			value = line + key + strspn(line + key, " \t=");
		}
		if (names && value < end)
			add_words(s, value, end - value);
	}
}

/* TEXT as it has to be where HOME is another directory. */
static void add_expanded(struct buf *out, const char *text)
{
	for (const char *p = text; *p; p++) {
		bool starts = p == text || strchr(" \t\n=\"'", p[-1]);
		auto_free char *home = starts && !strncmp(p, "~/", 2) ? host_path("~/") : NULL;
		if (home)
			buf_str(out, home), p++;
		else
			buf_char(out, *p);
	}
}

/* DIR/NAME with TEXT, for the box's user alone. */
static void put_setting(const struct settings *s, int dir, const char *name, const char *text)
{
	auto_buf struct buf b = { 0 };

	add_expanded(&b, text);
	auto_close int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0400);
	if (fd >= 0 && !pwrite_all(fd, b.s, b.n, 0) && s->uid != geteuid() && fchown(fd, s->uid, s->gid) < 0)
		unlinkat(dir, name, 0);
}

/* No fifo, no device, nothing of ours. */
static int read_setting(const struct settings *s, const char *path, struct buf *text)
{
	for (size_t i = 0; i < ARRAY_SIZE(s->out); i++)
		if (overlaps(path, s->out[i]))
			return -EXDEV;
	auto_close int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > SETTING_MAX)
		return -EINVAL;
	buf_grow(text, st.st_size + 1);
	ssize_t n = pread(fd, text->s, st.st_size, 0);
	text->n = MAX(n, 0);
	text->s[text->n] = 0;
	return 0;
}

void settings_init(struct settings *s, struct context *c)
{
	*s = (struct settings){ .contexts = c->world->contexts_dir, .out = { c->world->opt.state_dir, c->world->opt.mountpoint } };
	memcpy(s->uuid, c->uuid, sizeof(s->uuid));
	context_box_ids(c, &s->uid, &s->gid);
}

void settings_clear(struct settings *s)
{
	strings_clear(&s->named);
	strings_clear(&s->left);
}

void settings_put(struct settings *s)
{
	auto_free char *path = xasprintf("%s/settings", s->uuid), *home = xasprintf("%s/home", path);

	delete_tree(s->contexts, path);
	if (mkdirat(s->contexts, path, 0755) < 0 || mkdirat(s->contexts, home, 0700) < 0)
		return;
	auto_close int dir = openat(s->contexts, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	for (size_t i = 0; i < ARRAY_SIZE(setting_files); i++) {
		const struct setting_file *f = &setting_files[i];
		auto_free char *from = setting_path(f), *sub = xstrndup(f->name, strcspn(f->name, "/"));
		auto_buf struct buf text = { 0 };
		if (!from || read_setting(s, from, &text) || !text.n)
			continue;
		mkdirat(dir, sub, 0755);
		put_setting(s, dir, f->name, text.s);
		if (*f->name != 'R')
			add_lines(s, text.s);
	}
	for (char **e = environ; *e; e++)
		if (is_naming(*e, strcspn(*e, "=")))
			add_words(s, strchr(*e, '=') + 1, strlen(strchr(*e, '=') + 1));
}

void packages_forget_settings(struct context *c)
{
	auto_free char *path = context_path(c, "settings");

	delete_tree(c->world->contexts_dir, path);
}
