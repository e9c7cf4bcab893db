/* What type a file has, by libmagic: the only user of <magic.h>. What it looks at may be hostile, so it is shown bytes,
 * never files, few of them, and asked for nothing that needs a program, a library or a tree of pieces.
 *
 * For one thread. The tables are loaded with the first question: some milliseconds, 5 MB. */
#ifndef CELLFS_MIME_H
#define CELLFS_MIME_H

#include "util.h"

struct mime;

/* As long as any type of a text may take; a larger file's end is not looked at. */
enum { MIME_LOOK = 1 << 20, MIME_NAME = 64 };

struct mime *mime_new(void);
void mime_free(struct mime *m);
/* The type of the open regular file FD. Text takes libmagic up to some milliseconds: with THOROUGH false it is told apart
 * as JSON, CSV and plain only. */
void mime_of(struct mime *m, int fd, bool thorough, char name[MIME_NAME]);

#endif
