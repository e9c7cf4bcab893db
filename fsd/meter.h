/* The daemon's own watch on what boxes use, for where the kernel of the host sets no limit: memory of
 * processes (without a cgroup), bytes and files below directories (without a quota), and the last free
 * space of a file system. Knows descriptors, numbers and ids, no context and no run.
 *
 * All reading is done by the worker, in slices of some milliseconds, because other people's /proc and
 * directories can make it wait; give the meter a worker of its own. What it finds comes back through one
 * callback in the loop. It is late by nature: up to PERIOD and the time that a look or a scan takes.
 *
 * Memory is the sum of PSS and swap of the processes, with what memfds hold beyond what is mapped; sums of
 * RSS, which are cheap, tell when PSS has to be read at all. A disk's usage is the blocks below the
 * directories (a file with several links is divided by their number) and of files that were removed and
 * are still open; links are not followed, other file systems not entered. */
#ifndef CELLFS_METER_H
#define CELLFS_METER_H

#include "worker.h"

struct meter;
struct meter_job;

enum meter_over {
	OVER_MEMORY, /* bytes in use */
	OVER_DISK,   /* bytes in use */
	OVER_FILES,  /* number of files */
	OVER_FLOOR,  /* the file system is almost full, and this one has grown by so many bytes */
};

/* Called again each second as long as it stays so. It may call all below but meter_free. */
typedef void meter_fn(void *arg, uint64_t id, enum meter_over what, int64_t amount);

/* STATE_DIR: a directory of the file system to watch; stays the caller's. */
struct meter *meter_new(struct loop *loop, struct worker *worker, int state_dir, meter_fn *fn, void *arg);
/* Called with the same ARG when a scan of ID has ended. It must not take anything away from the meter. */
typedef void meter_scanned_fn(void *arg, uint64_t id);
void meter_on_scan(struct meter *m, meter_scanned_fn *fn);
/* Forgets all that was added. Before or after the worker's end. NULL is fine. */
void meter_free(struct meter *m);

enum { METER_DIRS = 3 };

struct meter_usage {
	int64_t bytes, files;
};

/* One box, in its owner's storage; all zero but for metered_init. Between meter_del and the next meter_add it
 * keeps what is known of the disk. */
struct metered {
	/* For the owner to read; 0 before the first look or scan. */
	struct meter_usage disk;     /* of the last scan, with removed files that are open */
	int64_t rss, rss_peak;       /* sum over all processes: an upper bound */
	int64_t memory, memory_peak; /* as compared with the limit: PSS if it was needed, else RSS */
	bool seen;                   /* a scan has ended once: before, DISK has removed files only */

	/* The meter's. */
	struct list link;
	uint64_t id;
	int proc, shm, dirs[METER_DIRS];
	int64_t memory_limit;
	struct meter_usage limit, scanned, pinned, base, calm;
	struct meter_usage beside; /* see meter_beside; what the last scan cannot have seen */
	bool known, opaque, peopled;              /* OPAQUE: a directory cannot be read; PEOPLED: it had processes */
	int64_t memfd, written;                   /* bytes in memfds; bytes written by all processes so far */
	int64_t scan_written, calm_written;       /* WRITTEN at the last scan, and when space was left */
	struct meter_usage add_fs, scan_fs;       /* used of the file system at meter_add, at the last scan */
	int64_t look_at, fds_at, pss_at, scan_at; /* when the next one may be */
	int64_t scan_end, scan_took, told[4];
	struct meter_job *look, *scan; /* on their way, or NULL */
	bool confirm;
};

void metered_init(struct metered *x, uint64_t id);
/* Watches X until meter_del. PROC: the root of a /proc that has only the processes of X, or -1. DIRS:
 * directories, each may be -1. The descriptors are duplicated. Call it before the first process can write:
 * what was there before it is not held against X, see meter_limit. Without PROC only the disk is watched. */
void meter_add(struct meter *m, struct metered *x, int proc, const int dirs[METER_DIRS]);
/* SHM: /proc/sysvipc/shm as the processes of X see it (duplicated), or -1: what is in no process counts too. */
void meter_shm(struct metered *x, int shm);
/* Nothing is said of X from now on. Does nothing if X is not watched. */
void meter_del(struct meter *m, struct metered *x);
/* In bytes; 0: not watched, which is right for memory where a cgroup limits it. The number of files follows
 * from DISK, see meter_max_files. Who has more than DISK when it is added for the first time may use what it
 * has, so that code can tidy up, but not more; the least that it was seen to use since then counts. */
void meter_limit(struct metered *x, int64_t memory, int64_t disk);
/* Of somebody other than its processes, who knows it at once: so much more (or less) is below X's directories. */
void meter_beside(struct metered *x, int64_t bytes, int64_t files);
/* What X may still use of its disk, as far as is known; negative if it is over. */
struct meter_usage meter_left(const struct metered *x);
/* A file for each 4 KiB of DISK, and at least a million: a small file takes a block of the disk anyway, so
 * this only bounds empty ones. */
int64_t meter_max_files(int64_t disk);

/* One whole scan, at once. Returns 0 or -errno. */
int meter_scan_once(int dir, int64_t *bytes, int64_t *files);

#endif
