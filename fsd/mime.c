#include "mime.h"

#include <magic.h>
#include <stdio.h>

enum { HEAD = 64 << 10, TEXT_HEAD = 4 << 10 };

/* libmagic's own flags are of a cookie. QUICK has no table, so it knows text from the rest, and JSON and CSV. */
struct mime {
	magic_t all, quick;
	bool loaded;
	char *p; /* MIME_LOOK */
};

struct mime *mime_new(void)
{
	return xcalloc(1, sizeof(struct mime));
}

void mime_free(struct mime *m)
{
	if (!m)
		return;
	if (m->all)
		magic_close(m->all);
	if (m->quick)
		magic_close(m->quick);
	free(m->p);
	free(m);
}

static magic_t open_tables(int more)
{
	magic_t m = magic_open(MAGIC_MIME_TYPE | MAGIC_NO_CHECK_COMPRESS | MAGIC_NO_CHECK_ELF | MAGIC_NO_CHECK_CDF | more);

	if (m && magic_load(m, NULL)) {
		magic_close(m);
		m = NULL;
	}
	return m;
}

static bool load(struct mime *m)
{
	if (!m->loaded) {
		m->loaded = true;
		m->all = open_tables(0);
		m->quick = open_tables(MAGIC_NO_CHECK_SOFT);
		m->p = malloc(MIME_LOOK);
	}
	return m->all && m->quick && m->p;
}

static ssize_t read_head(int fd, char *p, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t got = pread(fd, p + done, n - done, done);
		if (got < 0)
			return -1;
		if (!got)
			break;
		done += got;
	}
	return done;
}

/* JSON is known as such only when all of it is there. */
static bool may_be_json(const char *p, size_t n)
{
	size_t i = 0;

	while (i < n && strchr(" \t\r\n", p[i]) && p[i])
		i++;
	return i < n && (p[i] == '{' || p[i] == '[');
}

void mime_of(struct mime *m, int fd, bool thorough, char name[MIME_NAME])
{
	const char *type = NULL;
	ssize_t n = load(m) ? read_head(fd, m->p, HEAD) : -1;

	if (n == HEAD && may_be_json(m->p, n))
		n = read_head(fd, m->p, MIME_LOOK);
	if (n == 0)
		type = "inode/x-empty";
	else if (n > 0)
		type = magic_buffer(m->quick, m->p, n);
	if (type && !strcmp(type, "text/plain") && thorough)
		type = magic_buffer(m->all, m->p, MIN(n, (ssize_t)TEXT_HEAD));
	else if (type && strncmp(type, "text/", 5) && strcmp(type, "application/json") && n > 0)
		type = magic_buffer(m->all, m->p, MIN(n, (ssize_t)HEAD));
	snprintf(name, MIME_NAME, "%s", type && strchr(type, '/') ? type : "application/octet-stream");
}
