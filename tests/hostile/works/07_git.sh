#: must: git makes a repository and commits, clones and diffs
#: needs: git
#: within: 20
set -e
git init -q r
cd r
git config user.email a@example.com
git config user.name A
echo one >f
git add f
git commit -qm first
echo two >>f
git diff --stat
git commit -qam second
git clone -q . ../copy
[[ $(git -C ../copy rev-list --count HEAD) == 2 ]] && echo "ok: git"
