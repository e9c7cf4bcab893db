#: must: as 14, for Bash and what it starts
#: must not: hold anything of the daemon's
. ./attack.sh
names=$(tr '\0' '\n' </proc/$$/environ | sed 's/=.*//' | sort | tr '\n' ' ')
for n in $names; do
	case $n in
	PATH | HOME | LANG | TERM | CELLFS_CONTEXT | CELLFS_PACKAGES | PYTHONPATH | NODE_PATH | NODE_OPTIONS | JAVA_TOOL_OPTIONS | PWD | SHLVL | _ | OLDPWD) ok "$n" ;;
	*) leak "the environment has $n" ;;
	esac
done
[[ -z ${SECRET_TOKEN+x} ]] && ok "no SECRET_TOKEN" || leak "SECRET_TOKEN"
refused "pid 1's environment" cat /proc/1/environ
