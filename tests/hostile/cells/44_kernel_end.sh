#: must: the end of this kernel ends what it started, double-forked or not
#: must not: leave a process in the box
#: status: killed\b.*
#: state: lost
#: after: only_kernels
. ./attack.sh
: >out
for i in {1..10}; do
	setsid bash -c 'trap "" TERM HUP INT; (echo in >>out; exec -a stray sleep 100000) & disown; echo in >>out; sleep 100000' & disown
done
until (($(wc -l <out) == 20)); do sleep 0.05; done # they run
ok "strays"
kill -KILL $$
