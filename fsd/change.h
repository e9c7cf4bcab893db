/* What making, removing and renaming a name means in the tree (but in real directories: that is the mirror's).
 * All return 0 or -errno; parents are inode numbers of directories. */
#ifndef CELLFS_CHANGE_H
#define CELLFS_CHANGE_H

#include "tree.h"

/* Why nothing can be made in N, or of it: results never change (-EROFS), the rest is not for that (-EPERM). */
int tree_refusal(const struct node *n);
/* Makes file NAME in DIR; *INO is what it became, or what has the name already (-EEXIST). */
int tree_create(const struct node *dir, const char *name, mode_t mode, uint64_t *ino);
int tree_mkdir(struct world *w, uint64_t parent, const char *name, uint64_t *ino);
int tree_unlink(struct world *w, uint64_t parent, const char *name);
int tree_rmdir(struct world *w, uint64_t parent, const char *name);
/* FLAGS are renameat2's. */
int tree_rename(struct world *w, uint64_t parent, const char *name, uint64_t newparent, const char *to,
		unsigned flags);

#endif
