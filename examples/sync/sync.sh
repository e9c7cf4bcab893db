#!/bin/bash
# Keeps a copy of a context's artifacts up to date, live, until the context is removed.
# usage: sync.sh CONTEXT_DIR DESTINATION     (CONTEXT_DIR: MOUNTPOINT/contexts/NAME)
#   DESTINATION   /a/directory or HOST:DIRECTORY, by rsync; rclone:REMOTE:PATH, by rclone
#
# What is copied are the files as they were when the run that made them ended (history/N/artifacts), which never change.
# The few that no run keeps, such as very large ones, are copied here first, and only pass if they did not change meanwhile.
set -u
export LC_ALL=C

if [ $# -ne 2 ] || [ ! -d "$1/artifacts" ]; then
	sed -n '2,4s/^# //p' "$0" >&2
	exit 2
fi
context=$(realpath "$1")
root=$(realpath "$1/../..")
to=$2
case $to in rclone:* | *:*) ;; *) mkdir -p "$to" && to=$(realpath "$to") || exit 1 ;; esac
stage=$(mktemp -d -t cellfs-sync.XXXXXX)
trap 'rm -rf "$stage" "$stage".*' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
last=0 # the newest run that was staged

say() { echo "sync: $*" >&2; }

# A copy of a file that no run keeps. It passes only if the file was the same before and after.
settle() {
	local file=$context/artifacts/$1 now
	now=$(stat -Lc '%s %y' "$file") || return
	[ ! -L "$stage/$1" ] && [ -e "$stage/$1" ] && [ "$now" = "$(stat -c '%s %y' "$stage/$1")" ] && return
	mkdir -p "$(dirname "$stage/$1")" && cp -p "$file" "$stage.part" && [ "$now" = "$(stat -Lc '%s %y' "$file")" ] &&
		rm -f "$stage/$1" && mv -T "$stage.part" "$stage/$1"
	rm -f "$stage.part"
}

# Links to what one run kept.
links() { cp -rs --remove-destination "$context/history/$1/artifacts/." "$stage/"; }

# What is not an artifact any more goes, and the directories that this empties.
prune() {
	find "$context/artifacts" ! -type d -printf '%P\0' >"$stage.all" || return 1
	find "$stage" ! -type d -printf '%P\0' | sort -z | comm -z -23 - <(sort -z "$stage.all") | (cd "$stage" && xargs -0r rm -f --)
	find "$stage" -mindepth 1 -type d -empty -delete
}

# Makes $stage a directory of links to what has to be in the copy. Fails, and nothing is copied, if the mount went meanwhile.
prepare() {
	local run name
	for run in $(ls "$context/history" | sort -n); do
		[ "$run" -gt "$last" ] || continue
		case $(cat "$context/history/$run/status") in '') return 1 ;; writing* | queued* | running*) break ;; esac
		links "$run" 2>/dev/null || { prune || return 1; links "$run"; } # a file where a directory was, or the reverse
		last=$run
	done
	prune || return 1
	# What no run keeps is copied, when no run is writing it.
	case $(cat "$context/status") in
	busy* | starting*) ;;
	*) while IFS= read -r -d '' name; do
		case $(readlink "$stage/$name") in "$context/history/"*) [ -f "$stage/$name" ] && continue ;; esac
		settle "$name"
	done <"$stage.all" ;;
	esac
	[ -e "$context/artifacts" ] && find -L "$stage" -type l -delete # links that lead nowhere
}

copy() {
	case $to in
	rclone:*)
		set -- "${to#rclone:}"
		rclone sync --copy-links "$stage" "$1" && return
		# Maybe a file is where a directory was. (With --delete-before the whole copy would go when the mount goes.)
		find "$stage" ! -type d -printf '/%P\n' | sed 's/[][*?{}\]/\\&/g' >"$stage.all"
		rclone delete --exclude-from "$stage.all" "$1" && rclone rmdirs --leave-root "$1" && rclone sync --copy-links "$stage" "$1" ;;
	*) rsync -rt --copy-links --delete "$stage/" "$to/" ;;
	esac
}

mirror() {
	until prepare && copy; do
		[ -e "$context" ] || return # the daemon is down, or the context removed
		say "$to: again in 10 seconds"
		sleep 10
	done
	say "$to: $(find "$stage" ! -type d | wc -l) files, to run $last"
}

while :; do
	if { exec 3<"$context/events.follow"; } 2>/dev/null; then
		mirror
		while read -r event <&3; do
			case $event in *'"type":"finished"'*) mirror ;; esac
		done 2>/dev/null
		exec 3<&-
	fi
	if [ -e "$root/contexts" ] && [ ! -e "$context" ]; then # the mount is there, and the context is not
		say "$context is gone"
		exit 0
	fi
	sleep 1 # the daemon is down: there is nothing to follow
done
