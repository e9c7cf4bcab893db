/* Messages of a driver that are nearly right, into the real handler: events as PROTOCOL.md has them, with members that
 * are wrong, missing or twice, and bytes that are garbled. The input decides what is said.
 *
 * CELLFS_FORGE=N build/fuzz/forge says N messages by itself, always the same ones, tells how fast and in how much
 * memory, and ends. */
#include "driver.h"

#include <stdio.h>

enum { CONTEXT_MESSAGES = 100000, CONTEXT_BYTES = 64 << 20, CONTEXT_INPUTS = 300,
       MESSAGES = 200000 /* of one run */ };

struct dice {
	const uint8_t *p, *end; /* decides as long as there is some of it */
	uint64_t state;
	bool calm;              /* nothing is wrong, and no run ends: for its limits */
	bool risky;             /* this message may end the kernel */
};

static uint32_t roll(struct dice *x, uint32_t n)
{
	if (x->p < x->end)
		return *x->p++ % n;
	x->state += 0x9e3779b97f4a7c15; /* splitmix64 */
	uint64_t z = x->state;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return (z ^ z >> 31) % n;
}

#define pick(x, list) ((list)[roll(x, ARRAY_SIZE(list))])

/* Is it time for something wrong? */
static bool odd(struct dice *x, uint32_t n)
{
	if (x->calm || roll(x, n))
		return false;
	x->risky = true;
	return true;
}

static void many(struct buf *b, const char *s, size_t n)
{
	while (n--)
		buf_str(b, s);
}

static void any_value(struct dice *x, struct buf *b, int depth)
{
	static const char *const words[] = {
		"null", "true", "false", "0", "1", "-1", "2147483648", "4294967297", "9223372036854775807",
		"-9223372036854775808", "99999999999999999999", "1e308", "0.1", "\"\"", "\"x\"", "\"\\u0000\"",
		"\"\\ud800\"", "\"\xff\"", "\"../../etc/passwd\"", "\"%s%n\"", "\"a\\nb\"", "[]", "{}", "nul", "'", "",
	};
	bool list = roll(x, 2);

	switch (roll(x, depth ? 12 : 8)) {
	case 0:
		buf_char(b, '"');
		many(b, roll(x, 2) ? "long " : "\xc3\xa9", 1 << roll(x, 14));
		buf_char(b, '"');
		break;
	case 8: case 9: case 10:
		buf_str(b, list ? "[" : "{");
		for (int i = roll(x, 4); i >= 0; i--) {
			if (!list)
				buf_printf(b, "\"%c\":", 'a' + i);
			any_value(x, b, depth - 1);
			buf_str(b, i ? "," : "");
		}
		buf_str(b, list ? "]" : "}");
		break;
	case 11:
		list = roll(x, 2);
		depth = 1 << roll(x, 12);
		many(b, list ? "[" : "{\"a\":", depth);
		buf_str(b, "1");
		many(b, list ? "]" : "}", depth);
		break;
	default:
		buf_str(b, pick(x, words));
	}
}

/* ,KEY:VALUE, mostly. */
static void member(struct dice *x, struct buf *b, const char *key, const char *value)
{
	if (odd(x, 100))
		return;
	for (int i = odd(x, 400); i >= 0; i--) {
		buf_printf(b, "%s\"%s\":", b->s[b->n - 1] == '{' ? "" : ",", key);
		if (odd(x, 100))
			any_value(x, b, 3);
		else
			buf_str(b, value);
	}
}

static void run_id(struct dice *x, struct buf *b)
{
	static const int away[] = { -1, 1, 2, 1 << 30 };
	char id[32];

	snprintf(id, sizeof(id), "%lld",
		 (long long)driver.k->exec_id + (roll(x, 50) || x->calm ? 0 : pick(x, away)));
	member(x, b, "id", id);
}

static const char *const texts[] = { "\"\"", "\"a text\"", "\"line\\nline\\n\"", "\"\\u001b[0m\\u2028\"",
				     "\"<b>\xe2\x82\xac</b>\"" };

/* What the driver, or the code of a user, has put there for the daemon to take. */
static void put_file(struct dice *x, const char *name)
{
	unlinkat(driver.out, name, 0);
	switch (roll(x, 8)) {
	case 0:
		must(symlinkat("/etc/passwd", driver.out, name) == 0);
		break;
	case 1:
		must(mkfifoat(driver.out, name, 0600) == 0);
		break;
	case 2:
		break;
	case 3:
		must(write_file(driver.out, name, "", 0, 0600) == 0);
		break;
	default:
		must(write_file(driver.out, name, "payload", 7, 0600) == 0);
	}
}

static void format(struct dice *x, struct buf *b)
{
	static const char *const mimes[] = {
		"text/plain", "text/html", "image/png", "application/json", "image/svg+xml", "text/x-repr", "a/b",
		"x/y-z", "application/vnd.cellfs.chart+json", "../..", "/", "text/", "TEXT/plain; charset=x", "",
	};
	static const char *const files[] = {
		"p", "p", "p", "q.png", "none", "..", "../p", "/etc/passwd", ".hidden", "a/b", "",
	};
	auto_buf struct buf v = { 0 };
	const char *file = pick(x, files);

	switch (roll(x, 4)) {
	case 0:
		buf_printf(&v, "{\"file\":\"%s\"}", file);
		if (*file == 'p' || *file == 'q')
			put_file(x, file);
		break;
	case 1:
		buf_str(&v, "{\"json\":");
		if (x->calm || roll(x, 4))
			buf_str(&v, "{\"a\":[1,2.5,null]}");
		else
			any_value(x, &v, 4), x->risky = true;
		buf_char(&v, '}');
		break;
	default:
		buf_str(&v, pick(x, texts));
	}
	member(x, b, pick(x, mimes), v.s);
}

static void say_display(struct dice *x, struct buf *b)
{
	static const char *const ids[] = { "\"x\"", "\"y\"", "\"z\"", "\"a b\\n\"" };
	const char *kind = roll(x, 4) ? "\"display\"" : "\"update\"";
	auto_buf struct buf data = { 0 };

	if (!x->calm && !roll(x, 30))
		kind = "\"result\"", x->risky = true;
	run_id(x, b);
	member(x, b, "kind", kind);
	if (!roll(x, 4))
		member(x, b, "display_id", pick(x, ids));
	buf_char(&data, '{');
	for (int i = odd(x, 200) ? 40 : roll(x, x->calm ? 2 : 3); i > 0; i--)
		format(x, &data);
	buf_char(&data, '}');
	x->risky |= data.n > 2 && !x->calm; /* a type may be there twice */
	member(x, b, "data", data.s);
	if (!roll(x, 3))
		member(x, b, "meta", "{\"width\":10}");
}

static void say_clear(struct dice *x, struct buf *b)
{
	run_id(x, b);
	member(x, b, "wait", roll(x, 2) ? "true" : "false");
}

static void say_error(struct dice *x, struct buf *b)
{
	run_id(x, b);
	member(x, b, "name", "\"E\"");
	member(x, b, "message", pick(x, texts));
	member(x, b, "line", "2");
	member(x, b, "column", "1");
	member(x, b, "frames", "[{\"file\":\"a.t\",\"line\":2,\"func\":\"f\"}]");
	member(x, b, "traceback", "[\"a\",\"b\"]");
}

static void say_stream(struct dice *x, struct buf *b)
{
	run_id(x, b);
	member(x, b, "name", roll(x, 2) ? "\"stdout\"" : "\"stderr\"");
	member(x, b, "text", pick(x, texts));
}

static void say_log(struct dice *x, struct buf *b)
{
	member(x, b, "text", pick(x, texts));
}

static void say_ending(struct dice *x, struct buf *b)
{
	run_id(x, b);
}

static void say_done(struct dice *x, struct buf *b)
{
	static const char *const words[] = { "\"ok\"", "\"error\"", "\"interrupted\"", "\"exit\"" };

	x->risky = true;
	run_id(x, b);
	member(x, b, "status", pick(x, words));
	member(x, b, "code", roll(x, 2) ? "0" : "3");
}

static void say_hello(struct dice *x, struct buf *b)
{
	member(x, b, "proto", "1");
	member(x, b, "min_proto", "1");
	member(x, b, "pid", "3");
}

static void say_nothing(struct dice *x, struct buf *b)
{
}

static const struct event {
	const char *name;
	void (*say)(struct dice *, struct buf *);
} events[] = {
	{ "display", say_display }, { "display", say_display }, { "stream", say_stream },  { "stream", say_stream },
	{ "stream", say_stream },   { "clear", say_clear },	{ "error", say_error },	   { "log", say_log },
	{ "log", say_log },	    { "ending", say_ending },	{ "hello", say_hello },	   { "ready", say_nothing },
	{ "strange", say_nothing }, { "", say_nothing },	{ "done", say_done },
};
enum { STREAM = 2, HELLO = 10, READY = 11, DONE = 14 };

static void garble(struct dice *x, struct buf *b)
{
	static const char junk[] = "\"\\{}[]:,\n\0\xff\x80u0e-";

	for (int i = roll(x, 4); i >= 0 && b->n; i--) {
		size_t at = (roll(x, 256) << 8 | roll(x, 256)) % b->n;
		switch (roll(x, 5)) {
		case 0:
			b->s[at] ^= 1 << roll(x, 8);
			break;
		case 1:
			b->s[at] = junk[roll(x, sizeof(junk))];
			break;
		case 2:
			b->n = at;
			break;
		case 3:
			memmove(b->s + at, b->s + at + 1, b->n - at - 1);
			b->n--;
			break;
		default:
			buf_grow(b, b->n);
			buf_add(b, b->s + at, b->n - at);
		}
	}
	if (!roll(x, 100))
		many(b, "too long ", 8000);
}

static void one_message(struct dice *x, struct buf *b)
{
	static const int first[] = { HELLO, HELLO, READY, READY, READY, 0, 4, 8 };
	auto_buf struct buf line = { 0 };
	const struct event *e = &pick(x, events);

	if (driver.k->state == K_STARTING)
		e = &events[pick(x, first)];
	else if (e == &events[DONE] && (x->calm || roll(x, 2)))
		e = &events[STREAM];
	x->risky = driver.k->state == K_STARTING;
	buf_printf(&line, "{\"ev\":\"%s\"", e->name);
	e->say(x, &line);
	buf_char(&line, '}');
	if (odd(x, 40))
		garble(x, &line);
	buf_add(b, line.s, line.n);
	buf_char(b, '\n');
}

/* The driver says some messages at once: those after one that may end it are not read by anybody. Returns how many. */
static int speak(struct dice *x)
{
	auto_buf struct buf b = { 0 };
	int n = 0, most = 1 + roll(x, 64);

	if (driver.k->state == K_STOPPED)
		fake_start();
	if (!driver.c->active) {
		kernel_run(driver.k, driver_queue());
	}
	do {
		one_message(x, &b);
		n++;
	} while (n < most && !x->risky && b.n < 100000);
	driver_say(b.s, b.n);
	driver_listen();
	if (driver.k->w_ev.fn)
		return n;
	if (!x->risky && driver.k->messages <= MESSAGES)
		abort(); /* nothing was wrong */
	driver_stop();
	return n;
}

static void look(void)
{
	if (driver.k->state != K_STOPPED)
		driver_stop();
	driver_look();
}

static bool is_full(void)
{
	off_t sum = 0;

	for (int i = 0; i < L_COUNT; i++)
		sum += driver.c->store.end[i];
	return sum > CONTEXT_BYTES;
}

/* ---- by itself ---- */

static long memory_kib(const char *what)
{
	auto_buf struct buf b = { 0 };

	must(read_file(AT_FDCWD, "/proc/self/status", 65536, &b) == 0);
	char *p = strstr(b.s, what);
	return p ? strtol(p + strlen(what), NULL, 10) : 0;
}

/* What is allocated, without what a sanitizer keeps beside it. */
__attribute__((weak)) size_t __sanitizer_get_current_allocated_bytes(void);

static long heap_kib(void)
{
	return __sanitizer_get_current_allocated_bytes ? __sanitizer_get_current_allocated_bytes() >> 10 : 0;
}

static void count_runs(uint64_t by_status[16])
{
	for (uint64_t i = 0; i < driver.c->nruns; i++)
		by_status[driver.c->recs[i].status & 15]++;
}

static void by_itself(long count)
{
	struct dice x = { .state = 1, .calm = true };
	uint64_t runs[16] = { 0 };
	int64_t begin = mono_us(), worst = 0;
	long said = 0, here = 0, next = 0, first = 0, heap = 0, looks = 0;

	while (said < count) {
		int64_t t = mono_us();
		int n = speak(&x);
		worst = MAX(worst, mono_us() - t);
		said += n, here += n;
		x.calm = said % 2000000 < 210000; /* long enough for a run to meet its limits */
		if (here > CONTEXT_MESSAGES * (x.calm ? 3 : 1) || is_full()) {
			count_runs(runs);
			look();
			here = 0;
			if (++looks == 4)
				first = memory_kib("VmRSS:"), heap = heap_kib();
		}
		if (said >= next) {
			fprintf(stderr, "%9ld messages, %6.0f /s, %u kernels, %llu runs, heap %ld KiB, RSS %ld KiB\n", said,
				said * 1e6 / (mono_us() - begin), driver.starts, (unsigned long long)land.runs_total,
				heap_kib(), memory_kib("VmRSS:"));
			next += count / 20;
		}
	}
	count_runs(runs);
	look();
	fprintf(stderr, "%ld messages in %.0f s, %u kernels; slowest batch %.1f ms; "
		"heap %ld KiB and RSS %ld KiB after four contexts, %ld and %ld now\n", said,
		(mono_us() - begin) / 1e6, driver.starts, worst / 1e3, heap, first, heap_kib(), memory_kib("VmRSS:"));
	for (int i = 0; i <= ST_LOST; i++)
		if (runs[i])
			fprintf(stderr, "  %s: %llu runs\n", run_status_names[i], (unsigned long long)runs[i]);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *count = getenv("CELLFS_FORGE");

	driver_find();
	if (!count)
		return 0;
	by_itself(atol(count));
	exit(0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dice x = { data, data + size, 1 };
	static int inputs;

	while (x.p < x.end)
		speak(&x);
	if (driver.k->state != K_STOPPED)
		driver_stop();
	if (++inputs % CONTEXT_INPUTS == 0 || is_full())
		look();
	return 0;
}
