/* What the fuzzers of the domain share: a world that lives as long as the process, a context whose files a
 * fuzzer fills, and a reader that looks at everything the tree shows of it. */
#ifndef CELLFS_FUZZ_LAND_H
#define CELLFS_FUZZ_LAND_H

#include "context.h"
#include "kernel.h"
#include "spawn.h"
#include "tree.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#define must(x)                                                                                    \
	do {                                                                                       \
		if (!(x))                                                                          \
			die("%s:%d: %s: %s", __FILE__, __LINE__, #x, strerror(errno));             \
	} while (0)

#define LAND_UUID "00000000-0000-4000-8000-000000000000"

static struct world land;
static char land_dir[64];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void land_end(void)
{
	delete_tree(AT_FDCWD, land_dir);
}

static void land_begin(void)
{
	static const char manifest[] = "{\"name\":\"fake\",\"extensions\":[\"t\"],\"interpreters\":[\"/bin/sh\"],"
				       "\"probe\":[\"-c\",\"echo 1\"],\"argv\":[\"{interpreter}\"],"
				       "\"exit_status\":true}";
	static struct options opt = { .mountpoint = "/mnt", .box = "/bin/true", .queue = 1000,
				      .sandbox = SANDBOX_NONE };
	auto_buf struct buf why = { 0 };

	snprintf(land_dir, sizeof(land_dir), "%s/cellfs-fuzz-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	must(mkdtemp(land_dir));
	opt.state_dir = xasprintf("%s/state", land_dir);
	opt.kernels_dir = xasprintf("%s/kernels", land_dir);
	auto_free char *fake = xasprintf("%s/fake", opt.kernels_dir);
	auto_free char *file = xasprintf("%s/manifest.json", fake);
	must(mkdir(opt.kernels_dir, 0700) == 0 && mkdir(fake, 0700) == 0);
	must(write_file(AT_FDCWD, file, manifest, sizeof(manifest) - 1, 0600) == 0);
	signal(SIGPIPE, SIG_IGN);
	config_init(&opt.defaults, NULL);
	land.loop = loop_new();
	land.log.fd = -1;
	if (world_open(&land, &opt, &why))
		die("%s", why.s);
	log_close(&land.log); /* grows without end otherwise */
	auto_close int dir = openat(land.state, "contexts", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(context_make_files(dir, LAND_UUID, "fuzz", &(struct who){ getuid(), getgid(), 0 }) == 0);
	atexit(land_end);
}

static void land_put(const char *name, const void *p, size_t n)
{
	auto_free char *path = xasprintf(LAND_UUID "/%s", name);
	auto_close int fd = openat(land.contexts_dir, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	must(fd >= 0 && pwrite_all(fd, p, n, 0) == 0);
}

/* Empties the files of the context. */
static inline void land_clear(void)
{
	static const char *const names[] = { "stdout.log", "stderr.log", "results.bin", "journal.jsonl",
					     "runs.idx", "dirty", "log", "kept.bin", "made.log" };

	if (!land.loop)
		land_begin();
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		land_put(names[i], "", 0);
}

/* The context, as a daemon that starts finds its files; not loaded. */
static inline struct context *land_context(void)
{
	struct context *c;

	context_new(&land, "fuzz", LAND_UUID, &c);
	return c;
}

struct walk {
	struct lister lister;
	uint64_t inos[4000];
	size_t n;
};

static inline void walk_add(struct lister *l, const char *name, uint64_t ino, mode_t type)
{
	struct walk *w = container_of(l, struct walk, lister);

	must(*name);
	if (w->n < ARRAY_SIZE(w->inos))
		w->inos[w->n++] = ino;
}

static inline void walk_content(const struct node *n)
{
	auto_buf struct buf b = { 0 };
	struct content content = { 0 };

	if (!n->row->print && !n->row->view)
		return;
	if (node_ready(n) || node_content(n, &content))
		return;
	content_size(&content);
	if (!content.is_text)
		run_read_extents(n->ctx, content.log, &content.x, 4096, &b);
	content_free(&content);
}

/* Looks at everything below INO. */
static inline void walk(uint64_t ino, int depth)
{
	struct walk *w;
	struct node n;

	if (depth > 5 || node_get(&land, ino, &n))
		return;
	node_time(&n);
	node_mime(&n);
	node_change(&n);
	if (n.row->shape == S_BODY || n.row->shape == S_MIRROR)
		return;
	if (n.row->shape != S_DIR) {
		walk_content(&n);
		return;
	}
	w = xcalloc(1, sizeof(*w));
	w->lister.add = walk_add;
	tree_list(&n, &w->lister);
	for (size_t i = 0; i < w->n; i++)
		walk(w->inos[i], depth + 1);
	free(w);
}

/* Looks at everything of C, then again as the next daemon would find it. */
static inline void land_look(struct context *c)
{
	for (int again = 0; again < 2; again++) {
		if (!context_load(c)) {
			walk(node_ino(c->id, 0, N_CTX), 0);
			for (uint64_t n = 1; n <= MIN(c->nruns, 40u); n++)
				walk(node_ino(run_object(c, n), 0, N_RUN), 0);
		}
		context_free(c);
		if (!again)
			c = land_context();
	}
	worker_reap(land.worker);
}

#endif
