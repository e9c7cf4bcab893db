#include "util.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>

void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("cellfs: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	exit(1);
}

void *xcalloc(size_t n, size_t size)
{
	void *p = calloc(n, size);

	if (!p)
		die("out of memory");
	return p;
}

void *xrealloc(void *p, size_t size)
{
	p = realloc(p, size);
	if (!p)
		die("out of memory");
	return p;
}

char *xstrndup(const char *s, size_t n)
{
	char *p = strndup(s, n);

	if (!p)
		die("out of memory");
	return p;
}

char *xstrdup(const char *s)
{
	return xstrndup(s, strlen(s));
}

void str_set(char **at, const char *s)
{
	char *copy = s ? xstrdup(s) : NULL;

	free(*at);
	*at = copy;
}

char *xasprintf(const char *fmt, ...)
{
	char *s;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&s, fmt, ap) < 0)
		die("out of memory");
	va_end(ap);
	return s;
}

void buf_grow(struct buf *b, size_t extra)
{
	size_t need = b->n + extra + 1;

	if (need <= b->cap)
		return;
	b->cap = MAX(need, b->cap + b->cap / 2);
	b->s = xrealloc(b->s, b->cap);
}

void buf_add(struct buf *b, const void *p, size_t n)
{
	buf_grow(b, n);
	if (n)
		memcpy(b->s + b->n, p, n);
	b->n += n;
	b->s[b->n] = 0;
}

void buf_str(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s));
}

void buf_char(struct buf *b, char c)
{
	buf_add(b, &c, 1);
}

void buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
	va_list ap2;

	va_copy(ap2, ap);
	int n = vsnprintf(NULL, 0, fmt, ap2);
	va_end(ap2);
	buf_grow(b, n);
	vsnprintf(b->s + b->n, n + 1, fmt, ap);
	b->n += n;
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(b, fmt, ap);
	va_end(ap);
}

void buf_reset(struct buf *b)
{
	b->n = 0;
	if (b->s)
		b->s[0] = 0;
}

void buf_free(struct buf *b)
{
	free(b->s);
	*b = (struct buf){ 0 };
}

size_t utf8_len(const char *str, size_t n)
{
	const unsigned char *s = (const unsigned char *)str;
	static const struct {
		unsigned char lo, hi, len, lo2, hi2;
	} forms[] = { /* Unicode 15, table 3-7 */
		{ 0x00, 0x7f, 1, 0, 0 },	{ 0xc2, 0xdf, 2, 0x80, 0xbf },
		{ 0xe0, 0xe0, 3, 0xa0, 0xbf },	{ 0xe1, 0xec, 3, 0x80, 0xbf },
		{ 0xed, 0xed, 3, 0x80, 0x9f },	{ 0xee, 0xef, 3, 0x80, 0xbf },
		{ 0xf0, 0xf0, 4, 0x90, 0xbf },	{ 0xf1, 0xf3, 4, 0x80, 0xbf },
		{ 0xf4, 0xf4, 4, 0x80, 0x8f },
	};

	for (size_t i = 0; n && i < ARRAY_SIZE(forms); i++) {
		if (s[0] < forms[i].lo || s[0] > forms[i].hi)
			continue;
		size_t len = forms[i].len;
		if (len > n || (len > 1 && (s[1] < forms[i].lo2 || s[1] > forms[i].hi2)))
			return 0;
		for (size_t k = 2; k < len; k++)
			if ((s[k] & 0xc0) != 0x80)
				return 0;
		return len;
	}
	return 0;
}

bool utf8_valid(const char *s, size_t n)
{
	for (size_t i = 0; i < n;) {
		size_t len = (unsigned char)s[i] < 0x80 ? 1 : utf8_len(s + i, n - i);
		if (!len)
			return false;
		i += len;
	}
	return true;
}

char *utf8_clean(const char *s)
{
	struct buf b = { 0 };

	buf_grow(&b, strlen(s));
	while (*s) {
		size_t len = utf8_len(s, strlen(s));
		if (len)
			buf_add(&b, s, len);
		else
			buf_str(&b, "\xef\xbf\xbd");
		s += len ? len : 1;
	}
	return b.s;
}

static void json_escape(struct buf *b, unsigned char c)
{
	static const char brief[128] = { ['"'] = '"',  ['\\'] = '\\', ['\b'] = 'b', ['\f'] = 'f',
					 ['\n'] = 'n', ['\r'] = 'r',  ['\t'] = 't' };

	if (brief[c])
		buf_add(b, (char[]){ '\\', brief[c] }, 2);
	else
		buf_printf(b, "\\u%04x", c);
}

void buf_json(struct buf *b, const char *s, size_t n)
{
	size_t from = 0, i = 0;

	buf_grow(b, n + 2);
	buf_char(b, '"');
	while (i < n) {
		unsigned char c = s[i];
		if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
			i++;
			continue;
		}
		size_t len = c < 0x80 ? 0 : utf8_len(s + i, n - i);
		if (len) {
			i += len;
			continue;
		}
		buf_add(b, s + from, i - from);
		if (c < 0x80)
			json_escape(b, c);
		else
			buf_str(b, "\xef\xbf\xbd");
		from = ++i;
	}
	buf_add(b, s + from, i - from);
	buf_char(b, '"');
}

static uint64_t rotl(uint64_t x, int n)
{
	return x << n | x >> (64 - n);
}

static void sip_round(uint64_t v[4])
{
	v[0] += v[1], v[1] = rotl(v[1], 13) ^ v[0], v[0] = rotl(v[0], 32);
	v[2] += v[3], v[3] = rotl(v[3], 16) ^ v[2];
	v[0] += v[3], v[3] = rotl(v[3], 21) ^ v[0];
	v[2] += v[1], v[1] = rotl(v[1], 17) ^ v[2], v[2] = rotl(v[2], 32);
}

/* SipHash-1-3 (Aumasson, Bernstein: "SipHash: a fast short-input PRF"): names are chosen by cells, which could make
 * all of them fall into one slot if they knew the key. */
static uint32_t hash_str(const char *s)
{
	static uint64_t key[2];
	size_t n = strlen(s), left = n;
	uint64_t word = 0;

	if (!key[0] && getrandom(key, sizeof(key), 0) != sizeof(key))
		die("no random numbers");
	key[0] |= 1;
	uint64_t v[4] = { key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d, key[0] ^ 0x6c7967656e657261,
			  key[1] ^ 0x7465646279746573 };
	for (; left >= 8; left -= 8, s += 8) {
		memcpy(&word, s, 8);
		v[3] ^= word;
		sip_round(v);
		v[0] ^= word;
	}
	word = (uint64_t)n << 56;
	for (size_t i = 0; i < left; i++)
		word |= (uint64_t)(unsigned char)s[i] << (8 * i);
	v[3] ^= word;
	sip_round(v);
	v[0] ^= word;
	v[2] ^= 0xff;
	for (int i = 0; i < 3; i++)
		sip_round(v);
	v[0] ^= v[1] ^ v[2] ^ v[3];
	return v[0] ^ v[0] >> 32;
}

/* The slot of KEY, or the free one where it belongs. */
static size_t map_slot(const struct map *m, const char *key, uint32_t hash)
{
	size_t i = hash & (m->nslots - 1);

	for (; m->slots[i]; i = (i + 1) & (m->nslots - 1)) {
		const struct map_entry *e = &m->entries[m->slots[i] - 1];
		if (e->hash == hash && !strcmp(e->key, key))
			break;
	}
	return i;
}

static void map_rehash(struct map *m, size_t nslots)
{
	free(m->slots);
	m->slots = xcalloc(nslots, sizeof(*m->slots));
	m->nslots = nslots;
	for (size_t k = 0; k < m->n; k++) {
		size_t i = m->entries[k].hash & (nslots - 1);
		while (m->slots[i])
			i = (i + 1) & (nslots - 1);
		m->slots[i] = k + 1;
	}
}

void *map_get(const struct map *m, const char *key)
{
	if (!m->n)
		return NULL;
	size_t i = map_slot(m, key, hash_str(key));
	return m->slots[i] ? m->entries[m->slots[i] - 1].value : NULL;
}

void *map_put(struct map *m, const char *key, void *value)
{
	uint32_t hash = hash_str(key);

	if ((m->n + 1) * 2 > m->nslots)
		map_rehash(m, m->nslots ? m->nslots * 2 : 8);
	size_t i = map_slot(m, key, hash);
	if (m->slots[i]) {
		struct map_entry *e = &m->entries[m->slots[i] - 1];
		void *old = e->value;
		e->key = key;
		e->value = value;
		return old;
	}
	if (m->n == m->cap) {
		m->cap = m->cap ? m->cap * 2 : 4;
		m->entries = xrealloc(m->entries, m->cap * sizeof(*m->entries));
	}
	m->entries[m->n++] = (struct map_entry){ key, value, hash };
	m->slots[i] = m->n;
	return NULL;
}

void *map_del(struct map *m, const char *key)
{
	if (!m->n)
		return NULL;
	size_t i = map_slot(m, key, hash_str(key));
	if (!m->slots[i])
		return NULL;
	size_t k = m->slots[i] - 1;
	void *old = m->entries[k].value;

	/* Close the gap in the probe sequence (no tombstones): move back what may move. */
	size_t mask = m->nslots - 1, hole = i;
	for (size_t j = (i + 1) & mask; m->slots[j]; j = (j + 1) & mask) {
		size_t home = m->entries[m->slots[j] - 1].hash & mask;
		if (((j - home) & mask) >= ((j - hole) & mask)) {
			m->slots[hole] = m->slots[j];
			hole = j;
		}
	}
	m->slots[hole] = 0;
	if (k != --m->n) {
		struct map_entry last = m->entries[m->n];
		size_t s = last.hash & mask;
		while (m->slots[s] != m->n + 1)
			s = (s + 1) & mask;
		m->slots[s] = k + 1;
		m->entries[k] = last;
	}
	return old;
}

void map_free(struct map *m)
{
	free(m->entries);
	free(m->slots);
	*m = (struct map){ 0 };
}

static int64_t clock_us(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return ts_to_us(ts);
}

int64_t mono_us(void)
{
	return clock_us(CLOCK_MONOTONIC);
}

int64_t wall_us(void)
{
	return clock_us(CLOCK_REALTIME);
}

int64_t coarse_us(void)
{
	return clock_us(CLOCK_REALTIME_COARSE);
}

int64_t ts_to_us(struct timespec ts)
{
	return ts.tv_sec * 1000000LL + ts.tv_nsec / 1000;
}

struct timespec us_to_ts(int64_t us)
{
	return (struct timespec){ .tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000 };
}

void buf_size(struct buf *b, int64_t bytes)
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
	size_t i = 0;

	while (i + 1 < ARRAY_SIZE(units) && bytes && bytes % 1024 == 0) {
		bytes /= 1024;
		i++;
	}
	buf_printf(b, "%lld %s", (long long)bytes, units[i]);
}

void buf_time(struct buf *b, int64_t us)
{
	time_t t = us / 1000000;
	struct tm tm;
	char s[32];

	gmtime_r(&t, &tm);
	strftime(s, sizeof(s), "%Y-%m-%dT%H:%M:%S", &tm);
	buf_printf(b, "%s.%06dZ", s, (int)(us % 1000000));
}

int read_file(int dir, const char *name, size_t max, struct buf *out)
{
	auto_close int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	size_t start = out->n;

	if (fd < 0)
		return -errno;
	for (;;) {
		buf_grow(out, 4096);
		ssize_t n = read(fd, out->s + out->n, out->cap - out->n - 1);
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		out->n += n;
		if (out->n - start > max)
			return -EFBIG;
	}
	out->s[out->n] = 0;
	return 0;
}

int pwrite_all(int fd, const void *data, size_t n, off_t off)
{
	const char *p = data;

	while (n) {
		ssize_t w = pwrite(fd, p, n, off);
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return w ? -errno : -EIO;
		p += w;
		off += w;
		n -= w;
	}
	return 0;
}

int write_file(int dir, const char *name, const void *data, size_t n, mode_t mode)
{
	const char *slash = strrchr(name, '/');
	auto_free char *tmp = xasprintf("%.*s.cellfs.tmp", slash ? (int)(slash + 1 - name) : 0, name);
	auto_close int fd = openat(dir, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	if (fd < 0)
		return -errno;
	int err = pwrite_all(fd, data, n, 0);
	if (!err && renameat(dir, tmp, dir, name) < 0)
		err = -errno;
	if (err)
		unlinkat(dir, tmp, 0);
	return err;
}

void buf_printable(struct buf *b, const char *s)
{
	for (; *s; s++)
		buf_char(b, (unsigned char)*s < 0x20 || *s == 0x7f ? '?' : *s);
}

void free_strings(char **v)
{
	for (char **p = v; p && *p; p++)
		free(*p);
	free(v);
}

void strings_add(struct strings *l, char *s)
{
	l->v = xrealloc(l->v, (l->n + 2) * sizeof(*l->v));
	l->v[l->n++] = s;
	l->v[l->n] = NULL;
}

void strings_addf(struct strings *l, const char *fmt, ...)
{
	struct buf b = { 0 };
	va_list ap;

	va_start(ap, fmt);
	buf_vprintf(&b, fmt, ap);
	va_end(ap);
	strings_add(l, b.s);
}

void strings_clear(struct strings *l)
{
	free_strings(l->v);
	*l = (struct strings){ 0 };
}

bool strings_have(const struct strings *l, const char *s)
{
	for (size_t i = 0; i < l->n; i++)
		if (!strcmp(l->v[i], s))
			return true;
	return false;
}
