/* A world without FUSE, for tests of the domain: a STATE_DIR in a temporary directory, and a language
 * `fake` (.t) whose cells are shell code that says to the daemon whatever a test wants said. `other`
 * (.u) is a second one, the same.
 *
 * In a cell there are: $id, the run's; $spool; `ev LINE`, an event; `show KIND MEMBERS`, a display and
 * its ack; `over STATUS [CODE]`, the `done` that otherwise comes at the end by itself; `quiet`, no
 * `done`. config/env/HELLO replaces the driver's first line. */
#ifndef CELLFS_TEST_DOMAIN_H
#define CELLFS_TEST_DOMAIN_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "context.h"
#include "kernel.h"
#include "spawn.h"

#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

/* Ends the test program: for what has to work before anything can be tested. */
#define must(x)                                                                                    \
	do {                                                                                       \
		if (!(x))                                                                          \
			die("%s:%d: %s: %s", __FILE__, __LINE__, #x, strerror(errno));             \
	} while (0)

static const char fake_driver[] =
	"ev() { printf '%s\\n' \"$1\" >&4; }\n"
	"show() {\n"
	"	ev \"{\\\"ev\\\":\\\"display\\\",\\\"id\\\":$id,\\\"kind\\\":\\\"$1\\\",$2}\"\n"
	"	head -c1 <&5 >/dev/null\n"
	"}\n"
	"over() {\n"
	"	said=1\n"
	"	ev \"{\\\"ev\\\":\\\"done\\\",\\\"id\\\":$id,\\\"status\\\":\\\"$1\\\",\\\"code\\\":${2:-0}}\"\n"
	"}\n"
	"quiet() { said=1; }\n"
	"trap 'stopped=1' INT\n"
	"[ \"$HELLO\" ] || HELLO='{\"ev\":\"hello\",\"proto\":1,\"min_proto\":1}'\n"
	"ev \"$HELLO\"\n"
	"while IFS= read -r line <&3; do case $line in\n"
	"'{\"op\":\"init\"'*)\n"
	"	spool=${line#*'\"spool\":\"'} spool=${spool%%'\"'*}\n"
	"	ev '{\"ev\":\"ready\"}';;\n"
	"'{\"op\":\"exec\"'*)\n"
	"	id=${line#*'\"id\":'} id=${id%%,*}\n"
	"	path=${line#*'\"path\":\"'} path=${path%%'\"'*}\n"
	"	said= stopped=\n"
	"	. \"$path\"\n"
	"	[ \"$said\" ] || if [ \"$stopped\" ]; then over interrupted; else over ok; fi;;\n"
	"esac; done\n";

struct domain {
	struct world w;
	struct options opt;
	struct context *c; /* main */
	char dir[PATH_MAX];
	bool mounted;
	/* while something is waited for */
	bool (*ready)(struct domain *d);
	struct timer patience;
	bool late;
};

static inline void domain_language(struct domain *d, const char *name, const char *ext)
{
	auto_free char *dir = xasprintf("%s/kernels/%s", d->dir, name);
	auto_free char *driver = xasprintf("%s/driver", dir);
	auto_free char *manifest = xasprintf("%s/manifest.json", dir);
	auto_buf struct buf b = { 0 };

	must(mkdir(dir, 0755) == 0);
	must(write_file(AT_FDCWD, driver, fake_driver, sizeof(fake_driver) - 1, 0755) == 0);
	buf_printf(&b,
		   "{\"name\":\"%s\",\"title\":\"Fake\",\"extensions\":[\"%s\"],\"comment\":\"#|\","
		   "\"interpreters\":[\"/bin/sh\"],\"probe\":[\"-c\",\"echo 1\"],"
		   "\"argv\":[\"{interpreter}\",\"{dir}/driver\"]}",
		   name, ext);
	must(write_file(AT_FDCWD, manifest, b.s, b.n, 0644) == 0);
}

/* A directory for STATE_DIR and the languages; STATE_DIR is a tmpfs of SIZE bytes if that is not 0.
 * Returns false if such a file system cannot be had. */
static inline bool domain_make(struct domain *d, size_t size)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	const char *tmp = getenv("TMPDIR");

	*d = (struct domain){ 0 };
	snprintf(d->dir, sizeof(d->dir), "%s/cellfs-domain-XXXXXX", tmp ? tmp : "/tmp");
	must(n > 0 && mkdtemp(d->dir));
	self[n] = 0;
	d->opt.state_dir = xasprintf("%s/state", d->dir);
	d->opt.kernels_dir = xasprintf("%s/kernels", d->dir);
	d->opt.box = xasprintf("%s/box", dirname(dirname(self))); /* from build/unit/NAME */
	d->opt.queue = 100;
	d->opt.mountpoint = "/nowhere";
	config_init(&d->opt.defaults, NULL);
	must(mkdir(d->opt.kernels_dir, 0755) == 0 && mkdir(d->opt.state_dir, 0700) == 0);
	domain_language(d, "fake", "t");
	domain_language(d, "other", "u");
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	if (!size)
		return true;
	auto_free char *data = xasprintf("size=%zu", size);
	d->mounted = mount("cellfs-unit", d->opt.state_dir, "tmpfs", 0, data) == 0;
	return d->mounted;
}

static inline void domain_unmake(struct domain *d)
{
	if (d->mounted)
		must(umount2(d->opt.state_dir, MNT_DETACH) == 0);
	must(delete_tree(AT_FDCWD, d->dir) == 0);
	free((char *)d->opt.state_dir);
	free((char *)d->opt.kernels_dir);
	free((char *)d->opt.box);
	config_clear(&d->opt.defaults);
}

static inline void domain_open(struct domain *d)
{
	auto_buf struct buf why = { 0 };

	d->w = (struct world){ .loop = loop_new(), .log.fd = -1 };
	if (world_open(&d->w, &d->opt, &why))
		die("%s", why.s);
	d->c = world_context(&d->w, "main");
	must(d->c && context_load(d->c) == 0);
}

static inline void domain_after(void *arg)
{
	struct domain *d = arg;

	if (d->ready(d))
		loop_quit(d->w.loop);
}

static inline void domain_late(void *arg)
{
	struct domain *d = arg;

	d->late = true;
	loop_quit(d->w.loop);
}

/* Runs the loop until READY. Returns false if that takes more than 20 s. */
static inline bool domain_until(struct domain *d, bool (*ready)(struct domain *d))
{
	d->ready = ready;
	d->late = false;
	timer_set(d->w.loop, &d->patience, 20000000, domain_late, d);
	if (!ready(d))
		loop_run(d->w.loop, domain_after, d);
	timer_stop(d->w.loop, &d->patience);
	return !d->late;
}

static inline bool domain_is_idle(struct domain *d)
{
	return !context_busy(d->c);
}

/* Runs the loop until nothing waits or runs any more. */
static inline bool domain_idle(struct domain *d)
{
	return domain_until(d, domain_is_idle);
}

static inline bool domain_is_quiet(struct domain *d)
{
	return world_quiet(&d->w);
}

static inline void domain_close(struct domain *d)
{
	world_stop(&d->w);
	must(domain_until(d, domain_is_quiet));
	world_close(&d->w);
	loop_free(d->w.loop);
}

static inline void domain_reopen(struct domain *d)
{
	domain_close(d);
	domain_open(d);
}

/* Writes the N bytes at TEXT into cell NAME as an editor would. Returns 0, or the -errno of the step that
 * failed; the file is closed in any case. */
static inline int domain_write(struct domain *d, const char *name, const char *text, size_t n)
{
	struct body *b = body_find(d->c, B_CELLS, name);
	int err = b ? body_admit(d->c, B_CELLS, name) : body_create(d->c, B_CELLS, name, 0644, &b);
	struct writer w;

	if (err)
		return err;
	b->opens++;
	body_opened(b, &w, getpid());
	auto_close int fd = body_open_fd(b, O_WRONLY | O_TRUNC);
	err = fd < 0 ? fd : body_write(b, &w, n);
	if (!err)
		err = pwrite_all(fd, text, n, 0);
	body_flushed(b, &w, getpid());
	body_closed(b, &w);
	return err;
}

/* Writes the cell and returns the number of its run, 0 if there is none. */
static inline uint64_t domain_cell(struct domain *d, const char *name, const char *text)
{
	uint64_t before = d->c->nruns;

	return domain_write(d, name, text, strlen(text)) || d->c->nruns == before ? 0 : d->c->nruns;
}

/* The run of cell NAME with that TEXT, ended; NULL if it was not taken or does not end. */
static inline struct run *domain_run(struct domain *d, const char *name, const char *text)
{
	uint64_t number = domain_cell(d, name, text);

	return number && domain_idle(d) ? context_run(d->c, number) : NULL;
}

static inline int domain_ctl(struct domain *d, const char *text)
{
	bool gone = false;

	return context_ctl(d->c, text, strlen(text), &gone);
}

static inline int domain_set(struct domain *d, enum body_dir dir, const char *name, const char *text)
{
	return value_write(d->c, dir, name, text, strlen(text));
}

/* What the run printed; the caller frees. */
static inline char *domain_output(struct run *r, int stream)
{
	struct buf b = { 0 };

	buf_str(&b, "");
	must(run_read_extents(r->ctx, stream ? L_ERR : L_OUT, &r->flow[stream].x, INT64_MAX, &b) == 0);
	return b.s;
}

/* File NAME of the run, or NULL; the caller frees. */
static inline char *domain_file(struct run *r, const char *name)
{
	const struct run_file *f;
	struct buf b = { 0 };
	int slot = run_slot(r, name);

	if (slot < 0 || run_file(r, slot, &f))
		return NULL;
	buf_str(&b, "");
	must(run_read_file(r, f, &b) == 0);
	return b.s;
}

/* Everything that a user can see of run NUMBER. */
static inline void domain_tell_run(struct domain *d, uint64_t number, struct buf *b)
{
	struct run *r = context_run(d->c, number);

	if (!r) {
		buf_printf(b, "run %llu: none\n", (unsigned long long)number);
		return;
	}
	buf_printf(b, "run %llu: %s: %s, code %d, cell %s as %s, %s, n %lld, generation %lld, kept %d\n",
		   (unsigned long long)number, run_status_names[r->status], r->reason ? r->reason : "-",
		   r->exit_code, r->cell && r->cell->name ? r->cell->name : "-", r->cell_name,
		   r->lang_name, (long long)r->execution_count, (long long)r->generation,
		   r->state_preserved);
	buf_printf(b, "times %lld %lld %lld %lld, %s ", (long long)r->queued_at, (long long)r->started_at,
		   (long long)r->finished_at, (long long)r->file_time,
		   r->opt.json ? r->opt.json : "{}");
	run_json_usage(r, b);
	run_json_truncated(r, b);
	if (r->has_error)
		run_json_error(r, b);
	struct extents code = { 0 };
	extents_add(&code, r->code.off, r->code.len);
	const struct {
		enum store_log log;
		const struct extents *x;
	} parts[] = { { L_RES, &code }, { L_OUT, &r->flow[0].x }, { L_ERR, &r->flow[1].x },
		      { L_JOURNAL, &r->events } };
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		buf_str(b, "\n-- ");
		if (run_read_extents(d->c, parts[i].log, parts[i].x, INT64_MAX, b))
			buf_str(b, "CANNOT BE READ");
	}
	extents_free(&code);
	for (size_t i = 0; i < r->nfiles; i++) {
		const struct run_file *f = &r->files[i];
		buf_printf(b, "\n%s %s of %u slot %u%s: ", f->name, f->mime, r->items[f->item].k, f->slot,
			   r->items[f->item].gone ? " gone" : "");
		if (run_read_file(r, f, b))
			buf_str(b, "CANNOT BE READ");
	}
	for (size_t i = 0; i < r->nitems; i++)
		buf_printf(b, "\nitem %u %s %s", r->items[i].k,
			   r->items[i].display_id ? r->items[i].display_id : "-",
			   r->items[i].meta ? r->items[i].meta : "{}");
	buf_char(b, '\n');
}

/* Everything that a user can see of the context's history. */
static inline void domain_tell(struct domain *d, struct buf *b)
{
	struct context *c = d->c;

	for (uint64_t n = 1; n <= c->nruns; n++)
		domain_tell_run(d, n, b);
	for (uint64_t n = 1; n <= c->nruns; n++) {
		for (uint32_t i = 1; cell_at(c, i); i++)
			if (cell_at(c, i)->name && cell_at(c, i)->newest == n)
				buf_printf(b, "run %llu is shown by %s\n", (unsigned long long)n,
					   cell_at(c, i)->name);
	}
	buf_printf(b, "latest %s, runs %llu, kept %llu, %llu KiB\n",
		   cell_latest(c) ? cell_latest(c)->name : "-", (unsigned long long)c->nruns,
		   (unsigned long long)c->kept_runs, (unsigned long long)c->kept_kib);
}

/* Fails with the first line that differs: the whole is long. */
static inline void assert_same(const char *now, const char *before)
{
	for (int line = 1; *now || *before; line++) {
		size_t n = strcspn(now, "\n"), was = strcspn(before, "\n");

		if (n != was || memcmp(now, before, n))
			fail_msg("line %d was\n%.*s\nand is\n%.*s", line, (int)was, before, (int)n, now);
		now += n + !!now[n];
		before += was + !!before[was];
	}
}

static inline char *domain_path(struct domain *d, const char *file)
{
	return context_abspath(d->c, file);
}

#endif
