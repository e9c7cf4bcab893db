/* Starts programs: vfork and exec through posix_spawn, so that it costs the same whatever the daemon's
 * size, with default signals and exactly the fds named. Never sets a cwd: the new program does. */
#ifndef CELLFS_SPAWN_H
#define CELLFS_SPAWN_H

#include "util.h"

enum { SPAWN_FDS = 24 };

/* Runs PATH with ARGV and ENVP; FDS[i] (NFDS of them, at most SPAWN_FDS) becomes its descriptor i, -1 is
 * /dev/null. Returns 0 with its pid and a pidfd, or -errno. */
int spawn(const char *path, char *const argv[], char *const envp[], const int *fds, int nfds,
	  pid_t *pid, int *pidfd);

/* A pidfd of our child PID, whose number another child told; or -errno. Without descriptors left the child is ended
 * and reaped: nobody would hear of its end later. */
int spawn_adopt(pid_t pid);

/* Runs ARGV[0] (looked up in PATH if it has no slash) and gives back the start of what it prints on
 * stdout and its exit status, -1 when it was killed or took longer than MS. Blocks: only before the loop
 * runs. Returns 0 or -errno. */
int spawn_ask(char *const argv[], int ms, struct buf *out, int *status);

#endif
