# Strict JSON, and the little of it that commands have.

# Valid UTF-8 of any strings: <ff> for a byte that is none.
utf8 <- function(x) {
    x <- enc2utf8(x)
    valid <- validUTF8(x)
    if (!all(valid)) x[!valid] <- iconv(x[!valid], "UTF-8", "UTF-8", "byte")
    x
}

# JSON strings, null for NA.
quoted <- function(x) {
    if (!length(x)) return(character())
    absent <- is.na(x)
    x <- utf8(x)
    odd <- grepl("[\x01-\x1f\"\\\\]", x, perl = TRUE, useBytes = TRUE)
    if (any(odd)) x[odd] <- escaped(x[odd])
    x <- paste0("\"", x, "\"")
    if (any(absent)) x[absent] <- "null"
    x
}

ESCAPES <- c("\\" = "\\\\", "\"" = "\\\"", "\n" = "\\n", "\r" = "\\r", "\t" = "\\t")

escaped <- function(x) {
    for (character in names(ESCAPES)) {
        x <- gsub(character, ESCAPES[[character]], x, fixed = TRUE)
    }
    if (any(grepl("[\x01-\x1f]", x, perl = TRUE, useBytes = TRUE))) {
        for (code in 1:31) x <- gsub(intToUtf8(code), sprintf("\\u%04x", code), x, fixed = TRUE)
    }
    x
}

# The shortest decimals that give the same doubles again; null for what JSON has none for.
numbers <- function(x) {
    if (is.integer(x)) {
        text <- as.character(x)
    } else {
        text <- sprintf("%.15g", x)
        longer <- is.finite(x)
        longer[longer] <- as.numeric(text[longer]) != x[longer]
        text[longer] <- sprintf("%.17g", x[longer])
    }
    text[!is.finite(x)] <- "null"
    text
}

# Points of time by ISO 8601, in UTC.
instants <- function(x) {
    x <- as.POSIXct(x)
    text <- format(x, "%Y-%m-%dT%H:%M:%S", tz = "UTC")
    fraction <- is.finite(x) & as.numeric(x) %% 1 != 0
    text[fraction] <- format(x[fraction], "%Y-%m-%dT%H:%M:%OS6", tz = "UTC")
    ifelse(is.na(x), NA_character_, paste0(text, "Z"))
}

# Each element of a vector in JSON. What has no form of its own there is text.
elements <- function(x) {
    if (is.factor(x)) {
        quoted(as.character(x))
    } else if (inherits(x, "Date")) {
        quoted(format(x, "%Y-%m-%d"))
    } else if (inherits(x, "POSIXt")) {
        quoted(instants(x))
    } else if (inherits(x, "integer64")) {
        text <- as.character(x)
        ifelse(is.na(text), "null", text)
    } else if (is.logical(x)) {
        ifelse(is.na(x), "null", ifelse(x, "true", "false"))
    } else if (is.numeric(x) || inherits(x, "difftime")) {
        numbers(as.vector(unclass(x)))
    } else if (is.list(x)) {
        vapply(unclass(x), json, "", USE.NAMES = FALSE)
    } else if (is.raw(x)) {
        as.character(as.integer(x))
    } else {
        quoted(as.character(x))
    }
}

# JSON of a value. A vector of one element is a scalar, unless it is marked by I().
json <- function(x) {
    if (is.null(x)) return("null")
    if (inherits(x, "json")) return(paste(x, collapse = ""))
    if (!is.vector(x) && !is.object(x) && !is.array(x)) {
        return(quoted(paste(deparse(x, nlines = 1L), collapse = "")))
    }
    parts <- elements(x)
    if (is.list(x) && !is.null(names(x))) return(object(names(x), parts))
    if (length(parts) == 1L && !is.list(x) && !inherits(x, "AsIs")) return(parts)
    paste0("[", paste(parts, collapse = ","), "]")
}

object <- function(names, texts) {
    paste0("{", paste0(quoted(names), ":", texts, recycle0 = TRUE, collapse = ","), "}")
}

# One string of JSON as the daemon writes it; R's parser knows the same escapes.
BODY <- "[^\"\\\\]*+(?:\\\\.[^\"\\\\]*+)*+"
STRING <- paste0("\"(", BODY, ")\"")

unquoted <- function(texts) {
    if (!any(grepl("\\", texts, fixed = TRUE))) return(texts)
    literals <- parse(text = paste0("\"", texts, "\""), keep.source = FALSE, encoding = "UTF-8")
    vapply(literals, identity, "")
}

# An object of strings as a named vector, NA for null.
members <- function(text) {
    tokens <- regmatches(text, gregexpr(paste0(STRING, "|null"), text, perl = TRUE))[[1L]]
    absent <- tokens == "null"
    tokens[!absent] <- unquoted(substr(tokens[!absent], 2L, nchar(tokens[!absent]) - 1L))
    tokens[absent] <- NA_character_
    first <- seq.int(1L, by = 2L, length.out = length(tokens) %/% 2L)
    structure(tokens[first + 1L], names = tokens[first])
}
