#: must: a file ends at config/disk
#: must not: be bigger
#: config: disk=64M timeout=10
#: status: (ok|error|killed: .*disk.*)
#: within: 17
#: other: yes
#: next: any
#: after: disk_used
. ./attack.sh
dd if=/dev/zero of=big bs=1M count=3000 2>&1 | tail -3
size=$(stat -c %s big)
((size <= 80 << 20)) && ok "$size bytes" || leak "the file has $size bytes"
