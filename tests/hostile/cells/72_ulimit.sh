#: must: ulimit lowers, and never raises
#: must not: give more
. ./attack.sh
for l in c n u d q l; do
	hard=$(ulimit -H$l)
	[[ $hard == unlimited ]] && { [[ $l == [cnud] ]] && leak "ulimit -$l is unlimited"; continue; }
	refused "ulimit -H$l $((hard + 1))" bash -c "ulimit -H$l $((hard + 1))"
	refused "ulimit -H$l unlimited" bash -c "ulimit -H$l unlimited"
done
