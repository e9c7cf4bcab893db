/* The packages of a context: its file `packages`, the runs that install and remove, and what these have of the host.
 *
 * A context has a directory `packages`, an ordinary prefix (bin/, lib/) that its kernels see at CELLFS_PACKAGES. A run
 * called `packages` changes it, with the installers that are in the folders of the drivers (kernels/PROTOCOL.md); they
 * keep in list/<language> what there is. */
#ifndef CELLFS_PACKAGES_H
#define CELLFS_PACKAGES_H

#include "context.h"

/* Queues a run that does what TEXT says: a line `NAME: SPEC` installs, `-NAME: SPEC` removes. What is installed just so
 * is left out, and nothing is queued if nothing is left. Returns 0, or -errno with a line in the log: then nothing is done. */
int packages_write(struct context *c, const char *text, size_t n);
/* Would it take TEXT? 0, or -errno with a line in the log. */
int packages_check(struct context *c, const char *text, size_t n);
/* Adds a line for each that is installed. */
void packages_print(struct context *c, struct buf *out);
/* When that changed, us since 1970. */
int64_t packages_time(struct context *c);
/* CODE, the text of such a run, becomes what its kernel is told: a line of fields, with TABs between, for each. */
void packages_plan(struct context *c, struct buf *code);

/* Adds to ENV, which is a driver's of L in C (NULL: of a spare), where packages are. An install also has from the daemon's
 * environment what says how the host gets packages. */
void packages_env(struct world *w, const struct context *c, const struct lang *l, struct strings *env);
/* Where the settings of pip, npm and R that the daemon's user has are put, for an install to read: directory `settings` of a
 * context, with an empty directory `home`. */
struct settings {
	int contexts;             /* world->contexts_dir */
	char uuid[37];
	uid_t uid;                /* whose they will be */
	gid_t gid;
	const char *out[2];       /* STATE_DIR, the mountpoint: what is there is not looked at */
	struct strings named;     /* files and directories of the host that they name */
	struct strings left;      /* of these the ones that are not shown */
};
void settings_init(struct settings *s, struct context *c);
/* Reads files of the host, so for the worker. */
void settings_put(struct settings *s);
void settings_clear(struct settings *s);
/* They are not needed any more: there may be passwords in them. */
void packages_forget_settings(struct context *c);

#endif
