/* Languages: the manifests in kernels/, and which interpreter of this host speaks each. Read once at
 * start. Knows no context and starts no kernel (kernels/PROTOCOL.md describes a manifest). */
#ifndef CELLFS_LANG_H
#define CELLFS_LANG_H

#include "log.h"

struct lang {
	char *name, *title;
	char *dir;         /* the driver's folder, absolute */
	char **exts;       /* without the dot; NULL ends them */
	char *comment;     /* what an option line begins with: "#|" */
	char **argv;       /* {interpreter} and {dir} not yet replaced; NULL ends it */
	char **env;        /* NAME=VALUE; NULL ends it */
	char *install;     /* how to get what is missing */
	bool guard, exit_status;
	bool spare;        /* one may be started before it is needed */
	char *interpreter; /* absolute path, NULL: none on this host */
	char *version;     /* "3.11.2 IPython 8.5.0", with it */
	char *dotted;      /* ".bash": of the kernel that config/kernel gives an extension of this name, which is no other's */
	char *spec;        /* a Jupyter kernel's kernel.json, NULL: a driver of its own */
	char **needs;      /* paths of the host that it has to see beside the interpreter's; NULL ends them, NULL none */
	char **packages;   /* what it is called in a context's `packages`, the first when that is read; NULL ends them */
	bool installs;     /* its driver installs packages, and is no language itself */
};

struct langs {
	struct lang *v;
	size_t n;
	struct lang bridge;    /* the driver of Jupyter kernels, no language itself; without a name there is none */
	struct lang installer; /* the same: of packages */
};

/* Reads every DIR/<name>/manifest.json and looks for the interpreters. What is wrong with one is logged
 * and leaves that one out. Returns 0, or -errno if DIR cannot be read. Blocks: before the loop runs. */
int langs_load(struct langs *ls, const char *dir, struct log *log);
void langs_free(struct langs *ls);

const struct lang *lang_named(const struct langs *ls, const char *name);
const struct lang *lang_for_ext(const struct langs *ls, const char *ext);
/* The language whose packages are called so, or NULL. */
const struct lang *lang_for_packages(const struct langs *ls, const char *name);
/* What follows the last dot of a cell's name, or NULL if NAME can be no cell's (begins with a dot). */
const char *cell_ext(const char *name);
/* The language of a cell called NAME, or NULL: then NAME is a draft's. */
const struct lang *lang_for_cell(const struct langs *ls, const char *name);

/* The absolute path of program NAME, looked up in PATH if it has no slash; NULL: there is none. */
char *lang_program(const char *name);
/* An argument of argv or probe, its {dir} replaced. */
char *lang_arg(const char *arg, const char *dir);

/* The text of the file `languages`. */
void langs_print(const struct langs *ls, struct buf *out);
/* ".py .sh …" */
void langs_print_exts(const struct langs *ls, struct buf *out);

#endif
