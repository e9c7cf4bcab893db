/* Several processes do random things to one tree: make, link, move, remove, write, read, chmod, attributes, lists. Each
 * error has to be one that such a crowd can meet. Files carry their own proof: a page of one is all of one byte.
 *
 *   stress DIR PROCESSES OPERATIONS SEED [stale]    stale: others move what a name stood for, below the mount */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { NAMES = 12, DEPTH = 4, PAGE = 4096, PAGES = 16 };

static unsigned long long state;
static int stale;

static unsigned rnd(unsigned limit)
{
	state = state * 6364136223846793005ull + 1442695040888963407ull;
	return (state >> 33) % limit;
}

/* A path of up to DEPTH names: directories d0…, then the last one. */
static const char *path(char last)
{
	static char texts[2][64];
	static int turn;
	char *s = texts[turn ^= 1];
	int n = 0;

	for (unsigned d = rnd(DEPTH); d; d--)
		n += sprintf(s + n, "d%u/", rnd(3));
	sprintf(s + n, "%c%u", last, rnd(last == 'd' ? 3 : NAMES));
	return s;
}

static int allowed(int err)
{
	static const int list[] = { ENOENT, EEXIST, ENOTEMPTY, ENOTDIR, EISDIR, EINVAL, EBUSY, ENODATA, EXDEV, EMLINK, ELOOP,
				    EAGAIN, EPERM };

	/* EPERM: a link to a directory; EBUSY: a directory that is moved meanwhile. ESTALE only if asked for. */
	for (unsigned i = 0; i < sizeof(list) / sizeof(*list); i++)
		if (list[i] == err)
			return 1;
	return stale && err == ESTALE;
}

static void must(long result, const char *what, const char *name)
{
	if (result < 0 && !allowed(errno)) {
		fprintf(stderr, "%s %s: %s\n", what, name, strerror(errno));
		exit(1);
	}
}

static void write_page(const char *name, int append)
{
	char page[PAGE];
	int fd = open(name, O_WRONLY | O_CREAT | (append ? O_APPEND : 0), 0644);

	must(fd, "open", name);
	if (fd < 0)
		return;
	memset(page, 'a' + rnd(26), sizeof(page));
	if (append)
		must(write(fd, page, sizeof(page)), "append", name);
	else
		must(pwrite(fd, page, sizeof(page), PAGE * rnd(PAGES)), "write", name);
	must(close(fd), "close", name);
}

static void read_page(const char *name)
{
	char page[PAGE];
	int fd = open(name, O_RDONLY);
	ssize_t n;

	must(fd, "open", name);
	if (fd < 0)
		return;
	n = pread(fd, page, sizeof(page), PAGE * rnd(PAGES));
	must(n, "read", name);
	/* Under a lock of the page a reader sees none half written; without one it may, but never another's. */
	for (ssize_t i = 0; i < n; i++)
		if (page[i] && (page[i] < 'a' || page[i] > 'z')) {
			fprintf(stderr, "%s has the byte %02x\n", name, page[i]);
			exit(1);
		}
	close(fd);
}

static void locked(const char *name)
{
	struct flock f = { .l_type = rnd(2) ? F_WRLCK : F_RDLCK, .l_start = rnd(100), .l_len = 1 + rnd(100) };
	int fd = open(name, O_RDWR);

	must(fd, "open", name);
	if (fd < 0)
		return;
	must(fcntl(fd, rnd(8) ? F_SETLK : F_OFD_SETLK, &f), "lock", name);
	must(flock(fd, (rnd(2) ? LOCK_EX : LOCK_SH) | LOCK_NB), "flock", name);
	close(fd);
}

static void list(const char *name)
{
	DIR *d = opendir(name);
	struct dirent *e;
	struct stat st;

	if (!d) {
		must(-1, "opendir", name);
		return;
	}
	while ((e = readdir(d)))
		must(fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW), "stat", e->d_name);
	closedir(d);
}

static void step(void)
{
	const char *a = path(rnd(8) ? 'f' : 'd'), *b;
	struct timespec t[2] = { { .tv_nsec = UTIME_NOW }, { .tv_sec = rnd(1u << 30) } };
	struct stat st;
	char text[64];

	switch (rnd(20)) {
	case 0: must(mkdir(path('d'), 0755), "mkdir", ""); break;
	case 1: must(rmdir(path('d')), "rmdir", ""); break;
	case 2: must(unlink(a), "unlink", a); break;
	case 3: b = path(*strrchr(a, *a)); must(renameat2(AT_FDCWD, a, AT_FDCWD, b, rnd(3)), "rename", a); break;
	case 4: b = path('f'); must(rename(a, b), "rename", a); break;
	case 5: b = path('f'); must(link(a, b), "link", a); break;
	case 6: must(symlink("f1", path('f')), "symlink", ""); break;
	case 7: must(readlink(a, text, sizeof(text)), "readlink", a); break;
	case 8 ... 9: write_page(path('f'), 0); break;
	case 10: write_page(path('f'), 1); break;
	case 11 ... 12: read_page(path('f')); break;
	case 13: must(truncate(path('f'), PAGE * rnd(PAGES)), "truncate", ""); break;
	case 14: must(chmod(a, 0600 | rnd(0200) | (rnd(2) ? 0700 : 0)), "chmod", a); break;
	case 15: must(utimensat(AT_FDCWD, a, t, 0), "utimens", a); break;
	case 16: must(setxattr(a, "user.x", a, strlen(a), 0), "setxattr", a); must(getxattr(a, "user.x", text, sizeof(text)), "getxattr", a); break;
	case 17: list(rnd(2) ? "." : path('d')); break;
	case 18: locked(path('f')); break;
	case 19: must(lstat(a, &st), "stat", a); break;
	}
}

int main(int argc, char **argv)
{
	int bad = 0, status;

	stale = argc > 5;
	if (argc < 5 || chdir(argv[1]))
		return 2;
	for (int p = 0; p < atoi(argv[2]); p++) {
		if (fork())
			continue;
		state = atol(argv[4]) * 1000 + p;
		for (long i = atol(argv[3]); i; i--)
			step();
		_exit(0);
	}
	while (wait(&status) > 0)
		bad |= status;
	return bad != 0;
}
