#include "spawn.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>

extern char **environ;

int spawn_adopt(pid_t pid)
{
	if (pid <= 1)
		return -EINVAL;
	int fd = syscall(SYS_pidfd_open, pid, 0);
	if (fd >= 0) {
		fcntl(fd, F_SETFD, FD_CLOEXEC);
		return fd;
	}
	int err = -errno;
	/* Any other error: it is no process that we may signal. */
	if ((err == -EMFILE || err == -ENFILE || err == -ENOMEM) && waitpid(pid, NULL, WNOHANG) == 0) {
		kill(pid, SIGKILL); /* alive a moment ago, and ours to reap: still the same */
		waitpid(pid, NULL, 0);
	}
	return err;
}

int spawn(const char *path, char *const argv[], char *const envp[], const int *fds, int nfds,
	  pid_t *pid, int *pidfd)
{
	posix_spawn_file_actions_t acts;
	posix_spawnattr_t attr;
	sigset_t set;
	pid_t p;
	int from[SPAWN_FDS];

	/* One that is a child's number too would be written over before its turn comes: it is taken from above. */
	int err = 0;
	for (int i = 0; i < nfds; i++) {
		from[i] = fds[i] >= 0 && fds[i] < nfds ? fcntl(fds[i], F_DUPFD_CLOEXEC, nfds) : fds[i];
		if (from[i] < 0 && fds[i] >= 0)
			err = errno;
	}
	posix_spawn_file_actions_init(&acts);
	posix_spawnattr_init(&attr);
	sigfillset(&set);
	posix_spawnattr_setsigdefault(&attr, &set);
	sigemptyset(&set);
	posix_spawnattr_setsigmask(&attr, &set);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	for (int i = 0; i < nfds; i++)
		if (from[i] >= 0)
			posix_spawn_file_actions_adddup2(&acts, from[i], i);
		else
			posix_spawn_file_actions_addopen(&acts, i, "/dev/null", O_RDWR, 0);
	if (!err)
		err = posix_spawn(&p, path, &acts, &attr, argv, envp);
	posix_spawn_file_actions_destroy(&acts);
	posix_spawnattr_destroy(&attr);
	for (int i = 0; i < nfds; i++)
		if (from[i] != fds[i] && from[i] >= 0)
			close(from[i]);
	if (err)
		return -err;
	int fd = spawn_adopt(p);
	if (fd < 0)
		return fd;
	*pid = p;
	*pidfd = fd;
	return 0;
}

int spawn_ask(char *const argv[], int ms, struct buf *out, int *status)
{
	int p[2];
	pid_t pid;
	posix_spawn_file_actions_t acts;
	posix_spawnattr_t attr;

	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	auto_close int rd = p[0];
	posix_spawn_file_actions_init(&acts);
	posix_spawn_file_actions_addopen(&acts, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&acts, p[1], 1);
	posix_spawn_file_actions_addopen(&acts, 2, "/dev/null", O_WRONLY, 0);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setpgroup(&attr, 0);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP);
	int err = posix_spawnp(&pid, argv[0], &acts, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&acts);
	posix_spawnattr_destroy(&attr);
	close(p[1]);
	if (err)
		return -err;

	int64_t end = mono_us() + ms * 1000LL;
	bool eof = false;
	while (!eof && out->n < 4096) {
		struct pollfd pfd = { .fd = rd, .events = POLLIN };
		int64_t left = (end - mono_us()) / 1000;
		if (left <= 0 || poll(&pfd, 1, left) <= 0)
			break;
		buf_grow(out, 1024);
		ssize_t n = read(rd, out->s + out->n, 1024);
		eof = n <= 0;
		out->n += MAX(n, 0);
		out->s[out->n] = 0;
	}
	if (!eof)
		kill(-pid, SIGKILL);
	int ws;
	waitpid(pid, &ws, 0);
	*status = WIFEXITED(ws) && eof ? WEXITSTATUS(ws) : -1;
	return 0;
}
