/* The FUSE operations: requests in, nodes and shapes asked, replies out. The only place that replies, and
 * where requests wait. */
#ifndef CELLFS_FS_H
#define CELLFS_FS_H

#include "world.h"

struct fs;

/* Mounts W at MOUNTPOINT. READY is called once the mount answers, ENDED when it is gone or aborted.
 * Returns NULL with a sentence in WHY. */
struct fs *fs_mount(struct world *w, const char *mountpoint, void (*ready)(void *), void (*ended)(void *),
		    void *arg, struct buf *why);
/* Answers everything that waits: readers of what goes on for ever, and who waits for nothing any more. */
void fs_answer_all(struct fs *fs);
/* Unmounts (being unmounted already is success) and frees. */
void fs_unmount(struct fs *fs);

#endif
