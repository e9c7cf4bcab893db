/* What runs took: CPU time, memory, bytes. A gauge reads one kernel from the start of a run to its end; a usage is the
 * sum of many runs. The box's group tells of all its processes, /proc and the meter of as many as they can. Nothing that
 * a cell may do to its own counters makes a number negative. */
#ifndef CELLFS_USAGE_H
#define CELLFS_USAGE_H

#include "util.h"

struct context;
struct json;
struct kernel;
struct run;

struct usage {
	uint64_t runs;
	int64_t cpu_us, wall_us, max_rss, bytes_in, bytes_out;
	int64_t kept; /* bytes that STATE_DIR took for them, also of those that it has forgotten since */
};

/* In its kernel, all zero before the first run. The file stays open, as a warm cell takes less than a millisecond. Of a
 * kernel's processes only `status` and clocks are read: other files in /proc wait for a process that calls execve, which
 * may be waiting for us, or for its memory, which it can hold as long as it likes. */
struct gauge {
	pid_t pid;                  /* the driver that it reads; 0 none, then nothing is open */
	int status;                 /* /proc/PID/status; -1 could not be opened */
	pid_t supervisor;
	bool grouped;               /* ALL is the group's */
	int64_t own, all;           /* CPU time when the run started: of the driver; of all there is to see. -1 not known */
	int64_t highest;            /* the driver's RSS, the most until the run started */
	int64_t dead_cpu, dead_rss; /* of a kernel that has died, by the kernel of the host; 0 not yet */
};
void gauge_close(struct gauge *g);

/* R starts, in its kernel. */
void usage_begin(struct run *r);
/* R, which has run in R->kernel (NULL: nobody knows which), has ended: fills in its CPU time and memory. */
void usage_end(struct run *r);
/* The supervisor of K has ended, and is not waited for yet: what all that it has seen took. */
void usage_of_dead(struct kernel *k, pid_t supervisor);

/* All of R is known: it is counted, once. */
void usage_count(struct run *r);
void usage_add(struct usage *sum, const struct usage *u);
struct usage usage_of_run(const struct run *r);
/* The same from the object that an event has of it. */
struct usage usage_parse(const struct json *j);
/* Takes over what the meter knows of the disk, if a scan has ended. Returns whether that is news. */
bool usage_see_disk(struct context *c);
void usage_json_context(const struct context *c, struct buf *b);
/* Lines for `status`. */
void usage_print(const struct usage *sum, struct buf *out);

#endif
