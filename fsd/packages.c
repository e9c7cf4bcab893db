#include "packages.h"

#include "gate.h"
#include "worker.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
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

/* Calls FN for every line of TEXT that says something that is not so yet. Returns how many, or -EINVAL. */
static int each_item(struct context *c, const char *text, size_t n, void (*fn)(struct buf *out, const struct package *it),
		     struct buf *out, struct buf *why)
{
	auto_free char *copy = xstrndup(text, n);
	auto_buf struct buf list = { 0 };
	int count = 0;

	packages_print(c, &list);
	for (char *line = copy, *next; line; line = next) {
		struct package it;
		next = strchr(line, '\n');
		if (next)
			*next++ = 0;
		int r = parse_line(&c->world->langs, line, &it, why);
		if (r < 0)
			return r;
		if (r || (!it.removes && is_listed(&it, &list)))
			continue;
		count++;
		if (fn)
			fn(out, &it);
	}
	return count;
}

int packages_write(struct context *c, const char *text, size_t n)
{
	auto_buf struct buf why = { 0 };
	const struct lang *in = &c->world->langs.installer;
	struct run *r;
	int count = -EINVAL;

	if (!in->interpreter)
		buf_printf(&why, "nothing installs here: %s", in->name ? in->install : "there is no kernels/packages");
	else if (memchr(text, 0, n))
		buf_str(&why, "a NUL byte");
	else
		count = each_item(c, text, n, NULL, NULL, &why);
	if (count < 0)
		context_log(c, "packages: not accepted: %s", why.s);
	if (count <= 0)
		return count;
	int err = context_queue(c, in->name, text, n, &r);
	if (!err)
		context_schedule(c);
	return err;
}

static void plan_item(struct buf *out, const struct package *it)
{
	const struct lang *l = it->lang;

	buf_printf(out, "%s\t%s\t%s\t%c\t%s\n", l->packages[0], l->dir, l->interpreter ? l->interpreter : "missing",
		   it->removes ? '-' : '+', it->spec);
}

/* The same with the paths that the kernel sees. */
static void plan_boxed(struct buf *out, const struct package *it)
{
	auto_free char *dir = xasprintf("/kernels%s", strrchr(it->lang->dir, '/'));
	struct lang l = *it->lang;

	l.dir = dir;
	plan_item(out, &(struct package){ &l, it->spec, it->removes });
}

void packages_plan(struct context *c, struct buf *code)
{
	auto_buf struct buf out = { 0 }, why = { 0 };

	each_item(c, code->s, code->n, c->world->sandbox.mode == SANDBOX_FULL ? plan_boxed : plan_item, &out, &why);
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
	const char *kernels = full ? "/kernels" : w->opt.kernels_dir;

	strings_addf(env, "PATH=%s/packages/bin:%s/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", kernels, at);
	strings_addf(env, "CELLFS_PACKAGES=%s", at);
	strings_addf(env, "PYTHONPATH=%s/packages/python", kernels);
	strings_addf(env, "NODE_PATH=%s/lib/node_modules", at);
	if (!l->installs)
		return;
	/* What cells have put into their home is no setting: a new box has an empty /tmp. */
	auto_free char *settings = context_inside(c, "settings");
	strings_addf(env, "HOME=%s", full ? "/tmp" : at);
	strings_addf(env, "CELLFS_SETTINGS=%s", settings);
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

/* An absolute path, or one that begins with ~. */
static char *host_path(const char *path)
{
	const char *home = getenv("HOME");

	if (!path || *path != '~')
		return path ? xstrdup(path) : NULL;
	return home && path[1] == '/' ? xasprintf("%s%s", home, path + 1) : NULL;
}

static char *setting_path(const struct setting_file *f)
{
	for (size_t i = 0; i < ARRAY_SIZE(f->variables); i++)
		if (f->variables[i] && getenv(f->variables[i]))
			return xstrdup(getenv(f->variables[i]));
	return host_path(f->path);
}

/* DIR/NAME with TEXT, for the box's user alone. */
static int put_setting(int dir, const char *name, const struct buf *text, uid_t uid, gid_t gid)
{
	auto_close int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0400);
	int err = fd < 0 ? -errno : pwrite_all(fd, text->s, text->n, 0);

	if (!err && uid != geteuid() && fchown(fd, uid, gid) < 0)
		err = -errno;
	return err;
}

/* The files of the host that TEXT names, so far as they are not in WORDS yet. */
static void add_named(const struct world *w, const char *text, struct strings *words)
{
	static const char ends[] = " \t\r\n\"'=,:";

	for (const char *p = text; *p && words->n < NAMED_MAX;) {
		p += strspn(p, ends);
		if (!strncmp(p, "///", 3)) /* of file:// */
			p += 2;
		size_t n = strcspn(p, ends);
		auto_free char *word = xstrndup(p, n), *path = *word == '/' || *word == '~' ? host_path(word) : NULL;
		auto_free char *real = path ? realpath(path, NULL) : NULL;
		struct stat st;
		if (real && real[1] && !stat(real, &st) && (S_ISDIR(st.st_mode) || S_ISREG(st.st_mode)) &&
		    strncmp(w->opt.state_dir, real, strlen(real)) && !strings_have(words, path))
			strings_addf(words, "%s", path);
		p += n;
	}
}

void packages_put_settings(struct context *c, struct strings *named)
{
	auto_free char *path = context_path(c, "settings");
	uid_t uid;
	gid_t gid;

	packages_forget_settings(c);
	context_box_ids(c, &uid, &gid);
	if (mkdirat(c->world->contexts_dir, path, 0755) < 0)
		return;
	auto_close int dir = openat(c->world->contexts_dir, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	for (size_t i = 0; i < ARRAY_SIZE(setting_files); i++) {
		const struct setting_file *f = &setting_files[i];
		auto_free char *from = setting_path(f), *sub = xstrndup(f->name, strcspn(f->name, "/"));
		auto_buf struct buf text = { 0 };
		if (!from || read_file(AT_FDCWD, from, SETTING_MAX, &text) || !text.n)
			continue;
		mkdirat(dir, sub, 0755);
		int err = put_setting(dir, f->name, &text, uid, gid);
		if (err)
			context_log(c, "packages: %s: %s", from, strerror(-err));
		add_named(c->world, text.s, named);
	}
	for (char **e = environ; *e; e++)
		if (is_setting(*e))
			add_named(c->world, strchr(*e, '=') + 1, named);
}

void packages_forget_settings(struct context *c)
{
	auto_free char *path = context_path(c, "settings");

	delete_tree(c->world->contexts_dir, path);
}
