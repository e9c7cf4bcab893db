# Installs and removes packages of R: install.R +SPEC... -SPEC..., with the user's settings (repos) in force.
# A SPEC is a name, a name with `==VERSION`, or the file or folder of a source package.

local({
    own <- new.env()
    folder <- dirname(sub("^--file=", "", grep("^--file=", commandArgs(), value = TRUE)[1L]))
    sys.source(file.path(folder, "packages.R"), own)
    attach(own, name = "cellfs")
})

prefix <- Sys.getenv("CELLFS_PACKAGES")
workspace <- Sys.getenv("CELLFS_WORKSPACE")
stopifnot(nzchar(prefix), nzchar(workspace))
PLAIN <- "^[A-Za-z][A-Za-z0-9.]*((==|@)[0-9][0-9.-]*)?$"

# Only its form says that this is a file or a folder: a cell may make a folder of any name.
is_path <- function(words) grepl("/|\\.(tar\\.(gz|bz2|xz)|tgz|zip)$", words)

absolute <- function(words) {
    inside <- is_path(words) & !startsWith(words, "/")
    words[inside] <- file.path(workspace, words[inside])
    words
}

# What lines name: one package each, or as many as there are words that are one each. Files are the workspace's.
specs_of <- function(sign) {
    arguments <- commandArgs(TRUE)
    unlist(lapply(sub("^.", "", arguments[startsWith(arguments, sign)]), function(spec) {
        spec <- trimws(spec)
        words <- strsplit(spec, "[[:space:]]+")[[1L]]
        is_one <- grepl("^[./]", spec) && file.exists(absolute(spec))
        absolute(if (!is_one && all(grepl(PLAIN, words) | is_path(words))) words else spec)
    }))
}

version_of <- function(name) {
    tryCatch(as.character(packageVersion(name, .libPaths())), error = function(e) NULL)
}

# The names that a DESCRIPTION needs and that nobody has installed.
lacking <- function(description) {
    fields <- description[1L, intersect(c("Depends", "Imports", "LinkingTo"), colnames(description))]
    names <- trimws(sub("\\(.*", "", unlist(strsplit(fields[!is.na(fields)], ","))))
    Filter(function(name) name != "R" && is.null(version_of(name)), names[nzchar(names)])
}

description_of <- function(path) {
    if (dir.exists(path)) return(read.dcf(file.path(path, "DESCRIPTION")))
    inside <- tempfile()
    name <- grep("^[^/]+/DESCRIPTION$", untar(path, list = TRUE), value = TRUE)[1L]
    if (is.na(name)) stop(path, " is no source package", call. = FALSE)
    untar(path, name, exdir = inside)
    read.dcf(file.path(inside, name))
}

# install.packages() only warns of what could not be built, and goes on with the next.
install <- function(...) {
    withCallingHandlers(
        utils::install.packages(..., lib = library_of(prefix)),
        warning = function(w) {
            if (grepl("non-zero exit status", conditionMessage(w))) stop(conditionMessage(w), call. = FALSE)
        })
}

install_file <- function(path) {
    description <- description_of(path)
    needed <- lacking(description)
    if (length(needed)) install_names(needed)
    install(path, repos = NULL, type = "source")
    description[1L, "Package"]
}

# The source of a version that is not the repository's newest.
archived <- function(name, version) {
    for (repository in getOption("repos")) {
        file <- paste0(name, "_", version, ".tar.gz")
        url <- paste(repository, "src/contrib/Archive", name, file, sep = "/")
        path <- file.path(tempdir(), file)
        status <- tryCatch(suppressWarnings(download.file(url, path)), error = function(e) 1L)
        if (status == 0L) return(path)
    }
    stop("no repository has ", name, " ", version, call. = FALSE)
}

install_names <- function(specs) {
    choose_mirror()
    wanted <- strsplit(specs, "==|@")
    names <- vapply(wanted, `[`, "", 1L)
    versions <- vapply(wanted, `[`, "", 2L)
    there <- available.packages()
    unknown <- setdiff(names[is.na(versions)], rownames(there))
    if (length(unknown)) {
        stop("no repository has ", paste(unknown, collapse = ", "), " (", toString(getOption("repos")), ")",
             call. = FALSE)
    }
    newest <- is.na(versions) | names %in% rownames(there) & versions == there[match(names, rownames(there)), "Version"]
    if (any(newest)) install(names[newest])
    for (i in which(!newest)) install_file(archived(names[i], versions[i]))
    lost <- Filter(function(name) is.null(version_of(name)), names)
    if (length(lost)) stop("not installed: ", paste(lost, collapse = ", "), call. = FALSE)
}

is_there <- function(spec) {
    parts <- strsplit(spec, "==|@")[[1L]]
    version <- version_of(parts[1L])
    same <- !is.null(version) && (is.na(parts[2L]) || package_version(parts[2L]) == version)
    if (same) cat(parts[1L], " ", version, " is installed already\n", sep = "")
    same
}

change <- function(add, remove) {
    is_file <- is_path(add)
    wrong <- c(add[!is_file & !grepl(PLAIN, add)], add[is_file & !file.exists(add)])
    if (length(wrong)) stop("no package of R and no file: ", paste(wrong, collapse = ", "), call. = FALSE)
    names <- Filter(Negate(is_there), add[!is_file])
    if (length(names)) install_names(names)
    for (path in add[is_file]) install_file(path)
    if (length(remove)) remove.packages(remove, library_of(prefix))
}

options(warn = 1)
make_library(prefix)
tryCatch(change(as.character(specs_of("+")), specs_of("-")), finally = write_list(prefix))
