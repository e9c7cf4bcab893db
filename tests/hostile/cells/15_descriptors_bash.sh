#: must: what a Bash cell starts has 0, 1, 2 and the driver's pipes 252 to 254
#: must not: hold anything else
. ./attack.sh
for fd in /proc/$$/fd/*; do
	n=${fd##*/} to=$(readlink "$fd")
	case $n:$to in
	[0-9]:pipe:* | 0:/dev/null | 25[0-5]:pipe:* | 255:/kernels/* | 255:/workspace/* | *:/spool/code/*) ok "$n is $to" ;;
	*) leak "$n is $to" ;;
	esac
done
seen=$(ls /proc/self/fd | tr '\n' ' ')
case $seen in
"0 1 2 252 253 254 3 " | "0 1 2 3 ") ok "a child has $seen" ;;
*) leak "a child has $seen" ;;
esac
