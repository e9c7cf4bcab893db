/* A context: one box, one queue, one history; its cells, drafts and values as real files in STATE_DIR.
 *
 * contexts/<uuid>/: context (its facts), cells/ (cells and drafts), config/ with env/ and kernel/, drafts/
 * (those in the context's own directory), workspace/, home/, spool/, log, and the files of store.h.
 *
 * A context is known by name only until it is used (context_load). */
#ifndef CELLFS_CONTEXT_H
#define CELLFS_CONTEXT_H

#include "run.h"
#include "world.h"

#include <sys/stat.h>

/* The directories of a context that hold real files of the user. */
#define CELL_MAX (16 << 20)

/* Whom a box is for: one box for all that cells need, and one, made anew each time, for installing packages. */
enum box_use { FOR_CELLS, FOR_INSTALLS, BOX_USES };

enum body_dir { B_CELLS, B_CONTEXT, B_CONFIG, B_ENV, B_KERNEL, B_COUNT };

/* The results that go by a cell's name: lives from the name's first run or write until its removal or a
 * rename onto it. The file of that name (a body) may come and go meanwhile. */
struct cell {
	uint64_t id;
	char *name;          /* NULL: removed or replaced; its runs are history */
	uint64_t newest;     /* number of the run that results/<name> shows, 0 none */
	uint64_t first;      /* of its first run, for `run all` */
	uint32_t index;      /* in context->cells, + 1 */
	struct run *writing; /* a new cell that is still being written, once somebody looked at it */
};

/* A file of the user below the mount that is not in the workspace: a cell, or a draft. */
struct body {
	uint64_t id;
	struct context *ctx;
	enum body_dir dir;
	char *name;
	int opens, writers;    /* open handles, those open for writing */
	bool dirty;            /* bytes were written since its last run */
	bool unlinked;
	int killed;            /* the signal that killed its last writer, 0 none */
	int refused;           /* -errno of a write since its last truncation, 0 none: it is not complete */
	int cut;               /* what it is open as for who truncated it, which is still to be done; -1 it is done */
	struct list handles;   /* of those open for writing: struct writer */
	struct list loose;     /* in context->loose, while it is open without a name */
};
/* A handle that is open for writing. */
struct writer {
	struct list link;
	pid_t pid;
	bool wrote;
};

/* What is kept in memory of a run that has ended. */
struct rec {
	uint64_t id;           /* its object, 0 until somebody looks */
	uint64_t off;          /* its record in results.bin */
	uint64_t fin_off;      /* its last line in the journal */
	int64_t time;          /* us; mtime of its files */
	uint32_t size, fin_len;
	uint32_t cell;         /* index in cells + 1; 0 none */
	uint8_t status;        /* enum run_status; ST_NONE: forgotten, or no such run */
	uint32_t kib;          /* output kept, for `keep` */
};

struct context {
	uint64_t id;
	struct world *world;
	char *name;
	char uuid[37];
	uid_t owner;           /* who made it, and alone may use it with allow_other */
	gid_t group;
	bool loaded, doomed;   /* doomed: cells/ is removed, the rest is about to be */
	pid_t leaver;          /* who has removed ctl, so perhaps all */
	struct store store;
	struct log log;
	int64_t created, changed; /* us; CHANGED: of status and context.json */
	int64_t listed;           /* of the names in results/ and history/ */
	int64_t saved_changed, saved_listed; /* as they are in the file `context` */
	uint64_t seq;
	struct config conf;
	struct map files[B_COUNT]; /* bodies by name */
	struct list loose;         /* those that are open and have no name any more */
	struct cell **cells;       /* by index of struct rec */
	size_t ncells;
	struct map cell_names;
	struct rec *recs;          /* by number - 1 */
	uint64_t nruns, runs_cap;
	struct list live;          /* runs that wait or run, in order: the first may be running */
	struct list recent;        /* ended runs in memory, least recently used first */
	int nrecent;
	uint64_t nqueued;
	struct run *active;
	struct list kernels;
	struct box *box[BOX_USES]; /* NULL: none is up or coming */
	struct artifacts *artifacts; /* NULL: nobody has asked yet */
	struct metered metered;    /* what it uses: of the disk also while there is no box */
	struct timer disk_timer;   /* until nobody looks at it for those who write through the mount */
	int64_t disk_told;
	uid_t box_uid;             /* of the host, for what is in the box; 0: not known yet */
	struct map overrides;      /* config/kernel: extension -> text */
	struct map slots;          /* names of config/env and config/kernel that were looked up */
	struct waitq flow;         /* more in a log, or the context went idle */
	struct waitq change;       /* its status reads differently */
	struct timer idle_timer;
	uint64_t kept_runs, kept_kib, oldest; /* OLDEST: no run before it is left */
	struct usage usage;        /* of all runs that have ended, also of those that are forgotten */
	int64_t disk_seen;         /* of the workspace, home and packages: what the meter knew last */
	int64_t disk_noted;        /* the same as the index says it */
	bool scheduling;
	int groups;                /* `run all`s so far */
};

int context_new(struct world *w, const char *name, const char *uuid, struct context **c);
/* Reads what STATE_DIR has of C, once; ends what a crash left. Returns 0 or -errno. */
int context_load(struct context *c);
/* Frees the memory. Nothing of C may run. */
void context_free(struct context *c);
/* Makes the files of a new context of OWNER's below tmp/. */
int context_make_files(int tmp, const char *uuid, const char *name, const struct who *owner);
/* May user UID use C? Its facts have been read. */
bool context_allows(const struct context *c, uid_t uid);
/* Whose the files of C are shown to be, of NULL those of the root. */
void context_owner(const struct context *c, uid_t *uid, gid_t *gid);
/* With whose rights a path is to be opened that the caller names for C: the caller's, or, if that is root,
 * the owner's, whose code it is for. */
struct who context_namer(const struct context *c);
void context_log(struct context *c, const char *fmt, ...) printflike(2, 3);
/* Status or context.json read differently now. */
void context_touch(struct context *c);
/* results/ or history/ list differently now. */
void context_touch_names(struct context *c);
/* Path of SUB below C's directory in STATE_DIR, relative to world->contexts_dir. */
char *context_path(const struct context *c, const char *sub);
/* The same, absolute. */
char *context_abspath(const struct context *c, const char *sub);
/* The same as the kernels see it: SUB is workspace, home, or below spool. */
char *context_inside(const struct context *c, const char *sub);
/* Ids of the host that its kernels have, and what they make. */
void context_box_ids(struct context *c, uid_t *uid, gid_t *gid);
/* From now on the former is UID, a box's that C was given. */
void context_take_ids(struct context *c, uid_t uid);
/* Makes what is missing of the directories that are bound into the box, and gives them to those ids. FOREIGN: one was
 * another's, so what is in them may be (an older cellfs made it, or it was copied). Returns 0 or -errno. */
int context_make_dirs(struct context *c, bool *foreign);
/* Gives all that is in them to UID:GID, while nothing of the context runs. For the worker. Returns 1, 0 if there was
 * nothing, or -errno. */
int context_give_files(int contexts, const char *uuid, uid_t uid, gid_t gid);

/* The queue: starts the first run if nothing runs. */
void context_schedule(struct context *c);
/* Ends all queued runs as cancelled. */
void context_cancel_all(struct context *c, const char *reason);
/* Stops all kernels at once; the running run is killed with REASON, with CANCEL the queued are cancelled. */
void context_stop(struct context *c, const char *reason, bool cancel);
/* Ends every wait for something of C with ESTALE: it is about to go. */
void context_abandon(struct context *c);
bool context_busy(const struct context *c);
void context_print_status(struct context *c, struct buf *out);
const char *body_dir_name(enum body_dir dir);

/* Files. All return 0 or -errno and log what is the user's fault. */
struct body *body_find(struct context *c, enum body_dir dir, const char *name);
bool body_is_cell(const struct body *b);
/* May NAME be created, or opened for writing, in DIR now? */
int body_admit(struct context *c, enum body_dir dir, const char *name);
int body_create(struct context *c, enum body_dir dir, const char *name, mode_t mode, struct body **b);
int body_open_fd(struct body *b, int flags);
/* FD, open for writing, was opened with O_TRUNC. A file that was truncated to nothing is sent to the disk by ext4 when it is
 * closed, which takes a fifth of a warm cell's time. So the first write does it, or whoever looks: body_settle(). Until FD is
 * closed that has to be called before the file is read or changed by other means than these. 0 or -errno. */
void body_cut(struct body *b, int fd);
int body_settle(struct body *b);
/* Writes N bytes at OFF through FD. Returns 0 or -errno. */
int body_put(struct body *b, int fd, const char *p, size_t n, off_t off);
int body_stat(struct body *b, struct stat *st);
void body_opened(struct body *b, struct writer *w, pid_t pid);
/* Before bytes are changed through W: marks a cell dirty. -EFBIG, -ENOSPC. */
int body_write(struct body *b, struct writer *w, off_t end);
/* A write of it failed with ERR: what is there is no complete text. */
void body_refused(struct body *b, int err);
/* A flush by task PID: notes whether it is being killed. */
void body_flushed(struct body *b, struct writer *w, pid_t pid);
void body_closed(struct body *b, struct writer *w);
int body_unlink(struct body *b);
int body_rename(struct body *b, enum body_dir dir, const char *to, bool noreplace);
/* Are there files in DIR? */
bool body_dir_empty(struct context *c, enum body_dir dir);

/* Values: config/<name>, config/env/<name>, config/kernel/<name>. A name that is no value is a draft. */
bool value_name(struct context *c, enum body_dir dir, const char *name);
/* Makes NAME, which is not set, with no text yet. */
int value_create(struct context *c, enum body_dir dir, const char *name);
int value_write(struct context *c, enum body_dir dir, const char *name, const char *text, size_t n);
/* Adds the text that the file shows; -ENOENT if it is not set. */
int value_read(struct context *c, enum body_dir dir, const char *name, struct buf *out, struct stat *st);
int value_remove(struct context *c, enum body_dir dir, const char *name);
/* Names that are set in B_ENV or B_KERNEL: calls FN for each file of the real directory. */
int context_each_file(struct context *c, enum body_dir dir,
		      void (*fn)(void *arg, const char *name), void *arg);

struct cell *cell_find(struct context *c, const char *name);
struct cell *cell_at(struct context *c, uint32_t index_plus_1);
/* The one submitted last of those that have results, or NULL. */
struct cell *cell_latest(struct context *c);
struct cell *cell_make(struct context *c, const char *name);
uint32_t cell_index(struct context *c, const struct cell *cell);
/* The cell's results leave its name; history stays. Memory only: the journal knows since cell_removed. */
void cell_detach(struct context *c, struct cell *cell);
/* The run that a being-written cell will get; NULL if NAME is not being written. */
struct run *cell_writing(struct context *c, const char *name);

/* Puts the cell's code in the queue. Returns 0 or -errno. */
int context_submit(struct context *c, const char *name, struct run **r);
/* The same with code that is no file's, unless the queue is full. */
int context_queue(struct context *c, const char *name, const char *code, size_t n, struct run **r);
/* Is there room in the queue for NAME? 0, or -ENOSPC with a line in the log. */
int queue_admit(struct context *c, const char *name);

/* A write to NAME, a file of C's that does what it is told; *GONE: the context was removed. -ENOENT: it is none. */
int context_take(struct context *c, const char *name, const char *text, size_t n, bool *gone);
bool context_takes(const char *name);
/* Is what is written to NAME one text until it is closed? */
bool context_holds(const char *name);
/* Lines for `ctl`: every verb is checked before any is done. *GONE: the context was removed. */
int context_ctl(struct context *c, const char *text, size_t n, bool *gone);
void context_print_ctl(struct buf *out);

/* Journal. A line is built in B from event_begin to event_end, which writes it. */
void event_begin(struct context *c, struct buf *b, const char *type, const struct run *r);
int event_end(struct context *c, struct buf *b, struct run *r);
/* An event `notice`, of a run or of the context. */
void notice(struct context *c, struct run *r, const char *fmt, ...) printflike(3, 4);

/* Records. */
struct rec *context_rec(struct context *c, uint64_t number);
struct rec *context_new_rec(struct context *c, uint64_t number);
uint64_t run_object(struct context *c, uint64_t number);
/* The run NUMBER, from memory or disk; NULL if there is none (any more). */
struct run *context_run(struct context *c, uint64_t number);
/* The newest run of CELL went: it shows the one before, or has no results any more. */
void context_show_before(struct context *c, struct cell *cell);
/* Forgets an ended run for good: -EBUSY, -ENOENT. */
int context_forget(struct context *c, uint64_t number);
void context_keep(struct context *c);

/* Index (index.c). */
int index_run(struct context *c, const struct run *r, const struct rec *rec);
/* Adds a record of KIND about the names A and B (may be NULL) and the number N. */
int index_note(struct context *c, uint8_t kind, const char *a, const char *b, uint64_t n);
/* Fills C's records, cells and kernels from runs.idx and the rest of the journal, ends what was under way
 * when the daemon died. Returns 0 or -errno. */
int index_load(struct context *c);
/* Kinds of index records. */
enum { IDX_RUN = 1, IDX_MOVED, IDX_GONE, IDX_FORGOT, IDX_KERNEL, IDX_WHOLE, IDX_USAGE };

#endif
