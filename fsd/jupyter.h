/* Jupyter's kernels of this host as languages, by way of the bridge in kernels/jupyter: finds the kernelspecs, asks
 * each kernel once which extension it has, and remembers the answers in STATE_DIR. Knows no context. */
#ifndef CELLFS_JUPYTER_H
#define CELLFS_JUPYTER_H

#include "lang.h"
#include "loop.h"
#include "sandbox.h"
#include "worker.h"

struct jupyter;

struct jupyter_host {
	struct loop *loop;
	struct worker *worker;
	struct sandbox *sandbox;
	struct log *log;
	int state;             /* STATE_DIR */
	const char *state_dir;
	void (*changed)(void *arg); /* `languages` reads differently now */
	void *arg;
};

/* Adds a language to LS for each kernelspec below PATH (directories with colons between; NULL: where Jupyter looks;
 * "off": nowhere), with what was answered earlier. Before the loop runs, and once: the languages stay where they are
 * from then on. Without the bridge there are none. */
struct jupyter *jupyter_find(const struct jupyter_host *h, struct langs *ls, const char *path);
/* Asks those of which nothing is known, one after another, in the background. */
void jupyter_ask(struct jupyter *j);
/* Ends what is being asked. */
void jupyter_stop(struct jupyter *j);
/* Is a kernel being asked, or not gone yet? */
bool jupyter_busy(const struct jupyter *j);
void jupyter_free(struct jupyter *j);

#endif
