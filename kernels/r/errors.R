# Errors as the protocol wants them: name, message, place, frames, traceback.

MESSAGE_LIMIT <- 8192L
CALL_LIMIT <- 300L
NAME_LIMIT <- 256L
FRAMES_MOST <- 40L
PRINTING <- quote(eval(PRINT, scope))
COMPILER <- quote(compiler:::tryCompile)
PLUMBING <- c("tryCatchList", "tryCatchOne", "doTryCatch", "withOneRestart", "doWithOneRestart")

# What note() saw when the condition was signalled: the calls, and where the cell's own begin.
seen <- NULL
level <- 0L

# A calling handler: notes the calls while they are still there.
note <- function(condition) {
    calls <- sys.calls()
    last <- length(calls) - 1L
    if (last && identical(calls[[last]][[1L]], quote(.handleSimpleError))) last <- last - 1L
    from <- min(level + 1L, last + 1L)
    inner <- seq.int(from, length.out = last + 1L - from)
    ours <- vapply(inner, function(i) {
        identical(environment(sys.function(i)), here) || identical(calls[[i]], PRINTING)
    }, NA)
    seen <<- list(calls = as.list(calls[inner]), ours = ours, end = attr(calls[[last + 1L]], "srcref"))
}

# The steps from the cell to the error: in which function, where, and what is called there.
steps <- function() {
    if (is.null(seen)) return(list())
    calls <- seen$calls
    places <- c(lapply(calls, attr, "srcref"), list(seen$end))
    compiling <- match(TRUE, vapply(calls, function(call) identical(call[[1L]], COMPILER), NA))
    if (!is.na(compiling)) calls <- calls[seq_len(compiling - 1L)]  # the loop that R was about to run
    heads <- vapply(calls, head_of, "")
    made <- list()
    inside <- "<toplevel>"
    for (i in seq_len(length(calls) + 1L)) {
        if (i > length(calls) || !seen$ours[i] && !heads[i] %in% PLUMBING) {
            call <- if (i <= length(calls)) calls[[i]]
            made <- c(made, list(list(inside = inside, place = places[[i]], call = call)))
            if (i <= length(calls)) inside <- heads[i]
        }
    }
    made
}

head_of <- function(call) {
    head <- call[[1L]]
    if (is.function(head)) "<anonymous>" else clip(deparse(head, nlines = 1L)[1L], NAME_LIMIT)
}

# The `error` event of the condition that ended the run.
describe <- function(condition) {
    line <- at
    column <- NULL
    frames <- lines <- character()
    trail <- if (inherits(condition, "SyntaxError")) list() else steps()
    for (step in trail) {
        where <- ""
        if (!is.null(step$place)) {
            file <- attr(step$place, "srcfile")
            where <- paste0("  at ", clip(file$filename, NAME_LIMIT), ":", step$place[1L])
            frames <- c(frames, object(c("file", "line", "func"), c(
                quoted(clip(file$filename, NAME_LIMIT)), step$place[1L], quoted(step$inside))))
            if (identical(file, cell)) {
                line <- step$place[1L]
                column <- step$place[5L]
            }
        }
        if (!is.null(step$call)) {
            lines <- c(lines, paste0(one_line(step$call), where))
        } else if (nzchar(where)) {
            lines <- c(lines, paste0("in ", step$inside, where))
        }
    }
    if (length(lines)) lines <- paste0(seq_along(lines), ". ", lines)
    if (inherits(condition, "SyntaxError")) {
        line <- condition$line
        column <- condition$column
    }
    message <- if (inherits(condition, "interrupt")) {
        "interrupted"
    } else {
        tryCatch(paste(conditionMessage(condition), collapse = "\n"), error = function(e) "")
    }
    assemble <- function(most, limit) {
        message <- clip(message, limit)
        shown <- c(heading(condition, message), if (length(lines)) c("Traceback:", shorter(lines, most, "\u2026")))
        paste0(
            "{\"ev\":\"error\",\"id\":", run, ",\"name\":", quoted(clip(class(condition)[1L], NAME_LIMIT)),
            ",\"message\":", quoted(message), if (length(line)) paste0(",\"line\":", line),
            if (length(column)) paste0(",\"column\":", column), ",\"frames\":[",
            paste(shorter(frames, most), collapse = ","), "],\"traceback\":", json(I(shown)), "}")
    }
    event <- assemble(FRAMES_MOST, MESSAGE_LIMIT)
    if (nchar(event, "bytes") < LINE_LIMIT) event else assemble(4L, MESSAGE_LIMIT %/% 4L)
}

# What R itself says of a condition that nothing took, line by line.
heading <- function(condition, message) {
    call <- calling(condition)
    lines <- strsplit(paste0(message, "\n"), "\n", fixed = TRUE)[[1L]]
    if (inherits(condition, "SyntaxError")) return(c(paste("SyntaxError:", message), condition$context))
    if (inherits(condition, "interrupt")) return("interrupted")
    if (is.null(call)) return(c(paste("Error:", lines[1L]), lines[-1L]))
    head <- paste0("Error in ", one_line(call), " : ")
    if (nchar(head) + nchar(lines[1L]) > 77L) c(head, paste0("  ", lines)) else c(paste0(head, lines[1L]), lines[-1L])
}

# The call that a condition names, if it is one of the cell's.
calling <- function(condition) {
    call <- conditionCall(condition)
    if (!identical(call, quote(eval(expression, globalenv())))) call
}

one_line <- function(call) clip(deparse(call, nlines = 1L)[1L], CALL_LIMIT)

# Valid UTF-8 of at most some bytes.
clip <- function(text, limit) {
    text <- utf8(text)
    if (nchar(text, "bytes") <= limit) return(text)
    while (nchar(text, "bytes") > limit) text <- substr(text, 1L, (nchar(text) * 7L) %/% 8L)
    paste0(text, "\u2026")
}

# The first and the last of many.
shorter <- function(x, most, gap = NULL) {
    if (length(x) <= most) x else c(head(x, most %/% 2L), gap, tail(x, most %/% 2L))
}

# An error of the parser as a condition of its own. R tells the place in the message, or not at all.
syntax_error <- function(error, lines) {
    text <- utf8(conditionMessage(error))
    said <- strsplit(text, "\n", fixed = TRUE)[[1L]]
    place <- regmatches(said[1L], regexec("([0-9]+):([0-9]+)(?:: |\\))", said[1L], perl = TRUE))[[1L]]
    line <- if (length(place)) as.integer(place[2L]) else first_failing(lines, conditionMessage(error))
    structure(
        class = c("SyntaxError", "error", "condition"),
        list(message = sub("^.*?:[0-9]+:[0-9]+: ", "", said[1L], perl = TRUE), call = NULL, line = line,
             column = if (length(place) && place[3L] != "0") as.integer(place[3L]),
             context = c(paste0("  at ", cell$filename, ":", line), said[-1L])))
}

# The first line that, with those before it, makes the parser say that.
first_failing <- function(lines, message) {
    low <- 1L
    high <- length(lines)
    while (low < high) {
        middle <- (low + high) %/% 2L
        fails <- tryCatch({
            parse(text = lines[seq_len(middle)], keep.source = FALSE)
            FALSE
        }, error = function(e) identical(conditionMessage(e), message))
        if (fails) high <- middle else low <- middle + 1L
    }
    low
}
