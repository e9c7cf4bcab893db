#include "json.h"

#include <jansson.h>
#include <stdio.h>

static json_t *J(const struct json *j)
{
	return (json_t *)j;
}

static struct json *wrap(json_t *j)
{
	return (struct json *)j;
}

struct json *json_parse(const char *s, size_t n, char why[160])
{
	json_error_t err;
	json_t *j = json_loadb(s, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &err);

	if (!j && why)
		snprintf(why, 160, "%s", err.text);
	return wrap(j);
}

void json_free(struct json *root)
{
	json_decref(J(root));
}

struct json *json_get(const struct json *j, const char *key)
{
	return j ? wrap(json_object_get(J(j), key)) : NULL;
}

struct json *json_obj(const struct json *j, const char *key)
{
	struct json *v = json_get(j, key);
	return json_isobj(v) ? v : NULL;
}

struct json *json_arr(const struct json *j, const char *key)
{
	struct json *v = json_get(j, key);
	return v && json_is_array(J(v)) ? v : NULL;
}

const char *json_str(const struct json *j, const char *key)
{
	struct json *v = json_get(j, key);
	return v ? json_string_value(J(v)) : NULL;
}

bool json_number(const struct json *j, int64_t *v)
{
	if (!j || !json_is_integer(J(j)))
		return false;
	*v = json_integer_value(J(j));
	return true;
}

bool json_int(const struct json *j, const char *key, int64_t *v)
{
	return json_number(json_get(j, key), v);
}

int64_t json_num(const struct json *j, const char *key)
{
	int64_t v = 0;

	json_int(j, key, &v);
	return v;
}

double json_double(const struct json *j, const char *key)
{
	return json_number_value(J(json_get(j, key)));
}

int64_t json_num_at(const struct json *arr, size_t i)
{
	int64_t v = 0;

	json_number(json_at(arr, i), &v);
	return v;
}

bool json_bool(const struct json *j, const char *key)
{
	struct json *v = json_get(j, key);
	return v && json_is_true(J(v));
}

bool json_isobj(const struct json *j)
{
	return j && json_typeof(J(j)) == JSON_OBJECT;
}

size_t json_len(const struct json *arr)
{
	return arr ? json_array_size(J(arr)) : 0;
}

struct json *json_at(const struct json *arr, size_t i)
{
	return arr ? wrap(json_array_get(J(arr), i)) : NULL;
}

const char *json_text(const struct json *j, size_t *n)
{
	if (!j || !json_is_string(J(j)))
		return NULL;
	*n = json_string_length(J(j));
	return json_string_value(J(j));
}

void *json_iter(const struct json *obj)
{
	return obj ? json_object_iter(J(obj)) : NULL;
}

void *json_iter_next(const struct json *obj, void *it)
{
	return json_object_iter_next(J(obj), it);
}

const char *json_iter_key(void *it)
{
	return json_object_iter_key(it);
}

struct json *json_iter_value(void *it)
{
	return wrap(json_object_iter_value(it));
}

static int add(const char *s, size_t n, void *b)
{
	buf_add(b, s, n);
	return 0;
}

bool json_is_deep(const struct json *j, int levels)
{
	json_t *v;
	const char *key;
	size_t i;
	bool deep = false;

	if (!json_is_array(J(j)) && !json_is_object(J(j)))
		return false;
	if (!levels)
		return true;
	json_array_foreach(J(j), i, v)
		deep |= json_is_deep((const struct json *)v, levels - 1);
	json_object_foreach(J(j), key, v)
		deep |= json_is_deep((const struct json *)v, levels - 1);
	return deep;
}

void json_dump(const struct json *j, struct buf *out)
{
	json_dump_callback(J(j), add, out, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
}

int json_indent(const char *s, size_t n, struct buf *out)
{
	auto_json struct json *j = json_parse(s, n, NULL);

	if (!j)
		return -EINVAL;
	json_dump_callback(J(j), add, out, JSON_INDENT(2) | JSON_ENCODE_ANY | JSON_REAL_PRECISION(12));
	buf_char(out, '\n');
	return 0;
}
