#: must: R fits, draws (base and ggplot2), and runs in parallel
#: needs: R
#: within: 50
#: config: timeout=50
cat >a.R <<'R'
print(coef(lm(dist ~ speed, cars)))
png("p.png"); plot(cars); invisible(dev.off())
cat("ok: lm and png", file.size("p.png") > 0, "\n")
if (requireNamespace("ggplot2", quietly = TRUE)) { suppressMessages(ggplot2::ggsave("g.png", ggplot2::ggplot(cars, ggplot2::aes(speed, dist)) + ggplot2::geom_point())); cat("ok: ggplot2\n") }
cat("ok:", sum(unlist(parallel::mclapply(1:4, function(i) i))), "\n")
R
R --vanilla -s -f a.R
