/* Puts a seccomp program into force. Beside filter.c, so that libbox.so does without libseccomp. */
#include "filter.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int filter_load(int fd)
{
	struct sock_filter code[BPF_MAXINSNS];
	struct sock_fprog prog = { .filter = code };
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	if (st.st_size <= 0 || st.st_size % sizeof *code || st.st_size > (off_t)sizeof code)
		return -EINVAL;
	for (off_t got = 0; got < st.st_size;) {
		ssize_t n = pread(fd, (char *)code + got, st.st_size - got, got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		got += n;
	}
	prog.len = st.st_size / sizeof *code;
	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) ? -errno : 0;
}
