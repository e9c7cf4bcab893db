#: must: a heap without end ends node (134), or is killed for memory
#: must not: go past the limit
#: needs: node
#: config: memory=512M timeout=20
#: status: (ok|error|oom: memory limit 512 MiB)
#: within: 27
#: other: yes
#: next: any
. ./attack.sh
node -e 'const all = []; for (;;) all.push(new Array(100000).fill(Math.random()));' >said 2>&1
code=$?
head -c 300 said
((code)) && ok "node ended with $code" || leak "node went on"
