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

static int open_proc(pid_t pid, const char *name, int flags)
{
	char path[48];

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	return open(path, flags | O_CLOEXEC);
}

void gauge_close(struct gauge *g)
{
	if (!g->pid)
		return;
	drop_fd(&g->status);
	drop_fd(&g->stat);
	drop_fd(&g->refs);
	drop_fd(&g->above);
	*g = (struct gauge){ 0 };
}

/* GROUP: it tells the CPU time, so that nobody has to. */
static void gauge_open(struct kernel *k, bool group)
{
	struct gauge *g = &k->gauge;

	if (g->pid == k->pid)
		return;
	gauge_close(g);
	g->pid = k->pid;
	g->supervisor = k->joined ? k->joined : k->box;
	g->status = open_proc(g->pid, "status", O_RDONLY);
	g->refs = open_proc(g->pid, "clear_refs", O_WRONLY);
	g->stat = group ? -1 : open_proc(g->pid, "stat", O_RDONLY);
	g->above = group ? -1 : open_proc(g->supervisor, "stat", O_RDONLY);
}

static int64_t clock_of(pid_t pid)
{
	clockid_t id;
	struct timespec ts;

	return pid > 0 && !clock_getcpuclockid(pid, &id) && !clock_gettime(id, &ts) ? ts_to_us(ts) : 0;
}

/* CPU time of the children that a process has waited for. */
static int64_t waited_us(int stat)
{
	char text[1024], *end;
	ssize_t n = stat < 0 ? -1 : pread(stat, text, sizeof(text) - 1, 0);
	long long user, system;

	text[MAX(n, 0)] = 0;
	end = strrchr(text, ')');
	if (!end || sscanf(end, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %lld %lld", &user, &system) != 2)
		return 0;
	return (user + system) * (1000000 / sysconf(_SC_CLK_TCK));
}

/* Its highest RSS since `refs` was written, 0 for one that is a zombie; -1: it is gone. */
static int64_t highest(const struct gauge *g)
{
	char text[4096], *at;
	ssize_t n = g->status < 0 ? -1 : pread(g->status, text, sizeof(text) - 1, 0);

	if (n <= 0)
		return -1;
	text[n] = 0;
	at = strstr(text, "\nVmHWM:");
	return at ? MAX(strtoll(at + 7, NULL, 10), 0) << 10 : 0;
}

/* Without a group: the driver, what it and its supervisor have waited for. A driver without a box may hold a file of
 * our mount as it calls execve: then reading its `stat` would wait for ourselves. It is read only while it answers. */
static int64_t all_us(const struct kernel *k, int64_t own)
{
	const struct gauge *g = &k->gauge;
	bool calm = k->boxed || k->state != K_DYING;

	return own + (calm ? waited_us(g->stat) : 0) + waited_us(g->above) + clock_of(g->supervisor);
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

	if (k->pid <= 0)
		return;
	gauge_open(k, group);
	if (g->refs >= 0 && pwrite(g->refs, "5", 1, 0) < 0) /* VmHWM begins anew */
		drop_fd(&g->refs);
	g->own = clock_of(g->pid);
	if (group)
		cgroup_peak_begin(group);
	k->ctx->metered.memory_peak = 0;
	g->all = group ? cgroup_cpu_us(group) : all_us(k, g->own);
}

/* A group's peak has the cache of files in it, which is nobody's need: what is left of it at the end is taken off. So that
 * nobody hides his memory behind files that he then writes, what the meter saw of the processes stays. */
static int64_t peak_of(const struct kernel *k, const struct cgroup *group, int64_t highest)
{
	int64_t seen = k->boxed && kernel_use(k) == FOR_CELLS ? k->ctx->metered.memory_peak : 0;
	int64_t peak = group ? cgroup_peak_end(group) : seen;

	if (group && peak > highest) {
		int64_t needed = peak - cgroup_cached(group);
		peak = MAX(needed, MIN(seen, peak));
	}
	peak = MAX(peak, highest);
	return peak > 0 ? peak : k->gauge.dead_rss;
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
	int64_t rss = highest(g), own = rss < 0 ? 0 : clock_of(g->pid);
	int64_t all = group ? cgroup_cpu_us(group) : rss < 0 || g->dead_cpu ? g->dead_cpu : all_us(k, own);

	/* A group's count may be late by a tick of the scheduler, so what is late from before is not this run's. */
	r->cpu_us = MIN(MAX(MAX(own - g->own, all - g->all), 0), most);
	r->max_rss = peak_of(k, group, MAX(rss, 0));
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
	int64_t before = c->disk_seen;

	if (x->known || x->disk.files)
		c->disk_seen = x->disk.bytes;
	return c->disk_seen != before;
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

void usage_json_context(struct context *c, struct buf *b)
{
	const struct usage *u = &c->usage;

	usage_see_disk(c);
	buf_printf(b, "{\"cpu_ms\":%.3f,\"wall_ms\":%.3f,\"max_rss_bytes\":%lld,\"bytes_in\":%lld,\"bytes_out\":%lld,",
		   u->cpu_us / 1e3, u->wall_us / 1e3, (long long)u->max_rss, (long long)u->bytes_in,
		   (long long)u->bytes_out);
	buf_printf(b, "\"disk_bytes\":%lld,\"runs\":%llu}", (long long)(c->disk_seen + ((int64_t)c->kept_kib << 10)),
		   (unsigned long long)u->runs);
}

static void print_own(struct buf *out)
{
	struct rusage u = { 0 };
	auto_buf struct buf statm = { 0 };
	long long size, pages = 0;

	getrusage(RUSAGE_SELF, &u);
	if (!read_file(AT_FDCWD, "/proc/self/statm", 256, &statm) && sscanf(statm.s, "%lld %lld", &size, &pages) != 2)
		pages = 0;
	buf_printf(out, "daemon_cpu_ms: %.3f\n", (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e3 +
		   (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e3);
	buf_printf(out, "daemon_rss_bytes: %lld\n", pages * sysconf(_SC_PAGESIZE));
	buf_printf(out, "daemon_max_rss_bytes: %lld\n", (long long)u.ru_maxrss << 10);
}

void usage_print(const struct usage *sum, struct buf *out)
{
	buf_printf(out, "cpu_ms_since_start: %.3f\n", sum->cpu_us / 1e3);
	buf_printf(out, "wall_ms_since_start: %.3f\n", sum->wall_us / 1e3);
	buf_printf(out, "max_rss_bytes_since_start: %lld\n", (long long)sum->max_rss);
	buf_printf(out, "bytes_in_since_start: %lld\n", (long long)sum->bytes_in);
	buf_printf(out, "bytes_out_since_start: %lld\n", (long long)sum->bytes_out);
	buf_printf(out, "disk_bytes_since_start: %lld\n", (long long)sum->kept);
	print_own(out);
}
