# What cells find changed in R: functions of base that would end the driver, and a few of our own.

replace_base <- function(name, value) {
    unlockBinding(name, .BaseNamespaceEnv)
    assign(name, value, .BaseNamespaceEnv)
    lockBinding(name, .BaseNamespaceEnv)
}

change_base <- function() {
    for (name in c("q", "quit")) replace_base(name, leave)
    replace_base("getAllConnections", others_connections)
    replace_base("browser", no_browser)
    handling <- quote(value[[3L]](cond))
    replace_base("tryCatch", rewritten(tryCatch, handling, call("{", as.call(list(taken, quote(cond))), handling)))
    for (name in c("system", "system2")) {
        running <- tail(as.list(body(get(name))), 1L)[[1L]]  # .Internal(system(...)), of other arguments in R 4.4
        replace_base(name, rewritten(get(name), running, `[[<-`(running[[2L]], 1L, run_command)))
    }
    if (APART) {
        replace_base("pipe", rewritten(pipe, quote(description), as.call(list(joined, quote(description)))))
        telling <- quote(.Internal(summary.connection(object)))
        replace_base("summary.connection", rewritten(summary.connection, telling, as.call(list(as_given, telling))))
    }
    unlockBinding(".Last.value", .BaseNamespaceEnv)
}

# q() ends the run. In a process that a cell has forked it ends that.
leave <- function(save = "default", status = 0, runLast = TRUE) {
    if (is.null(run) || Sys.getpid() != pid) quit(save, status, runLast)
    invokeRestart("cellfs.end", list(code = exit_code(status)))
}

# R's own would read the end of stdin as "next", and from then on show each step.
no_browser <- function(text = "", condition = NULL, expr = TRUE, skipCalls = 0L) {
    if (isTRUE(expr)) message("browser() is passed over: a cell has no stdin")
}

# closeAllConnections() and showConnections() go by this.
others_connections <- function() setdiff(getAllConnections(), c(commands, events, acks))

# A handler for interrupts gets the first one of a run. The second one ends the run: a loop around a
# handler of all conditions could not be stopped otherwise.
swallowed <- 0L

taken <- function(condition) {
    if (inherits(condition, "interrupt") && !is.null(run) && Sys.getpid() == pid) {
        swallowed <<- swallowed + 1L
        if (swallowed > 1L) invokeRestart("cellfs.end", condition)
    }
}

# A function of base with one call in it replaced.
rewritten <- function(original, call, replacement) {
    changed <- function(code) {
        if (identical(code, call)) {
            replacement
        } else if (is.call(code)) {
            as.call(lapply(code, changed))
        } else {
            code
        }
    }
    body(original) <- changed(body(original))
    compiler::cmpfun(original)
}

# From 4.4 on R puts what pipe() starts into a process group of its own, where no SIGINT comes, and waits for its
# end deafly. Of what a host has anyway only perl can bring it back; without it system() is as R has it.
APART <- getRversion() >= "4.4.0"
PERL <- "/usr/bin/perl"
JOIN <- paste0("PERL_BADLANG=0 exec ", PERL, " -e 'delete $ENV{PERL_BADLANG}; setpgrp 0, getpgrp getppid; ",
               "exec {\"/bin/sh\"} \"sh\", \"-c\", @ARGV' -- ")

joined <- function(command) {
    one <- is.character(command) && length(command) == 1L && !is.na(command)
    if (!one || !APART || !file.exists(PERL)) return(command)
    paste0(JOIN, "'", swapped("'", "'\\''", command, fixed = TRUE), "'")
}

# What summary.connection() tells, of a pipe with the command that the cell gave.
as_given <- function(told) {
    if (startsWith(told$description, JOIN)) {
        quoted <- swapped(paste0("(?s)^\\Q", JOIN, "\\E'(.*)'$"), "\\1", told$description, perl = TRUE)
        told$description <- swapped("'\\''", "'", quoted, fixed = TRUE)
    }
    told
}

# gsub() of bytes that need not be text.
swapped <- function(old, new, bytes, ...) {
    made <- gsub(old, new, bytes, useBytes = TRUE, ...)
    Encoding(made) <- Encoding(bytes)
    made
}

# While system(3) waits, R ignores SIGINT, and would go on with the cell when that has ended the child.
run_command <- function(command, intern, timeout, ...) {
    flush(stdout())
    if (intern || timeout > 0 || APART && !file.exists(PERL)) return(.Internal(system(command, intern, timeout, ...)))
    status <- close(pipe(joined(command), "w"))
    Sys.sleep(0)  # looks for an interrupt
    if (status %% 128L == 0L) status <- status %/% 256L
    if (status == 127L) warning("error in running command", call. = FALSE)
    invisible(status)
}

# On the search path, where rm(list = ls()) does not reach it.
attach_own <- function() {
    attach(list(display = display, clear_output = clear_output, View = View,
                install.packages = install_packages, remove.packages = remove_packages),
           name = "tools:cellfs", warn.conflicts = FALSE)
}

# display(x), display("<b>x</b>", "text/html"), display(file = "x.png"). What has an `id` gets new
# content by `update`.
display <- function(value, mime = NULL, file = NULL, id = NULL, update = FALSE) {
    bundle <- if (!is.null(file)) {
        if (is.null(mime)) mime <- type_of(file)
        structure(list(bytes_of(file)), names = mime)
    } else if (!is.null(mime)) {
        foreign_bundle(structure(list(value), names = mime))
    } else {
        formats(value)
    }
    publish(bundle, if (update) "update" else "display", id, attr(bundle, "meta"))
}

View <- function(x, title) display(x)

clear_output <- function(wait = TRUE) {
    if (!is.null(run) && Sys.getpid() == pid) {
        suspendInterrupts(send(paste0(
            "{\"ev\":\"clear\",\"id\":", run, ",\"wait\":", if (isTRUE(wait)) "true" else "false", "}")))
    }
    invisible()
}

# A bundle as IRdisplay has it: bytes may be base64, JSON a list.
foreign_bundle <- function(data) {
    for (mime in names(data)) {
        value <- data[[mime]]
        if (is.character(value)) {
            binary <- grepl("^(image|audio|video)/|^application/pdf$", mime) && mime != "image/svg+xml"
            bytes <- if (binary) unbase64(value)
            data[[mime]] <- if (is.null(bytes)) paste(value, collapse = "\n") else bytes
        } else if (!is.raw(value)) {
            data[[mime]] <- json(value)
        }
    }
    data
}

set_options <- function() {
    options(
        warn = 1, keep.source = TRUE, device = open_sheet, pager = show_pages, browser = show_page, viewer = show_page,
        jupyter.in_kernel = TRUE, jupyter.rich_display = TRUE,
        jupyter.base_display_func = function(data, metadata = NULL, ...) {
            publish(foreign_bundle(data), meta = metadata)
        },
        jupyter.clear_output_func = clear_output)
}

# The pager: help() and the like print.
show_pages <- function(files, header, title, delete.file) {
    for (file in files) writeLines(gsub("_\b", "", readLines(file, warn = FALSE)))
    if (isTRUE(delete.file)) unlink(files)
}

# The browser and the viewer: a page that a cell has made is displayed, of another one the address is said.
show_page <- function(url, ...) {
    path <- sub("^file://", "", url)
    if (file.exists(path)) display(file = path) else message(url)
}
