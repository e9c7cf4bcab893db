/* Resource groups: what all processes of a box together may take, and what they took. Made in
 * whichever of cgroup v1 and v2 the machine has, below the daemon's own place in it. Knows nothing of
 * boxes, and starts and ends no process. A machine without groups is no error: kind NONE.
 *
 * v1: for root only. The groups lie in the daemon's own group of each controller; it stays there.
 *
 * v2: the daemon's own group must have been given to it. It is, when it is marked as delegated (a
 * service with Delegate=yes, `systemd-run --scope -p Delegate=yes`), or when it can be written and no
 * systemd answers (a container). Otherwise systemd, the user's own or for root the system's, is asked
 * to put the daemon into a new delegated scope: one message, as systemd-run would send it, without a
 * new process. Not asked for a daemon in a .service: it would leave its unit. A scope of the user's
 * systemd ends with the user's last session, unless `loginctl enable-linger`.
 * v2 wants no processes beside groups, so the daemon goes into a group `daemon` of its own, and takes
 * along the parent that waits for the mount. Other processes are never moved: then there are no groups. */
#ifndef CELLFS_CGROUP_H
#define CELLFS_CGROUP_H

#include "util.h"

enum cgroup_kind { CGROUP_NONE, CGROUP_V1, CGROUP_V2 };
enum { CGROUP_MEMORY, CGROUP_PIDS, CGROUP_CPU, CGROUP_CPUACCT, CGROUP_CONTROLLERS };

struct cgroups {
	enum cgroup_kind kind;
	bool memory, pids, cpu;            /* limits that are enforced */
	int n;                             /* hierarchies: one in v2, one to four in v1 */
	int home[CGROUP_CONTROLLERS];      /* the group that the base group lies in */
	int base[CGROUP_CONTROLLERS];
	int at[CGROUP_CONTROLLERS];        /* which hierarchy has the controller; -1: none */
	char *name;                        /* of the base group */
	bool in_leaf;                      /* v2: we moved to `daemon` */
};

/* 0: no limit; CPUS 0: a fair share. */
struct cgroup_limits {
	int64_t memory; /* bytes, swap included */
	int64_t processes;
	double cpus;
};

struct cgroup {
	const struct cgroups *in; /* must outlive it */
	char *name;
	/* One a hierarchy, the rest -1: a process with one thread that writes "0" to each is in the group,
	 * and all that it starts later. Opened by the daemon, whose rights count; may be inherited, and
	 * used any number of times. Before the process enters namespaces. On v1 this is `tasks`, as
	 * `cgroup.procs` would wait 6 to 14 ms for all processors. */
	int procs[CGROUP_CONTROLLERS];
	/* v2: for clone3 with CLONE_INTO_CGROUP, which unlike a write does not wait; -1 otherwise. */
	int dir;
	int killed; /* the file that counts who was killed for memory: read at the end of every run */
	int cpu, peak, stat; /* so are these: CPU time, highest memory, what memory is */
	int64_t peak_before; /* see cgroup_peak_begin; 0: it was counted anew */
	struct cgroup_limits limits;
};

/* Finds out where the daemon may make groups, makes its base group `cellfs-TAG` there, and removes what
 * an earlier daemon with the same TAG left in it: the caller holds a lock that makes TAG his. On v1 a
 * group with a living process is left alone, on v2 the process is killed. WHY gets a line for
 * `status`: "cgroup v1: memory pids cpu", "none: REASON". Blocks, seconds at worst: before the loop
 * runs, and in the process that will be the daemon. */
void cgroups_open(struct cgroups *g, const char *tag, struct buf *why);
/* Removes the base group, if nothing is left in it. */
void cgroups_close(struct cgroups *g);

/* NAME is a file name; when it is taken the group gets another that begins with it. Returns -ENOSYS
 * when there are no groups, -errno when a limit could not be set: then there is no group. */
int cgroup_make(struct cgroups *g, const char *name, const struct cgroup_limits *l, struct cgroup *out);
/* Changes what is different in L. -EBUSY (v1): more memory is in use than L allows. */
int cgroup_limit(struct cgroup *c, const struct cgroup_limits *l);
/* Of processes killed for memory so far, also those when the whole machine was out of it; -1 unknown. */
int64_t cgroup_oom_kills(const struct cgroup *c);
/* Bytes and microseconds; -1 unknown. */
int64_t cgroup_memory(const struct cgroup *c);
/* From now on the peak is counted anew, where the kernel of the host can do that. */
void cgroup_peak_begin(struct cgroup *c);
/* The most memory since then, the cache of files included. A kernel that cannot begin anew (v2 before 6.12) tells a
 * peak that is higher than all before it, else what is in use now. -1 unknown. */
int64_t cgroup_peak_end(const struct cgroup *c);
/* What of the memory is the cache of files now. */
int64_t cgroup_cached(const struct cgroup *c);
int64_t cgroup_memory_peak(const struct cgroup *c);
int64_t cgroup_cpu_us(const struct cgroup *c);
int64_t cgroup_processes(const struct cgroup *c);
/* Removes the group and clears C. -EBUSY while a process of it is still ending: C is as before, but no
 * one can enter, try again later. Fine for a C of zeros. */
int cgroup_remove(struct cgroup *c);

/* For tests. Adds to DIR the directory of the group that a process with this /proc/self/cgroup and
 * /proc/self/mountinfo is in, for a v1 CONTROLLER, or NULL for v2. -ENOENT: none that it can see. */
int cgroup_find(const char *self, const char *mounts, const char *controller, struct buf *dir);
/* For tests. Adds the message to systemd (D-Bus) that asks for a delegated SCOPE with PID in it. */
void cgroup_scope_message(struct buf *b, const char *scope, pid_t pid);

#endif
