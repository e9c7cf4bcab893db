# The control pipes: commands, events, acks, and the files of the spool.

PROTOCOL <- 1L
LINE_LIMIT <- 65536L
INLINE_LIMIT <- 16384L
FORMATS_MOST <- 32L
MIME_LIMIT <- 128L
ID_LIMIT <- 256L
ABOVE <- 64L

commands <- events <- acks <- NULL
pid <- NULL     # a forked child is not the driver
spool <- NULL
run <- NULL     # the id of the run that is under way, a text
owed <- 0L      # acks
files <- 0L

# R can neither dup nor set close-on-exec, but opens a pipe anew through /proc: "e" is O_CLOEXEC in the
# mode of fopen. Others that are open meanwhile keep the low numbers free for the cells.
claim <- function() {
    again <- function(fd, mode, blocking = TRUE) {
        file(paste0("/proc/self/fd/", fd), mode, blocking, raw = TRUE)
    }
    others <- lapply(seq_len(ABOVE), function(i) file("/dev/null", "reb", raw = TRUE))
    commands <<- again(3L, "reb")
    events <<- again(4L, "web")
    acks <<- again(5L, "reb", blocking = FALSE)
    for (other in others) close(other)
    parallel:::closeFD(3:6)
}

# The next command; NULL at the end.
receive <- function() {
    line <- readLines(commands, 1L, warn = FALSE, encoding = "UTF-8")
    if (length(line)) line
}

PAIRS <- paste0("(\\{(?:\"", BODY, "\":(?:null|\"", BODY, "\"),?)*+\\})")
COMMANDS <- list(
    exec = list(
        paste0("^\\{\"op\":\"exec\",\"id\":([0-9]+),\"n\":[0-9]+,\"path\":", STRING, ",\"name\":",
               STRING, "(?:,\"env\":", PAIRS, ")?(?:,\"cwd\":", STRING, ")?"),
        c("id", "path", "name", "env", "cwd")),
    set = list(
        paste0("^\\{\"op\":\"set\"(?:,\"env\":", PAIRS, ")?(?:,\"cwd\":", STRING, ")?"),
        c("env", "cwd")),
    init = list(
        paste0("^\\{\"op\":\"init\",\"proto\":([0-9]+),\"spool\":", STRING,
               "(?:,\"env\":", PAIRS, ")?(?:,\"cwd\":", STRING, ")?"),
        c("proto", "spool", "env", "cwd")),
    shutdown = list("^\\{\"op\":\"shutdown\"", character()))

operation <- function(line) {
    for (name in names(COMMANDS)) if (startsWith(line, paste0("{\"op\":\"", name, "\""))) return(name)
    sub("^\\{\"op\":\"([^\"]*)\".*", "\\1", line)
}

# The fields of a command by name; those that are not there are left out.
fields <- function(line, operation) {
    found <- regexpr(COMMANDS[[operation]][[1L]], line, perl = TRUE)
    if (found < 0L) stop("a command of another form: ", substr(line, 1L, 200L))
    from <- attr(found, "capture.start")
    size <- attr(found, "capture.length")
    made <- list()
    for (i in seq_along(COMMANDS[[operation]][[2L]])) {
        if (from[i] > 0L) {
            name <- COMMANDS[[operation]][[2L]][i]
            text <- substr(line, from[i], from[i] + size[i] - 1L)
            made[[name]] <- if (name == "env") members(text) else unquoted(text)
        }
    }
    made
}

# Writes one event.
send <- function(line) {
    writeLines(line, events, useBytes = TRUE)
    flush(events)
}

log_line <- function(text) {
    send(paste0("{\"ev\":\"log\",\"text\":", quoted(substr(text, 1L, 4096L)), "}"))
}

# Waits for what is owed. There is no call in R that waits for a pipe and for an interrupt; the
# daemon takes some 50 us, so the first looks are without a sleep.
settle <- function() {
    looks <- 0L
    while (owed > 0L) {
        got <- length(readBin(acks, "raw", owed))
        owed <<- owed - got
        looks <- looks + 1L
        if (!got && looks > 16L) allowInterrupts(Sys.sleep(min(looks * 1e-5, 0.02)))
    }
}

# Sends a display of a bundle, behind all that was printed before it, and waits for its ack.
publish <- function(bundle, kind = "display", id = NULL, meta = NULL) {
    if (is.null(run) || Sys.getpid() != pid || !length(bundle)) return(invisible())
    suspendInterrupts({
        data <- packed(bundle)
        flush(stdout())
        send(paste0(
            "{\"ev\":\"display\",\"id\":", run, ",\"kind\":\"", kind, "\"",
            if (!is.null(id)) paste0(",\"display_id\":", quoted(clip(as.character(id)[1L], ID_LIMIT))),
            ",\"data\":{", data, "}",
            if (length(meta) && nchar(meta <- json(as.list(meta)), "bytes") < 4096L) {
                paste0(",\"meta\":", meta)
            },
            "}"))
        owed <<- owed + 1L
        settle()
    })
    invisible()
}

# The formats of a bundle as members of `data`: what is short goes inline, all else by file.
packed <- function(bundle) {
    room <- LINE_LIMIT - 8192L
    bundle <- bundle[!vapply(bundle, is.null, NA) & nchar(names(bundle), "bytes") <= MIME_LIMIT]
    parts <- character()
    for (mime in head(names(bundle), FORMATS_MOST)) {
        value <- bundle[[mime]]
        if (is.list(value)) {
            text <- object("file", quoted(value$file))
        } else if (is.raw(value)) {
            text <- object("file", quoted(put(value)))
        } else {
            text <- quoted(value)
            size <- nchar(text, "bytes")
            if (size > INLINE_LIMIT || size > room) {
                text <- object("file", quoted(put(charToRaw(utf8(value)))))
            }
        }
        room <- room - nchar(text, "bytes")
        parts <- c(parts, paste0(quoted(mime), ":", text))
    }
    paste(parts, collapse = ",")
}

# A name in the spool that nothing has.
spool_name <- function() {
    files <<- files + 1L
    paste0(pid, "-", files)
}

put <- function(payload) {
    name <- spool_name()
    path <- file.path(spool, name)
    before <- Sys.umask("077")
    on.exit(Sys.umask(before))
    writeBin(payload, path)
    if (!identical(as.numeric(file.size(path)), as.numeric(length(payload)))) {
        unlink(path)
        stop("a display cannot be written: the disk is full, or the file larger than it may be")
    }
    name
}
