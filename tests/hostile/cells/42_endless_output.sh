#: must: endless output is cut, and ends at the time-out
#: must not: fill the host's disk or hold up another context
#: config: output=1M timeout=2
#: status: timeout\b.*
#: within: 8
#: other: yes
#: after: output_cut
. ./attack.sh
ok begun
yes "as much as it takes"
