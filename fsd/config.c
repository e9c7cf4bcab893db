#include "config.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>

#define SECOND 1000000LL
#define YEAR (365 * 86400 * SECOND)

static const struct unit {
	const char *name;
	int64_t factor;
} times[] = { { "", SECOND }, { "s", SECOND }, { "m", 60 * SECOND }, { "h", 3600 * SECOND },
	      { "d", 86400 * SECOND }, { NULL, 0 } },
  sizes[] = { { "", 1 }, { "K", 1LL << 10 }, { "M", 1LL << 20 }, { "G", 1LL << 30 }, { "T", 1LL << 40 },
	      { NULL, 0 } };

enum { MEMORY_MIN = 32 << 20, DISK_MIN = 1 << 20, PROCESSES_MIN = 8, CPUS_MIN = 10 };

/* Facts of the host, and what follows from them: the one thing here that is set at run time, by
 * config_host, once, before the loop and the worker are there. */
static struct {
	int64_t ram, disk, cpus, processes; /* CPUS in thousandths */
	char form[C_COUNT][96], def[C_COUNT][24]; /* "": the one of the table */
} host = { .ram = 1LL << 50, .disk = 1LL << 50, .cpus = 1024 * 1000, .processes = 1 << 22 };

/* A decimal number with one of UNITS, from 0 to MAX. Returns 0 or -EINVAL. */
static int parse_number(const char *s, const struct unit *units, int64_t max, int64_t *v)
{
	size_t digits = strspn(s, "0123456789.");

	if (!isdigit((unsigned char)*s) || digits > 18)
		return -EINVAL;
	char *end;
	double d = strtod(s, &end);
	for (; units->name; units++)
		if (!strcasecmp(end, units->name))
			break;
	if (!units->name || end != s + digits || d * units->factor > max)
		return -EINVAL;
	*v = llround(d * units->factor);
	return 0;
}

static int parse_time(const char *s, struct setting *x)
{
	return parse_number(s, times, YEAR, &x->v);
}

static int parse_size(const char *s, struct setting *x)
{
	return parse_number(s, sizes, 1LL << 40, &x->v);
}

static int parse_range(const char *s, const struct unit *units, int64_t min, int64_t max, int64_t *v)
{
	int64_t got;
	int err = parse_number(s, units, max, &got);

	if (!err && got < min)
		err = -EINVAL;
	if (!err)
		*v = got;
	return err;
}

static int parse_memory(const char *s, struct setting *x)
{
	return parse_range(s, sizes, MEMORY_MIN, host.ram, &x->v);
}

static int parse_disk(const char *s, struct setting *x)
{
	return parse_range(s, sizes, DISK_MIN, host.disk, &x->v);
}

static int parse_processes(const char *s, struct setting *x)
{
	static const struct unit ones[] = { { "", 1 }, { NULL, 0 } };

	return strchr(s, '.') ? -EINVAL : parse_range(s, ones, PROCESSES_MIN, host.processes, &x->v);
}

static int parse_cpus(const char *s, struct setting *x)
{
	static const struct unit cpus[] = { { "", 1000 }, { NULL, 0 } };

	if (s[strspn(s, "0.")] == 0) /* and not what is only rounded to 0 */
		return parse_number(s, cpus, 0, &x->v);
	return parse_range(s, cpus, CPUS_MIN, host.cpus, &x->v);
}

const char *const network_names[] = { [NETWORK_OFF] = "off", [NETWORK_ON] = "on", [NETWORK_HOST] = "host" };

static int parse_network(const char *s, struct setting *x)
{
	for (size_t i = 0; i < ARRAY_SIZE(network_names); i++)
		if (!strcmp(s, network_names[i])) {
			x->v = i;
			return 0;
		}
	return -EINVAL;
}

/* Relative paths stay in the workspace: no component takes it out again. */
static int parse_cwd(const char *s, struct setting *x)
{
	int depth = 0;

	if (strlen(s) > 4095)
		return -EINVAL;
	x->v = 0;
	if (*s == '/')
		return 0;
	for (const char *p = s; *p;) {
		size_t n = strcspn(p, "/");
		if (n == 2 && !memcmp(p, "..", 2))
			depth--;
		else if (n && !(n == 1 && *p == '.'))
			depth++;
		if (depth < 0)
			return -EINVAL;
		p += n + (p[n] == '/');
	}
	return 0;
}

static int parse_keep(const char *s, struct setting *x)
{
	static const struct unit runs[] = { { "", 1 }, { "runs", 1 }, { " runs", 1 }, { NULL, 0 } };
	static const struct unit days[] = { { "d", 86400 * SECOND }, { "h", 3600 * SECOND }, { NULL, 0 } };

	if (!strcmp(s, "all")) {
		x->unit = KEEP_ALL;
		x->v = 0;
	} else if (!parse_number(s, runs, 1LL << 40, &x->v)) {
		x->unit = KEEP_RUNS;
	} else if (!parse_number(s, days, YEAR * 100, &x->v)) {
		x->unit = KEEP_AGE;
	} else if (!parse_number(s, sizes + 1, 1LL << 50, &x->v)) {
		x->unit = KEEP_BYTES;
	} else {
		return -EINVAL;
	}
	return 0;
}

static const struct form {
	const char *name, *def, *form;
	int (*parse)(const char *, struct setting *);
} forms[C_COUNT] = {
	[C_TIMEOUT] = { "timeout", "1h", "seconds, or 90s 5m 1h 1d; 0 is none; at most 365d", parse_time },
	[C_WAIT] = { "wait", "50s", "seconds, or 90s 5m 1h 1d; 0 is for ever; at most 365d", parse_time },
	[C_OUTPUT] = { "output", "256M", "bytes, or 64K 512M 1G; at most 1T", parse_size },
	[C_CWD] = { "cwd", "", "a path that stays in the workspace, or an absolute one", parse_cwd },
	[C_IDLE] = { "idle_timeout", "0", "seconds, or 90s 5m 1h 1d; 0 is never; at most 365d", parse_time },
	[C_KEEP] = { "keep", "all", "all, or a number of runs (1000), an age (30d) or bytes (2G)", parse_keep },
	[C_MEMORY] = { "memory", "2G", "bytes, or 512M 2G; at least 32M", parse_memory },
	[C_DISK] = { "disk", "2G", "bytes, or 512M 2G; at least 1M", parse_disk },
	[C_PROCESSES] = { "processes", "128", "a number of at least 8", parse_processes },
	[C_CPUS] = { "cpus", "0", "a number of CPUs such as 1 or 0.5; 0 is a fair share", parse_cpus },
	[C_NETWORK] = { "network", "off", "off, on or host", parse_network },
};

const char *const setting_names[C_COUNT] = {
	[C_TIMEOUT] = "timeout", [C_WAIT] = "wait",	    [C_OUTPUT] = "output",
	[C_CWD] = "cwd",	 [C_IDLE] = "idle_timeout", [C_KEEP] = "keep",
	[C_MEMORY] = "memory",	 [C_DISK] = "disk",	    [C_PROCESSES] = "processes",
	[C_CPUS] = "cpus",	 [C_NETWORK] = "network",
};

/* V in the largest unit, cut off after one digit: what is printed is in the range, too. */
static void print_size(char *to, size_t size, int64_t v)
{
	const struct unit *u = &sizes[ARRAY_SIZE(sizes) - 2];

	while (u->factor > 1 && v < u->factor)
		u--;
	int64_t tenths = v / u->factor * 10 + v % u->factor * 10 / u->factor;
	if (tenths % 10)
		snprintf(to, size, "%lld.%lld%s", (long long)tenths / 10, (long long)tenths % 10, u->name);
	else
		snprintf(to, size, "%lld%s", (long long)tenths / 10, u->name);
}

static void host_size(enum setting_key key, const char *min, int64_t max)
{
	char most[24];
	struct setting x;

	print_size(most, sizeof(most), max);
	snprintf(host.form[key], sizeof(host.form[key]), "bytes, or 512M 2G; from %s to %s", min, most);
	snprintf(host.def[key], sizeof(host.def[key]), "%s",
		 forms[key].parse(forms[key].def, &x) ? most : forms[key].def);
}

void config_host(int64_t ram, int64_t disk, int cpus, int64_t processes)
{
	host.ram = MAX(ram, MEMORY_MIN);
	host.disk = MAX(disk, DISK_MIN);
	host.cpus = MAX(cpus, 1) * 1000LL;
	host.processes = MAX(processes, PROCESSES_MIN);
	host_size(C_MEMORY, "32M", host.ram);
	host_size(C_DISK, "1M", host.disk);
	snprintf(host.form[C_PROCESSES], sizeof(host.form[0]), "a number from %d to %lld", PROCESSES_MIN,
		 (long long)host.processes);
	snprintf(host.def[C_PROCESSES], sizeof(host.def[0]), "%lld", (long long)MIN(host.processes, 128));
	snprintf(host.form[C_CPUS], sizeof(host.form[0]),
		 "a number of CPUs from 0.01 to %lld, or 0 for a fair share", (long long)host.cpus / 1000);
}

static const char *built_in(enum setting_key key)
{
	return *host.def[key] ? host.def[key] : forms[key].def;
}

int setting_find(const char *name)
{
	for (int i = 0; i < C_COUNT; i++)
		if (!strcmp(setting_names[i], name))
			return i;
	return -1;
}

const char *setting_form(enum setting_key key)
{
	return *host.form[key] ? host.form[key] : forms[key].form;
}

int setting_set(struct config *c, enum setting_key key, const char *text, size_t n,
		const struct config *def)
{
	struct setting x = { 0 };

	while (n && (text[n - 1] == '\n' || text[n - 1] == '\r' || text[n - 1] == ' '))
		n--;
	if (memchr(text, 0, n) || memchr(text, '\n', n))
		return -EINVAL;
	if (!n) {
		if (def)
			x = def->v[key];
		else if (forms[key].parse(built_in(key), &x))
			return -EINVAL;
		x.text = def && def->v[key].text && key == C_CWD ? xstrdup(def->v[key].text) : NULL;
	} else {
		auto_free char *s = xstrndup(text, n);
		if (forms[key].parse(s, &x))
			return -EINVAL;
		x.text = xstrdup(s);
	}
	free(c->v[key].text);
	c->v[key] = x;
	return 0;
}

void config_init(struct config *c, const struct config *def)
{
	memset(c, 0, sizeof(*c));
	for (int k = 0; k < C_COUNT; k++)
		setting_set(c, k, "", 0, def);
}

void config_clear(struct config *c)
{
	for (int k = 0; k < C_COUNT; k++)
		free(c->v[k].text);
	memset(c, 0, sizeof(*c));
}

const char *setting_text(const struct config *c, enum setting_key key, const struct config *def)
{
	if (c->v[key].text)
		return c->v[key].text;
	if (def && def->v[key].text)
		return def->v[key].text;
	return built_in(key);
}

bool env_name_ok(const char *name)
{
	if (!isalpha((unsigned char)*name) && *name != '_')
		return false;
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && *name != '_')
			return false;
	return true;
}

/* Quarto's cell options, https://quarto.org/docs/reference/cells/: kept in the record, without effect. */
static const char *const quarto[] = {
	"autorun", "cache", "cap-location", "child", "classes", "code", "code-fold",
	"code-line-numbers", "code-overflow", "code-summary", "collapse", "column", "comment", "context",
	"dependson", "echo", "engine", "error", "eval", "export", "fig-align", "fig-alt", "fig-asp",
	"fig-cap", "fig-cap-location", "fig-column", "fig-dpi", "fig-env", "fig-format", "fig-height",
	"fig-keep", "fig-link", "fig-pos", "fig-scap", "fig-show", "fig-subcap", "fig-width", "file", "html-table-processing", "id",
	"include", "label", "layout", "layout-align", "layout-ncol", "layout-nrow", "layout-valign",
	"lst-cap", "lst-label", "message", "opts-label", "out-height", "out-width", "output",
	"output-location", "panel", "prompt", "purl", "ref-label", "renderings", "results", "strip-white",
	"tags", "tbl-cap", "tbl-cap-location", "tbl-colwidths", "tbl-column", "tbl-subcap", "warning",
};

static bool is_quarto(const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(quarto); i++)
		if (!strcmp(quarto[i], key))
			return true;
	return false;
}

static void add_env(struct cell_options *o, const char *name, const char *value)
{
	size_t n = 0;

	while (o->env && o->env[n])
		n++;
	o->env = xrealloc(o->env, (n + 2) * sizeof(*o->env));
	o->env[n] = xasprintf("%s=%s", name, value);
	o->env[n + 1] = NULL;
}

static void option_set(struct cell_options *o, const char *key, const char *value)
{
	struct setting x = { 0 };
	char *problem = NULL;

	if (!strcmp(key, "timeout")) {
		if (parse_time(value, &x))
			problem = xasprintf("option timeout: %s: not %s", value, forms[C_TIMEOUT].form);
		o->timeout_us = x.v;
	} else if (!strcmp(key, "cwd")) {
		if (parse_cwd(value, &x))
			problem = xasprintf("option cwd: %s: not %s", value, forms[C_CWD].form);
		free(o->cwd);
		o->cwd = xstrdup(value);
	} else if (!strncmp(key, "env.", 4)) {
		if (!env_name_ok(key + 4))
			problem = xasprintf("option %s: not a name for a variable", key);
		add_env(o, key + 4, value);
	} else if (!strcmp(key, "eval")) {
		o->eval_false = !strcasecmp(value, "false");
	} else if (!is_quarto(key)) {
		problem = xasprintf("unknown option: %s (known: timeout, cwd, env.NAME, and Quarto's)", key);
	}
	if (problem && !o->problem)
		o->problem = problem;
	else
		free(problem);
}

/* Takes one layer of YAML quotes and the spaces around off S, in place. */
static char *unquote(char *s)
{
	while (*s == ' ' || *s == '\t')
		s++;
	size_t n = strlen(s);
	while (n && isspace((unsigned char)s[n - 1]))
		s[--n] = 0;
	if (n >= 2 && (*s == '"' || *s == '\'') && s[n - 1] == *s) {
		s[n - 1] = 0;
		s++;
	}
	return s;
}

struct pair {
	char *key, *value;
};

/* One option line without its prefix: KEY: VALUE, or more of the value before (an indented line or a list). */
static int option_line(struct pair *pairs, size_t *n, size_t max, const char *line, size_t len)
{
	auto_free char *s = xstrndup(line, len);
	char *p = s + (*s == ' ');

	if ((*p == ' ' || *p == '\t' || *p == '-') && *n) {
		char *more = unquote(p);
		char *old = pairs[*n - 1].value;
		pairs[*n - 1].value = xasprintf("%s%s%s", old, *old ? "\n" : "", more);
		free(old);
		return 0;
	}
	p = unquote(p);
	if (!*p)
		return 0;
	char *colon = strchr(p, ':');
	if (!colon || colon == p || *n == max || !utf8_valid(p, colon - p))
		return -EINVAL;
	*colon = 0;
	pairs[*n].key = xstrdup(unquote(p));
	pairs[*n].value = xstrdup(unquote(colon + 1));
	++*n;
	return 0;
}

static void options_json(struct cell_options *o, struct pair *pairs, size_t n)
{
	struct buf b = { 0 };

	buf_char(&b, '{');
	for (size_t i = 0; i < n; i++) {
		bool again = false;
		for (size_t k = i + 1; k < n; k++)
			again |= !strcmp(pairs[k].key, pairs[i].key);
		if (again) /* the last one counts */
			continue;
		if (b.n > 1)
			buf_char(&b, ',');
		buf_json_str(&b, pairs[i].key);
		buf_char(&b, ':');
		buf_json_str(&b, pairs[i].value);
	}
	buf_char(&b, '}');
	o->json = b.s;
}

void options_parse(struct cell_options *o, char *code, size_t n, const char *prefix)
{
	enum { MAX_OPTIONS = 256 };
	struct pair pairs[MAX_OPTIONS];
	size_t np = 0, plen = strlen(prefix);

	*o = (struct cell_options){ .timeout_us = -1 };
	for (size_t at = 0; at < n;) {
		char *line = code + at, *nl = memchr(line, '\n', n - at);
		size_t len = nl ? (size_t)(nl - line) : n - at;
		size_t text = len && line[len - 1] == '\r' ? len - 1 : len;
		bool shebang = at == 0 && len >= 2 && line[0] == '#' && line[1] == '!';
		if (!shebang) {
			if (len < plen || memcmp(line, prefix, plen))
				break;
			if (option_line(pairs, &np, MAX_OPTIONS, line + plen, text - MIN(plen, text)) &&
			    !o->problem)
				o->problem = xasprintf("option line is not `%s key: value`: %.*s", prefix,
						       (int)MIN(text, 100), line);
			memset(line, ' ', text);
		}
		at += len + 1;
	}
	for (size_t i = 0; i < np; i++)
		option_set(o, pairs[i].key, pairs[i].value);
	options_json(o, pairs, np);
	for (size_t i = 0; i < np; i++) {
		free(pairs[i].key);
		free(pairs[i].value);
	}
}

void options_clear(struct cell_options *o)
{
	for (char **p = o->env; p && *p; p++)
		free(*p);
	free(o->env);
	free(o->cwd);
	free(o->json);
	free(o->problem);
	*o = (struct cell_options){ .timeout_us = -1 };
}
