#: must: a driver whose functions were replaced harms its kernel alone
#: must not: harm the daemon or another kernel
#: config: timeout=5
#: status: (killed|timeout|ok|error)\b.*
#: within: 14
#: next: any
source("attack.R")
said("begun", TRUE)
broken <- function(...) stop("mine")
for (name in c("cat", "writeLines", "paste0", "paste", "sprintf", "readLines", "parse", "eval", "tryCatch", "withCallingHandlers", "print", "c", "list")) assign(name, broken, globalenv())
for (name in c("writeLines", "readLines", "paste0", "sprintf")) try({
	unlockBinding(name, baseenv())
	assign(name, broken, baseenv())
}, silent = TRUE)
