#: must: code that Java loads natively is as boxed; System.exit ends java alone
#: must not: reach more than a C program in the box
#: needs: java javac gcc
#: config: timeout=40
#: within: 45
. ./attack.sh
cat >evil.c <<'C'
#define _GNU_SOURCE
#include <stdio.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>
#include <sys/syscall.h>
__attribute__((constructor)) static void loaded(void)
{
	printf("%s native unshare\n", unshare(CLONE_NEWUSER) ? "ok:" : "LEAK:");
	printf("%s native mount\n", mount("x", "/tmp", "tmpfs", 0, 0) ? "ok:" : "LEAK:");
	printf("%s native core_pattern\n", open("/proc/sys/kernel/core_pattern", O_WRONLY) < 0 ? "ok:" : "LEAK:");
	printf("%s native ptrace\n", syscall(SYS_ptrace, 16, 1, 0, 0) < 0 ? "ok:" : "LEAK:");
	fflush(stdout);
}
C
cat >Load.java <<'JAVA'
public class Load {
	public static void main(String[] a) {
		System.load("/workspace/evil.so");
		System.exit(5);
	}
}
JAVA
gcc -shared -fPIC -o evil.so evil.c && javac -J-Xmx200m Load.java && java -Xmx200m -cp . Load
code=$?
((code == 5)) && ok "System.exit gave $code" || leak "java gave $code"
