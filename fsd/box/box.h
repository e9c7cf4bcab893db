/* The parts of `box`, the program behind which every kernel runs, and of libbox.so, the same for fork
 * servers. Includes nothing of the daemon, which knows fds.h.
 *
 *   main.c    the command line
 *   up.c      makes a box: namespaces, mounts, and its pid 1
 *   bind.c    binds trees of the host into a box
 *   join.c    enters a box, gives up every right, becomes the supervisor of one kernel
 *   end.c     the supervisor: starts the driver, reports, ends every process that came of it
 *   lock.c    Landlock: a kernel's own domain; the whole confinement of sandbox=weak
 *   filter.c  the seccomp programs; load.c puts them into force
 */
#ifndef BOX_H
#define BOX_H

#include "fds.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct box_limits {
	int64_t data, fsize; /* bytes */
	int64_t processes, files;
};

/* What a kernel is run with. */
struct box {
	const char *cwd;
	char **argv;          /* NULL: become() returns in the driver (fork servers) */
	bool joined;          /* it is in namespaces of ours */
	bool weak;            /* Landlock alone keeps it from the host */
	bool tcp;             /* of weak: but not from TCP */
	bool check;           /* look whether everything holds instead of running a driver */
	const char **rw, **ro; /* of weak: directories; NULL ends each */
	struct box_limits limits;
	int lifeline, report;
	int signals;          /* signalfd */
	int failure;          /* the driver's side writes here why it could not be started */
	pid_t program;        /* 0 once it has been reaped: its number may be somebody else's then */
};

/* A report is one line a write; a daemon that does not read, or is gone, loses it and holds up nobody.
 * FDS go with it if REPORT is a socket. 0 or -errno. */
int box_say(int report, const int *fds, int nfds, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* Closes every descriptor but the driver's, the lifeline and the report, starts the driver, and stays until
 * none of its descendants is left. Returns (0) only in a driver that has no argv. */
int box_supervise(struct box *b);

/* Ends all descendants of this process; returns when none is left. */
void box_end_all(struct box *b);

/* Gives up all capabilities for good, and the way to new ones; with SETS the bounding set and the securebits
 * too, which takes CAP_SETPCAP. 0 or -errno. */
int box_drop_rights(bool sets);
/* All but that of open files, which is the driver's alone: see box_say. */
int box_set_limits(const struct box_limits *l);
int box_limit(int what, int64_t value);
/* Sets no_new_privs and puts both seccomp programs, at BOX_FILTERS, into force. 0 or -errno. */
int box_filter(void);

/* Enters the box whose namespaces are at BOX_NAMESPACES and returns in its supervisor (see join.c). */
int box_enter(struct box *b, char why[BOX_LINE]);
/* `join --check`: 0, or -1 with what does not hold. Async: no allocation. */
int box_check(char why[BOX_LINE]);

/* A Landlock domain of this process's own: it can neither trace nor, from ABI 6 on, signal what is outside.
 * 0 also where the kernel has no Landlock, or -errno. */
int box_lock_domain(void);
/* Reads and runs RO, writes RW as well, no other file, no TCP unless told. 0 or -errno. */
int box_lock_files(const char *const *ro, const char *const *rw, bool tcp);

/* The namespaces of a box: file in /proc/PID/ns, flag of clone. */
enum { NS_MNT = 1, NS_NET = 3, NS_CGROUP = 6 };
extern const struct box_ns {
	const char *name;
	uint64_t flag;
} box_ns[BOX_NS];

/* Makes a box by the options in ARGV (see up.c); returns an exit status. */
int box_up(int argc, char **argv);

/* A tree of the host's, for a box. */
struct box_bind {
	const char *from, *to; /* TO has no slash in front: it is below the root that is being made */
	uint64_t attrs;        /* MOUNT_ATTR_* added */
	bool needed, straight; /* STRAIGHT: a symbolic link on the way is refused */
	int tree;              /* detached, once it is opened; -1 there is none */
	bool is_dir;
};

/* Fills B from HOST:BOX in TEXT, which is changed and kept. */
bool box_parse_bind(struct box_bind *b, char *text, uint64_t attrs);
/* As the caller, with its root directory. 0, or -1 with errno, as the others here. */
int box_open_bind(struct box_bind *b);
/* Puts it in its place below the current directory; 0 also if there is none. */
int box_place_bind(const struct box_bind *b);
/* Makes the directories in front of the last part of PATH. */
void box_make_parents(const char *path);
int box_make_file(const char *path, const char *text);
/* Binds by the options in ARGV (see bind.c); returns an exit status. */
int box_bind(int argc, char **argv);

/* Enters the groups at BOX_CGROUPS, and has ARGS (struct clone_args) make a process in that at BOX_CGROUP. */
struct clone_args;
void box_enter_cgroups(struct clone_args *args);

/* Opens /proc/sys-like PATH and writes TEXT. 0 or -errno. */
int box_write(const char *path, const char *text);

/* What a fork server calls in a child of one thread: descriptors as above. Does not return but in the
 * driver of the new kernel (0), or with -errno and a sentence in WHY. */
__attribute__((visibility("default"))) int box_join(const char *cwd, const struct box_limits *limits,
						    int lifeline, int report, char why[BOX_LINE]);

#endif
