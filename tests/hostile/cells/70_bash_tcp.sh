#: must: Bash's /dev/tcp and /dev/udp reach nothing
#: must not: come to a listener of the host
. ./attack.sh
for to in tcp/127.0.0.1/$(canary tcp4) tcp/8.8.8.8/53 tcp/169.254.169.254/80 udp/8.8.8.8/53; do
	if (exec 3<>/dev/$to && echo x >&3) 2>/dev/null; then leak "/dev/$to"; else ok "/dev/$to"; fi
done
for a in $(canary addresses); do
	case $a in *:*) continue ;; esac
	if (exec 3<>/dev/tcp/$a/$(canary tcp4)) 2>/dev/null; then leak "$a"; else ok "$a"; fi
done
