#: must: native code that the kernel of R loads is as boxed as R
#: must not: reach more than a C program in the box
#: needs: gcc
#: config: timeout=20
#: within: 25
#: state: kept
source("attack.R")
said("gcc", system("gcc -shared -fPIC -o evil.so evil.c") == 0)
invisible(dyn.load("/workspace/evil.so"))
cat("ok: loaded\n")
