# Values that are markup: widgets and tags as pages that stand alone, tables of knitr and of others.

MARKUP <- c(html = "text/html", markdown = "text/markdown", pipe = "text/markdown", latex = "text/latex")

# The bundle of such a value; NULL of any other.
markup <- function(value) {
    if (inherits(value, c("knitr_kable", "kableExtra", "knit_asis"))) {
        text <- paste(value, collapse = "\n")
        form <- attr(value, "format")
        mime <- if (is.null(form)) "text/markdown" else MARKUP[form]
        bundle <- list("text/plain" = text)
        if (!is.na(mime)) bundle[[mime]] <- text
        return(bundle)
    }
    if (inherits(value, "html")) {
        text <- paste(value, collapse = "\n")
        return(list("text/plain" = text, "text/html" = text))
    }
    as_tags <- method_of("as.tags", value, "htmltools")
    if (!is.null(as_tags) || inherits(value, c("htmlwidget", "shiny.tag", "shiny.tag.list"))) {
        return(tags_bundle(value))
    }
    knit <- method_of("knit_print", value, "knitr")
    if (is.null(knit) || is.data.frame(value)) return(NULL)
    made <- degraded("knit_print", knit(value, options = list()))
    if (is.character(made)) list("text/plain" = printed(value), "text/html" = paste(made, collapse = "\n"))
}

tags_bundle <- function(value) {
    widget <- inherits(value, "htmlwidget")
    page <- degraded("HTML", html_page(if (widget) htmltools::as.tags(value, standalone = TRUE) else value, widget))
    bundle <- list(
        "text/plain" = if (inherits(value, "shiny.tag") || is.null(page)) {
            paste(as.character(value), collapse = "\n")
        } else {
            paste0("<", class(value)[1L], ">")
        },
        "text/html" = page)
    if (inherits(value, "plotly")) {
        bundle[["application/vnd.plotly.v1+json"]] <- degraded("plotly", {
            built <- plotly::plotly_build(value)$x[c("data", "layout", "config")]
            paste(asNamespace("plotly")$to_JSON(built), collapse = "")
        })
    }
    bundle
}

# Tags with the scripts and styles that they depend on inside; htmltools would leave these to files
# beside the page, and pandoc to make one of them.
html_page <- function(tags, whole) {
    rendered <- htmltools::renderTags(tags)
    head <- c(unlist(lapply(rendered$dependencies, inlined)), rendered$head)
    if (!length(rendered$dependencies) && !whole) return(paste(rendered$html))
    paste0(
        "<!DOCTYPE html>\n<html>\n<head>\n<meta charset=\"utf-8\"/>\n", paste(head, collapse = "\n"),
        "\n</head>\n<body>\n", rendered$html, "\n</body>\n</html>\n")
}

inlined <- function(dependency) {
    folder <- dependency$src$file
    if (!is.null(dependency$package)) folder <- system.file(folder, package = dependency$package)
    names_of <- function(entries) {
        if (is.list(entries) && !is.null(entries$src)) entries <- list(entries)
        vapply(entries, function(entry) if (is.list(entry)) entry$src else entry, "")
    }
    if (is.null(folder)) {
        return(c(
            sprintf("<link rel=\"stylesheet\" href=\"%s/%s\"/>", dependency$src$href, names_of(dependency$stylesheet)),
            sprintf("<script src=\"%s/%s\"></script>", dependency$src$href, names_of(dependency$script)),
            dependency$head))
    }
    styles <- vapply(names_of(dependency$stylesheet), function(name) {
        paste0("<style>\n", with_data(slurp(file.path(folder, name)), dirname(file.path(folder, name))), "\n</style>")
    }, "")
    scripts <- vapply(names_of(dependency$script), function(name) {
        text <- gsub("</(script)", "<\\\\/\\1", slurp(file.path(folder, name)), ignore.case = TRUE)
        paste0("<script>\n", text, "\n</script>")
    }, "")
    c(styles, scripts, dependency$head)
}

bytes_of <- function(path) readBin(path, "raw", file.size(path))

# Debian's jquerylib asks dpkg for its version, which knows nothing in a box; its folder has the name.
find_jquery <- function(...) {
    home <- asNamespace("jquerylib")
    if (!any(grepl("dpkg", deparse(home$expand_version), fixed = TRUE))) return()
    unlockBinding("expand_version", home)
    assign("expand_version", function(major_version) {
        found <- grep(paste0("^", major_version, "[.]"), list.files(system.file("lib", package = "jquerylib")), value = TRUE)
        if (length(found)) found[1L] else ""
    }, home)
    lockBinding("expand_version", home)
}

slurp <- function(path) text_of(bytes_of(path))

TYPES <- c(
    png = "image/png", jpg = "image/jpeg", jpeg = "image/jpeg", gif = "image/gif", svg = "image/svg+xml",
    html = "text/html", htm = "text/html", md = "text/markdown", tex = "text/latex", txt = "text/plain",
    json = "application/json", pdf = "application/pdf", js = "application/javascript", css = "text/css",
    csv = "text/csv", woff = "font/woff", woff2 = "font/woff2", ttf = "font/ttf")

type_of <- function(path) {
    type <- TYPES[tolower(sub(".*\\.", "", path))]
    if (is.na(type)) "application/octet-stream" else type[[1L]]
}

# A style sheet with the files that it names inside.
with_data <- function(css, folder) {
    places <- gregexpr("url\\(['\"]?[^'\")]+['\"]?\\)", css, perl = TRUE)
    regmatches(css, places) <- lapply(regmatches(css, places), function(found) {
        vapply(found, function(one) {
            path <- file.path(folder, sub("[?#].*", "", gsub("^url\\(['\"]?|['\"]?\\)$", "", one)))
            if (!file.exists(path) || dir.exists(path)) return(one)
            sprintf("url(data:%s;base64,%s)", type_of(path), base64(bytes_of(path)))
        }, "")
    })
    css
}

DIGITS <- c(LETTERS, letters, 0:9, "+", "/")

base64 <- function(bytes) {
    padding <- -length(bytes) %% 3L
    x <- matrix(as.integer(c(bytes, raw(padding))), 3L)
    index <- rbind(
        x[1L, ] %/% 4L, x[1L, ] %% 4L * 16L + x[2L, ] %/% 16L,
        x[2L, ] %% 16L * 4L + x[3L, ] %/% 64L, x[3L, ] %% 64L)
    digits <- DIGITS[index + 1L]
    if (padding) digits[seq.int(length(digits) - padding + 1L, length(digits))] <- "="
    paste(digits, collapse = "")
}

# The bytes of base64, NULL of what is none.
unbase64 <- function(text) {
    text <- gsub("[ \r\n]", "", paste(text, collapse = ""))
    if (!grepl("^[A-Za-z0-9+/]*={0,2}$", text) || nchar(text) %% 4L) return(NULL)
    padding <- nchar(text) - nchar(sub("=+$", "", text))
    index <- matrix(match(strsplit(chartr("=", "A", text), "")[[1L]], DIGITS) - 1L, 4L)
    bytes <- as.raw(rbind(
        index[1L, ] * 4L + index[2L, ] %/% 16L,
        index[2L, ] %% 16L * 16L + index[3L, ] %/% 4L,
        index[3L, ] %% 4L * 64L + index[4L, ]))
    head(bytes, length(bytes) - padding)
}
