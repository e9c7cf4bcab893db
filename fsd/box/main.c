/* box: the program behind which every kernel of cellfs runs.
 *
 *   box filters ALLOW IOCTL       writes the two seccomp programs to these descriptors
 *   box up OPTION...              makes a box (up.c)
 *   box bind OPTION...            binds trees of the host into a box that is up (bind.c)
 *   box join OPTION... [--check | -- PROGRAM ARG...]
 *                                 runs PROGRAM in the box whose descriptors it has (join.c)
 *   box --lifeline=FD --report=FD [--cwd=DIR] [--weak [--tcp] [--ro=DIR]... [--rw=DIR]...] -- PROGRAM ARG...
 *                                 runs PROGRAM without a box: only its processes are ended (end.c); --weak adds
 *                                 Landlock, the seccomp programs and limits
 *
 * join and the last take --lifeline=FD --report=FD --cwd=DIR, and the limits --data= --fsize= --processes= --files=.
 * PROGRAM gets descriptors 0 to 6 as box got them, and no other, and the environment as it is. */
#include "box.h"

#include "filter.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATHS_MAX = 64 };

static bool parse_fd(const char *text, int *fd)
{
	char *end;
	long n = strtol(text, &end, 10);

	if (end == text || *end || n < BOX_OWN || n > 1 << 30 || fcntl(n, F_GETFD) < 0)
		return false;
	*fd = n;
	return true;
}

static bool parse_number(const char *text, int64_t *v)
{
	char *end;

	*v = strtoll(text, &end, 10);
	return end != text && !*end && *v >= 0;
}

static bool add_path(const char **list, const char *path)
{
	int n = 0;

	while (list[n])
		n++;
	if (n == PATHS_MAX)
		return false;
	list[n] = path;
	return true;
}

static bool parse(struct box *b, int argc, char **argv)
{
	static const struct option options[] = {
		{ "lifeline", required_argument, NULL, 'l' },  { "report", required_argument, NULL, 'r' },
		{ "cwd", required_argument, NULL, 'c' },       { "check", no_argument, NULL, 'k' },
		{ "weak", no_argument, NULL, 'w' },	       { "tcp", no_argument, NULL, 't' },
		{ "ro", required_argument, NULL, 'R' },
		{ "rw", required_argument, NULL, 'W' },	       { "data", required_argument, NULL, 'd' },
		{ "fsize", required_argument, NULL, 'f' },     { "processes", required_argument, NULL, 'p' },
		{ "files", required_argument, NULL, 'n' },     { 0 },
	};
	static const char *ro[PATHS_MAX + 1], *rw[PATHS_MAX + 1];
	bool ok = true;
	int c;

	*b = (struct box){ .ro = ro, .rw = rw, .limits = { -1, -1, -1, -1 } };
	opterr = 0;
	while ((c = getopt_long(argc, argv, "+", options, NULL)) != -1) {
		switch (c) {
		case 'l': ok &= parse_fd(optarg, &b->lifeline); break;
		case 'r': ok &= parse_fd(optarg, &b->report); break;
		case 'c': b->cwd = optarg; break;
		case 'k': b->check = true; break;
		case 'w': b->weak = true; break;
		case 't': b->tcp = true; break;
		case 'R': ok &= add_path(ro, optarg); break;
		case 'W': ok &= add_path(rw, optarg); break;
		case 'd': ok &= parse_number(optarg, &b->limits.data); break;
		case 'f': ok &= parse_number(optarg, &b->limits.fsize); break;
		case 'p': ok &= parse_number(optarg, &b->limits.processes); break;
		case 'n': ok &= parse_number(optarg, &b->limits.files); break;
		default: ok = false;
		}
	}
	for (int fd = 0; fd < BOX_OWN; fd++) /* our own would land in a gap, let_go() close them */
		ok &= fcntl(fd, F_GETFD) >= 0;
	b->argv = argv + optind;
	return ok && b->lifeline && b->report && b->lifeline != b->report && (b->check || b->argv[0]);
}

static int usage(void)
{
	fputs("usage: box filters ALLOW IOCTL\n"
	      "       box up [--ids=UID:GID] [--net=host] [--tmp=BYTES] [--shm=BYTES] [--ro=HOST:BOX] [--rw=HOST:BOX]\n"
	      "       box bind [--ro=HOST:BOX]... [--rw=HOST:BOX]...\n"
	      "       box join --lifeline=FD --report=FD [--cwd=DIR] [--data=BYTES] … [--check | -- PROGRAM ARG...]\n"
	      "       box --lifeline=FD --report=FD [--cwd=DIR] [--weak [--tcp]] -- PROGRAM ARG...\n"
	      "       (file descriptors from 7 on; 0 to 6, for PROGRAM, are open too)\n",
	      stderr);
	return 2;
}

static int filters(int argc, char **argv)
{
	char why[160] = "";
	int allow, ioctl_;

	if (argc != 3 || !parse_fd(argv[1], &allow) || !parse_fd(argv[2], &ioctl_))
		return usage();
	if (!filter_write(allow, ioctl_, why))
		return 0;
	fprintf(stderr, "%s\n", why);
	return 1;
}

static int check(struct box *b)
{
	char why[BOX_LINE];

	if (box_check(why))
		box_say(b->report, NULL, 0, "failed check %s", why);
	else
		box_say(b->report, NULL, 0, "exited 0");
	return 0;
}

static int join(int argc, char **argv)
{
	static struct box b;
	char why[BOX_LINE];

	if (!parse(&b, argc, argv))
		return usage();
	if (box_enter(&b, why)) {
		box_say(b.report, NULL, 0, "failed %s", why);
		return 1;
	}
	return b.check ? check(&b) : box_supervise(&b);
}

static int run(int argc, char **argv)
{
	static struct box b;
	int err = 0;

	if (!parse(&b, argc, argv))
		return usage();
	/* Outside of a namespace an ordinary user may not change the sets; no_new_privs leaves nothing to gain by them. */
	if (b.weak && !(err = box_set_limits(&b.limits)) && !(err = box_drop_rights(geteuid() == 0)))
		err = box_filter();
	if (err) {
		box_say(b.report, NULL, 0, "failed cannot be confined: %s", strerror(-err));
		return 0;
	}
	return box_supervise(&b);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *verb;
		int (*fn)(int, char **);
	} verbs[] = { { "filters", filters }, { "up", box_up }, { "bind", box_bind }, { "join", join } };

	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (argc > 1 && !strcmp(argv[1], verbs[i].verb))
			return verbs[i].fn(argc - 1, argv + 1);
	return run(argc, argv);
}
