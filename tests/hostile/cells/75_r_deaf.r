#: must: a cell that catches all conditions is ended at its time-out, at the latest after the ladder's 5 s
#: must not: go on
#: config: timeout=1
#: status: timeout\b.*
#: within: 7.5
#: other: yes
source("attack.R")
said("begun", TRUE)
repeat tryCatch(repeat {}, interrupt = function(e) NULL, condition = function(e) NULL)
