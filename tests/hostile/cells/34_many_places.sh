#: must: config/disk counts all that a kernel can write on a disk: workspace, home and spool
#: must not: fill the host's disk from another place
#: config: disk=64M timeout=15
#: status: (ok|error|killed: .*disk.*)
#: within: 22
#: next: any
#: after: disk_used
. ./attack.sh
ok begun
spool=$(find /spool/out -type d -writable 2>/dev/null | tail -1)
for i in {1..1500}; do
	for d in /home/user ${spool:-/home/user}; do
		dd if=/dev/zero of=$d/f$i bs=1M count=4 status=none 2>said || break 2
	done
done
cat said
ok "$i files"
((i < 1500)) || leak "12 GB were written"
