#!/bin/sh
# What `make run` shows: mount, a first session, the analysis, unmount. Exit status 0 only if each
# gave what it should.
# usage: demo.sh [BUILD_DIR]
set -eu

cd "$(dirname "$0")/.."
build=${1:-build}
demo=$build/demo
mnt=$demo/mnt

do_it() {
	printf '\n$ %s\n' "$*"
	eval "$*"
}
mounted() {
	grep -q " $(pwd -P)/$mnt " /proc/self/mountinfo
}
unmount() {
	! mounted || fusermount3 -u "$mnt" 2>/dev/null || fusermount3 -uz "$mnt" 2>/dev/null || true
}

if [ ! -r /dev/fuse ] || [ ! -w /dev/fuse ]; then
	echo 'make run: /dev/fuse cannot be opened. In a container start it with' \
		'--device /dev/fuse --cap-add SYS_ADMIN; elsewhere: modprobe fuse' >&2
	exit 1
fi

unmount
rm -rf "$demo/state" "$demo/out"
mkdir -p "$mnt" "$demo/out"
trap unmount EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

echo '# The state in one directory, the mount on another.'
do_it "$build/cellfs $demo/state $mnt"

echo
echo '# A first session: write a file, and it runs. Read its result, and the read waits for it.'
do_it "echo '40+2' > $mnt/contexts/main/cells/a.py"
do_it "cat $mnt/contexts/main/results/a.py/result.txt"
answer=$(cat "$mnt/contexts/main/results/a.py/result.txt")
if [ "$answer" != 42 ]; then
	echo "make run: expected 42, got: $answer" >&2
	exit 1
fi
do_it "echo 'echo \$((6 * 7)) of \$BASH_VERSION' > $mnt/contexts/main/cells/b.sh"
do_it "cat $mnt/contexts/main/results/b.sh/stdout"

echo
echo '# An analysis: examples/analysis, one context with a Bash cell and a Python cell.'
examples/analysis/run.sh "$mnt" "$demo/out"

echo
echo '# The end.'
do_it "fusermount3 -u $mnt"
trap - EXIT

cat <<END

The report is $demo/out/report.html, its picture $demo/out/co2.png, what an agent reads $demo/out/report.md.

To mount for yourself:
  mkdir -p ~/cells && $build/cellfs ~/cells
  cat ~/cells/README.md
and at the end:
  fusermount3 -u ~/cells
Each context runs in a box of its own: SECURITY.md says what that promises.
END
