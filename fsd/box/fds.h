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

/* With the message "up" come BOX_NS namespaces, its /proc and its root directory (O_PATH). */
enum { BOX_UP_FDS = BOX_NS + 2 };

/* Ids inside: the only ones that are mapped. */
enum { BOX_ID = 1000 };

/* Most bytes of one message on a report, ended by a newline. */
enum { BOX_LINE = 512 };

#endif
