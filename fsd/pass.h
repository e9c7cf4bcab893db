/* FUSE passthrough (Linux 6.9, root only): files that the FUSE kernel reads, writes and maps by itself, once it was told
 * which they are. libfuse knows of it since 3.17; here its answers are completed on their way out, so that it works
 * with any that lets us send them. Knows nothing of files. */
#ifndef CELLFS_PASS_H
#define CELLFS_PASS_H

#include <fuse_lowlevel.h>
#include <stdbool.h>

struct pass {
	bool on;
	int fd;      /* of the session */
	int backing; /* what the answer that is sent next names; 0 nothing */
	bool init;   /* the next one is that to INIT */
};

/* Takes over how SE sends and receives: it is mounted, and its user data begins with P. WANTED: else it is off. */
void pass_start(struct pass *p, struct fuse_session *se, bool wanted);
/* A number for FD's file, or -errno. P is off once the kernel says that it can be had for none. */
int pass_open(struct pass *p, int fd);
void pass_close(struct pass *p, int backing);

#endif
