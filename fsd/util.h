/* Bytes, cleanup attributes, lists, maps, time. Knows nothing of the product.
 *
 * Out of memory of the small fixed allocations made here ends the process (die); whatever a user can
 * make large is limited before it gets here. */
#ifndef CELLFS_UTIL_H
#define CELLFS_UTIL_H

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(p, type, member) ((type *)((char *)(p) - offsetof(type, member)))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#define printflike(f, a) __attribute__((format(printf, f, a)))

/* Cleanup attributes: a local gives back what it holds, unless it was handed over with take(). */
static inline void cleanup_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}
#define auto_close __attribute__((cleanup(cleanup_close)))
#define auto_free __attribute__((cleanup(cleanup_free)))

/* Hands over *FD: returns it and leaves -1. */
static inline int take(int *fd)
{
	int v = *fd;

	*fd = -1;
	return v;
}

/* Closes *FD if there is one, and leaves -1. */
static inline void drop_fd(int *fd)
{
	if (*fd >= 0)
		close(take(fd));
}

void die(const char *fmt, ...) printflike(1, 2) __attribute__((noreturn));
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);
/* Replaces *AT by a copy of S (NULL is fine for both). */
void str_set(char **at, const char *s);
char *xasprintf(const char *fmt, ...) printflike(1, 2);

/* A growing run of bytes, always followed by a NUL that N does not count. Zero is the empty one. */
struct buf {
	char *s;
	size_t n, cap;
};
void buf_grow(struct buf *b, size_t extra);
void buf_add(struct buf *b, const void *p, size_t n);
void buf_str(struct buf *b, const char *s);
void buf_char(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) printflike(2, 3);
void buf_vprintf(struct buf *b, const char *fmt, va_list ap);
/* Empties B and keeps its memory. */
void buf_reset(struct buf *b);
void buf_free(struct buf *b);
#define auto_buf __attribute__((cleanup(buf_free)))

/* Adds the N bytes at S as a JSON string, quotes included. Bytes that are no UTF-8 become U+FFFD. */
void buf_json(struct buf *b, const char *s, size_t n);
static inline void buf_json_str(struct buf *b, const char *s)
{
	buf_json(b, s, strlen(s));
}
/* Length of the valid UTF-8 sequence at S of at most N bytes, 0 if there is none. */
size_t utf8_len(const char *s, size_t n);
bool utf8_valid(const char *s, size_t n);
/* A copy of S with U+FFFD for what is no UTF-8. */
char *utf8_clean(const char *s);

/* Intrusive list. A node that is in no list points to itself. */
struct list {
	struct list *prev, *next;
};
#define LIST_INIT(l) { &(l), &(l) }
static inline void list_init(struct list *l)
{
	l->prev = l->next = l;
}
static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}
static inline void list_append(struct list *head, struct list *n)
{
	n->prev = head->prev;
	n->next = head;
	head->prev->next = n;
	head->prev = n;
}
static inline void list_del(struct list *n)
{
	n->prev->next = n->next;
	n->next->prev = n->prev;
	list_init(n);
}
/* Moves all of FROM behind TO's last. */
static inline void list_move_all(struct list *to, struct list *from)
{
	if (list_empty(from))
		return;
	from->next->prev = to->prev;
	to->prev->next = from->next;
	from->prev->next = to;
	to->prev = from->prev;
	list_init(from);
}
#define list_for(it, head) for (struct list *it = (head)->next; it != (head); it = it->next)
#define list_for_safe(it, tmp, head)                                                               \
	for (struct list *it = (head)->next, *tmp = it->next; it != (head); it = tmp, tmp = it->next)

/* A map from names to pointers that keeps no copy of the names: the value owns its key. Iterates in
 * order of insertion, but that a removal puts the last in the place of the removed. */
struct map {
	struct map_entry {
		const char *key;
		void *value;
		uint32_t hash;
	} *entries;
	uint32_t *slots; /* index into entries + 1, open addressing */
	size_t n, cap, nslots;
};
void *map_get(const struct map *m, const char *key);
/* Adds or replaces; returns the value that was there, or NULL. */
void *map_put(struct map *m, const char *key, void *value);
void *map_del(struct map *m, const char *key);
void map_free(struct map *m);

int64_t mono_us(void);
/* Microseconds since 1970, UTC. */
int64_t wall_us(void);
/* The same by the clock that files get their times from, which goes by ticks of 1 to 10 ms. */
int64_t coarse_us(void);
struct timespec us_to_ts(int64_t us);
int64_t ts_to_us(struct timespec ts);
/* RFC 3339, UTC, microseconds. */
void buf_time(struct buf *b, int64_t us);
/* "512 MiB": in the largest unit that leaves no fraction. */
void buf_size(struct buf *b, int64_t bytes);

/* The whole of the file NAME below DIR (AT_FDCWD too), at most MAX bytes. Returns 0 or -errno (-EFBIG). */
int read_file(int dir, const char *name, size_t max, struct buf *out);
/* Replaces NAME below DIR by DATA: temporary name, then rename. Returns 0 or -errno. */
int write_file(int dir, const char *name, const void *data, size_t n, mode_t mode);
/* Writes all of it at OFF. Returns 0 or -errno. */
int pwrite_all(int fd, const void *data, size_t n, off_t off);
/* A shell-like quoting of S for a person: control characters as ?. */
void buf_printable(struct buf *b, const char *s);

/* A growing list of strings, NULL ends it. */
struct strings {
	char **v;
	size_t n;
};
void strings_add(struct strings *l, char *s); /* takes S over */
void strings_addf(struct strings *l, const char *fmt, ...) printflike(2, 3);
void strings_clear(struct strings *l);
bool strings_have(const struct strings *l, const char *s);
/* Frees a list that a NULL ends, which may be NULL itself, and its strings. */
void free_strings(char **v);

#endif
