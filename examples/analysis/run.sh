#!/bin/sh
# Runs the analysis through a mount of cellfs, and shows each command as a terminal would.
# usage: run.sh MOUNTPOINT [OUT_DIR]
set -eu

if [ $# -lt 1 ] || [ ! -d "$1/contexts" ]; then
	echo "usage: ${0##*/} MOUNTPOINT [OUT_DIR]    (MOUNTPOINT: where cellfs is mounted)" >&2
	exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
mnt=$(cd "$1" && pwd)
out=
if [ $# -gt 1 ]; then
	mkdir -p "$2"
	out=$(cd "$2" && pwd)
fi

# Shows a command and runs it.
do_it() {
	printf '\n$ %s\n' "$*"
	eval "$*"
}
fail() {
	echo "run.sh: $*" >&2
	exit 1
}

name=analysis
i=1
while [ -e "$mnt/contexts/$name" ] || [ -e "$mnt/artifacts/$name" ]; do
	i=$((i + 1))
	name=analysis$i
done

do_it "cd '$mnt/contexts'"
do_it mkdir "$name"
do_it cd "$name"

echo
echo '# The file goes into the workspace, the cells into cells/, where each one runs when it is there.'
do_it mkdir workspace/upload
do_it "cp '$here/co2.csv' workspace/upload/"
do_it "cp '$here/fetch.sh' '$here/analyse.py' cells/"

echo
echo '# Reading a result waits for it. First the Bash cell:'
do_it cat results/fetch.sh/stdout

echo
echo '# The Python cell that reads the file: its value as text.'
do_it cat results/analyse.py/result.txt
do_it ls results/analyse.py
do_it "grep '<t[dh]>' results/analyse.py/result.html | head -n 6"
do_it "jq '{status, execution_count, duration_ms}' results/analyse.py/execution.json"

echo
echo '# And all of it to read at one go, as an agent would.'
do_it cat results/analyse.py/report.md

echo
echo '# What the cells left in the workspace are artifacts; what was uploaded is not among them.'
do_it ls artifacts
do_it "jq -c '.artifacts[]' results/analyse.py/execution.json"

echo
echo '# The picture and the report are moved to the shelf, where they stay when this context is gone.'
shelf=$mnt/artifacts/$name
do_it "mkdir '$shelf'"
do_it "mv artifacts/co2.png artifacts/report.html '$shelf/'"
do_it "ls '$shelf' artifacts"

# What was promised is there.
r=results/analyse.py
[ "$(cat results/fetch.sh/done)" = ok ] || fail "fetch.sh: $(cat results/fetch.sh/status)"
[ "$(cat $r/done)" = ok ] || fail "analyse.py: $(cat $r/status)"
grep -q '<table' $r/result.html || fail 'result.html has no table'
grep -q 'mean' $r/result.txt || fail 'result.txt has no mean'
[ "$(jq -r .status $r/execution.json)" = ok ] || fail 'execution.json does not say ok'
[ "$(head -c 4 $r/display-1.png | tail -c 3)" = PNG ] || fail 'display-1.png is no PNG'
grep -q 'display-1.png' $r/report.md || fail 'report.md does not name display-1.png'
[ "$(head -c 4 "$shelf/co2.png" | tail -c 3)" = PNG ] || fail 'the co2.png on the shelf is no PNG'
grep -q 'co2.png' "$shelf/report.html" || fail 'the report on the shelf does not show the picture'

if [ -n "$out" ]; then
	echo
	do_it "cp -f $r/display-1.png $r/result.html $r/report.md $r/execution.json '$out/'"
	do_it "cp -f '$shelf/co2.png' '$shelf/report.html' '$out/'"
fi
cd /
