/* cgroup: the groups of whatever kind this machine has; where they are, in texts of others. */
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "cgroup.h"
#include "util.h"

enum { MIB = 1 << 20 };

static struct cgroups groups;
static char tag[32];

static int setup(void **state)
{
	auto_buf struct buf why = { 0 };

	snprintf(tag, sizeof(tag), "test-%d", getpid());
	cgroups_open(&groups, tag, &why);
	print_message("%s\n", why.s);
	assert_non_null(why.s);
	assert_null(strchr(why.s, '\n'));
	return 0;
}

static int teardown(void **state)
{
	cgroups_close(&groups);
	return 0;
}

static void need(bool have)
{
	if (!have)
		skip();
}

static void make(struct cgroup *c, const char *name, const struct cgroup_limits *l)
{
	assert_int_equal(cgroup_make(&groups, name, l, c), 0);
}

/* How long until the last process of it was gone, us. */
static int64_t gone(struct cgroup *c)
{
	int64_t start = mono_us();
	int err;

	while ((err = cgroup_remove(c)) == -EBUSY && mono_us() < start + 5000000)
		usleep(500);
	assert_int_equal(err, 0);
	return mono_us() - start;
}

static void enter(const struct cgroup *c)
{
	for (size_t i = 0; i < ARRAY_SIZE(c->procs); i++)
		if (c->procs[i] >= 0 && write(c->procs[i], "0", 1) != 1)
			_exit(99);
}

/* Runs WORK in the group; its status as of waitpid. */
static int inside(const struct cgroup *c, int (*work)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		enter(c);
		_exit(work());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

static int touch(size_t n)
{
	char *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return 98;
	for (size_t i = 0; i < n; i += 4096)
		p[i] = 1;
	return 0;
}

static int touch_4(void)
{
	return touch(4 * MIB);
}

static int touch_64(void)
{
	return touch(64 * MIB);
}

static int fork_20(void)
{
	int n = 0;

	for (; n < 20; n++) {
		pid_t pid = fork();
		if (pid < 0)
			break;
		if (!pid) {
			pause();
			_exit(0);
		}
	}
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGTERM);
	return n;
}

static int fork_20_alone(void)
{
	setsid();
	return fork_20();
}

static int spin(void)
{
	for (int64_t until = mono_us() + 200000; mono_us() < until;) {
	}
	return 0;
}

static int enter_nothing(void)
{
	return 0;
}

static void too_much_memory_kills_and_is_counted(void **state)
{
	const struct cgroup_limits l = { .memory = 16 * MIB };
	struct cgroup c;

	need(groups.memory);
	make(&c, "mem", &l);
	assert_int_equal(cgroup_oom_kills(&c), 0);
	assert_int_equal(inside(&c, touch_4), 0);
	assert_int_equal(cgroup_oom_kills(&c), 0);
	int status = inside(&c, touch_64);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGKILL);
	assert_int_equal(cgroup_oom_kills(&c), 1);
	assert_true(cgroup_memory(&c) >= 0 && cgroup_memory(&c) <= 16 * MIB);
	int64_t peak = cgroup_memory_peak(&c);
	assert_true(peak == -1 || (peak > 4 * MIB && peak <= 16 * MIB));
	gone(&c);
}

static void a_limit_of_memory_can_rise_and_fall(void **state)
{
	const struct cgroup_limits small = { .memory = 16 * MIB }, big = { .memory = 128 * MIB };
	struct cgroup c;

	need(groups.memory);
	make(&c, "rise", &small);
	assert_int_equal(cgroup_limit(&c, &big), 0);
	assert_int_equal(inside(&c, touch_64), 0);
	assert_int_equal(cgroup_limit(&c, &small), 0);
	assert_true(WIFSIGNALED(inside(&c, touch_64)));
	assert_int_equal(cgroup_limit(&c, &(struct cgroup_limits){ 0 }), 0);
	assert_int_equal(inside(&c, touch_64), 0);
	gone(&c);
}

static void too_many_processes_are_refused(void **state)
{
	const struct cgroup_limits l = { .processes = 8 };
	struct cgroup c;

	need(groups.pids);
	make(&c, "pids", &l);
	int status = inside(&c, fork_20_alone);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 7);
	gone(&c);
}

static void quota_is(const struct cgroup *c, const char *v1, const char *v2)
{
	bool old = groups.kind == CGROUP_V1;
	auto_free char *path = xasprintf("%s/%s", c->name, old ? "cpu.cfs_quota_us" : "cpu.max");
	auto_buf struct buf b = { 0 };

	assert_int_equal(read_file(groups.base[groups.at[CGROUP_CPU]], path, 99, &b), 0);
	assert_string_equal(b.s, old ? v1 : v2);
}

static void a_quota_of_cpus_holds(void **state)
{
	struct cgroup_limits l = { .cpus = 0.25 };
	struct cgroup c;

	need(groups.cpu);
	make(&c, "cpu", &l);
	quota_is(&c, "25000\n", "25000 100000\n");
	int64_t start = mono_us();
	assert_int_equal(inside(&c, spin), 0);
	int64_t us = cgroup_cpu_us(&c);
	assert_true(us == -1 || (us > 0 && us < (mono_us() - start) / 4 + 60000));
	l.cpus = 0.000001;
	assert_int_equal(cgroup_limit(&c, &l), 0);
	quota_is(&c, "1000\n", "1000 100000\n");
	l.cpus = 1e9;
	assert_int_equal(cgroup_limit(&c, &l), 0);
	l.cpus = 0;
	assert_int_equal(cgroup_limit(&c, &l), 0);
	quota_is(&c, "-1\n", "max 100000\n");
	gone(&c);
}

static void the_same_door_serves_many_and_those_without_rights(void **state)
{
	const struct cgroup_limits l = { .processes = 8 };
	int status, hold[2], in[2];
	struct cgroup c;
	char byte;

	need(groups.kind != CGROUP_NONE);
	make(&c, "door", &l);
	for (int i = 0; i < 20; i++)
		assert_int_equal(inside(&c, enter_nothing), 0);
	assert_int_equal(pipe(hold), 0);
	assert_int_equal(pipe(in), 0);
	for (int i = 0; i < 3; i++) {
		if (fork())
			continue;
		close(hold[1]);
		if (!geteuid() && setresuid(65534, 65534, 65534))
			_exit(97);
		enter(&c);
		_exit(write(in[1], "i", 1) != 1 || read(hold[0], &byte, 1));
	}
	close(hold[0]);
	close(in[1]);
	for (int i = 0; i < 3; i++)
		assert_int_equal(read(in[0], &byte, 1), 1);
	close(in[0]);
	assert_true(!groups.pids || cgroup_processes(&c) == 3);
	assert_int_equal(cgroup_remove(&c), -EBUSY);
	assert_int_equal(cgroup_remove(&c), -EBUSY);
	close(hold[1]);
	for (int i = 0; i < 3; i++)
		assert_true(wait(&status) > 0 && status == 0);
	gone(&c);
	assert_int_equal(cgroup_remove(&c), 0);
	assert_int_equal(cgroup_oom_kills(&c), -1);
	assert_int_equal(cgroup_limit(&c, &l), -ENOSYS);
}

/* What its own /proc/self/cgroup says; -1 is a failure to clone. */
static int clone_into(const struct cgroup *c)
{
	struct clone_args args = { .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = c->dir };
	auto_buf struct buf self = { 0 };
	int status;
	pid_t pid = syscall(SYS_clone3, &args, sizeof(args));

	if (!pid)
		_exit(!read_file(AT_FDCWD, "/proc/self/cgroup", 4096, &self) && strstr(self.s, c->name) ? 5 : 6);
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void a_clone_starts_in_it(void **state)
{
	const struct cgroup_limits l = { .processes = 9 };
	struct cgroup c;
	int status;

	need(groups.kind == CGROUP_V2);
	make(&c, "clone", &l);
	assert_int_equal(clone_into(&c), 5);
	pid_t pid = fork();
	if (!pid) /* a launcher that is already in the box's user namespace, where those may be made */
		_exit(unshare(CLONE_NEWUSER) ? 5 : clone_into(&c));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 5 << 8);
	gone(&c);
}

static void a_name_that_is_taken_becomes_another(void **state)
{
	const struct cgroup_limits l = { .memory = 64 * MIB, .processes = 9, .cpus = 1 };
	struct cgroup a, b;

	need(groups.kind != CGROUP_NONE);
	make(&a, "same", &l);
	make(&b, "same", &l);
	assert_string_equal(a.name, "same");
	assert_string_equal(b.name, "same.1");
	assert_int_equal(cgroup_make(&groups, "a/b", &l, &b), -EINVAL);
	assert_int_equal(cgroup_make(&groups, "..", &l, &b), -EINVAL);
	assert_int_equal(cgroup_make(&groups, "", &l, &b), -EINVAL);
	gone(&a);
	gone(&b);
}

static void what_an_earlier_daemon_left_goes(void **state)
{
	const struct cgroup_limits l = { .processes = 9 };
	auto_buf struct buf why = { 0 };
	struct cgroup empty, busy;
	int status, hold[2], in[2];
	char byte;

	need(groups.kind != CGROUP_NONE);
	enum cgroup_kind kind = groups.kind;
	make(&empty, "empty", &l);
	make(&busy, "busy", &l);
	assert_int_equal(pipe(hold), 0);
	assert_int_equal(pipe(in), 0);
	pid_t pid = fork();
	if (!pid) {
		close(hold[1]);
		enter(&busy);
		_exit(write(in[1], "i", 1) == 1 ? read(hold[0], &byte, 1) + 40 : 99);
	}
	close(hold[0]);
	close(in[1]);
	assert_int_equal(read(in[0], &byte, 1), 1);
	close(in[0]);
	for (size_t i = 0; i < ARRAY_SIZE(busy.procs); i++) {
		drop_fd(&empty.procs[i]);
		drop_fd(&busy.procs[i]);
	}
	drop_fd(&empty.dir);
	drop_fd(&busy.dir);
	cgroups_close(&groups);
	cgroups_open(&groups, tag, &why);
	assert_int_equal(groups.kind, kind);
	free(empty.name);
	make(&empty, "empty", &l);
	assert_string_equal(empty.name, "empty");
	gone(&empty);
	close(hold[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (kind == CGROUP_V1)
		assert_int_equal(status, 40 << 8);
	else
		assert_int_equal(status, SIGKILL);
	gone(&busy);
}

static void none_is_no_error(void **state)
{
	struct cgroups none = { 0 };
	struct cgroup c = { 0 };

	assert_int_equal(cgroup_make(&none, "x", &c.limits, &c), -ENOSYS);
	assert_int_equal(cgroup_limit(&c, &c.limits), -ENOSYS);
	assert_int_equal(cgroup_oom_kills(&c), -1);
	assert_int_equal(cgroup_memory(&c), -1);
	assert_int_equal(cgroup_memory_peak(&c), -1);
	assert_int_equal(cgroup_cpu_us(&c), -1);
	cgroup_peak_begin(&c);
	assert_int_equal(cgroup_peak_end(&c), -1);
	assert_int_equal(cgroup_processes(&c), -1);
	assert_int_equal(cgroup_remove(&c), 0);
}

/* ---- where ---- */

static void is_at(const char *self, const char *mounts, const char *controller, const char *expected)
{
	auto_buf struct buf dir = { 0 };
	int err = cgroup_find(self, mounts, controller, &dir);

	if (!expected) {
		assert_int_equal(err, -ENOENT);
		assert_int_equal(dir.n, 0);
		return;
	}
	assert_int_equal(err, 0);
	assert_string_equal(dir.s, expected);
}

static void a_session_of_v2_is_found(void **state)
{
	static const char self[] = "0::/user.slice/user-1000.slice/session-3.scope\n";
	static const char mounts[] =
		"24 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro\n"
		"29 24 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 "
		"rw,nsdelegate,memory_recursiveprot\n";

	is_at(self, mounts, NULL, "/sys/fs/cgroup/user.slice/user-1000.slice/session-3.scope");
	is_at(self, mounts, "memory", NULL);
}

static void a_hybrid_layout_has_both(void **state)
{
	static const char self[] = "11:memory:/user.slice/user-0.slice/session-1.scope\n"
				   "10:cpu,cpuacct:/user.slice\n"
				   "9:pids:/user.slice/user-0.slice/session-1.scope\n"
				   "1:name=systemd:/user.slice/user-0.slice/session-1.scope\n"
				   "0::/user.slice/user-0.slice/session-1.scope\n";
	static const char mounts[] =
		"30 22 0:26 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755\n"
		"31 30 0:27 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw,nsdelegate\n"
		"32 30 0:28 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,xattr,name=systemd\n"
		"36 30 0:32 / /sys/fs/cgroup/cpu,cpuacct rw shared:15 - cgroup cgroup rw,cpu,cpuacct\n"
		"38 30 0:34 / /sys/fs/cgroup/memory rw shared:17 - cgroup cgroup rw,memory\n"
		"39 30 0:35 / /sys/fs/cgroup/pids\\040here rw shared:18 - cgroup cgroup rw,pids\n";

	is_at(self, mounts, "memory", "/sys/fs/cgroup/memory/user.slice/user-0.slice/session-1.scope");
	is_at(self, mounts, "cpu", "/sys/fs/cgroup/cpu,cpuacct/user.slice");
	is_at(self, mounts, "cpuacct", "/sys/fs/cgroup/cpu,cpuacct/user.slice");
	is_at(self, mounts, "pids", "/sys/fs/cgroup/pids here/user.slice/user-0.slice/session-1.scope");
	is_at(self, mounts, NULL, "/sys/fs/cgroup/unified/user.slice/user-0.slice/session-1.scope");
	is_at(self, mounts, "cpuset", NULL);
	is_at(self, mounts, "mem", NULL);
}

static void a_container_of_v1_sees_its_own_group_on_top(void **state)
{
	static const char self[] = "8:memory:/docker/f2c9\n4:pids:/docker/f2c9/inner\n3:cpu,cpuacct:/docker/f2\n";
	static const char mounts[] =
		"700 699 0:31 /docker/f2c9 /sys/fs/cgroup/memory ro,nosuid master:17 - cgroup cgroup rw,memory\n"
		"701 699 0:32 /docker/f2c9 /sys/fs/cgroup/pids ro,nosuid master:18 - cgroup cgroup rw,pids\n"
		"702 699 0:33 /docker/f2c9 /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n";

	is_at(self, mounts, "memory", "/sys/fs/cgroup/memory");
	is_at(self, mounts, "pids", "/sys/fs/cgroup/pids/inner");
	is_at(self, mounts, "cpu", NULL);
	is_at(self, mounts, NULL, NULL);
}

static void a_namespace_of_v2_is_found(void **state)
{
	static const char mounts[] =
		"812 811 0:26 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw,nsdelegate\n";
	static const char outer[] = "812 811 0:26 /../.. /sys/fs/cgroup ro - cgroup2 cgroup rw\n";

	is_at("0::/\n", mounts, NULL, "/sys/fs/cgroup");
	is_at("0::/a:b\n", mounts, NULL, "/sys/fs/cgroup/a:b");
	is_at("0::/../other\n", mounts, NULL, NULL);
	is_at("0::/\n", outer, NULL, NULL);
}

static void nonsense_is_nowhere(void **state)
{
	static const char *const bad[] = { "", "\n\n", "0", "0:", "0::", "0:::", "::/", "x", "1:memory" };
	static const char *const mounts[] = { "", "\n", "1 2", "1 2 3 4 5 6", "1 2 3 / /m rw - cgroup2",
					      "1 2 3 / /m rw - cgroup2 x", "1 2 3 / /m rw shared:1" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		is_at(bad[i], "1 2 3 / /m rw - cgroup2 x rw\n", NULL, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(mounts); i++)
		is_at("0::/\n", mounts[i], NULL, NULL);
}

static void the_message_to_systemd_is_well_formed(void **state)
{
	auto_buf struct buf m = { 0 };
	uint32_t body, fields;

	cgroup_scope_message(&m, "cellfs-7.scope", 7);
	memcpy(&body, m.s + 4, 4);
	memcpy(&fields, m.s + 12, 4);
	assert_memory_equal(m.s, "l\1\0\1", 4);
	assert_int_equal(m.n, 16 + ((fields + 7) & ~7U) + body);
	const char *b = m.s + 16 + ((fields + 7) & ~7U);
	assert_memory_equal(b, "\16\0\0\0cellfs-7.scope\0", 19);
	const char *pids = memmem(b, body, "PIDs", 5);
	assert_non_null(pids);
	assert_memory_equal(pids + 5, "\2au\0", 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(too_much_memory_kills_and_is_counted),
		cmocka_unit_test(a_limit_of_memory_can_rise_and_fall),
		cmocka_unit_test(too_many_processes_are_refused),
		cmocka_unit_test(a_quota_of_cpus_holds),
		cmocka_unit_test(the_same_door_serves_many_and_those_without_rights),
		cmocka_unit_test(a_clone_starts_in_it),
		cmocka_unit_test(a_name_that_is_taken_becomes_another),
		cmocka_unit_test(what_an_earlier_daemon_left_goes),
		cmocka_unit_test(none_is_no_error),
		cmocka_unit_test(a_session_of_v2_is_found),
		cmocka_unit_test(a_hybrid_layout_has_both),
		cmocka_unit_test(a_container_of_v1_sees_its_own_group_on_top),
		cmocka_unit_test(a_namespace_of_v2_is_found),
		cmocka_unit_test(nonsense_is_nowhere),
		cmocka_unit_test(the_message_to_systemd_is_well_formed),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
