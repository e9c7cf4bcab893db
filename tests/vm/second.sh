#!/bin/sh
# What pid 1 of the virtual machine becomes: it waits for the tests, collects every orphan, and turns the machine off.
# Or it becomes systemd, which does so too.
#
#   second.sh TOP BUILD OUT [systemd]
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
if [ "${4-}" = systemd ]; then
	units=/run/systemd/system
	mkdir -p $units
	cat >$units/cellfs-vm.service <<END
[Unit]
Requires=dbus.service systemd-logind.service
After=dbus.service systemd-logind.service
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
Environment=PATH=$PATH HOME=$HOME LANG=$LANG
ExecStart=/usr/bin/python3 $1/tests/vm/guest.py $1 $2 $3
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS1
END
	cat >$units/cellfs-vm.target <<END
[Unit]
Requires=basic.target cellfs-vm.service
After=basic.target
AllowIsolate=yes
END
	: >/etc/fstab # the host's
	rm -f /.dockerenv # in this machine systemd is in no container
	exec /lib/systemd/systemd --unit=cellfs-vm.target
fi
/usr/bin/python3 "$1/tests/vm/guest.py" "$@" </dev/null >/dev/ttyS1 2>&1
sync
echo o >/proc/sysrq-trigger
sleep 60
