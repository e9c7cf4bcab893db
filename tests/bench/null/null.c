/*
 * null - the driver of a language whose every program has the value `null`.
 *
 * It answers each exec at once, with one result and its ack, so that what a run of it costs is what
 * the daemon, FUSE and the pipes cost. It does not look into the cell's file.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <unistd.h>

enum { COMMANDS = 3, EVENTS = 4, ACKS = 5 };

static void hello(void)
{
	dprintf(EVENTS,
		"{\"ev\":\"hello\",\"proto\":1,\"min_proto\":1,\"lang\":\"null\",\"ver\":\"1\","
		"\"engine\":\"null\",\"pid\":%d}\n",
		getpid());
}

static void ready(long id)
{
	(void)id;
	dprintf(EVENTS, "{\"ev\":\"ready\"}\n");
}

static void exec(long id)
{
	char ack;

	dprintf(EVENTS,
		"{\"ev\":\"display\",\"id\":%ld,\"kind\":\"result\","
		"\"data\":{\"text/plain\":\"null\"},\"meta\":{}}\n",
		id);
	if (read(ACKS, &ack, 1) == 1)
		dprintf(EVENTS, "{\"ev\":\"done\",\"id\":%ld,\"status\":\"ok\",\"code\":0}\n", id);
}

static void set(long id)
{
	(void)id;
}

static void shut_down(long id)
{
	(void)id;
	exit(0);
}

static const struct {
	const char *start; /* the daemon writes its keys in one order, without spaces */
	void (*run)(long id);
} ops[] = {
	{ "{\"op\":\"init\"", ready },
	{ "{\"op\":\"exec\"", exec },
	{ "{\"op\":\"set\"", set },
	{ "{\"op\":\"shutdown\"", shut_down },
};

static void obey(const char *line)
{
	const char *id = strstr(line, "\"id\":");

	for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		if (!strncmp(line, ops[i].start, strlen(ops[i].start))) {
			ops[i].run(id ? atol(id + strlen("\"id\":")) : 0);
			return;
		}
	dprintf(EVENTS, "{\"ev\":\"log\",\"text\":\"unknown op\"}\n");
}

int main(void)
{
	FILE *commands = fdopen(COMMANDS, "r");
	char *line = NULL;
	size_t size = 0;

	signal(SIGINT, SIG_IGN); /* a run of it is over before one could arrive */
	hello();
	while (commands && getline(&line, &size, commands) > 0)
		obey(line);
	return 0;
}
