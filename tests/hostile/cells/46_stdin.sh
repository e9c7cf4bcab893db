#: must: read, cat, and node have no input, and end
#: must not: hang
#: within: 8
. ./attack.sh
read -r line && leak "read gave $line" || ok "read ends"
[[ -z $(cat) ]] && ok "cat ends"
head -c 100000 /dev/zero | tr '\0' x
echo
read -r line || ok "after much output too"
