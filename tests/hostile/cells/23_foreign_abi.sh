#: must: system calls of another architecture's table kill the caller, and nobody else
#: must not: get round the filter (int 0x80, x32)
#: needs: gcc
. ./attack.sh
if [[ $(uname -m) != x86_64 ]]; then ok "only x86 has these"; exit 0; fi
cat >abi.c <<'C'
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/syscall.h>
int main(int argc, char **argv)
{
	long r;
	if (!strcmp(argv[1], "i386"))
		asm volatile("int $0x80" : "=a"(r) : "a"(20L) : "r8", "r9", "r10", "r11", "memory");
	else
		r = syscall(0x40000000 + SYS_getpid);
	printf("%s went through: %ld\n", argv[1], r);
	return r < 0 ? 1 : 0;
}
C
gcc -o abi abi.c || { leak "no compiler"; exit 1; }
for abi in i386 x32; do
	out=$(./abi $abi 2>&1)
	code=$?
	if ((code == 159)); then ok "$abi: SIGSYS"; elif ((code == 1)); then ok "$abi: refused"; else leak "$abi: $code $out"; fi
done
