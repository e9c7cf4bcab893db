#!/bin/busybox sh
# The first process of the virtual machine, in its initramfs: the root of the host, read-only by 9p, below a tmpfs; the
# tests' own disk; every cgroup controller. Then guest.py, and off.
b=/bin/busybox
$b mkdir -p /proc /sys /dev /low /top /new
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs dev /dev
$b echo 'cellfs-vm: up' >/dev/ttyS1

value() { # of a word of the command line
	$b tr ' ' '\n' </proc/cmdline | $b sed -n "s/^$1=//p"
}
top=$(value cellfs.top) build=$(value cellfs.build) out=$(value cellfs.out) init=$(value cellfs.init)

fail() {
	$b echo "cellfs-vm: $1" >/dev/ttyS1
	$b sync
	$b poweroff -f
}
while read -r module; do
	$b insmod "/modules/$module" || fail "insmod $module"
done </modules/order

$b mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=524288,cache=loose root /low || fail 'the root by 9p'
$b mount -t tmpfs -o mode=755 top /top
$b mkdir /top/up /top/work
$b mount -t overlay -o lowerdir=/low,upperdir=/top/up,workdir=/top/work overlay /new || fail 'the overlay'
for d in proc sys dev; do
	$b mount --move /$d /new/$d
done
$b mkdir -p /new/dev/pts /new/dev/shm
$b mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /new/dev/pts
$b mount -t tmpfs -o mode=1777 shm /new/dev/shm
for d in tmp run; do
	$b mount -t tmpfs -o mode=$([ $d = tmp ] && $b echo 1777 || $b echo 755) $d /new/$d
done
$b ln -sf /proc/self/fd /new/dev/fd
$b chmod 666 /new/dev/fuse /new/dev/net/tun # as udev does
$b mount -t cgroup2 cgroup2 /new/sys/fs/cgroup || fail 'cgroup2'
for c in $($b cat /new/sys/fs/cgroup/cgroup.controllers); do
	$b echo "+$c" >/new/sys/fs/cgroup/cgroup.subtree_control
done

$b mkdir -p "/new$build/tests" "/new$out"
$b mount -t ext4 /new/dev/vda "/new$build/tests" || fail "the tests' disk"
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=524288 out "/new$out" || fail 'the results by 9p'
$b ip link set lo up
$b hostname vm
cd /new || fail 'no root'
exec $b switch_root /new /bin/sh "$top/tests/vm/second.sh" "$top" "$build" "$out" "$init"
