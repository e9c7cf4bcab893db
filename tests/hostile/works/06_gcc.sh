#: must: gcc compiles, and what it made runs; make, awk, sed, perl, find, tar work
#: needs: gcc
#: within: 20
cat >a.c <<'C'
#include <math.h>
#include <pthread.h>
#include <stdio.h>
static void *go(void *x) { return x; }
int main(void) { pthread_t t; pthread_create(&t, 0, go, 0); pthread_join(t, 0); printf("ok: %.3f\n", sqrt(2)); return 0; }
C
gcc -O2 -Wall -o a a.c -lm -lpthread && ./a || exit 1
printf 'all:\n\t@echo "ok: make"\n' >Makefile
command -v make >/dev/null && { make -s || exit 1; }
perl -e 'print "ok: perl\n"' && echo a b | awk '{print "ok: awk", $2}' && tar cf t.tar a.c && tar tf t.tar && find . -name a.c
