/* What `box join --check` looks at from inside: that the box is what SECURITY.md promises. */
#include "box.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char *field(const char *status, const char *name, char out[64])
{
	const char *p = strstr(status, name);

	if (!p || sscanf(p + strlen(name), " %63s", out) != 1)
		snprintf(out, 64, "missing");
	return out;
}

static ssize_t slurp(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);

	if (fd >= 0)
		close(fd);
	buf[n > 0 ? n : 0] = 0;
	return n;
}

static int count_processes(void)
{
	DIR *d = opendir("/proc");
	int n = 0;

	for (struct dirent *e; d && (e = readdir(d));)
		n += isdigit((unsigned char)e->d_name[0]) != 0;
	if (d)
		closedir(d);
	return n;
}

static int lines(const char *text)
{
	int n = 0;

	for (; *text; text++)
		n += *text == '\n';
	return n;
}

int box_check(char why[BOX_LINE])
{
	static const struct {
		const char *name, *value;
	} facts[] = {
		{ "CapInh:", "0000000000000000" }, { "CapPrm:", "0000000000000000" },
		{ "CapEff:", "0000000000000000" }, { "CapBnd:", "0000000000000000" },
		{ "CapAmb:", "0000000000000000" }, { "NoNewPrivs:", "1" }, { "Seccomp:", "2" },
	};
	char status[8192], text[8192], word[64];
	unsigned inner, outer, count;

	if (slurp("/proc/self/status", status, sizeof(status)) <= 0)
		return snprintf(why, BOX_LINE, "/proc/self/status: %s", strerror(errno)), -1;
	for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++)
		if (strcmp(field(status, facts[i].name, word), facts[i].value))
			return snprintf(why, BOX_LINE, "%s is %s", facts[i].name, word), -1;
	slurp("/proc/self/uid_map", text, sizeof(text));
	if (sscanf(text, "%u %u %u", &inner, &outer, &count) != 3 || inner != BOX_ID || count != 1 || !outer ||
	    lines(text) != 1 || getuid() != BOX_ID || geteuid() != BOX_ID || getgid() != BOX_ID)
		return snprintf(why, BOX_LINE, "uid_map is %.120s", text), -1;
	if (count_processes() > 4)
		return snprintf(why, BOX_LINE, "/proc shows %d processes", count_processes()), -1;
	if (slurp("/etc/shadow", text, sizeof(text)) >= 0 || !access("/root", F_OK) || !access("/sys/kernel", F_OK))
		return snprintf(why, BOX_LINE, "the host's files are there"), -1;
	if (!mkdir("/x", 0700) || (errno != EROFS && errno != EACCES))
		return snprintf(why, BOX_LINE, "the root directory is not read-only"), -1;
	if (!access("/proc/sys/kernel/core_pattern", W_OK))
		return snprintf(why, BOX_LINE, "/proc/sys is writable"), -1;
	return 0;
}
