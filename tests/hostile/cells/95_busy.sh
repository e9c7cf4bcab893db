#: must: eight busy loops of a context leave another one its share of the processors
#: must not: make another context wait
#: config: timeout=3
#: status: timeout\b.*
#: within: 9
#: other: yes
. ./attack.sh
ok begun
for i in {1..8}; do (while :; do :; done) & done
wait
