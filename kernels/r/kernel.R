# Loads the driver into an environment of its own and runs it; `kernel.R build FOLDER` (make does it)
# compiles it before.
#
# The environment's parent is the base namespace, not the global environment: no variable of a cell is
# ever found before a function that the driver calls.

options(topLevelEnvironment = NULL)  # of sys.source(); the compiler believes it
local({
    folder <- tail(commandArgs(), 1L)
    parts <- file.path(folder, paste0(
        c("json", "wire", "values", "tables", "html", "graphics", "errors", "packages", "base", "driver"), ".R"))
    store <- file.path(folder, "driver.rds")
    stamp <- c(R.version.string, unname(tools::md5sum(parts)))

    made <- function() {
        here <- new.env(parent = .BaseNamespaceEnv)
        here$here <- here
        for (part in parts) sys.source(part, here)
        for (name in ls(here)) {
            if (is.function(here[[name]])) here[[name]] <- compiler::cmpfun(here[[name]])
        }
        here
    }

    if (tail(commandArgs(), 2L)[1L] == "build") {
        saveRDS(list(stamp = stamp, driver = made()), paste0(store, ".new"))
        file.rename(paste0(store, ".new"), store)
        return(invisible())
    }
    stored <- tryCatch(readRDS(store), error = function(e) NULL, warning = function(w) NULL)
    here <- if (identical(stored$stamp, stamp)) stored$driver else made()

    # A cell may also change a function of base itself, or detach utils: the driver keeps those it uses.
    # (Primitives are built into compiled code.)
    functions <- Filter(is.function, as.list(here))
    for (name in unique(unlist(lapply(functions, function(f) all.names(body(f)))))) {
        for (home in c(.BaseNamespaceEnv, asNamespace("utils"))) {
            original <- get0(name, home, inherits = FALSE)
            if (typeof(original) == "closure" && is.null(here[[name]])) assign(name, original, here)
        }
    }
    here$main()
}, new.env(parent = .BaseNamespaceEnv))
