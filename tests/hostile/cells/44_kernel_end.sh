#: must: the end of this kernel ends what it started, double-forked or not
#: must not: leave a process in the box
#: status: killed\b.*
#: state: lost
#: after: only_kernels
. ./attack.sh
for i in {1..10}; do setsid bash -c 'trap "" TERM HUP INT; (exec -a stray sleep 100000) & disown; sleep 100000' & disown; done
ok "strays"
sleep 0.2
kill -KILL $$
