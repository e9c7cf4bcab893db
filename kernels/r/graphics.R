# Plots: each page that a cell draws becomes a display.
#
# A device writes its pages to files of the spool. A page is done when the next one has begun or the
# device is closed: hooks of R's graphics tell the first, at the end of a cell all are closed.

SIZES <- list(
    repr.plot.width = 7, repr.plot.height = 7, repr.plot.res = 120, repr.plot.pointsize = 12,
    repr.plot.bg = "white", repr.plot.antialias = "gray", repr.plot.family = "sans",
    repr.plot.quality = 90)

sheets <- list()    # the devices of this run
begun <- 0L         # pages of this run

# The option `device`: what the first plot of a cell opens. dev.new() hands on its arguments.
open_sheet <- function(width = NULL, height = NULL, ...) {
    if (is.null(run) || Sys.getpid() != pid) return(invisible(grDevices::pdf(NULL)))
    look <- asked <- wanted()
    if (!is.null(width)) look$repr.plot.width <- width
    if (!is.null(height)) look$repr.plot.height <- height
    path <- paste0(gsub("%", "%%", file.path(spool, spool_name()), fixed = TRUE), "-%d")
    draw_on(path, look)
    grDevices::dev.control("enable")  # for recordPlot()
    sheets <<- c(sheets, list(list(path = path, type = look$type, asked = asked, sent = 0L)))
    invisible()
}

# Size and form as the options say.
wanted <- function() {
    look <- lapply(structure(names(SIZES), names = names(SIZES)), function(name) {
        value <- getOption(name)
        if (is.null(value)) SIZES[[name]] else value
    })
    asked <- intersect(getOption("jupyter.plot_mimetypes"), c("image/png", "image/svg+xml", "application/pdf", "image/jpeg"))
    look$type <- if (length(asked)) asked[1L] else "image/png"
    if (!has_cairo && look$type != "application/pdf") look$type <- "application/pdf"
    look
}

has_cairo <- TRUE

draw_on <- function(path, look) {
    width <- look$repr.plot.width
    height <- look$repr.plot.height
    size <- look$repr.plot.pointsize
    background <- look$repr.plot.bg
    family <- look$repr.plot.family
    switch(look$type,
        "image/png" = grDevices::png(
            path, width, height, "in", size, background, look$repr.plot.res, family = family,
            type = "cairo", antialias = look$repr.plot.antialias),
        "image/jpeg" = grDevices::jpeg(
            path, width, height, "in", size, look$repr.plot.quality, background, look$repr.plot.res,
            family = family, type = "cairo", antialias = look$repr.plot.antialias),
        "image/svg+xml" = grDevices::svg(
            path, width, height, size, onefile = FALSE, family = family, bg = background,
            antialias = look$repr.plot.antialias),
        if (has_cairo) {
            grDevices::cairo_pdf(path, width, height, size, FALSE, family, background)
        } else {
            grDevices::pdf(path, width, height, FALSE, pointsize = size, bg = background)
        })
}

page_path <- function(sheet, page) sprintf(sheet$path, page)

# The number of the sheet's device while it is open.
device_of <- function(sheet) {
    for (number in grDevices::dev.list()) {
        if (identical(attr(.Devices[[number]], "filepath"), sheet$path)) return(number)
    }
    NULL
}

# The place in `sheets` of the device that is drawn on.
current_sheet <- function() {
    path <- attr(.Device, "filepath")
    for (i in seq_along(sheets)) if (identical(sheets[[i]]$path, path)) return(i)
    0L
}

page_bundle <- function(sheet, page) {
    path <- page_path(sheet, page)
    Sys.chmod(path, "600", use_umask = FALSE)
    structure(list(list(file = basename(path))), names = sheet$type)
}

# Sends the pages that are done. An open device still writes to its last one.
send_pages <- function() {
    for (i in seq_along(sheets)) {
        open <- !is.null(device_of(sheets[[i]]))
        while (file.exists(page_path(sheets[[i]], sheets[[i]]$sent + 1L + open))) {
            page <- sheets[[i]]$sent <<- sheets[[i]]$sent + 1L
            publish(page_bundle(sheets[[i]], page))
        }
    }
}

# Hooks: a page begins. One of another size than the device has needs a new device.
before_page <- function(...) {
    i <- current_sheet()
    if (i && file.exists(page_path(sheets[[i]], 1L)) && !identical(sheets[[i]]$asked, wanted())) {
        close_device(sheets[[i]])
        open_sheet()
    }
}

before_plot <- function(...) {
    if (length(sheets) && graphics::par("page")) before_page()
}

after_page <- function(...) {
    if (current_sheet()) {
        begun <<- begun + 1L
        send_pages()
    }
}

close_device <- function(sheet) {
    number <- device_of(sheet)
    if (!is.null(number)) grDevices::dev.off(number)
}

# At the end of a cell, so that the next one does not show its plot again.
close_sheets <- function() {
    for (sheet in sheets) close_device(sheet)
    send_pages()
    sheets <<- list()
}

# Evaluates what shows a value. If it drew a page, that is not a display but one of the value's formats.
page_of <- function(value, show) {
    pages <- begun
    devices <- length(sheets)
    show
    i <- current_sheet()
    if (!i || begun == pages && length(sheets) == devices && !inherits(value, "recordedplot")) return(NULL)
    close_device(sheets[[i]])
    last <- sheets[[i]]$sent
    while (file.exists(page_path(sheets[[i]], last + 1L))) last <- last + 1L
    if (last == sheets[[i]]$sent) return(NULL)
    drawn <- page_bundle(sheets[[i]], last)
    for (page in seq_len(last - 1L)) {
        if (page > sheets[[i]]$sent) publish(page_bundle(sheets[[i]], page))
    }
    sheets[[i]]$sent <<- last
    drawn
}
