#include "usage.h"

#include "box.h"
#include "cgroup.h"
#include "kernel.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

/* ---- one process ---- */

void gauge_close(struct gauge *g)
{
	if (!g->pid)
		return;
	drop_fd(&g->status);
	*g = (struct gauge){ 0 };
}

static void gauge_open(struct kernel *k)
{
	struct gauge *g = &k->gauge;
	char path[48];

	if (g->pid == k->pid)
		return;
	gauge_close(g);
	g->pid = k->pid;
	g->supervisor = k->joined ? k->joined : k->box;
	snprintf(path, sizeof(path), "/proc/%d/status", g->pid);
	g->status = open(path, O_RDONLY | O_CLOEXEC);
}

/* -1: it cannot be told. */
static int64_t clock_of(pid_t pid)
{
	clockid_t id;
	struct timespec ts;

	return pid > 0 && !clock_getcpuclockid(pid, &id) && !clock_gettime(id, &ts) ? ts_to_us(ts) : -1;
}

/* The driver's. Its number may be another process's once it was waited for, so that is looked at behind. */
static int64_t own_us(const struct kernel *k)
{
	int64_t us = clock_of(k->gauge.pid);
	bool gone = k->driver < 0 || (syscall(SYS_pidfd_send_signal, k->driver, 0, NULL, 0) < 0 && errno == ESRCH);

	return gone ? -1 : us;
}

static int64_t since(int64_t begin, int64_t end)
{
	return begin < 0 || end < begin ? 0 : end - begin;
}

static int64_t field(const char *status, const char *name)
{
	const char *at = strstr(status, name);

	return at ? MAX(strtoll(at + strlen(name), NULL, 10), 0) << 10 : 0;
}

/* The driver's RSS: the most in its life, *NOW at this moment. Both 0 for one that is over. */
static int64_t highest(const struct gauge *g, int64_t *now)
{
	char text[4096];
	ssize_t n = g->status < 0 ? -1 : pread(g->status, text, sizeof(text) - 1, 0);

	text[MAX(n, 0)] = 0;
	*now = field(text, "\nVmRSS:");
	return field(text, "\nVmHWM:");
}

/* ---- one run ---- */

static struct cgroup *group_of(const struct kernel *k)
{
	return k->boxed ? box_group(k->ctx, kernel_use(k)) : NULL;
}

void usage_begin(struct run *r)
{
	struct kernel *k = r->kernel;
	struct cgroup *group = group_of(k);
	struct gauge *g = &k->gauge;
	int64_t now;

	if (k->pid <= 0)
		return;
	gauge_open(k);
	g->highest = highest(g, &now);
	g->own = own_us(k);
	if (group)
		cgroup_peak_begin(group);
	k->ctx->metered.memory_peak = 0;
	g->all = group ? cgroup_cpu_us(group) : -1;
	g->grouped = g->all >= 0;
	if (!g->grouped && g->own >= 0) /* what `dead_cpu` has of before */
		g->all = g->own + MAX(clock_of(g->supervisor), 0);
}

/* A group's peak has the cache of files in it, which is nobody's need: what is left of it at the end is taken off. So that
 * nobody hides his memory behind files that he then writes, what the meter saw of the processes stays. */
static int64_t peak_of(const struct kernel *k, const struct cgroup *group)
{
	const struct gauge *g = &k->gauge;
	int64_t seen = k->boxed && kernel_use(k) == FOR_CELLS ? k->ctx->metered.memory_peak : 0;
	int64_t peak = group ? cgroup_peak_end(group) : -1;
	int64_t now, own = highest(g, &now);

	if (own <= g->highest) /* that was before */
		own = now;
	if (peak < 0) { /* no group, or one that does not count memory */
		peak = seen;
	} else if (peak > own) {
		int64_t needed = peak - cgroup_cached(group);
		peak = MAX(needed, MIN(seen, peak));
	}
	peak = MAX(peak, own);
	return peak > 0 ? peak : g->dead_rss;
}

void usage_end(struct run *r)
{
	struct kernel *k = r->kernel;
	int64_t most = r->duration_us * MAX(r->ctx->world->cpus, 1);

	r->cpu_us = r->max_rss = 0;
	if (!k || !k->gauge.pid)
		return;
	struct cgroup *group = group_of(k);
	struct gauge *g = &k->gauge;
	int64_t all = !g->grouped ? g->dead_cpu : group ? cgroup_cpu_us(group) : -1;

	/* A group's count may be late by a tick of the scheduler, so what is late from before is not this run's. */
	r->cpu_us = MIN(MAX(since(g->own, own_us(k)), since(g->all, all)), most);
	r->max_rss = peak_of(k, group);
}

void usage_of_dead(struct kernel *k, pid_t supervisor)
{
	struct rusage u = { 0 };
	siginfo_t how;

	if (supervisor != k->gauge.supervisor ||
	    syscall(SYS_waitid, P_PID, supervisor, &how, WEXITED | WNOWAIT | WNOHANG, &u) < 0)
		return;
	k->gauge.dead_cpu = (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000LL + u.ru_utime.tv_usec + u.ru_stime.tv_usec;
	k->gauge.dead_rss = (int64_t)u.ru_maxrss << 10;
}

/* ---- sums ---- */

struct usage usage_of_run(const struct run *r)
{
	struct usage u = { .runs = 1, .cpu_us = r->cpu_us, .max_rss = r->max_rss, .bytes_in = r->code.len,
			   .wall_us = r->started_at ? r->duration_us : 0, .kept = run_disk_bytes(r) };

	u.bytes_out = r->flow[0].total + r->flow[1].total + r->kept_bytes;
	for (size_t i = 0; i < r->nfiles; i++)
		u.bytes_out += r->files[i].at.len;
	return u;
}

void usage_add(struct usage *sum, const struct usage *u)
{
	sum->runs += u->runs;
	sum->cpu_us += u->cpu_us;
	sum->wall_us += u->wall_us;
	sum->max_rss = MAX(sum->max_rss, u->max_rss);
	sum->bytes_in += u->bytes_in;
	sum->bytes_out += u->bytes_out;
	sum->kept += u->kept;
}

bool usage_see_disk(struct context *c)
{
	const struct metered *x = &c->metered;

	if (!x->seen || c->disk_seen == x->disk.bytes)
		return false;
	c->disk_seen = x->disk.bytes;
	return true;
}

void usage_count(struct run *r)
{
	struct context *c = r->ctx;
	struct usage u = usage_of_run(r);

	usage_add(&c->usage, &u);
	usage_add(&c->world->usage, &u);
	usage_see_disk(c);
}

struct usage usage_parse(const struct json *j)
{
	return (struct usage){ .runs = 1,
			       .cpu_us = json_double(j, "cpu_ms") * 1e3 + 0.5,
			       .wall_us = json_double(j, "wall_ms") * 1e3 + 0.5,
			       .max_rss = json_num(j, "max_rss_bytes"),
			       .bytes_in = json_num(j, "bytes_in"),
			       .bytes_out = json_num(j, "bytes_out"),
			       .kept = json_num(j, "disk_bytes") };
}

void usage_json_context(const struct context *c, struct buf *b)
{
	const struct usage *u = &c->usage;

	buf_printf(b, "{\"cpu_ms\":%.3f,\"wall_ms\":%.3f,\"max_rss_bytes\":%lld,\"bytes_in\":%lld,\"bytes_out\":%lld,",
		   u->cpu_us / 1e3, u->wall_us / 1e3, (long long)u->max_rss, (long long)u->bytes_in,
		   (long long)u->bytes_out);
	buf_printf(b, "\"disk_bytes\":%lld,\"runs\":%llu}", (long long)(c->disk_seen + ((int64_t)c->kept_kib << 10)),
		   (unsigned long long)u->runs);
}

void usage_print(const struct usage *sum, struct buf *out)
{
	buf_printf(out, "cpu_ms_since_start: %.3f\n", sum->cpu_us / 1e3);
	buf_printf(out, "wall_ms_since_start: %.3f\n", sum->wall_us / 1e3);
	buf_printf(out, "max_rss_bytes_since_start: %lld\n", (long long)sum->max_rss);
	buf_printf(out, "bytes_in_since_start: %lld\n", (long long)sum->bytes_in);
	buf_printf(out, "bytes_out_since_start: %lld\n", (long long)sum->bytes_out);
	buf_printf(out, "disk_bytes_since_start: %lld\n", (long long)sum->kept);
}
