#: must: home and workspace can be emptied, not removed; the next cell works
#: must not: break the context
#: state: kept
. ./attack.sh
rm -rf /home/user /workspace /home/user/.[!.]* /workspace/* 2>&1 | head -3
rm -rf --no-preserve-root /bin /etc /home /workspace /spool /kernels /artifacts /dev /tmp /lib 2>&1 | tail -1
[[ -d /home/user && -d /workspace ]] && ok "both are there" || leak "they are gone"
