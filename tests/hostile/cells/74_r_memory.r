#: must: 8 GB is an error that can be caught; the kernel lives
#: must not: be had
#: config: memory=512M timeout=15
#: within: 22
#: state: kept
#: other: yes
source("attack.R")
refused("8 GB at once", numeric(2^30))
all <- list()
refused("8 GB in pieces", for (i in 1:128) all[[i]] <- raw(2^26) + as.raw(1))
rm(all)
invisible(gc())
