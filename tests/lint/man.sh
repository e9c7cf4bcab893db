#!/bin/sh
# Formats manual pages and fails if groff has anything to say about them.
set -eu
rc=0
for page in "$@"; do
	said=$(LC_ALL=C.UTF-8 MANWIDTH=80 man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>&1 >/dev/null)
	if [ -n "$said" ]; then
		printf '%s\n' "$said"
		rc=1
	fi
done
[ "$rc" -ne 0 ] || echo "lint: the manual pages are in order"
exit "$rc"
