# R's packages in the prefix of the context: for the installer, and for what cells find in place of utils' functions.

library_of <- function(prefix) file.path(prefix, "lib", "R")

# Puts the library first, once it exists.
use_library <- function(prefix) {
    folder <- library_of(prefix)
    if (dir.exists(folder) && !normalizePath(folder) %in% .libPaths()) .libPaths(c(folder, .libPaths()))
}

make_library <- function(prefix) {
    dir.create(library_of(prefix), FALSE, TRUE)
    use_library(prefix)
}

# What R takes where nobody has chosen a mirror and nobody can be asked: the first of its own list.
choose_mirror <- function() {
    if (identical(unname(getOption("repos")["CRAN"]), "@CRAN@")) utils::chooseCRANmirror(ind = 1L, local.only = TRUE)
}

installed_list <- function(prefix) {
    found <- utils::installed.packages(library_of(prefix), noCache = TRUE)
    if (nrow(found)) sort(paste0(found[, "Package"], "==", found[, "Version"])) else character()
}

write_list <- function(prefix) {
    folder <- file.path(prefix, "list")
    dir.create(folder, FALSE, TRUE)
    made <- file.path(folder, paste0(".r-", Sys.getpid()))
    writeLines(installed_list(prefix), made)
    file.rename(made, file.path(folder, "r"))
}

no_network <- function(line) {
    stop("no network here: echo '", line, "' >> packages (in the context's directory), or echo on > config/network",
         call. = FALSE)
}

# utils' functions, but that the context's packages are the library.
install_packages <- function(pkgs, lib, ...) {
    prefix <- Sys.getenv("CELLFS_PACKAGES")
    if (prefix == "" || !missing(lib) || missing(pkgs)) return(utils::install.packages(pkgs, lib, ...))
    if (file.access(prefix, 2L) != 0L) no_network(paste("r:", paste(pkgs, collapse = " ")))
    make_library(prefix)
    choose_mirror()
    on.exit(write_list(prefix))
    utils::install.packages(pkgs, library_of(prefix), ...)
}

remove_packages <- function(pkgs, lib) {
    prefix <- Sys.getenv("CELLFS_PACKAGES")
    if (prefix == "" || !missing(lib) || missing(pkgs)) return(utils::remove.packages(pkgs, lib))
    if (file.access(prefix, 2L) != 0L) no_network(paste("-r:", paste(pkgs, collapse = " ")))
    on.exit(write_list(prefix))
    utils::remove.packages(pkgs, library_of(prefix))
}
