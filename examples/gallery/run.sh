#!/bin/sh
# Shows the shelf of a mount and the artifacts of its contexts in a browser, until Ctrl-C.
# usage: run.sh MOUNTPOINT [PORT]
set -eu

if [ $# -lt 1 ] || [ ! -d "$1/contexts" ]; then
	echo "usage: ${0##*/} MOUNTPOINT [PORT]    (MOUNTPOINT: where cellfs is mounted)" >&2
	exit 2
fi
here=$(cd "$(dirname "$0")" && pwd -P)
mnt=$(cd "$1" && pwd -P)
port=${2:-8080}
case $port in *[!0-9]*) echo "${0##*/}: $port is no port" >&2; exit 2 ;; esac
case $here$mnt in *[\"\\\$\|\&]*) echo "${0##*/}: no \" \\ \$ | & in paths, please" >&2; exit 2 ;; esac
PATH=$PATH:/usr/sbin

run=$(mktemp -d -t cellfs-gallery.XXXXXX)
nginx=
trap '[ -z "$nginx" ] || { kill -QUIT "$nginx"; wait "$nginx"; } 2>/dev/null; rm -rf "$run"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
sed "s|@RUN@|$run|; s|@MNT@|$mnt|; s|@HERE@|$here|; s|@PORT@|$port|; s|@TYPES@|/etc/nginx/mime.types|" \
	"$here/nginx.conf" >"$run/nginx.conf"

# Root's nginx would serve as another user, who may not see the mount.
main="error_log stderr;"
[ "$(id -u)" -ne 0 ] || main="$main user root;"
nginx -p "$run" -e stderr -c "$run/nginx.conf" -g "$main" -t -q
nginx -p "$run" -e stderr -c "$run/nginx.conf" -g "$main" &
nginx=$!
echo "http://localhost:$port/ shows $mnt; Ctrl-C ends it"
wait "$nginx"
