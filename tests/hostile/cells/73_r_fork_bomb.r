#: must: what R forks stops at the limit
#: must not: make more processes than the limit, or end another kernel
#: config: processes=64 memory=1G timeout=8
#: status: (ok|error|timeout|interrupted|killed|oom)\b.*
#: within: 16
#: other: yes
#: after: few_processes
source("attack.R")
made <- 0
for (i in 1:300) {
	got <- suppressWarnings(try(parallel::mcparallel(Sys.sleep(1000)), silent = TRUE))
	if (inherits(got, "try-error")) break
	made <- made + 1
}
said(paste(made, "children"), made < 64)
