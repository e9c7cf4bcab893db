#: must: many files together end at config/disk, a second late at most
#: must not: fill the host's disk
#: config: disk=64M timeout=15
#: status: (ok|error|killed: .*disk.*)
#: within: 25
#: other: yes
#: next: any
#: after: disk_used
. ./attack.sh
ok begun
for i in {1..3000}; do dd if=/dev/zero of=f$i bs=1M count=4 status=none 2>said || break; done
cat said
ok "$i files"
((i < 3000)) || leak "12 GB were written"
