/* Does random things to one file and compares each result with what it should be: reads, writes, maps, truncation,
 * fallocate, copies, reopening. What it did last is printed when something differs.
 *
 *   fsx FILE OPERATIONS SEED [BELOW]    BELOW: the same file on the file system below, compared now and then */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SIZE = 256 << 10, MOST = 64 << 10, PAST = 40, LOOK = 250 };

static const char *name, *below;
static unsigned char good[SIZE], temp[SIZE];
static long size, n;
static int fd, flags;
static char past[PAST][128];
static unsigned long long state;

static unsigned rnd(unsigned limit)
{
	state = state * 6364136223846793005ull + 1442695040888963407ull;
	return limit ? (state >> 33) % limit : 0;
}

static void note(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(past[n % PAST], sizeof(past[0]), fmt, ap);
	va_end(ap);
}

__attribute__((noreturn)) static void fail(const char *fmt, ...)
{
	int err = errno;
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "operation %ld: ", n);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, " (%s); the last ones:\n", strerror(err));
	for (long i = n < PAST ? 0 : n - PAST + 1; i <= n; i++)
		fprintf(stderr, "  %ld %s\n", i, past[i % PAST]);
	exit(1);
}

static void same(const unsigned char *got, long off, long len, const char *how)
{
	for (long i = 0; i < len; i++)
		if (got[i] != good[off + i])
			fail("%s: byte %ld is %02x, should be %02x", how, off + i, got[i], good[off + i]);
}

static void check_size(void)
{
	struct stat st;

	if (fstat(fd, &st) || st.st_size != size)
		fail("size is %ld, should be %ld", (long)st.st_size, size);
}

/* A piece that may lie behind the end. */
static void piece(long *off, long *len)
{
	*off = rnd(SIZE);
	*len = 1 + rnd(MOST);
	if (*off + *len > SIZE)
		*len = SIZE - *off;
}

static void fill(unsigned char *p, long len)
{
	for (long i = 0; i < len; i++)
		p[i] = (n + i) * 31 + rnd(3);
}

static void grow(long to)
{
	if (to > size) {
		memset(good + size, 0, to - size);
		size = to;
	}
}

static void do_read(long off, long len)
{
	long want = off >= size ? 0 : off + len > size ? size - off : len;

	note("read %ld+%ld of %ld", off, len, size);
	if (pread(fd, temp, len, off) != want)
		fail("read gave another length, not %ld", want);
	same(temp, off, want, "read");
}

static void do_write(long off, long len)
{
	note("write %ld+%ld of %ld", off, len, size);
	fill(temp, len);
	if (pwrite(fd, temp, len, off) != len)
		fail("write");
	grow(off + len > size ? off + len : size);
	memcpy(good + off, temp, len);
}

static void do_map(long off, long len, int write)
{
	long page = sysconf(_SC_PAGESIZE), start = off / page * page;

	note("map %s %ld+%ld of %ld", write ? "write" : "read", off, len, size);
	if (off >= size)
		return;
	if (off + len > size)
		len = size - off;
	unsigned char *p = mmap(NULL, off - start + len, write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, start);
	if (p == MAP_FAILED)
		fail("mmap");
	same(p + off - start, off, len, "map");
	if (write) {
		fill(p + off - start, len);
		memcpy(good + off, p + off - start, len);
		if (msync(p, off - start + len, MS_SYNC))
			fail("msync");
	}
	munmap(p, off - start + len);
}

static void do_truncate(long to)
{
	note("truncate %ld of %ld", to, size);
	if (rnd(2) ? truncate(name, to) : ftruncate(fd, to))
		fail("truncate");
	if (to < size)
		memset(good + to, 0, size - to);
	grow(to);
	size = to;
}

static void do_fallocate(long off, long len)
{
	static const int modes[] = { 0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				     FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE };
	int mode = modes[rnd(5)];

	note("fallocate %x %ld+%ld of %ld", mode, off, len, size);
	if (fallocate(fd, mode, off, len)) {
		if (errno == EOPNOTSUPP)
			return; /* the file system below has not got it */
		fail("fallocate");
	}
	if (!(mode & FALLOC_FL_KEEP_SIZE))
		grow(off + len > size ? off + len : size);
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE) && off < size)
		memset(good + off, 0, off + len > size ? size - off : len);
}

static void do_copy(long off, long len)
{
	long to = rnd(SIZE - len), done = 0;

	note("copy %ld+%ld to %ld of %ld", off, len, to, size);
	if (off + len > size || (to < off + len && off < to + len))
		return;
	while (done < len) {
		loff_t a = off + done, b = to + done;
		ssize_t k = copy_file_range(fd, &a, fd, &b, len - done, 0);
		if (k <= 0)
			fail("copy_file_range");
		done += k;
	}
	grow(to + len > size ? to + len : size);
	memcpy(good + to, good + off, len);
}

static void do_append(long len)
{
	int a;

	note("append %ld of %ld", len, size);
	if (size + len > SIZE)
		return;
	a = open(name, O_WRONLY | O_APPEND);
	fill(temp, len);
	if (a < 0 || pwrite(a, temp, len, 0) != len || close(a))
		fail("append");
	memcpy(good + size, temp, len);
	size += len;
}

static void do_seek(long off)
{
	long data = lseek(fd, off, SEEK_DATA), hole = lseek(fd, off, SEEK_HOLE);

	note("seek %ld of %ld", off, size);
	if (off >= size ? data >= 0 || hole >= 0 : hole < off || hole > size)
		fail("data at %ld, hole at %ld", data, hole);
	for (long i = off; data > off && i < data; i++)
		if (good[i])
			fail("there is data at %ld, before %ld", i, data);
}

static void reopen(void)
{
	static const int ways[] = { O_RDWR, O_RDWR, O_RDWR | O_DSYNC };

	note("reopen");
	if (close(fd))
		fail("close");
	flags = ways[rnd(3)];
	fd = open(name, flags);
	if (fd < 0)
		fail("open");
}

static void look_below(void)
{
	int b = below ? open(below, O_RDONLY) : -1;

	if (!below)
		return;
	note("look below");
	if (b < 0 || pread(b, temp, SIZE, 0) != size)
		fail("below, the size is not %ld", size);
	same(temp, 0, size, "below");
	close(b);
}

int main(int argc, char **argv)
{
	long times = argc > 2 ? atol(argv[2]) : 0;

	if (argc < 4)
		return 2;
	name = argv[1];
	state = atol(argv[3]);
	below = argv[4];
	fd = open(name, O_RDWR | O_CREAT | O_TRUNC, 0644);
	if (fd < 0)
		fail("open");
	for (n = 0; n < times; n++) {
		long off, len;
		piece(&off, &len);
		switch (rnd(24)) {
		case 0 ... 4: do_read(off, len); break;
		case 5 ... 9: do_write(off, len); break;
		case 10 ... 12: do_map(off, len, 0); break;
		case 13 ... 15: do_map(off, len, 1); break;
		case 16: do_truncate(off); break;
		case 17: do_fallocate(off, len); break;
		case 18: do_copy(off, len); break;
		case 19: do_append(len); break;
		case 20: do_seek(off); break;
		case 21: reopen(); break;
		case 22: note("sync"); if (rnd(40) == 0 && (rnd(2) ? fsync(fd) : fdatasync(fd))) fail("sync"); break;
		case 23: check_size(); break;
		}
		if (n % LOOK == 0)
			look_below();
	}
	look_below();
	printf("%ld operations\n", n);
	return 0;
}
