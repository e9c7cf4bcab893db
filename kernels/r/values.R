# The bundle of a value: its formats by MIME type. A text is a string, bytes are raw, and
# list(file = NAME) lies in the spool already.

GENERICS <- c(
    repr_html = "text/html", repr_markdown = "text/markdown", repr_latex = "text/latex",
    repr_svg = "image/svg+xml", repr_png = "image/png", repr_jpeg = "image/jpeg",
    repr_pdf = "application/pdf", repr_json = "application/json",
    repr_javascript = "application/javascript")

# The bundle, as R's own loop would print the value, and what else there is; NULL for nothing to
# show. An error of the value's print method is the cell's; other formats only are left out.
formats <- function(value) {
    if (!is.object(value)) return(plain_formats(value))
    if (inherits(value, "data.table") && !data.table:::shouldPrint(value)) return(NULL)
    if (inherits(value, "json")) {
        text <- paste(value, collapse = "\n")
        return(list("text/plain" = text, "application/json" = text))
    }
    found <- markup(value)
    if (!is.null(found)) return(found)
    text <- printed(value)
    if (is.data.frame(value)) return(table_bundle(value, text))
    if (!is.null(drawn)) {
        if (!nzchar(text)) text <- paste0("<", shown_as(value), ">")
        return(c(list("text/plain" = text), drawn))
    }
    if (nzchar(text)) c(list("text/plain" = text), methods_of(value))
}

plain_formats <- function(value) {
    if (is.character(value) && length(value) == 1L && is.null(attributes(value)) && !is.na(value)) {
        return(list("text/plain" = value, "text/x-repr" = encodeString(utf8(value), quote = "\"")))
    }
    text <- printed(value)
    if (is.matrix(value) && !is.function(value)) table_bundle(value, text) else list("text/plain" = text)
}

# What print() or show() of a value says.
printed <- function(value) {
    scope <- list2env(list(value = value), parent = globalenv())
    scope$print <- if (isS4(value)) methods::show else print
    connection <- rawConnection(raw(), "w")
    depth <- sinks()
    sink(connection)
    on.exit({
        while (sinks() > depth) sink()
        close(connection)
    })
    drawn <<- NULL
    if (is.object(value)) drawn <<- page_of(value, eval(PRINT, scope)) else eval(PRINT, scope)
    sub("\n$", "", text_of(rawConnectionValue(connection)))
}

# sink.number() without the 10 us of match.arg().
sinks <- function() .Internal(sink.number(TRUE))

PRINT <- quote(print(value))
drawn <- NULL   # the page that a value's print method has drawn, as a bundle

text_of <- function(bytes) {
    text <- rawToChar(bytes[bytes != 0L])
    Encoding(text) <- "UTF-8"
    text
}

# The value of what may fail, else NULL and a word on stderr.
degraded <- function(what, made) {
    tryCatch(made, error = function(e) {
        message(what, " is left out: ", conditionMessage(e))
        NULL
    })
}

# What the methods say that a cell or a package has for this class, by the names of the package repr.
# It takes 200 ms to load, and is not asked about classes that are R's own.
methods_of <- function(value) {
    bundle <- list()
    owner <- if (of_package(value) && requireNamespace("repr", quietly = TRUE)) "repr"
    for (generic in names(GENERICS)) {
        method <- method_of(generic, value, owner)
        if (!is.null(method)) {
            made <- degraded(generic, method(value))
            if (!is.null(made) && !is.raw(made)) made <- paste(as.character(made), collapse = "\n")
            bundle[[GENERICS[[generic]]]] <- made
        }
    }
    bundle
}

STANDARD <- c("base", "stats", "utils", "methods", "graphics", "grDevices", "grid", "tools", "lattice")

of_package <- function(value) {
    if (isS4(value)) return(!attr(class(value), "package") %in% c(STANDARD, ".GlobalEnv"))
    method <- PRINTERS[[paste0("print.", shown_as(value))]]
    if (is.null(method)) return(FALSE)
    home <- topenv(environment(method))
    isNamespace(home) && !getNamespaceName(home) %in% STANDARD
}

# The class by which a value is printed.
shown_as <- function(value) {
    for (class in class(value)) if (!is.null(PRINTERS[[paste0("print.", class)]])) return(class)
    class(value)[1L]
}

PRINTERS <- NULL    # the methods of print that packages have

# The method for one of the value's classes: of a cell, or of any package if `owner` has the generic.
method_of <- function(generic, value, owner = NULL) {
    table <- if (!is.null(owner) && isNamespaceLoaded(owner)) asNamespace(owner)[[".__S3MethodsTable__."]]
    for (name in paste0(generic, ".", class(value))) {
        method <- get0(name, globalenv(), mode = "function")
        if (is.null(method) && !is.null(table)) method <- table[[name]]
        if (!is.null(method)) return(method)
    }
    NULL
}
