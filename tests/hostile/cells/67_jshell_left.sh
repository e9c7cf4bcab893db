#: must: jshell's remote machine, left behind, ends with its kernel
#: must not: outlive its context
#: needs: jshell
#: config: timeout=40
#: within: 45
#: after: nothing_left
. ./attack.sh
mkfifo in
(jshell -J-Xmx128m -R-Xmx128m -s - <in >out 2>&1 &)
exec 9>in
echo 'System.out.println("begun " + (40 + 2)); Thread.sleep(1000000);' >&9
for i in {1..300}; do grep -q 'begun 42' out && break; sleep 0.1; done
grep -q 'begun 42' out && ok "jshell runs" || { leak "jshell does not run"; head -c 500 out; }
exec 9>&-
