#: must: /tmp, /dev/shm, home, hard and symbolic links, permissions and big files are as on any system
#: within: 10
set -e
mkdir one two; echo a >one/f; ln one/f two/g; mv one/f two/h; mv one two/; rm -r two
echo a >f; ln f g; ln -s f h; chmod 640 f; mv h i; cp -a f j; mkdir -p a/b/c; rm -r a
dd if=/dev/zero of=big bs=1M count=50 status=none
truncate -s 10G sparse 2>/dev/null || truncate -s 1G sparse
[[ $(stat -c %U:%G f) == user:user ]] && echo "ok: owner"
touch ~/x /tmp/x /dev/shm/x && echo "ok: places"
df -h /workspace /tmp /dev/shm | head -4
exec 5<>/dev/null; exec 5>&-
[[ $(hostname) == sandbox && $(whoami) == user ]] && echo "ok: names"
(ulimit -n 512; [[ $(ulimit -n) == 512 ]]) && echo "ok: ulimit"
echo a >/dev/stdout; echo b >/dev/stderr; echo c | tee /dev/stderr >/dev/null && echo "ok: /dev/stdout"
cat <(echo "ok: process substitution")
sleep 0.1 & wait && echo "ok: jobs"
