/* Isolation as this daemon has it: the program box, its seccomp programs, the resource groups, and whether a box can
 * be had at all. Knows how box is talked to, but no context: see box.h for a context's box. SECURITY.md says what
 * is promised. */
#ifndef CELLFS_SANDBOX_H
#define CELLFS_SANDBOX_H

#include "box/fds.h"
#include "cgroup.h"
#include "log.h"
#include "util.h"

/* WEAK: Landlock, seccomp and limits of each process, no namespace. NONE: only the processes of a kernel are ended. */
enum sandbox_mode { SANDBOX_FULL, SANDBOX_WEAK, SANDBOX_NONE };

struct sandbox {
	enum sandbox_mode mode;
	const char *program;   /* box, absolute */
	int filters[2];        /* the seccomp programs: sealed memory; -1 in NONE */
	struct cgroups cgroups;
	char *isolation;       /* for `status` and context.json: "full", "weak: …", "none: …" */
	char *limits;          /* for `status`: what enforces them */
};

int sandbox_mode_named(const char *name); /* or -1 */

/* Makes the filters, finds the groups (TAG makes their names this daemon's own), and tries a box as a kernel would
 * have it. Returns 0, or -1 with the cause and its mend in WHY. Blocks: before the loop runs. */
int sandbox_open(struct sandbox *s, enum sandbox_mode mode, const char *program, const char *tag, struct buf *why);
void sandbox_close(struct sandbox *s);

/* Starts `box up` with the options in OPTS, its processes in GROUP (may be NULL). SOCKET (non-blocking) tells the rest,
 * see fsd/box/up.c. Returns 0 or -errno. */
int sandbox_up(struct sandbox *s, const struct strings *opts, const struct cgroup *group, int *socket, pid_t *launcher,
	       int *pidfd);

/* Starts `box bind` with the options in OPTS for the box of the namespaces BOX; its exit status is an errno. */
int sandbox_bind(struct sandbox *s, const int *box, const struct strings *opts, pid_t *pid, int *pidfd);

/* Starts box for one kernel. FDS are its descriptors 0 to BOX_OWN + 1 (the lifeline, the report); BOX are the
 * namespaces that it joins, NULL in the other modes. ARGS are box's options and, after "--", the driver. */
int sandbox_run(struct sandbox *s, const int *box, const struct cgroup *group, const int *fds,
		const struct strings *args, char *const envp[], pid_t *pid, int *pidfd);

/* Takes one message. Returns its length (LINE is a string without the newline), 0 at the end, or -errno. FDS gets up to
 * BOX_UP_FDS descriptors, NFDS how many; who asks for none gets none. */
ssize_t sandbox_recv(int socket, char line[BOX_LINE], int *fds, int *nfds);
/* The number, for us, of the process of a pidfd; 0 if it is gone. */
pid_t sandbox_pid(int pidfd);

/* The directory above PATH, an interpreter's, that it needs to run, if boxes do not have it anyway (NULL). */
char *sandbox_prefix(const char *path);

#endif
