#!/bin/sh
# Syntax of every shell script; shellcheck too where it is installed.
set -eu
cd "$(dirname "$0")/../.."
rc=0
for f in .ci/run .ci/deps $(find examples tests kernels -name '*.sh' -type f); do
	case $(head -n 1 "$f") in
	*bash*) shell=bash ;;
	'#!'*sh*) shell=sh ;;
	*) shell=bash ;; # a cell, or a file that another one sources
	esac
	"$shell" -n "$f" || rc=1
	if command -v shellcheck >/dev/null 2>&1; then
		shellcheck -s "$shell" -S warning "$f" || rc=1
	fi
done
[ "$rc" -ne 0 ] || echo "lint: the shell scripts are in order"
exit "$rc"
