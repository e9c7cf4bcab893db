#: must: a workspace, a home and a spool of mode 000 are the context's own loss; it can be deleted
#: must not: hold up its removal
#: next: any
#: remove: rm
. ./attack.sh
mkdir -p inner/most
touch inner/most/f
chmod 000 inner/most inner /home/user
find / -xdev -user 1000 -type d ! -path '/proc/*' -exec chmod 000 {} + 2>/dev/null
chmod 000 /workspace /spool/out /tmp /dev/shm 2>/dev/null
chmod 1777 /workspace 2>/dev/null
chmod 000 /workspace
ok "all are 000"
