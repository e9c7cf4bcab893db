/* A world without FUSE, for tests of the domain: a STATE_DIR in a temporary directory, and a language
 * `fake` (.t) whose cells are shell code that says to the daemon whatever a test wants said.
 *
 * In a cell there are: $id, the run's; `ev LINE`, an event; `show KIND DATA`, a display and its ack;
 * `over STATUS [CODE]`, the `done` that otherwise comes at the end by itself; `quiet`, no `done`.
 * config/env/HELLO replaces the driver's first line. .u is a second language, the same driver. */
#ifndef CELLFS_TEST_DOMAIN_H
#define CELLFS_TEST_DOMAIN_H

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
	"show() { ev \"{\\\"ev\\\":\\\"display\\\",\\\"id\\\":$id,\\\"kind\\\":\\\"$1\\\",$2}\"\n"
	"	head -c1 <&5 >/dev/null; }\n"
	"over() { said=1; ev \"{\\\"ev\\\":\\\"done\\\",\\\"id\\\":$id,\\\"status\\\":\\\"$1\\\",\\\"code\\\":${2:-0}}\"; }\n"
	"quiet() { said=1; }\n"
	"stopped=\n"
	"trap 'stopped=1' INT\n"
	"ev \"${HELLO:-{\\\"ev\\\":\\\"hello\\\",\\\"proto\\\":1,\\\"min_proto\\\":1\\}}\"\n"
	"while IFS= read -r line <&3; do case $line in\n"
	"'{\"op\":\"init\"'*) spool=${line#*'\"spool\":\"'} spool=${spool%%'\"'*}; ev '{\"ev\":\"ready\"}';;\n"
	"'{\"op\":\"exec\"'*)\n"
	"	id=${line#*'\"id\":'} id=${id%%,*} path=${line#*'\"path\":\"'} path=${path%%'\"'*}\n"
	"	said= stopped=\n"
	"	. \"$path\"\n"
	"	[ \"$said\" ] || if [ \"$stopped\" ]; then over interrupted; else over ok; fi;;\n"
	"esac; done\n";

struct domain {
	struct world w;
	struct options opt;
	struct context *c; /* main */
	char dir[PATH_MAX];
	bool late;         /* what was waited for did not come */
};

static void domain_language(struct domain *d, const char *name, const char *ext)
{
	auto_free char *dir = xasprintf("%s/kernels/%s", d->dir, name);
	auto_free char *driver = xasprintf("%s/driver", dir), *manifest = xasprintf("%s/manifest.json", dir);
	auto_buf struct buf b = { 0 };

	must(mkdir(dir, 0755) == 0);
	must(write_file(AT_FDCWD, driver, fake_driver, sizeof(fake_driver) - 1, 0755) == 0);
	buf_printf(&b, "{\"name\":\"%s\",\"title\":\"Fake\",\"extensions\":[\"%s\"],\"comment\":\"#|\","
		   "\"interpreters\":[\"/bin/sh\"],\"probe\":[\"-c\",\"echo 1\"],"
		   "\"argv\":[\"{interpreter}\",\"{dir}/driver\"]}", name, ext);
	must(write_file(AT_FDCWD, manifest, b.s, b.n, 0644) == 0);
}

/* A directory for STATE_DIR and the languages; on a tmpfs of SIZE bytes if that is not 0. Returns false
 * if such a file system cannot be had. */
static inline bool domain_make(struct domain *d, size_t size)
{
	char self[PATH_MAX], dir[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	*d = (struct domain){ 0 };
	snprintf(d->dir, sizeof(d->dir), "%s/cellfs-unit-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	must(n > 0 && mkdtemp(d->dir));
	self[n] = 0;
	auto_free char *kernels = xasprintf("%s/kernels", d->dir), *state = xasprintf("%s/state", d->dir);
	must(mkdir(kernels, 0755) == 0 && mkdir(state, 0700) == 0);
	domain_language(d, "fake", "t");
	domain_language(d, "other", "u");
	if (size) {
		auto_free char *data = xasprintf("size=%zu", size);
		if (mount("cellfs-unit", state, "tmpfs", 0, data))
			return false;
	}
	/* build/unit/NAME -> build/box */
	snprintf(dir, sizeof(dir), "%s", dirname(dirname(self)));
	d->opt = (struct options){ .state_dir = take_string(&state), .kernels_dir = take_string(&kernels),
				   .mountpoint = "/nowhere", .box = xasprintf("%s/box", dir), .queue = 100 };
	must(access(d->opt.box, X_OK) == 0);
	config_init(&d->opt.defaults, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	return true;
}

#endif
