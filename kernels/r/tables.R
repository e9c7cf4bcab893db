# Data frames and matrices: HTML, and data as {"column": [values]}.

DATA <- "application/vnd.cellfs.data+json"
ROWS_MOST <- 5000L
CELLS_MOST <- 100000L
SHOWN_ROWS <- 60L
SHOWN_COLUMNS <- 50L

# The bundle of a table whose text is there already.
table_bundle <- function(value, text) {
    total <- nrow(value)
    kept <- min(total, ROWS_MOST, CELLS_MOST %/% max(ncol(value), 1L))
    page <- degraded("HTML of the table", html_table(value))
    data <- degraded("data of the table", data_table(value, kept))
    meta <- NULL
    if (kept < total && !is.null(data)) {
        note <- sprintf("data.json: the first %s of %s rows", thousands(kept), thousands(total))
        text <- paste0(text, "\n(", note, ")")
        if (!is.null(page)) page <- paste0(page, "<p>", note, "</p>\n")
        meta <- structure(list(list(rows = kept, total = total)), names = DATA)
    }
    bundle <- list("text/plain" = text, "text/html" = page)
    bundle[[DATA]] <- data
    structure(bundle, meta = meta)
}

thousands <- function(n) format(n, big.mark = ",", scientific = FALSE, trim = TRUE)

# The columns of a table by name, some rows of them; frames and matrices in it are spread out.
columns <- function(value, rows) {
    if (is.matrix(value)) {
        found <- lapply(seq_len(ncol(value)), function(i) as.vector(value[rows, i]))
        names(found) <- if (is.null(colnames(value))) paste0("V", seq_along(found)) else colnames(value)
        return(found)
    }
    found <- list()
    for (i in seq_along(value)) {
        column <- .subset2(value, i)
        inner <- if (is.data.frame(column) || is.matrix(column)) {
            spread <- columns(column, rows)
            structure(spread, names = paste0(names(value)[i], rep_len(".", length(spread)), names(spread)))
        } else {
            structure(list(column[rows]), names = names(value)[i])
        }
        found <- c(found, inner)
    }
    found
}

# The names of the rows, where they say more than their numbers.
row_labels <- function(value, rows) {
    labels <- if (is.matrix(value)) rownames(value) else attr(value, "row.names")
    if (is.character(labels)) labels[rows]
}

data_table <- function(value, kept) {
    rows <- seq_len(kept)
    labels <- row_labels(value, rows)
    found <- c(if (!is.null(labels)) list(row.names = labels), columns(value, rows))
    texts <- vapply(found, function(column) {
        paste0("[", paste(elements(column), collapse = ","), "]")
    }, "")
    object(make.unique(as.character(names(found))), texts)
}

html_escaped <- function(x) {
    x <- gsub("&", "&amp;", utf8(x), fixed = TRUE)
    gsub(">", "&gt;", gsub("<", "&lt;", x, fixed = TRUE), fixed = TRUE)
}

# All of a small table; of a larger one the first and the last rows.
html_table <- function(value) {
    total <- nrow(value)
    half <- SHOWN_ROWS %/% 2L
    rows <- if (total > SHOWN_ROWS) c(seq_len(half), seq.int(total - half + 1L, total)) else seq_len(total)
    labels <- row_labels(value, rows)
    if (is.null(labels)) labels <- as.character(rows)
    found <- columns(value, rows)
    wide <- length(found)
    if (wide > SHOWN_COLUMNS) found <- found[seq_len(SHOWN_COLUMNS)]
    cells <- lapply(unname(found), function(column) {
        paste0("<td>", html_escaped(rep_len(cell_texts(column), length(rows))), "</td>", recycle0 = TRUE)
    })
    heads <- paste0("<tr><th>", html_escaped(labels), "</th>", recycle0 = TRUE)
    lines <- do.call(paste0, c(list(heads), cells, list("</tr>", recycle0 = TRUE)))
    if (total > length(rows)) {
        gap <- paste0("<tr>", strrep("<td>\u22ee</td>", length(found) + 1L), "</tr>")
        lines <- c(lines[seq_len(half)], gap, lines[-seq_len(half)])
    }
    note <- if (total > length(rows) || wide > length(found)) {
        sprintf("<p>%s rows \u00d7 %s columns</p>\n", thousands(total), thousands(wide))
    }
    paste0(
        "<table border=\"1\" class=\"dataframe\">\n<thead><tr><th></th>",
        paste0("<th>", html_escaped(as.character(names(found))), "</th>", recycle0 = TRUE, collapse = ""),
        "</tr></thead>\n<tbody>\n",
        paste0(lines, "\n", recycle0 = TRUE, collapse = ""), "</tbody>\n</table>\n", note)
}

cell_texts <- function(column) {
    if (!is.character(column) && !is.factor(column)) return(format(column, trim = TRUE))
    column <- as.character(column)
    column[is.na(column)] <- "NA"
    column
}
