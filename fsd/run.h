/* One execution of one cell: its life, its outputs (extents of the context's logs), its record. Does not
 * know FUSE, nor the kernel's process. */
#ifndef CELLFS_RUN_H
#define CELLFS_RUN_H

#include "config.h"
#include "json.h"
#include "lang.h"
#include "store.h"

struct context;
struct cell;
struct kernel;

enum run_state { R_WRITING, R_QUEUED, R_RUNNING, R_ENDING, R_ENDED };
enum run_status {
	ST_NONE, ST_OK, ST_ERROR, ST_TIMEOUT, ST_INTERRUPTED, ST_KILLED, ST_OOM, ST_CANCELLED, ST_ABORTED, ST_LOST
};
extern const char *const run_status_names[]; /* by enum run_status */

/* DEPTH_MAX: of JSON that goes into records as it came, so that every reader can read these. */
enum { DEPTH_MAX = 32, SAME_ID_MAX = 16, DISPLAYS_MAX = 999, TAIL_KEPT = 64 << 10, INLINE_MAX = 64 << 10, MIME_MAX = 32 };

/* A file of the run: one format of one display or of the result. */
struct run_file {
	char *name, *mime;
	uint16_t slot;    /* tells it apart in inode numbers */
	uint16_t item;    /* index in items */
	bool newline;     /* the last byte is ours */
	struct extent at; /* in results.bin */
};

/* One display, or the result (k is 0). */
struct item {
	uint32_t k;
	bool gone;        /* taken away by a clear */
	char *display_id, *meta; /* META is JSON */
};

struct run_error {
	char *name, *message;
	char *traceback, *frames; /* JSON arrays */
	int64_t line, column;     /* from 1; 0 unknown */
};

/* One stream: of a run, or what a kernel prints while it runs nothing (RUN is NULL then). */
struct flow {
	struct context *ctx;
	struct run *run;
	const char *lang;
	int stream;          /* 0 stdout, 1 stderr */
	struct extents x;
	int64_t total;       /* bytes that came, kept or not */
	int64_t limit;
	char *tail;          /* ring of the last bytes beyond the limit */
	int64_t told;        /* bytes of X that events tell of */
	struct buf text;     /* those after TOLD, while few */
	bool is_long;        /* more than TEXT holds */
	int64_t last_event;  /* us, monotonic */
	struct timer timer;
	int err;             /* why bytes were lost, -errno */
	int64_t lost;
};

struct run {
	uint64_t id, number;
	struct context *ctx;
	struct list link;            /* context's live or recent */
	enum run_state state;
	enum run_status status;
	char *reason;                /* after the colon of the status, NULL none */
	struct cell *cell;           /* NULL: its cell is removed */
	char *cell_name;             /* as queued */
	char *lang_name, *key;       /* language; name of its kernel in this context */
	struct cell_options opt;
	struct extent code;          /* in results.bin */
	struct flow flow[2];         /* stdout, stderr */
	struct extents events;       /* in the journal */
	struct run_file *files;
	size_t nfiles;
	struct item *items;
	size_t nitems;
	uint32_t ndisplays;
	uint16_t next_slot;
	bool clear_wait;
	struct kept *kept;           /* its artifacts (artifact.h), NULL none or not read */
	struct extent kept_at;       /* where they are in kept.bin */
	off_t kept_table;            /* so many bytes of that, at the end, say which they are */
	int64_t kept_bytes;          /* that no other file shares */
	struct run_error err;
	bool has_error;
	int exit_code;               /* -1: none */
	int64_t execution_count, generation;
	bool state_preserved;
	int64_t queued_at, started_at, finished_at; /* us since 1970; 0 not */
	int64_t file_time;           /* mtime of its files */
	int64_t duration_us, cpu_us, max_rss;
	off_t journal_from;          /* offset of its `queued` line */
	struct kernel *kernel;       /* while it runs */
	struct timer limit;          /* the timeout, then the ladder */
	int rung;
	enum run_status wanted;      /* what the ladder will have made of it */
	char *wanted_reason;
	bool detached;               /* its cell was removed: results/ goes when it ends */
	int then_of;                 /* `run all`: cancel this group at a failure; 0 none */
	struct waitq change;         /* its state, or its displays */
	struct waitq more;           /* its streams have more */
};

/* A new run of CELL; state R_WRITING, no number. */
struct run *run_new(struct context *c, struct cell *cell, const char *cell_name);
/* Takes the code (N bytes at CODE), gives it its number, records it. Returns 0 or -errno. */
int run_queue(struct run *r, const char *code, size_t n);
/* Its start: the kernel has it from now on. */
int run_start(struct run *r, struct kernel *k, int64_t count, int64_t generation);
/* Ends R. Records it first, then wakes its readers: nobody sees an end that a crash could take back.
 * REASON may be NULL. If not even the journal can take it, it ends in memory with a notice. */
void run_finish(struct run *r, enum run_status how, const char *reason);
/* The files that R made are kept: goes on with its end. */
void run_recorded(struct run *r);
/* R had ended, but what it printed is not there any more. */
void run_lose(struct run *r, const char *reason);
void run_free(struct run *r);

static inline bool run_ended(const struct run *r)
{
	return r->state == R_ENDED;
}

void flow_init(struct flow *f, struct context *c, struct run *r, const char *lang, int stream);
/* Takes up to MAX bytes out of pipe FD. Returns how many, 0 at end of file, or -errno of the pipe. */
ssize_t flow_take(struct flow *f, int fd, size_t max);
/* TEXT is output that came as a message. */
void flow_add(struct flow *f, const char *text, size_t n);
/* TEXT is the daemon's own: no limit counts it. */
void flow_print(struct flow *f, const char *text, size_t n);
/* Writes the event of what no event tells of yet. */
void flow_tell(struct flow *f);
/* No more will come: adds what the limit left out, and the last event. */
void flow_end(struct flow *f);
void flow_free(struct flow *f);

/* Events of a driver; untrusted. Return 0, or -EINVAL with a sentence in WHY. */
int run_display(struct run *r, const struct json *ev, int spool, char why[160]);
int run_clear(struct run *r, const struct json *ev);
int run_set_error(struct run *r, const struct json *ev);
/* The daemon's own error, unless the driver told one. */
void run_error(struct run *r, const char *name, const char *message);

/* Asks the running R to end: climbs the ladder SIGINT, SIGINT, guard, SIGKILL. */
void run_interrupt(struct run *r, enum run_status as, const char *reason);
void run_cancel(struct run *r, const char *reason);

/* Files. A slot stands for a name: those that a run may still make have a fixed one, others get theirs when
 * they are made. The slot of NAME, or -1 if this run has, and can get, no file of that name. */
int run_slot(const struct run *r, const char *name);
/* What SLOT holds: 0 with *F, -EAGAIN if it may still come, -ENOENT. */
int run_file(struct run *r, uint16_t slot, const struct run_file **f);
bool run_file_listed(const struct run *r, const struct run_file *f);
bool mime_is_text(const char *mime);
/* For who reads a record: an item, and a file of it. */
void run_new_item(struct run *r, bool result, const char *display_id);
void run_add_file(struct run *r, size_t item, const char *mime, struct extent at, bool newline);

/* Adds the bytes of F to B, as the driver gave them. */
int run_read_file(struct run *r, const struct run_file *f, struct buf *b);
int run_read_extents(struct context *c, enum store_log log, const struct extents *x, off_t max,
		     struct buf *b);
/* The record as it lies in results.bin, and back. */
void run_save(struct run *r, struct buf *b);
struct run *run_load(struct context *c, uint64_t number, const struct json *rec);

/* Bytes that STATE_DIR keeps of R. */
int64_t run_disk_bytes(const struct run *r);
/* Parts of R as JSON, for events and documents. */
void run_json_formats(struct run *r, size_t item, struct buf *b);
void run_json_error(const struct run *r, struct buf *b);
void run_json_truncated(const struct run *r, struct buf *b);
void run_json_usage(const struct run *r, struct buf *b);
bool run_truncated(const struct run *r);

#endif
