#: must: as 01, from Bash
#: must not: give a byte of a secret
. ./attack.sh
for f in $(canary files) /etc/shadow /root/.bashrc /proc/kcore /proc/1/environ /dev/mem /dev/kmsg; do
	refused "cat $f" head -c 100 "$f"
done
for d in $(canary dirs); do [[ $d == /home ]] || refused "ls $d" ls -A "$d"; done
refused "glob" ls -d /root/* /var/tmp/* /srv/*
