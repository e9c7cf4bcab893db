/* The values of config/, their forms, limits and defaults, and the options at the head of a cell. Pure
 * text in, numbers out: knows no context and no file. */
#ifndef CELLFS_CONFIG_H
#define CELLFS_CONFIG_H

#include "util.h"

enum setting_key {
	C_TIMEOUT, C_WAIT, C_OUTPUT, C_CWD, C_IDLE, C_KEEP, C_MEMORY, C_DISK, C_PROCESSES, C_CPUS, C_NETWORK,
	C_COUNT
};
enum network { NETWORK_OFF, NETWORK_ON, NETWORK_HOST };
extern const char *const network_names[]; /* by enum network */

/* A value in force. V is microseconds, bytes, a count, thousandths of a CPU or an enum network; UNIT tells the
 * three kinds of `keep` apart. */
struct setting {
	char *text; /* as written, without the newline; NULL: the default is in force */
	int64_t v;
	enum { KEEP_ALL, KEEP_RUNS, KEEP_AGE, KEEP_BYTES } unit;
};

struct config {
	struct setting v[C_COUNT];
};

/* What the host has at most, for the ranges, their texts and the defaults of memory, disk, cpus and processes.
 * Once, before any other function of this file; without it the ranges are those of no real host. */
void config_host(int64_t ram, int64_t disk, int cpus, int64_t processes);

extern const char *const setting_names[C_COUNT];
int setting_find(const char *name); /* the key, or -1 */
/* What a person should know of the form and range, for the log. */
const char *setting_form(enum setting_key key);

/* Sets KEY from TEXT (N bytes, a final newline is ignored); empty means the default of DEF, or the built-in
 * one if DEF is NULL. Returns 0 or -EINVAL with nothing changed. */
int setting_set(struct config *c, enum setting_key key, const char *text, size_t n,
		const struct config *def);
void config_init(struct config *c, const struct config *def);
void config_clear(struct config *c);
/* The text that the file shows: what was written, or the default's. */
const char *setting_text(const struct config *c, enum setting_key key, const struct config *def);

bool env_name_ok(const char *name);

/* Options of one run, from the cell's first lines. */
struct cell_options {
	int64_t timeout_us; /* -1: not given */
	char *cwd;          /* NULL: not given */
	char **env;         /* NAME=VALUE, NULL ends it; NULL if there are none */
	bool eval_false;
	char *json;         /* all of them as a JSON object, "{}" if none */
	char *problem;      /* what is wrong with them, or NULL */
};

/* Reads the option lines (those that begin with PREFIX, a shebang apart) of CODE and makes each of them
 * blank in it. */
void options_parse(struct cell_options *o, char *code, size_t n, const char *prefix);
void options_clear(struct cell_options *o);

#endif
