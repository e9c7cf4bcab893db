/*
 * Races against the gate: threads swap names under it (renameat2 with RENAME_EXCHANGE, moves out of
 * the root and back) while others open through it. What lies outside must never be had.
 *
 *   gate_race DIR ROUNDS [plain]     DIR is an empty directory; plain: with open(2), to show that
 *                                    the race is one
 *
 * Prints "ROUNDS rounds, OPENED opened, LEAKS leaks".
 */
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "gate.h"
#include "util.h"

#define SECRET "the secret that lies outside"
#define OPENERS 2

static atomic_bool stop;
static atomic_long rounds, opened, leaks;
static long limit;
static int top, root;
static bool plain;

static void put(int dir, const char *name, const char *text)
{
	int fd = openat(dir, name, O_CREAT | O_WRONLY | O_TRUNC, 0644);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		err(1, "%s", name);
	close(fd);
}

/*
 * DIR/outside/{secret,dir/f,marker}   never to be had
 * DIR/root/f, link -> ../outside/secret
 * DIR/root/d/f, dlink -> ../outside/dir, deep/a/b/f (a is moved to outside and back)
 */
static void make_tree(void)
{
	static const char *const dirs[] = { "outside", "outside/dir", "root", "root/d", "root/deep",
					    "root/deep/a", "root/deep/a/b" };

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
		if (mkdirat(top, dirs[i], 0755))
			err(1, "%s", dirs[i]);
	put(top, "outside/secret", SECRET);
	put(top, "outside/f", SECRET);
	put(top, "outside/dir/f", SECRET);
	put(top, "root/f", "harmless");
	put(top, "root/d/f", "harmless");
	put(top, "root/deep/a/b/f", "harmless");
	put(top, "root/deep/f", "harmless");
	if (symlinkat("../outside/secret", top, "root/link") ||
	    symlinkat("../outside/dir", top, "root/dlink"))
		err(1, "symlink");
}

static void *swap(void *arg)
{
	const char *const *names = arg;

	while (!stop)
		renameat2(top, names[0], top, names[1], RENAME_EXCHANGE);
	return NULL;
}

/* The walk is in a/b when a moves out: then `..` leads to outside. */
static void *move_out(void *arg)
{
	while (!stop) {
		renameat(top, "root/deep/a", top, "outside/a");
		renameat(top, "outside/a", top, "root/deep/a");
	}
	return NULL;
}

static void look_at_file(int fd)
{
	char text[64] = "";

	if (fd < 0)
		return;
	opened++;
	if (pread(fd, text, sizeof(text) - 1, 0) > 0 && strstr(text, SECRET))
		leaks++;
	close(fd);
}

/* A directory outside holds a file with the secret, as one inside does not. */
static void look_at_dir(int fd)
{
	if (fd < 0)
		return;
	opened++;
	int f = openat(fd, "f", O_RDONLY);
	char text[64] = "";
	if (f >= 0) {
		if (pread(f, text, sizeof(text) - 1, 0) > 0 && strstr(text, SECRET))
			leaks++;
		close(f);
	}
	close(fd);
}

static int open_file(const char *rel, int flags)
{
	if (!plain)
		return gate_open_file(root, rel, flags, 0);

	/* What a careful program without openat2 does. */
	struct stat st;
	if (fstatat(root, rel, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode))
		return -1;
	return openat(root, rel, flags);
}

static int open_dir(const char *rel)
{
	return plain ? openat(root, rel, O_RDONLY | O_DIRECTORY) : gate_open_dir(root, rel);
}

static void *open_all(void *arg)
{
	static const char *const files[] = { "f", "link", "d/f", "dlink/f", "deep/a/b/../../f",
					     "deep/a/b/f", "deep/a/../f" };
	static const char *const dirs[] = { "d", "dlink", "deep/a/b/../..", "deep/a/.." };

	while (atomic_fetch_add(&rounds, 1) < limit) {
		for (size_t i = 0; i < ARRAY_SIZE(files); i++)
			look_at_file(open_file(files[i], O_RDONLY));
		for (size_t i = 0; i < ARRAY_SIZE(dirs); i++)
			look_at_dir(open_dir(dirs[i]));
		/* Writing and making follow no link either. */
		int fd = open_file("f", O_WRONLY);
		if (fd >= 0)
			close(fd);
		if (!plain) {
			fd = gate_open_file(root, "d/new", O_CREAT | O_WRONLY, 0600);
			if (fd >= 0) {
				close(fd);
				unlinkat(root, "d/new", 0);
			}
		}
	}
	return NULL;
}

int main(int argc, char **argv)
{
	static const char *const pairs[][2] = { { "root/f", "root/link" }, { "root/d", "root/dlink" } };
	pthread_t swappers[3], openers[OPENERS];

	if (argc < 3)
		errx(2, "usage: gate_race DIR ROUNDS [plain]");
	limit = atol(argv[2]);
	plain = argc > 3;
	top = open(argv[1], O_RDONLY | O_DIRECTORY);
	if (top < 0)
		err(1, "%s", argv[1]);
	make_tree();
	root = openat(top, "root", O_PATH | O_DIRECTORY);
	for (int i = 0; i < 2; i++)
		pthread_create(&swappers[i], NULL, swap, (void *)pairs[i]);
	pthread_create(&swappers[2], NULL, move_out, NULL);
	for (int i = 0; i < OPENERS; i++)
		pthread_create(&openers[i], NULL, open_all, NULL);
	for (int i = 0; i < OPENERS; i++)
		pthread_join(openers[i], NULL);
	stop = true;
	for (int i = 0; i < 3; i++)
		pthread_join(swappers[i], NULL);
	/* A file that O_CREAT made outside is a leak too. */
	if (!faccessat(top, "outside/dir/new", F_OK, 0))
		leaks++;
	printf("%ld rounds, %ld opened, %ld leaks\n", limit, (long)opened, (long)leaks);
	return !plain && leaks;
}
