/* What the daemon and the program box agree on, beside its command line (main.c, up.c, end.c). */
#ifndef BOX_FDS_H
#define BOX_FDS_H

/* Descriptors of a process of box. Those below BOX_OWN are the driver's, and no other reaches it. */
enum {
	BOX_OWN = 7,
	BOX_NAMESPACES = 9, /* BOX_NS of them, in the order of box_ns, the user namespace first */
	BOX_NS = 7,
	BOX_FILTERS = 16,   /* the two seccomp programs */
	BOX_CGROUPS = 18,   /* v1: `tasks` of up to four hierarchies, to be written; /dev/null where there is none */
	BOX_CGROUP = 22,    /* v2: the directory, for CLONE_INTO_CGROUP; or /dev/null */
	BOX_FDS = 23,
};

/* With the message "up" come BOX_NS namespaces, its /proc, its root directory (O_PATH), and its
 * /proc/sysvipc/shm (or /dev/null where there is no System V memory). */
enum { BOX_UP_PROC = BOX_NS, BOX_UP_ROOT, BOX_UP_SHM, BOX_UP_FDS };

/* Ids inside: the only ones that are mapped. */
enum { BOX_ID = 1000 };

/* Most bytes of one message on a report, ended by a newline. */
enum { BOX_LINE = 512 };

#endif
