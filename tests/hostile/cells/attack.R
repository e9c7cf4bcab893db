# For the cells: refuses to run outside of a box, and says in one line each what was refused and what leaked.
if (Sys.info()[["nodename"]] != "sandbox" || !startsWith(getwd(), "/workspace")) stop("not in a box")
said <- function(what, fine) cat(if (fine) "ok:" else "LEAK:", what, "\n")
refused <- function(what, act) {
	got <- suppressWarnings(try(act, silent = TRUE))
	said(what, inherits(got, "try-error"))
}
