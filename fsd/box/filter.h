/* The system calls that a box has: two seccomp programs, made once with libseccomp and then put
 * into force by every process of a box. Knows nothing of namespaces, nor of who is filtered. */
#ifndef CELLFS_BOX_FILTER_H
#define CELLFS_BOX_FILTER_H

enum { FILTER_WHY = 160 };

/* Writes both programs, arrays of struct sock_filter, to the descriptors ALLOW and IOCTL, from where
 * they stand: give it empty files.
 * Returns 0, or -errno with a sentence in WHY. */
int filter_write(int allow, int ioctl, char why[FILTER_WHY]);

/* Puts the program in descriptor FD, from its offset 0 to its end, into force for this thread.
 * no_new_privs must be set. The descriptor's own offset is not used, so processes may share it.
 * Async-signal-safe; takes 32 KiB of stack. Returns 0 or -errno. */
int filter_load(int fd);

#endif
