/* The daemon's log: one line an event, with its time. Goes to a file (the mount's `log`), and to stderr
 * when the daemon stays in the foreground. Also the logs of the contexts, which have the same form.
 *
 * A log file keeps its last 16 MiB: when it is twice that, the first half goes. */
#ifndef CELLFS_LOG_H
#define CELLFS_LOG_H

#include "util.h"

struct log {
	int fd;       /* -1: not open */
	off_t size;
	int64_t time; /* of the last line, us since 1970; 0 unknown */
	bool to_stderr;
};

#define LOG_KEEP (16 << 20)

/* Opens NAME below DIR for appending. Returns 0 or -errno. */
int log_open(struct log *l, int dir, const char *name);
void log_close(struct log *l);
/* Adds a line; a full disk loses it, nothing else. */
void log_line(struct log *l, const char *fmt, ...) printflike(2, 3);
void log_vline(struct log *l, const char *fmt, va_list ap);
/* The offset in the file of the first byte that the log shows. */
off_t log_start(const struct log *l);

#endif
