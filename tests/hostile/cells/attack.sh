# For the cells: refuses to run outside of a box.
if [[ $(uname -n) != sandbox || $PWD != /workspace* ]]; then
	echo "not in a box"
	exit 9
fi
ok() { echo "ok: $*"; }
leak() { echo "LEAK: $*"; }
refused() { # WHAT COMMAND...: the command must fail
	local what=$1 said
	shift
	if said=$("$@" 2>&1); then
		leak "$what -> ${said:0:200}"
	else
		ok "$what: ${said:0:100}"
	fi
}
canary() { /usr/bin/python3 -IS -c 'import json, sys
v = json.load(open("/workspace/canary.json"))[sys.argv[1]]
print("\n".join(map(str, v)) if isinstance(v, list) else v)' "$1"; }
