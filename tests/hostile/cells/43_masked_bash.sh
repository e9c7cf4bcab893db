#: must: as 43: a shell whose children ignore everything is killed
#: must not: go on
#: config: timeout=1
#: status: timeout\b.*
#: within: 7.5
#: state: lost
. ./attack.sh
ok begun
trap '' INT TERM HUP QUIT
(trap '' INT TERM HUP QUIT; while :; do :; done) &
while :; do :; done
