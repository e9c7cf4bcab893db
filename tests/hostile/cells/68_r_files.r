#: must: as 01, 02, 12 and 14, from the kernel of R; what its system() starts is as boxed as R
#: must not: give a byte of a secret
#: config: timeout=30
#: within: 35
#: state: kept
source("attack.R")
told <- paste(readLines("canary.json", warn = FALSE), collapse = "")
paths <- gsub('"', "", regmatches(told, gregexpr('"/[^"]+"', told))[[1]])
for (f in c(setdiff(paths, "/home"), "/etc/shadow", "/proc/1/environ", "/proc/1/mem", "/root/.bashrc")) {
	if (dir.exists(f)) said(paste("list", f), length(list.files(f)) == 0) else refused(f, readBin(f, "raw", 10))
}
for (p in setdiff(list.files("/proc", "^[0-9]+$"), Sys.getpid())) {
	got <- suppressWarnings(try(readBin(file.path("/proc", p, "environ"), "raw", 100), silent = TRUE))
	said(paste("environ of", p), inherits(got, "try-error") || length(got) == 0)
}
for (f in c("/proc/sys/kernel/core_pattern", "/usr/made", "/etc/passwd", "/kernels/r/made")) refused(paste("write", f), cat("x", file = f))
said("SECRET_TOKEN", Sys.getenv("SECRET_TOKEN") == "")
said("system unshare", system("unshare -Ur id 2>/dev/null") != 0)
said("system core_pattern", system("echo x 2>/dev/null >/proc/sys/kernel/core_pattern") != 0)
port <- as.integer(sub('.*"tcp4": ([0-9]+).*', "\\1", told))
refused("loopback", socketConnection("127.0.0.1", port, timeout = 2, open = "r+"))
refused("far", socketConnection("8.8.8.8", 53, timeout = 2, open = "r+"))
refused("url", readLines("http://169.254.169.254/"))
for (s in c(9, 15, 19)) for (p in c(1, as.integer(strsplit(sub(".*\\) ", "", readLines("/proc/self/stat")), " ")[[1]][2]))) tools::pskill(p, s)
Sys.sleep(0.3)
said("pid 1 goes on", file.exists("/proc/1/stat"))
