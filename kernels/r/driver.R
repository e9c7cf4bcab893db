# The command loop: one R, driven by the daemon.

# What is seen to print nothing of its own value, without running it.
QUIET <- c(
    "<-", "<<-", "=", "for", "while", "repeat", "invisible", "library", "require",
    "suppressPackageStartupMessages", "rm", "set.seed", "cat", "print", "message", "warning", "stop",
    "stopifnot", "writeLines", "write.csv", "saveRDS", "plot", "hist", "barplot", "boxplot", "pie",
    "curve", "lines", "points", "abline", "text", "legend", "axis", "title", "par", "layout", "polygon",
    "rect", "segments", "mtext", "q", "quit", "display")

cell <- NULL        # the source file that runs, as parse() knows it
at <- NULL          # the line of its expression that is under way
pending <- NULL     # the bundle of the last visible value, if nothing but quiet expressions follow
shown <- NULL       # the bundle of the last visible value that went out as a display

main <- function() {
    code <- suspendInterrupts({
        if (!l10n_info()[["UTF-8"]]) Sys.setlocale("LC_CTYPE", "C.UTF-8")
        pid <<- Sys.getpid()
        has_cairo <<- capabilities("cairo")[[1L]]
        PRINTERS <<- .BaseNamespaceEnv[[".__S3MethodsTable__."]]
        claim()
        set_options()
        setHook("before.plot.new", before_plot)
        setHook("before.grid.newpage", before_page)
        setHook("plot.new", after_page)
        setHook("grid.newpage", after_page)
        setHook(packageEvent("jquerylib", "onLoad"), find_jquery)
        attach_own()
        change_base()
        warm()
        send(paste0(
            "{\"ev\":\"hello\",\"proto\":", PROTOCOL, ",\"min_proto\":", PROTOCOL, ",\"lang\":\"r\",\"ver\":\"",
            getRversion(), "\",\"engine\":", quoted(R.version.string), ",\"pid\":", pid, "}"))
        serve()
    })
    quit("no", code, TRUE)
}

# Answers commands until the last; the exit status.
serve <- function() {
    repeat {
        line <- receive()
        if (is.null(line)) return(0L)
        name <- operation(line)
        if (!name %in% names(COMMANDS)) {
            log_line(paste("unknown op", name))
            next
        }
        command <- fields(line, name)
        if (name == "shutdown") return(0L)
        if (name == "init") {
            if (command$proto != PROTOCOL) {
                log_line(paste("only protocol", PROTOCOL, "is spoken here"))
                return(1L)
            }
            spool <<- command$spool
        }
        if (name == "exec") {
            tryCatch(execute(command), error = report)  # what a cell has done to R itself
        } else {
            adopt(command)
        }
        if (name == "init") send("{\"ev\":\"ready\"}")
    }
}

# Environment and cwd from now on.
adopt <- function(command) {
    change(command$env)
    if (!is.null(command$cwd)) {
        problem <- enter(command$cwd)
        if (!is.null(problem)) log_line(paste("set:", conditionMessage(problem)))
    }
}

# Sets, or with NA removes, environment variables; the values there were.
change <- function(env) {
    if (!length(env)) return(NULL)
    before <- Sys.getenv(names(env), NA, TRUE)
    absent <- is.na(env)
    Sys.unsetenv(names(env)[absent])
    if (!all(absent)) do.call(Sys.setenv, as.list(env[!absent]))
    before
}

enter <- function(folder) {
    tryCatch({
        setwd(folder)
        NULL
    }, error = function(e) simpleError(paste0("the cwd ", folder, " cannot be entered")))
}

# Runs one cell and says how it ended.
execute <- function(command) {
    begin(command$id)
    jit <- compiler::enableJIT(-1L)
    here_before <- if (!is.null(command$cwd)) getwd()
    failure <- if (!is.null(command$cwd)) enter(command$cwd)
    if (is.null(failure)) {
        before <- change(command$env)
        failure <- guarded(function() {
            evaluate(command)
            finish()
        })
        if (Sys.getpid() != pid) end_child(failure)
        if (!is.null(failure)) {
            shown <<- NULL
            guarded(finish)  # what there is of plots and of a value
        }
        change(before)
    }
    if (!is.null(here_before)) enter(here_before)
    if (inherits(failure, "interrupt")) compiler::enableJIT(jit)  # the compiler is off if it was met
    report(failure)
}

# The last events of a run.
report <- function(failure) {
    flush(stdout())
    if (inherits(failure, "condition")) {
        send(tryCatch(describe(failure), error = function(e) describe(e)))
        status <- if (inherits(failure, "interrupt")) "interrupted" else "error"
    } else {
        status <- if (is.null(failure)) "ok" else "exit"
    }
    code <- if (status == "exit") failure$code else 0L
    send(paste0(
        "{\"ev\":\"done\",\"id\":", run, ",\"status\":\"", status, "\",\"code\":", code, "}"))
    run <<- NULL
}

# Puts back what an earlier cell may have taken away, and takes an interrupt that came too late.
begin <- function(id) {
    tryCatch(allowInterrupts(Sys.sleep(0)), interrupt = function(i) NULL)
    run <<- id
    cell <<- at <<- seen <<- pending <<- shown <<- NULL
    swallowed <<- begun <<- 0L
    if (is.null(getOption("device")) || is.null(getOption("jupyter.base_display_func"))) set_options()
    tempdir(TRUE)
    add_libraries()
}

library_wish <- NULL
libraries_missing <- libraries_found <- character()

# The libraries that the environment names, as R does at its start: that was before the environment of
# the context, and before a cell made the folder.
add_libraries <- function() {
    prefix <- Sys.getenv("CELLFS_PACKAGES")
    wish <- c(Sys.getenv(c("R_LIBS", "R_LIBS_USER")), if (nzchar(prefix)) library_of(prefix))
    if (!identical(wish, library_wish)) {
        library_wish <<- wish
        libraries_missing <<- setdiff(unlist(strsplit(wish, ":", fixed = TRUE)), libraries_found)
    }
    for (path in libraries_missing) {
        if (dir.exists(path)) {
            libraries_missing <<- setdiff(libraries_missing, path)
            libraries_found <<- c(libraries_found, path)
            .libPaths(c(path, .libPaths()))
        }
    }
}

WARM <- c("1 + 1", "data.frame(a = 1)", "plot(1)", "stop('warm')")

# Runs cells that nobody sees, so that the first one that somebody sees finds all loaded. A spare has no
# home that fonts could be cached in.
warm <- function() {
    real <- list(events, acks)
    spool <<- tempfile("warm")
    dir.create(spool)
    cache <- change(c(XDG_CACHE_HOME = file.path(tempdir(), "cache")))
    path <- file.path(spool, "a.r")
    events <<- file("/dev/null", "web", raw = TRUE)
    acks <<- rawConnection(raw(length(WARM)))
    for (code in WARM) {
        writeLines(code, path)
        execute(list(id = "0", path = path, name = "a.r"))
    }
    change(cache)
    close(events)
    close(acks)
    events <<- real[[1L]]
    acks <<- real[[2L]]
    unlink(spool, recursive = TRUE)
    gc()
}

# Runs what may fail: NULL, the condition that ended it, or list(code = ) of an exit.
guarded <- function(work) {
    withRestarts(
        tryCatch(
            withCallingHandlers({
                allowInterrupts(work())
                NULL
            }, error = note, interrupt = note, warning = warn_now),
            error = identity, interrupt = identity),
        cellfs.end = identity,
        abort = function() structure(class = c("abort", "condition"), list(message = "the run was aborted", call = NULL)))
}

exit_code <- function(status) {
    code <- suppressWarnings(as.integer(status))
    if (length(code) == 1L && !is.na(code)) bitwAnd(code, 255L) else 0L
}

# With warn = 0 R keeps warnings until its own loop goes on, which it never does here; and it would call
# what is at the top of a cell a part of the driver.
warn_now <- function(condition) {
    call <- calling(condition)
    deferred <- identical(as.numeric(getOption("warn")), 0)
    if (!deferred && !(is.null(call) && identical(as.numeric(getOption("warn")), 1))) return()
    head <- if (is.null(call)) "Warning: " else paste0("Warning in ", one_line(call), " : ")
    cat(head, conditionMessage(condition), "\n", sep = "", file = stderr())
    invokeRestart("muffleWarning")
}

# A child that a cell has forked and that fell through the cell's end is not a second driver.
end_child <- function(failure) {
    if (inherits(failure, "error")) cat(heading(failure, conditionMessage(failure)), sep = "\n", file = stderr())
    parallel:::mcexit(if (is.null(failure)) 0L else if (is.null(failure$code)) 1L else failure$code)
}

evaluate <- function(command) {
    lines <- source_lines(command$path)
    cell <<- srcfilecopy(command$name, lines)
    expressions <- tryCatch(parse(text = lines, srcfile = cell, keep.source = TRUE),
                            error = function(e) stop(syntax_error(e, lines)))
    places <- attr(expressions, "srcref")
    left <- length(expressions)
    while (left && is_quiet(expressions[[left]])) left <- left - 1L
    for (i in seq_along(expressions)) {
        at <<- places[[i]][1L]
        expression <- expressions[i]
        attr(expression, "srcref") <- places[i]
        level <<- sys.nframe() + 3L
        made <- withVisible(eval(expression, globalenv()))
        Sys.sleep(0)  # an interrupt that native code did not look for is this run's, not the next one's
        if (made$visible) {
            level <<- sys.nframe()
            answer(made$value, i >= left)
        }
    }
}

is_quiet <- function(expression) {
    is.call(expression) && is.name(expression[[1L]]) && as.character(expression[[1L]]) %in% QUIET
}

# A visible value: the last one of the cell is its result, those before are displays in their place.
# Where it cannot be seen that it is the last, it is both.
answer <- function(value, last) {
    assign(".Last.value", value, .BaseNamespaceEnv)
    bundle <- formats(value)
    if (is.null(bundle)) return()
    if (!is.null(pending)) publish(pending, meta = attr(pending, "meta"))
    pending <<- if (last) bundle
    shown <<- if (!last) bundle
    if (!last) publish(bundle, meta = attr(bundle, "meta"))
}

# The end of a cell: its last plot, its result, its sinks.
finish <- function() {
    if (sinks()) {
        while (sinks()) sink()
        message("sink() was left open by the cell, and is closed")
    }
    if (.Internal(sink.number(FALSE)) != 2L) sink(type = "message")
    if (length(sheets)) close_sheets()
    result <- if (is.null(pending)) shown else pending
    if (is.null(result)) return()
    meta <- attr(result, "meta")
    if (is.null(pending)) result <- result[!vapply(result, is.list, NA)]  # the daemon has those files already
    pending <<- shown <<- NULL
    publish(result, "result", meta = meta)
}

# The text of a cell.
source_lines <- function(path) {
    connection <- file(path, "rb", raw = TRUE)
    on.exit(close(connection))
    bytes <- readBin(connection, "raw", 65536L)
    if (length(bytes) == 65536L) bytes <- c(bytes, readBin(connection, "raw", file.size(path)))
    if (any(bytes == 0L)) {
        refuse("a NUL byte", sum(bytes[seq_len(which.max(bytes == 0L))] == 10L) + 1L)
    }
    lines <- strsplit(rawToChar(bytes), "\n", fixed = TRUE, useBytes = TRUE)[[1L]]
    Encoding(lines) <- "UTF-8"
    valid <- validUTF8(lines)
    if (!all(valid)) refuse("bytes that are no UTF-8", which.min(valid))
    if (any(bytes == 13L)) lines <- sub("\r$", "", lines)
    if (length(lines)) lines[1L] <- sub("^\ufeff", "", lines[1L])
    lines
}

refuse <- function(what, line) {
    stop(structure(class = c("SyntaxError", "error", "condition"), list(
        message = paste("the cell has", what, "in line", line), call = NULL, line = line)))
}
