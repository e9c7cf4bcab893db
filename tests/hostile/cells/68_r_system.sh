#: must: what R's system() starts is as boxed as R
#: must not: give a byte of a secret
#: needs: R
#: config: timeout=20
#: within: 25
. ./attack.sh
cat >a.R <<'R'
said <- function(what, ok) cat(if (ok) "ok:" else "LEAK:", what, "\n")
for (f in c("/etc/shadow", "/proc/1/environ", "/root/.bashrc")) said(f, inherits(try(readLines(f), silent = TRUE), "try-error"))
said("system unshare", system("unshare -Ur id 2>/dev/null") != 0)
said("system core_pattern", system("echo x 2>/dev/null >/proc/sys/kernel/core_pattern") != 0)
said("url", inherits(try(readLines("http://169.254.169.254/"), silent = TRUE), "try-error"))
R
R --vanilla -s -f a.R 2>/dev/null
