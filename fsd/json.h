/* JSON read: the only user of jansson. Writing JSON is buf_json of util.h. What is parsed may be hostile;
 * callers limit its size (64 KiB of text make at most some 5 MB of tree). */
#ifndef CELLFS_JSON_H
#define CELLFS_JSON_H

#include "util.h"

struct json; /* a node; the root owns the others */

/* NULL if it is no JSON; WHY (may be NULL) then says why, in at most 160 bytes. */
struct json *json_parse(const char *s, size_t n, char why[160]);
void json_free(struct json *root);
static inline void cleanup_json(struct json **j)
{
	json_free(*j);
}
#define auto_json __attribute__((cleanup(cleanup_json)))

/* The member KEY of an object: NULL if J is NULL, no object, or has none of that type. */
struct json *json_get(const struct json *j, const char *key);
struct json *json_obj(const struct json *j, const char *key);
struct json *json_arr(const struct json *j, const char *key);
const char *json_str(const struct json *j, const char *key); /* ends at the first NUL */
bool json_int(const struct json *j, const char *key, int64_t *v);
int64_t json_num(const struct json *j, const char *key); /* 0 if absent */
int64_t json_num_at(const struct json *arr, size_t i);  /* 0 if absent */
double json_double(const struct json *j, const char *key); /* any number; 0 if absent */
bool json_bool(const struct json *j, const char *key); /* false if absent */

size_t json_len(const struct json *arr);
struct json *json_at(const struct json *arr, size_t i);
/* The text of a string node and its length, or NULL. */
const char *json_text(const struct json *j, size_t *n);
bool json_number(const struct json *j, int64_t *v);
bool json_isobj(const struct json *j);

/* for (void *it = json_iter(o); it; it = json_iter_next(o, it)) … json_iter_key(it), json_iter_value(it) */
void *json_iter(const struct json *obj);
void *json_iter_next(const struct json *obj, void *it);
const char *json_iter_key(void *it);
struct json *json_iter_value(void *it);

/* Are there more than LEVELS of arrays and objects in J? */
bool json_is_deep(const struct json *j, int levels);
/* Adds J as JSON on one line. */
void json_dump(const struct json *j, struct buf *out);
/* Adds the JSON text S again, indented, a key a line. Returns 0 or -EINVAL. */
int json_indent(const char *s, size_t n, struct buf *out);

#endif
