#include "mirror.h"

#include <dirent.h>
#include <fcntl.h>
#include <search.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/xattr.h>

#include <linux/fs.h>

#include "gate.h"
#include "util.h"

#define ROOT_FDS 16
#define FOUND_FDS 64
#define CLOSING_FDS (2 * FOUND_FDS)
#define FOUND_MOST (1 << 20)
#define CLOSE_MOST (64 << 10) /* a few extents are freed at once */
#define CREATE_TRIES 8
/* What of an open's flags reaches the file below: for O_SYNC the kernel sends an fsync, and O_DIRECT
 * would ask for aligned buffers that we do not have. */
#define OPEN_FLAGS (O_ACCMODE | O_APPEND | O_TRUNC)
/* Sticky is shown, for default_permissions looks at it. */
#define MODES (S_ISVTX | 0777)
/* st_ino stays exact in a double (old Node) and clear of the numbers of the rest of the tree. */
#define STAT_INO_BIT (1ULL << 52)

struct node {
	fuse_ino_t ino;
	uint64_t lookups;    /* what the kernel will forget */
	size_t refs;         /* children, named or not, and handles */
	struct node *parent; /* NULL in a root */
	struct node *root;
	char *name; /* in PARENT; NULL: unlinked, replaced or a root */
	dev_t dev;  /* DEV, ID and TYPE: which object this is */
	ino_t id;
	mode_t type;
	int found;           /* what its last lookup found, -1: let go */
	struct list handles; /* by handle.of_node */
	int backing;         /* what the FUSE kernel knows the file by, 0 nothing */
	size_t passed;       /* handles that use it */
	struct {             /* in a root only */
		uint64_t owner;
		bool dropped;
		struct list handles; /* by handle.of_root */
	} top;
};

struct handle {
	struct list of_node, of_root;
	struct mirror *mirror;
	struct node *node;
	int fd;    /* -1: dropped */
	DIR *dir;  /* owns FD if there is one */
	off_t pos; /* of DIR */
	bool passed, wrote;
	struct timespec mtime; /* when it was opened, if PASSED */
};

struct mirror {
	mirror_open_root *open_root;
	void *arg;
	struct mirror_watch watch;
	struct mirror_pass pass; /* its functions are NULL: there is none */
	int64_t freed;
	uint64_t last; /* numbers only grow */
	void *by_ino;  /* all nodes */
	void *by_name; /* all with a name, by parent and name */
	void *by_id;   /* directories but roots, by root and object; not those removed */
	struct {
		uint64_t owner;
		int fd;
	} roots[ROOT_FDS];
	unsigned int next; /* of ROOTS to be replaced */
	struct node *found[FOUND_FDS];
	unsigned int next_found, fresh; /* FRESH: found since the last mirror_let_go() */
	void (*close)(void *arg, int fd);
	void *close_arg;
	size_t closing; /* that CLOSE has not closed yet */
};

/* ---- nodes ---------------------------------------------------------------------------------- */

#define COMPARE(a, b) ((a) < (b) ? -1 : (a) > (b))

static int cmp_ino(const void *a, const void *b)
{
	const struct node *x = a, *y = b;

	return COMPARE(x->ino, y->ino);
}

static int cmp_name(const void *a, const void *b)
{
	const struct node *x = a, *y = b;
	int c = COMPARE(x->parent, y->parent);

	return c ? c : strcmp(x->name, y->name);
}

static int cmp_id(const void *a, const void *b)
{
	const struct node *x = a, *y = b;
	int c = COMPARE(x->root, y->root);

	if (!c)
		c = COMPARE(x->dev, y->dev);
	return c ? c : COMPARE(x->id, y->id);
}

static struct node *find(void *const *tree, const struct node *key,
			 int (*cmp)(const void *, const void *))
{
	struct node **n = tfind(key, tree, cmp);

	return n ? *n : NULL;
}

static struct node *find_ino(struct mirror *m, fuse_ino_t ino)
{
	return find(&m->by_ino, &(struct node){ .ino = ino }, cmp_ino);
}

static struct node *find_name(struct mirror *m, struct node *parent, const char *name)
{
	struct node key = { .parent = parent, .name = (char *)name };

	return find(&m->by_name, &key, cmp_name);
}

static bool is_object(const struct node *n, const struct stat *st)
{
	return n->dev == st->st_dev && n->id == st->st_ino && n->type == (st->st_mode & S_IFMT);
}

static void lose_name(struct mirror *m, struct node *n)
{
	if (!n->name)
		return;
	tdelete(n, &m->by_name, cmp_name);
	free(n->name);
	n->name = NULL;
}

/* N's object is removed: its number may come back as another directory, which is not N. */
static void lose_object(struct mirror *m, struct node *n)
{
	lose_name(m, n);
	if (find(&m->by_id, n, cmp_id) == n)
		tdelete(n, &m->by_id, cmp_id);
}

/* And has at least ROOM bytes of the disk. */
static bool is_removed(int fd, int64_t room)
{
	struct stat st;

	return fd >= 0 && !fstat(fd, &st) && !st.st_nlink && st.st_blocks * 512 >= room;
}

static void close_file(struct mirror *m, int *fd)
{
	if (m->close && is_removed(*fd, CLOSE_MOST)) {
		m->closing++;
		m->close(m->close_arg, take(fd));
	}
	drop_fd(fd);
}

void mirror_closed(struct mirror *m)
{
	m->closing--;
}

static void let_go(struct mirror *m, size_t slot)
{
	if (m->found[slot])
		close_file(m, &m->found[slot]->found);
	m->found[slot] = NULL;
}

/* Who looks a file up opens it next. By then another may have its name, and the VFS begins again only once: in the
 * meantime N is what was found. */
static void keep_found(struct mirror *m, struct node *n, int *fd)
{
	if (n->found >= 0 || m->closing >= CLOSING_FDS)
		return;
	let_go(m, m->next_found);
	m->found[m->next_found] = n;
	m->next_found = (m->next_found + 1) % FOUND_FDS;
	m->fresh = MIN(m->fresh + 1, FOUND_FDS);
	n->found = take(fd);
}

static void forget_found(struct mirror *m, const struct node *n)
{
	for (size_t i = 0; n->found >= 0 && i < FOUND_FDS; i++)
		if (m->found[i] == n)
			let_go(m, i);
}

bool mirror_let_go(struct mirror *m)
{
	bool left = m->fresh;

	for (unsigned int i = m->fresh; i < FOUND_FDS; i++)
		let_go(m, (m->next_found + i - m->fresh) % FOUND_FDS);
	m->fresh = 0;
	return left;
}

/* Frees N if nothing holds it any more, and then those above it. */
static void put(struct mirror *m, struct node *n)
{
	while (n && !n->lookups && !n->refs) {
		struct node *parent = n->parent;

		lose_object(m, n);
		forget_found(m, n);
		tdelete(n, &m->by_ino, cmp_ino);
		free(n);
		if (parent)
			parent->refs--;
		n = parent;
	}
}

/* Makes N the node at NAME in PARENT, for good or until -errno. */
static int place(struct mirror *m, struct node *n, struct node *parent, const char *name)
{
	struct node *was = n->parent, *there = find_name(m, parent, name);
	char *copy;

	/* Who moves directories under us could have us believe in a loop. */
	for (struct node *p = parent; p; p = p->parent)
		if (p == n)
			return -ESTALE;
	copy = strdup(name);
	if (!copy)
		return -ENOMEM;

	if (there)
		lose_name(m, there);
	lose_name(m, n);
	parent->refs++;
	n->parent = parent;
	n->name = copy;
	if (was) {
		was->refs--;
		put(m, was);
	}
	if (tsearch(n, &m->by_name, cmp_name))
		return 0;
	n->name = NULL;
	free(copy);
	return -ENOMEM;
}

static struct node *node_new(struct mirror *m, fuse_ino_t ino, struct node *root,
			     const struct stat *st)
{
	struct node *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->ino = ino;
	n->root = root ? root : n;
	n->dev = st->st_dev;
	n->id = st->st_ino;
	n->type = st->st_mode & S_IFMT;
	n->found = -1;
	list_init(&n->handles);
	list_init(&n->top.handles);
	if (!tsearch(n, &m->by_ino, cmp_ino)) {
		free(n);
		return NULL;
	}
	return n;
}

/* The node of the object ST at NAME in PARENT. It may have nothing yet that holds it. */
static int node_at(struct mirror *m, struct node *parent, const char *name, const struct stat *st,
		   struct node **out)
{
	struct node *n = find_name(m, parent, name);
	struct node key = { .root = parent->root, .dev = st->st_dev, .id = st->st_ino };
	int r;

	if (n && !is_object(n, st)) {
		lose_name(m, n);
		n = NULL;
	}
	if (!n && S_ISDIR(st->st_mode)) {
		n = find(&m->by_id, &key, cmp_id);
		r = n ? place(m, n, parent, name) : 0;
		if (r)
			return r;
	}
	if (!n) {
		n = node_new(m, MIRROR_BIT | ++m->last << 1, parent->root, st);
		if (!n)
			return -ENOMEM;
		r = place(m, n, parent, name);
		if (!r && S_ISDIR(st->st_mode) && !tsearch(n, &m->by_id, cmp_id))
			r = -ENOMEM;
		if (r) {
			put(m, n);
			return r;
		}
	}
	*out = n;
	return 0;
}

static unsigned int depth(const struct node *n)
{
	unsigned int d = 0;

	while ((n = n->parent))
		d++;
	return d;
}

/* ---- from a node to its object -------------------------------------------------------------- */

/* OWNER's directory, borrowed until the next call. */
static int root_fd(struct mirror *m, uint64_t owner)
{
	int fd;

	for (int i = 0; i < ROOT_FDS; i++)
		if (m->roots[i].fd >= 0 && m->roots[i].owner == owner)
			return m->roots[i].fd;
	fd = m->open_root(m->arg, owner);
	if (fd < 0)
		return fd;
	m->next = (m->next + 1) % ROOT_FDS;
	drop_fd(&m->roots[m->next].fd);
	m->roots[m->next].owner = owner;
	m->roots[m->next].fd = fd;
	return fd;
}

/* N's path below its root, the caller's. */
static int node_path(const struct node *n, char **out)
{
	size_t len = 1;
	char *s;

	if (!n->parent) {
		*out = strdup(".");
		return *out ? 0 : -ENOMEM;
	}
	for (const struct node *p = n; p->parent; p = p->parent) {
		if (!p->name)
			return -ESTALE;
		len += strlen(p->name) + 1;
	}
	s = malloc(len);
	if (!s)
		return -ENOMEM;
	*out = s;
	s += len - 1;
	for (const struct node *p = n; p->parent; p = p->parent) {
		size_t k = strlen(p->name);

		/* The last one's slash becomes the end of the string. */
		*--s = p == n ? '\0' : '/';
		s -= k;
		memcpy(s, p->name, k);
	}
	return 0;
}

static int node_walk(struct mirror *m, const struct node *n)
{
	auto_close int fd = -1;
	auto_free char *path = NULL;
	struct stat st;
	int r;

	r = node_path(n, &path);
	if (r)
		return r;
	r = root_fd(m, n->root->top.owner);
	if (r < 0)
		return r;
	/* A closed root could not even be asked for ".". */
	fd = n->parent ? gate_path(r, path) : fcntl(r, F_DUPFD_CLOEXEC, 0);
	if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP || fd == -EXDEV)
		return -ESTALE;
	if (fd < 0)
		return fd;
	if (fstat(fd, &st))
		return -errno;
	return is_object(n, &st) ? take(&fd) : -ESTALE;
}

/* A new descriptor of N's object, which may be O_PATH, or -errno. A directory's is one at its place, for that decides
 * what is shown in it. */
static int node_fd(struct mirror *m, const struct node *n)
{
	int fd = S_ISDIR(n->type) ? -1 : n->found;

	if (n->root->top.dropped)
		return -ESTALE;
	if (fd < 0 && list_empty(&n->handles))
		return node_walk(m, n);
	if (fd < 0)
		fd = container_of(n->handles.next, struct handle, of_node)->fd;
	fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	return fd < 0 ? -errno : fd;
}

/* Of the node INO, which becomes OUT. A forgotten one that its children hold is not to be used: it
 * could go while an operation moves them. */
static int ino_fd(struct mirror *m, fuse_ino_t ino, struct node **out)
{
	*out = find_ino(m, ino);
	return *out && (*out)->lookups ? node_fd(m, *out) : -ESTALE;
}

static bool is_dots(const char *name)
{
	return !strcmp(name, ".") || !strcmp(name, "..");
}

/* The same of a directory that a NAME is wanted in. */
static int parent_fd(struct mirror *m, fuse_ino_t ino, const char *name, struct node **out)
{
	auto_close int fd = ino_fd(m, ino, out);

	if (!*name || strchr(name, '/') || is_dots(name))
		return -EINVAL;
	if (fd < 0)
		return fd;
	return S_ISDIR((*out)->type) ? take(&fd) : -ENOTDIR;
}

/* ---- what is shown -------------------------------------------------------------------------- */

/* Reads the link NAME in DIR, or DIR itself if NAME is empty. */
static int read_link(int dir, const char *name, unsigned int depth, char out[PATH_MAX])
{
	ssize_t n = readlinkat(dir, name, out, PATH_MAX);

	if (n < 0)
		return -errno;
	if (n == PATH_MAX)
		return -ENOENT;
	out[n] = '\0';
	return gate_link_stays(out, depth) ? 0 : -ENOENT;
}

static bool is_shown(int dir, const char *name, mode_t type, unsigned int depth)
{
	char target[PATH_MAX];

	if (S_ISLNK(type))
		return !read_link(dir, name, depth, target);
	return S_ISREG(type) || S_ISDIR(type);
}

static bool dirent_is_shown(int dir, const struct dirent *d, unsigned int depth)
{
	struct stat st;

	if (d->d_type != DT_UNKNOWN)
		return is_shown(dir, d->d_name, DTTOIF(d->d_type), depth);
	return !fstatat(dir, d->d_name, &st, AT_SYMLINK_NOFOLLOW) &&
		is_shown(dir, d->d_name, st.st_mode, depth);
}

static bool is_view(const struct node *n)
{
	return n->root->top.owner & MIRROR_VIEW;
}

/* A file of a view is that of the directory, also to who compares numbers before he copies. A directory is not, for it
 * has other names in it. */
static ino_t stat_ino(const struct node *root, ino_t ino, mode_t type)
{
	if (is_view(root) && S_ISDIR(type))
		ino ^= STAT_INO_BIT >> 1;
	return STAT_INO_BIT | ((ino ^ root->top.owner << 32) & (STAT_INO_BIT - 1));
}

static struct stat show(const struct node *n, struct stat st)
{
	st.st_mode &= S_IFMT | MODES;
	st.st_ino = stat_ino(n->root, st.st_ino, st.st_mode);
	return st;
}

static int node_stat(const struct node *n, int fd, struct stat *out)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	*out = show(n, st);
	return 0;
}

static int entry(struct node *n, const struct stat *st, struct fuse_entry_param *out)
{
	n->lookups++;
	*out = (struct fuse_entry_param){ .ino = n->ino, .attr = show(n, *st) };
	return 0;
}

/* ---- what is told ----------------------------------------------------------------------------- */

static uint64_t told_owner(const struct node *n)
{
	return n->root->top.owner & ~MIRROR_VIEW;
}

/* The path of NAME (NULL: itself) in N, the caller's, or NULL. */
static char *told_path(const struct node *n, const char *name)
{
	char *dir, *path = NULL;

	if (node_path(n, &dir))
		return NULL;
	if (!name)
		return dir;
	if (asprintf(&path, "%s%s%s", n->parent ? dir : "", n->parent ? "/" : "", name) < 0)
		path = NULL;
	free(dir);
	return path;
}

static void tell_noted(struct mirror *m, const struct node *n, int fd)
{
	if (m->watch.noted && fd >= 0)
		m->watch.noted(m->watch.arg, told_owner(n), fd);
}

static void tell_path(struct mirror *m, const struct node *n, const char *name,
		      void (*fn)(void *, uint64_t, const char *))
{
	auto_free char *path = fn ? told_path(n, name) : NULL;

	if (path)
		fn(m->watch.arg, told_owner(n), path);
}

static void tell_moved(struct mirror *m, const struct node *p, const char *name, const struct node *q,
		       const char *newname, bool swap)
{
	auto_free char *from = m->watch.moved ? told_path(p, name) : NULL;
	auto_free char *to = from ? told_path(q, newname) : NULL;

	if (to)
		m->watch.moved(m->watch.arg, told_owner(p), from, to, swap);
}

/* Is NAME in DIR there, for all that the view says? */
static bool in_view(struct mirror *m, const struct node *dir, const char *name, bool is_dir)
{
	auto_free char *path = is_view(dir) ? told_path(dir, name) : NULL;

	return !is_view(dir) || (path && m->watch.shown && m->watch.shown(m->watch.arg, told_owner(dir), path, is_dir));
}

/* Fills OUT with FD, the object at NAME in PARENT. */
static int enter(struct mirror *m, struct node *parent, const char *name, int fd,
		 struct fuse_entry_param *out)
{
	struct stat st;
	struct node *n;
	int r;

	if (fstat(fd, &st))
		return -errno;
	if (!is_shown(fd, "", st.st_mode, depth(parent)) || !in_view(m, parent, name, S_ISDIR(st.st_mode)))
		return -ENOENT;
	r = node_at(m, parent, name, &st, &n);
	return r ? r : entry(n, &st, out);
}

/* ---- the mirror, roots ---------------------------------------------------------------------- */

struct mirror *mirror_new(mirror_open_root *open_root, void *arg)
{
	struct mirror *m = xcalloc(1, sizeof(*m));

	m->open_root = open_root;
	m->arg = arg;
	for (int i = 0; i < ROOT_FDS; i++)
		m->roots[i].fd = -1;
	return m;
}

static void handle_close(struct handle *h)
{
	if (h->dir)
		closedir(h->dir);
	else
		close_file(h->mirror, &h->fd);
	h->dir = NULL;
	h->fd = -1;
}

static void keep_node(void *p)
{
	(void)p;
}

static void free_node(void *p)
{
	struct node *n = p;

	list_for_safe(it, next, &n->handles) {
		struct handle *h = container_of(it, struct handle, of_node);

		handle_close(h);
		free(h);
	}
	drop_fd(&n->found);
	free(n->name);
	free(n);
}

void mirror_free(struct mirror *m)
{
	if (!m)
		return;
	m->close = NULL;
	tdestroy(m->by_name, keep_node);
	tdestroy(m->by_id, keep_node);
	tdestroy(m->by_ino, free_node);
	for (int i = 0; i < ROOT_FDS; i++)
		drop_fd(&m->roots[i].fd);
	free(m);
}

int mirror_root(struct mirror *m, uint64_t owner, struct fuse_entry_param *out)
{
	struct node *n = find_ino(m, mirror_root_ino(owner));
	struct stat st;
	int fd;

	if (n && n->top.dropped)
		return -ESTALE;
	fd = root_fd(m, owner);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st))
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	if (n && !is_object(n, &st))
		return -ESTALE;
	if (!n) {
		n = node_new(m, mirror_root_ino(owner), NULL, &st);
		if (!n)
			return -ENOMEM;
		n->top.owner = owner;
	}
	return entry(n, &st, out);
}

void mirror_drop(struct mirror *m, uint64_t owner)
{
	struct node *n = find_ino(m, mirror_root_ino(owner));

	for (int i = 0; i < ROOT_FDS; i++)
		if (m->roots[i].owner == owner)
			drop_fd(&m->roots[i].fd);
	if (!n)
		return;
	n->top.dropped = true;
	for (size_t i = 0; i < FOUND_FDS; i++)
		if (m->found[i] && m->found[i]->root == n)
			let_go(m, i);
	list_for(it, &n->top.handles)
		handle_close(container_of(it, struct handle, of_root));
}

uint64_t mirror_owner(struct mirror *m, fuse_ino_t ino)
{
	struct node *n = find_ino(m, ino);

	return n ? n->root->top.owner : 0;
}

/* ---- nodes' operations ---------------------------------------------------------------------- */

int mirror_lookup(struct mirror *m, fuse_ino_t parent, const char *name,
		  struct fuse_entry_param *out)
{
	struct node *p;
	auto_close int dir = parent_fd(m, parent, name, &p);
	auto_close int fd = dir < 0 ? dir : gate_path(dir, name);

	int r;

	if (dir >= 0 && fd == -EXDEV)
		return -ENOENT;
	r = fd < 0 ? fd : enter(m, p, name, fd, out);
	if (!r)
		keep_found(m, find_ino(m, out->ino), &fd);
	return r;
}

void mirror_forget(struct mirror *m, fuse_ino_t ino, uint64_t n)
{
	struct node *node = find_ino(m, ino);

	if (!node)
		return;
	node->lookups -= MIN(n, node->lookups);
	put(m, node);
}

int mirror_getattr(struct mirror *m, fuse_ino_t ino, struct stat *out)
{
	struct node *n = find_ino(m, ino);

	if (n && n->found >= 0)
		return node_stat(n, n->found, out);
	auto_close int fd = ino_fd(m, ino, &n);
	return fd < 0 ? fd : node_stat(n, fd, out);
}

/* The open descriptor of a handle, or -ESTALE. */
static int handle_fd(const struct fuse_file_info *fi)
{
	const struct handle *h = (const struct handle *)(uintptr_t)fi->fh;

	return h->fd < 0 ? -ESTALE : h->fd;
}

/* The text of NAME in N (NULL: of N) is another from now on; FD is it. */
static void tell_written(struct mirror *m, const struct node *n, const char *name, int fd)
{
	tell_path(m, n, name, m->watch.written);
	tell_noted(m, n, fd);
}

/* N's object is open as FD. It may have lost its name to another, whose text stays as it was. */
static void tell_content(struct mirror *m, const struct node *n, int fd)
{
	if (!is_removed(fd, 0))
		tell_path(m, n, NULL, m->watch.written);
}

static int set_size(int fd, off_t size, const struct fuse_file_info *fi)
{
	auto_close int own = -1;

	/* Not truncate(2), which would wait for a lease, and which needs a right that who opened the
	 * file may have had. */
	if (fi) {
		fd = handle_fd(fi);
	} else {
		own = gate_reopen(fd, S_IFREG, O_WRONLY);
		fd = own;
	}
	if (fd < 0)
		return fd;
	return ftruncate(fd, size) ? -errno : 0;
}

static struct timespec set_time(const struct timespec *t, int to_set, int set, int now)
{
	if (to_set & now)
		return (struct timespec){ .tv_nsec = UTIME_NOW };
	return to_set & set ? *t : (struct timespec){ .tv_nsec = UTIME_OMIT };
}

int mirror_setattr(struct mirror *m, fuse_ino_t ino, const struct stat *want, int to_set,
		   const struct fuse_file_info *fi, struct stat *out)
{
	struct node *n;
	auto_close int fd = ino_fd(m, ino, &n);
	int r;

	if (fd < 0)
		return fd;
	if (is_view(n))
		return -EROFS;
	if (to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) {
		uid_t uid = to_set & FUSE_SET_ATTR_UID ? want->st_uid : (uid_t)-1;
		gid_t gid = to_set & FUSE_SET_ATTR_GID ? want->st_gid : (gid_t)-1;

		if (fchownat(fd, "", uid, gid, AT_EMPTY_PATH))
			return -errno;
	}
	if (to_set & FUSE_SET_ATTR_MODE && chmod(gate_name(fd).s, want->st_mode & MODES))
		return -errno;
	if (to_set & FUSE_SET_ATTR_SIZE) {
		r = set_size(fd, want->st_size, fi);
		if (r)
			return r;
	}
	if (to_set &
	    (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW |
	     FUSE_SET_ATTR_MTIME_NOW)) {
		struct timespec t[2] = {
			set_time(&want->st_atim, to_set, FUSE_SET_ATTR_ATIME,
				 FUSE_SET_ATTR_ATIME_NOW),
			set_time(&want->st_mtim, to_set, FUSE_SET_ATTR_MTIME,
				 FUSE_SET_ATTR_MTIME_NOW),
		};

		if (utimensat(fd, "", t, AT_EMPTY_PATH))
			return -errno;
	}
	if (to_set & FUSE_SET_ATTR_SIZE)
		tell_content(m, n, fd);
	tell_noted(m, n, fd);
	return node_stat(n, fd, out);
}

int mirror_readlink(struct mirror *m, fuse_ino_t ino, char out[PATH_MAX])
{
	struct node *n;
	auto_close int fd = ino_fd(m, ino, &n);

	if (fd < 0)
		return fd;
	return S_ISLNK(n->type) ? read_link(fd, "", depth(n->parent), out) : -EINVAL;
}

int mirror_statfs(struct mirror *m, fuse_ino_t ino, struct statvfs *out)
{
	struct node *n;
	auto_close int fd = ino_fd(m, ino, &n);

	if (fd < 0)
		return fd;
	return fstatvfs(fd, out) ? -errno : 0;
}

/* ---- names ---------------------------------------------------------------------------------- */

static int give(int fd, const struct fuse_ctx *who)
{
	if (!who || geteuid())
		return 0;
	return fchownat(fd, "", who->uid, who->gid, AT_EMPTY_PATH) ? -errno : 0;
}

/* Fills OUT with what was just made at NAME in PARENT, whose descriptor is DIR. */
static int enter_new(struct mirror *m, struct node *parent, int dir, const char *name,
		     const struct fuse_ctx *who, struct fuse_entry_param *out)
{
	auto_close int fd = gate_path(dir, name);
	int r = fd < 0 ? fd : give(fd, who);

	if (fd >= 0)
		tell_written(m, parent, name, fd);
	tell_noted(m, parent, dir);
	return r ? r : enter(m, parent, name, fd, out);
}

int mirror_mkdir(struct mirror *m, fuse_ino_t parent, const char *name, mode_t mode,
		 const struct fuse_ctx *who, struct fuse_entry_param *out)
{
	struct node *p;
	auto_close int dir = parent_fd(m, parent, name, &p);

	if (dir < 0)
		return dir;
	if (is_view(p))
		return -EROFS;
	if (mkdirat(dir, name, mode & MODES))
		return -errno;
	return enter_new(m, p, dir, name, who, out);
}

int mirror_symlink(struct mirror *m, const char *target, fuse_ino_t parent, const char *name,
		   const struct fuse_ctx *who, struct fuse_entry_param *out)
{
	struct node *p;
	auto_close int dir = parent_fd(m, parent, name, &p);

	if (dir < 0)
		return dir;
	if (is_view(p))
		return -EROFS;
	if (!gate_link_stays(target, depth(p)))
		return -EPERM;
	if (symlinkat(target, dir, name))
		return -errno;
	return enter_new(m, p, dir, name, who, out);
}

int mirror_link(struct mirror *m, fuse_ino_t ino, fuse_ino_t newparent, const char *newname,
		struct fuse_entry_param *out)
{
	struct node *n, *p;
	auto_close int fd = ino_fd(m, ino, &n);
	auto_close int dir = fd < 0 ? fd : parent_fd(m, newparent, newname, &p);

	if (dir < 0)
		return dir;
	if (is_view(p))
		return -EROFS;
	if (n->root != p->root)
		return -EXDEV;
	if (linkat(AT_FDCWD, gate_name(fd).s, dir, newname, AT_SYMLINK_FOLLOW))
		return -errno;
	return enter_new(m, p, dir, newname, NULL, out);
}

/* What the disk gets back when NAME in DIR goes. */
static int64_t only_here(int dir, const char *name)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode) || st.st_nlink > 1)
		return 0;
	return st.st_blocks * 512;
}

int64_t mirror_freed(struct mirror *m)
{
	int64_t n = m->freed;

	m->freed = 0;
	return n;
}

int mirror_unlink(struct mirror *m, fuse_ino_t parent, const char *name)
{
	struct node *p, *n;
	auto_close int dir = parent_fd(m, parent, name, &p);
	int64_t size;

	if (dir < 0)
		return dir;
	size = only_here(dir, name);
	n = find_name(m, p, name);
	if (n && size > FOUND_MOST) /* who removes it wants its room at once */
		forget_found(m, n);
	if (unlinkat(dir, name, 0))
		return -errno;
	m->freed += size;
	tell_path(m, p, name, m->watch.removed);
	tell_noted(m, p, dir);
	if (n)
		lose_object(m, n);
	return 0;
}

/* Empties the directory NAME in DIR of what is not shown, if it has nothing else. */
static int sweep(int dir, const char *name, unsigned int depth)
{
	int fd = gate_open_dir(dir, name), r = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;

	if (!d) {
		r = fd < 0 ? fd : -errno;
		drop_fd(&fd);
		return r;
	}
	while (!r && (e = readdir(d)))
		if (!is_dots(e->d_name) && dirent_is_shown(fd, e, depth))
			r = -ENOTEMPTY;
	rewinddir(d);
	while (!r && (e = readdir(d)))
		if (!is_dots(e->d_name) && !dirent_is_shown(fd, e, depth) &&
		    unlinkat(fd, e->d_name, 0))
			r = -errno;
	closedir(d);
	return r;
}

/* What is not in the view keeps the directory where it is. */
static int rmdir_in_view(struct mirror *m, struct node *p, int dir, const char *name)
{
	auto_free char *path = told_path(p, name);
	int r = !path ? -ENOMEM : m->watch.rmdir ? m->watch.rmdir(m->watch.arg, told_owner(p), path) : -EROFS;
	struct node *n = find_name(m, p, name);

	if (!r && !unlinkat(dir, name, AT_REMOVEDIR) && n)
		lose_object(m, n);
	return r;
}

int mirror_rmdir(struct mirror *m, fuse_ino_t parent, const char *name)
{
	struct node *p, *n;
	auto_close int dir = parent_fd(m, parent, name, &p);
	int r;

	if (dir < 0)
		return dir;
	if (is_view(p))
		return rmdir_in_view(m, p, dir, name);
	r = unlinkat(dir, name, AT_REMOVEDIR) ? -errno : 0;
	if (r == -ENOTEMPTY || r == -EEXIST) {
		r = sweep(dir, name, depth(p) + 1);
		if (!r && unlinkat(dir, name, AT_REMOVEDIR))
			r = -errno;
	}
	if (r)
		return r;
	n = find_name(m, p, name);
	if (n)
		lose_object(m, n);
	return 0;
}

/* N was moved to NAME in PARENT. If that cannot be noted, it waits for a lookup without a name. */
static void move(struct mirror *m, struct node *n, struct node *parent, const char *name)
{
	if (n && place(m, n, parent, name))
		lose_name(m, n);
}

static void tell_renamed(struct mirror *m, const struct node *p, int dir, const char *name, const struct node *q,
			 int newdir, const char *newname, bool swap)
{
	auto_close int to = m->watch.noted ? gate_path(newdir, newname) : -1;
	auto_close int from = m->watch.noted && swap ? gate_path(dir, name) : -1;

	tell_noted(m, p, dir);
	tell_noted(m, q, newdir);
	tell_noted(m, q, to);
	tell_noted(m, p, from);
	tell_moved(m, p, name, q, newname, swap);
}

int mirror_rename(struct mirror *m, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
		  const char *newname, unsigned int flags)
{
	struct node *p, *q, *from, *to;
	auto_close int dir = parent_fd(m, parent, name, &p);
	auto_close int newdir = dir < 0 ? dir : parent_fd(m, newparent, newname, &q);
	struct stat moved, st;
	int64_t size;

	if (newdir < 0)
		return newdir;
	if (is_view(q))
		return -EROFS;
	if (p->root != q->root)
		return -EXDEV;
	if (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	if (fstatat(dir, name, &moved, AT_SYMLINK_NOFOLLOW))
		return -errno;
	size = flags ? 0 : only_here(newdir, newname);
	if (renameat2(dir, name, newdir, newname, flags))
		return -errno;

	/* Two names of one file: nothing happens, as rename(2) says. */
	if (!flags && !fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) && st.st_ino == moved.st_ino &&
	    st.st_dev == moved.st_dev)
		return 0;
	m->freed += size;
	tell_renamed(m, p, dir, name, q, newdir, newname, flags & RENAME_EXCHANGE);
	from = find_name(m, p, name);
	to = find_name(m, q, newname);
	if (from == to)
		return 0;
	if (flags & RENAME_EXCHANGE) {
		if (from)
			lose_name(m, from);
		move(m, to, p, name);
	} else if (to) {
		lose_object(m, to);
	}
	move(m, from, q, newname);
	return 0;
}

/* ---- copies into another root ------------------------------------------------------------------ */

/* The source of a clone: NAME in PARENT, or PARENT itself if that is NULL; opened for reading. */
static int open_source(struct mirror *m, fuse_ino_t parent, const char *name)
{
	struct node *n;
	auto_close int dir = name ? parent_fd(m, parent, name, &n) : ino_fd(m, parent, &n);
	auto_close int fd = dir < 0 ? dir : name ? gate_path(dir, name) : take(&dir);
	int r = fd < 0 ? fd : gate_reopen(fd, S_IFREG, O_RDONLY);

	/* Only files can be cloned: who moves something else copies it. */
	return r == -ELOOP || r == -ENXIO || r == -EISDIR ? -EXDEV : r;
}

int mirror_clone_begin(struct mirror *m, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
		       const char *newname, const struct fuse_ctx *who, struct mirror_clone *out)
{
	struct node *p;
	auto_close int dir = parent_fd(m, newparent, newname, &p);
	auto_close int from = dir < 0 ? dir : open_source(m, parent, name);
	auto_close int to = -1;

	if (from < 0)
		return from;
	to = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (to < 0)
		return errno == EOPNOTSUPP || errno == EISDIR ? -EXDEV : -errno;
	*out = (struct mirror_clone){ .from = take(&from), .to = take(&to) };
	if (who)
		out->who = *who;
	out->give = who;
	return 0;
}

static int copy_xattrs(int from, int to)
{
	auto_free char *names = malloc(XATTR_LIST_MAX);
	auto_free char *value = malloc(XATTR_SIZE_MAX);
	ssize_t len = names && value ? flistxattr(from, names, XATTR_LIST_MAX) : -1;

	for (char *s = names; s < names + len; s += strlen(s) + 1) {
		ssize_t n = strncmp(s, "user.", 5) ? -1 : fgetxattr(from, s, value, XATTR_SIZE_MAX);

		if (n >= 0 && fsetxattr(to, s, value, n, 0))
			return -errno;
	}
	return 0;
}

int mirror_clone_work(struct mirror_clone *c)
{
	struct stat st;
	int r;

	if (fstat(c->from, &st))
		return -errno;
	if (ioctl(c->to, FICLONE, c->from))
		return errno == ENOSPC || errno == EDQUOT || errno == EIO ? -errno : -EXDEV;
	r = copy_xattrs(c->from, c->to);
	if (!r && c->give)
		r = give(c->to, &c->who);
	if (r)
		return r;
	if (fchmod(c->to, st.st_mode & MODES) ||
	    futimens(c->to, (struct timespec[]){ st.st_atim, st.st_mtim }))
		return -errno;
	return 0;
}

/* Gives the file TO the name NAME in DIR, in place of what is there if REPLACE. */
static int name_file(struct mirror *m, int to, int dir, const char *name, bool replace)
{
	char tmp[48];

	if (!linkat(AT_FDCWD, gate_name(to).s, dir, name, AT_SYMLINK_FOLLOW))
		return 0;
	if (errno != EEXIST || !replace)
		return -errno;
	snprintf(tmp, sizeof(tmp), ".cellfs-%llx", (unsigned long long)++m->last);
	if (linkat(AT_FDCWD, gate_name(to).s, dir, tmp, AT_SYMLINK_FOLLOW))
		return -errno;
	if (!renameat(dir, tmp, dir, name))
		return 0;
	int r = -errno;
	unlinkat(dir, tmp, 0);
	return r;
}

int mirror_clone_name(struct mirror *m, const struct mirror_clone *c, fuse_ino_t newparent,
		      const char *newname, bool replace, struct fuse_entry_param *out)
{
	struct node *p, *there;
	auto_close int dir = parent_fd(m, newparent, newname, &p);
	int r = dir < 0 ? dir : name_file(m, c->to, dir, newname, replace);

	if (r)
		return r;
	there = find_name(m, p, newname);
	if (there)
		lose_object(m, there);
	return out ? enter(m, p, newname, c->to, out) : 0;
}

int mirror_clone_remove(struct mirror *m, const struct mirror_clone *c, fuse_ino_t parent, const char *name)
{
	struct node *p;
	auto_close int dir = parent_fd(m, parent, name, &p);
	struct stat st, now;

	if (dir < 0)
		return dir;
	if (fstat(c->from, &st) || fstatat(dir, name, &now, AT_SYMLINK_NOFOLLOW) || st.st_ino != now.st_ino ||
	    st.st_dev != now.st_dev)
		return 0; /* somebody put another one there meanwhile: that is not what was moved */
	return mirror_unlink(m, parent, name);
}

void mirror_clone_clear(struct mirror_clone *c)
{
	drop_fd(&c->from);
	drop_fd(&c->to);
}

/* ---- handles -------------------------------------------------------------------------------- */

void mirror_set_watch(struct mirror *m, const struct mirror_watch *watch)
{
	m->watch = *watch;
}

void mirror_set_close(struct mirror *m, void (*fn)(void *arg, int fd), void *arg)
{
	m->close = fn;
	m->close_arg = arg;
}

void mirror_set_pass(struct mirror *m, const struct mirror_pass *pass)
{
	m->pass = *pass;
}

int mirror_passed(const struct fuse_file_info *fi)
{
	const struct handle *h = (const struct handle *)(uintptr_t)fi->fh;

	return h->passed ? h->node->backing : 0;
}

/* All that a node is opened for at a time is passed or none of it is: the FUSE kernel has no third way. The first to
 * open it decides. Who only writes is not passed, so that we see what it writes. */
static void pass_through(struct mirror *m, struct handle *h, int flags)
{
	struct node *n = h->node;
	struct stat st;

	if (!m->pass.open || h->dir)
		return;
	if (list_empty(&n->handles) && (flags & O_ACCMODE) != O_WRONLY) {
		n->backing = m->pass.open(m->pass.arg, h->fd);
		n->backing = MAX(n->backing, 0);
	}
	h->passed = n->backing > 0;
	n->passed += h->passed;
	if (h->passed && !fstat(h->fd, &st))
		h->mtime = st.st_mtim;
}

/* Takes over FD, on success only. */
static int handle_new(struct mirror *m, struct node *n, int fd, struct fuse_file_info *fi)
{
	struct handle *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	if (S_ISDIR(n->type)) {
		h->dir = fdopendir(fd);
		if (!h->dir) {
			free(h);
			return -errno;
		}
	}
	h->fd = fd;
	h->mirror = m;
	h->node = n;
	n->refs++;
	pass_through(m, h, fi->flags);
	/* By way of the page cache a write across the end of a page comes as two, and others' appends between them. */
	if (!h->passed && (fi->flags & (O_ACCMODE | O_APPEND)) == (O_WRONLY | O_APPEND))
		fi->direct_io = 1;
	list_append(&n->handles, &h->of_node);
	list_append(&n->root->top.handles, &h->of_root);
	fi->fh = (uintptr_t)h;
	return 0;
}

/* A cell can close a directory to its own uid, which is an ordinary user's daemon's too; `rm -r` of a context has
 * to get in nevertheless. So who reads a directory of ours opens it. */
static int reopen(int path, mode_t type, int flags)
{
	int fd = gate_reopen(path, type, flags);
	struct stat st;

	if (fd != -EACCES || type != S_IFDIR || fstat(path, &st) || st.st_uid != geteuid() ||
	    chmod(gate_name(path).s, (st.st_mode & MODES) | 0700))
		return fd;
	return gate_reopen(path, type, flags);
}

static int node_open(struct mirror *m, fuse_ino_t ino, mode_t type, int flags,
		     struct fuse_file_info *fi)
{
	struct node *n;
	auto_close int path = ino_fd(m, ino, &n);
	bool writes = (flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC;
	auto_close int fd = path < 0 ? path : writes && is_view(n) ? -EROFS : reopen(path, type, flags);
	int r = fd < 0 ? fd : handle_new(m, n, fd, fi);

	if (!r && flags & O_TRUNC)
		mirror_wrote(m, fi);
	if (!r)
		take(&fd);
	return r;
}

int mirror_open(struct mirror *m, fuse_ino_t ino, struct fuse_file_info *fi)
{
	return node_open(m, ino, S_IFREG, fi->flags & OPEN_FLAGS, fi);
}

int mirror_opendir(struct mirror *m, fuse_ino_t ino, struct fuse_file_info *fi)
{
	return node_open(m, ino, S_IFDIR, O_RDONLY | O_DIRECTORY, fi);
}

/* Another may make it and remove it again as often as he likes; the VFS begins again, but only once. */
static int open_or_make(int dir, const char *name, int flags, mode_t mode, bool excl, bool *made)
{
	for (int tries = 0; tries < CREATE_TRIES; tries++) {
		int fd = gate_open_file(dir, name, flags | O_CREAT, mode);

		*made = fd >= 0;
		if (fd != -EEXIST || excl)
			return fd;
		fd = gate_open_file(dir, name, flags, 0);
		if (fd != -ENOENT)
			return fd;
	}
	return -ESTALE;
}

int mirror_create(struct mirror *m, fuse_ino_t parent, const char *name, mode_t mode,
		  const struct fuse_ctx *who, struct fuse_file_info *fi,
		  struct fuse_entry_param *out)
{
	int flags = fi->flags & OPEN_FLAGS, r;
	struct fuse_entry_param e;
	struct node *p;
	auto_close int dir = parent_fd(m, parent, name, &p);
	auto_close int fd = -1;
	bool made;

	if (dir < 0)
		return dir;
	if (is_view(p))
		return -EROFS;
	fd = open_or_make(dir, name, flags, mode & MODES, fi->flags & O_EXCL, &made);
	if (fd < 0)
		return fd;
	r = made ? give(fd, who) : 0;
	if (r)
		return r;
	r = enter(m, p, name, fd, &e);
	if (r)
		return r;
	r = handle_new(m, find_ino(m, e.ino), fd, fi);
	if (r) {
		mirror_forget(m, e.ino, 1);
		return r;
	}
	if (made || flags & O_TRUNC)
		mirror_wrote(m, fi);
	if (made)
		tell_noted(m, p, dir);
	take(&fd);
	*out = e;
	return 0;
}

void mirror_release(struct mirror *m, struct fuse_file_info *fi)
{
	struct handle *h = (struct handle *)(uintptr_t)fi->fh;
	struct node *n = h->node;
	struct stat st;

	bool writes = (fi->flags & O_ACCMODE) != O_RDONLY;

	if (h->passed && writes && !h->wrote && !fstat(h->fd, &st) && memcmp(&st.st_mtim, &h->mtime, sizeof(h->mtime)))
		mirror_wrote(m, fi);
	else if (h->wrote) /* its close is news, too */
		tell_noted(m, n, h->fd);
	handle_close(h);
	list_del(&h->of_node);
	list_del(&h->of_root);
	if (h->passed && !--n->passed) {
		m->pass.close(m->pass.arg, n->backing);
		n->backing = 0;
	}
	n->refs--;
	put(m, n);
	free(h);
}

void mirror_wrote(struct mirror *m, const struct fuse_file_info *fi)
{
	struct handle *h = (struct handle *)(uintptr_t)fi->fh;

	if (!h->wrote)
		tell_content(m, h->node, h->fd);
	h->wrote = true;
	tell_noted(m, h->node, h->fd);
}

int mirror_fd(const struct fuse_file_info *fi)
{
	return handle_fd(fi);
}

int mirror_read(const struct fuse_file_info *fi, size_t size, off_t off, struct fuse_bufvec *out)
{
	int fd = handle_fd(fi);

	if (fd < 0)
		return fd;
	*out = FUSE_BUFVEC_INIT(size);
	out->buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK | FUSE_BUF_FD_RETRY;
	out->buf[0].fd = fd;
	out->buf[0].pos = off;
	return 0;
}

int mirror_write(const struct fuse_file_info *fi, struct fuse_bufvec *in, off_t off, size_t *out)
{
	struct fuse_bufvec to;
	ssize_t n = mirror_read(fi, fuse_buf_size(in), off, &to);

	if (n < 0)
		return n;
	n = fuse_buf_copy(&to, in, 0);
	if (n < 0)
		return n;
	*out = n;
	return 0;
}

int mirror_fallocate(const struct fuse_file_info *fi, int mode, off_t off, off_t len)
{
	int fd = handle_fd(fi);

	if (fd < 0)
		return fd;
	return fallocate(fd, mode, off, len) ? -errno : 0;
}

int mirror_lseek(const struct fuse_file_info *fi, off_t off, int whence, off_t *out)
{
	int fd = handle_fd(fi);

	if (fd < 0)
		return fd;
	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	off = lseek(fd, off, whence);
	if (off < 0)
		return -errno;
	*out = off;
	return 0;
}

int mirror_readdir(const struct fuse_file_info *fi, char *buf, size_t size, off_t off, size_t *out)
{
	struct handle *h = (struct handle *)(uintptr_t)fi->fh;
	unsigned int d = depth(h->node);
	size_t used = 0;
	struct dirent *e;

	if (!h->dir)
		return h->fd < 0 ? -ESTALE : -ENOTDIR;
	/* From the start it is always a new listing, as rewinddir promises. */
	if (off != h->pos || !off)
		seekdir(h->dir, off);
	for (;;) {
		struct stat st;
		size_t n;

		errno = 0;
		e = readdir(h->dir);
		if (!e)
			break;
		h->pos = e->d_off;
		if (!dirent_is_shown(h->fd, e, d) || (!is_dots(e->d_name) && !in_view(h->mirror, h->node, e->d_name, e->d_type == DT_DIR)))
			continue;
		st.st_mode = DTTOIF(e->d_type);
		st.st_ino = stat_ino(h->node->root, e->d_ino, st.st_mode);
		n = fuse_add_direntry(NULL, buf + used, size - used, e->d_name, &st, e->d_off);
		if (n > size - used) {
			/* Read, but not delivered: the next call must go back. */
			h->pos = -1;
			break;
		}
		used += n;
	}
	if (!e && errno && !used)
		return -errno;
	*out = used;
	return 0;
}

/* ---- extended attributes -------------------------------------------------------------------- */

static bool is_user(const char *name)
{
	return !strncmp(name, "user.", 5);
}

int mirror_getxattr(struct mirror *m, fuse_ino_t ino, const char *name, char *buf, size_t size,
		    size_t *out)
{
	struct node *n;
	auto_close int fd = is_user(name) ? ino_fd(m, ino, &n) : -EOPNOTSUPP;
	ssize_t len;

	if (fd < 0)
		return fd;
	len = getxattr(gate_name(fd).s, name, buf, size);
	if (len < 0)
		return -errno;
	*out = len;
	return 0;
}

int mirror_listxattr(struct mirror *m, fuse_ino_t ino, char *buf, size_t size, size_t *out)
{
	struct node *n;
	auto_close int fd = ino_fd(m, ino, &n);
	auto_free char *all = NULL;
	size_t used = 0;
	ssize_t len;

	if (fd < 0)
		return fd;
	all = malloc(XATTR_LIST_MAX);
	if (!all)
		return -ENOMEM;
	len = listxattr(gate_name(fd).s, all, XATTR_LIST_MAX);
	if (len < 0)
		return -errno;
	for (char *s = all; s < all + len; s += strlen(s) + 1) {
		size_t k = strlen(s) + 1;

		if (!is_user(s))
			continue;
		if (size && k > size - used)
			return -ERANGE;
		if (size)
			memcpy(buf + used, s, k);
		used += k;
	}
	*out = used;
	return 0;
}

int mirror_setxattr(struct mirror *m, fuse_ino_t ino, const char *name, const char *value,
		    size_t size, int flags)
{
	struct node *n;
	auto_close int fd = is_user(name) ? ino_fd(m, ino, &n) : -EOPNOTSUPP;
	int r = fd < 0 ? fd : is_view(n) ? -EROFS : setxattr(gate_name(fd).s, name, value, size, flags) ? -errno : 0;

	if (!r)
		tell_noted(m, n, fd);
	return r;
}

int mirror_removexattr(struct mirror *m, fuse_ino_t ino, const char *name)
{
	struct node *n;
	auto_close int fd = is_user(name) ? ino_fd(m, ino, &n) : -EOPNOTSUPP;
	int r = fd < 0 ? fd : is_view(n) ? -EROFS : removexattr(gate_name(fd).s, name) ? -errno : 0;

	if (!r)
		tell_noted(m, n, fd);
	return r;
}
