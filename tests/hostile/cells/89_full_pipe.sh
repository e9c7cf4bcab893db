#: must: output beyond any pipe, then waiting for input, ends
#: must not: hang
#: config: output=1M timeout=10
#: within: 12
. ./attack.sh
ok begun
head -c 30000000 /dev/zero | tr '\0' x
echo
echo errors >&2
read -r x
(cat; head -c 3000000 /dev/zero) >&2
