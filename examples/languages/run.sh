#!/bin/sh
# Runs the cells through a mount of cellfs, one after the other, and shows what each says.
# usage: run.sh MOUNTPOINT
set -eu

if [ $# -ne 1 ] || [ ! -d "$1/contexts" ]; then
	echo "usage: ${0##*/} MOUNTPOINT    (where cellfs is mounted)" >&2
	exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
cd "$1/contexts"

name=languages
i=1
while ! mkdir "$name" 2>/dev/null; do
	i=$((i + 1))
	name=languages$i
done
cd "$name"
echo "$ cd $PWD"

cp "$here/../analysis/co2.csv" workspace/
for cell in "$here"/[1-9]_*; do
	cell=${cell##*/}
	printf '\n$ cp %s cells/; cat results/%s/report.md\n' "$cell" "$cell"
	cp "$here/$cell" cells/
	cat "results/$cell/report.md"
	if [ "$(cat "results/$cell/done")" != ok ]; then
		echo "run.sh: $cell: $(cat "results/$cell/status")" >&2
		exit 1
	fi
done

printf '\n$ cat results/1_decades.py/result.data.json\n'
cat results/1_decades.py/result.data.json
printf '\n$ ls results/2_trend.r\n'
ls results/2_trend.r
