# cellfs: a code interpreter that is a directory.
#
#   make            build/cellfs (the daemon), build/box and libbox.so (the kernels' boxes)
#   make run        install what is missing, build, and show a first session and examples/analysis
#   make test       install what is missing, build, run every test
#   make help       the other targets
#
# CC, CFLAGS, CPPFLAGS, LDFLAGS, PREFIX and DESTDIR mean what they mean everywhere.

VERSION := 0.1.0
PREFIX  ?= /usr/local
BUILD   ?= build
CFLAGS  ?= -O2 -g
FUZZ_SECONDS ?= 60
PYTHON  := /usr/bin/python3

bindir     = $(PREFIX)/bin
libexecdir = $(PREFIX)/libexec/cellfs
datadir    = $(PREFIX)/share/cellfs
mandir     = $(PREFIX)/share/man

# One flavour of the tree lives in one $(BUILD): build, build/asan, build/fuzz, build/lint.
ifdef ASAN
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
endif
ifdef FUZZ
CC       := clang
SANITIZE := -fsanitize=fuzzer-no-link,address,undefined -fno-omit-frame-pointer
endif

WARN := -Wall -Wextra -Wformat -Wformat-security -Wshadow -Wundef -Wpointer-arith \
	-Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition \
	-Wno-unused-parameter -Wno-missing-field-initializers \
	-Werror=implicit-function-declaration -Werror=implicit-int -Werror=int-conversion \
	-Werror=incompatible-pointer-types -Werror=return-type -Werror=format-security
ifdef WERROR
WARN += -Werror
endif
ifndef SANITIZE
HARDEN := -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
endif

PKGS     := fuse3 jansson libmagic
pkg_cflags := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
pkg_libs   := $(shell pkg-config --libs $(PKGS) 2>/dev/null)
unit_cflags := $(shell pkg-config --cflags cmocka 2>/dev/null)
unit_libs   := $(shell pkg-config --libs cmocka 2>/dev/null)

common_cflags := -std=gnu11 $(WARN) $(HARDEN) -fno-common -fstack-protector-strong
defines := -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DFUSE_USE_VERSION=314 \
	-DCELLFS_VERSION='"$(VERSION)"'
daemon_cflags = $(common_cflags) $(SANITIZE) $(defines) -iquote fsd $(pkg_cflags) $(CPPFLAGS) $(CFLAGS)
# The supervisor is static: it never carries a sanitizer, and no library of ours.
box_cflags    = $(common_cflags) -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 $(CPPFLAGS) $(CFLAGS)
ldflags       = $(SANITIZE) $(LDFLAGS)
ldlibs        = $(pkg_libs) -lm -lpthread

O    := $(BUILD)/obj
SRC  := $(sort $(wildcard fsd/*.c))
BOX  := $(sort $(wildcard fsd/box/*.c))
OBJ  := $(SRC:fsd/%.c=$(O)/%.o)
CORE := $(filter-out $(O)/main.o,$(OBJ))
UNIT := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(sort $(wildcard tests/unit/*.c)))
FUZZERS := $(patsubst tests/fuzz/%.c,%,$(sort $(wildcard tests/fuzz/*.c)))

# `make V=1` shows the whole commands.
ifndef V
cc = @echo "  CC  $@"; $(CC)
else
cc = $(CC)
endif

.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: all unit deps run test check asan lint fuzz fuzzers bench vm-test install uninstall \
	install-apparmor clean format help FORCE

all: $(BUILD)/cellfs $(BUILD)/box $(BUILD)/libbox.so kernels/java/cellfs.jar kernels/javascript/packages.js kernels/r/driver.rds

help:
	@printf '%s\n' \
	'make                        build the daemon and the supervisor in build/' \
	'make run                    install what is missing, build, show a first session' \
	'make test                   install what is missing, build, run every test' \
	'make check                  unit, box and kernel tests only: no mount, fast' \
	'make asan                   every test with address and undefined-behaviour sanitizers' \
	'make lint                   layers, banned functions, warnings, man pages' \
	'make format                 clang-format over fsd/' \
	'make fuzz                   each fuzzer for FUZZ_SECONDS (60)' \
	'make bench                  side by side with peers, as ratios' \
	'make deps SETS="run test"   only install what is missing (build run check test vm lint fuzz bench)' \
	'make vm-test                the hostile suite on another kernel, in a virtual machine' \
	'make install, uninstall     DESTDIR, PREFIX (/usr/local)' \
	'make install-apparmor       the profile that Ubuntu needs' \
	'make compile_commands.json  for clangd' \
	'make clean'

# ---- build -------------------------------------------------------------------------------------

# Rewritten, and so everything rebuilt, when the compiler or a flag has changed.
$(O)/flags: FORCE
	@pkg-config --exists 'fuse3 >= 3.10.5' jansson libmagic || { \
		echo 'cellfs: missing: the headers of libfuse 3, jansson or libmagic (make deps SETS=build)' >&2; \
		exit 1; }
	@mkdir -p $(@D)
	@printf '%s\n' "$$FLAGS" | cmp -s - $@ || printf '%s\n' "$$FLAGS" >$@
$(O)/flags: export FLAGS = $(CC) $(daemon_cflags) $(ldflags) $(ldlibs)

$(O)/%.o: fsd/%.c $(O)/flags
	$(cc) $(daemon_cflags) -MMD -MP -c -o $@ $<

$(BUILD)/cellfs: $(OBJ)
	$(cc) $(ldflags) -o $@ $^ $(ldlibs)

$(O)/box/%.o: fsd/box/%.c $(O)/flags
	@mkdir -p $(@D)
	$(cc) $(box_cflags) -fPIC -fvisibility=hidden -ffunction-sections -MMD -MP -c -o $@ $<

$(BUILD)/box: $(BOX:fsd/box/%.c=$(O)/box/%.o)
	$(cc) -static $(LDFLAGS) -o $@ $(filter %.o,$^) -lseccomp

# For fork servers: entering a box without exec. What makes filters and boxes is left out.
$(BUILD)/libbox.so: $(patsubst %,$(O)/box/%.o,join end lock load)
	$(cc) -shared -Wl,--gc-sections -Wl,-z,defs $(LDFLAGS) -o $@ $^

# The Java driver: where there is no JDK the script says so, and makes nothing.
kernels/java/cellfs.jar: $(wildcard kernels/java/src/cellfs/*.java) $(addprefix kernels/java/,native.c start.sh build)
	@CC="$(CC)" kernels/java/build

# The same for npm and the JavaScript driver.
kernels/javascript/packages.js: $(addprefix kernels/javascript/,build package.json package-lock.json packages.entry.js)
	@kernels/javascript/build $(O)/javascript

# The same for R.
kernels/r/driver.rds: $(wildcard kernels/r/*.R) kernels/r/build
	@kernels/r/build

# The file server of examples/mcp, for its test.
$(BUILD)/mcp/node_modules: $(addprefix examples/mcp/,install package.json package-lock.json)
	@examples/mcp/install $(BUILD)/mcp && touch $@ || echo 'cellfs: npm cannot get the file server of examples/mcp: its tests will fail'

unit: $(UNIT)

$(BUILD)/unit/%: tests/unit/%.c $(CORE)
	@mkdir -p $(@D)
	$(cc) $(daemon_cflags) -iquote tests/unit $(unit_cflags) -MMD -MP -MF $(O)/unit-$*.d \
		$(ldflags) -o $@ $< $(CORE) $(unit_libs) $(ldlibs)

fuzzers: $(FUZZERS:%=$(BUILD)/%)

ifdef FUZZ
$(BUILD)/%: tests/fuzz/%.c $(CORE)
	$(cc) $(daemon_cflags) -MMD -MP -MF $(O)/fuzz-$*.d -fsanitize=fuzzer \
		$(ldflags) -o $@ $< $(CORE) $(ldlibs)
endif

-include $(wildcard $(O)/*.d $(O)/box/*.d)

# ---- run and test ------------------------------------------------------------------------------

SETS ?= run
deps:
	.ci/deps $(SETS)

run:
	.ci/deps run
	+$(MAKE) --no-print-directory all
	.ci/apparmor $(BUILD)
	examples/demo.sh $(BUILD)

test:
	.ci/deps test
	+$(MAKE) --no-print-directory all unit $(BUILD)/mcp/node_modules
	.ci/apparmor $(BUILD)
	CELLFS_BUILD=$(BUILD) tests/run

check:
	.ci/deps check
	+$(MAKE) --no-print-directory all unit
	CELLFS_BUILD=$(BUILD) tests/run unit box kernels

asan:
	+ASAN_OPTIONS=detect_leaks=1 UBSAN_OPTIONS=print_stacktrace=1 CELLFS_SLOW=4 CELLFS_PATIENCE=80 \
		$(MAKE) --no-print-directory ASAN=1 BUILD=build/asan CFLAGS='-O1 -g' test

lint:
	.ci/deps lint
	$(PYTHON) tests/lint/check.py
	tests/lint/man.sh fsd/cellfs.1 fsd/cellfs.5
	tests/lint/shell.sh
	+$(MAKE) --no-print-directory -k WERROR=1 BUILD=build/lint all unit
	WERROR=1 kernels/java/build

format:
	clang-format -i $(wildcard fsd/*.c fsd/*.h fsd/box/*.c fsd/box/*.h)

fuzz:
	.ci/deps fuzz
	+$(MAKE) --no-print-directory FUZZ=1 BUILD=build/fuzz CFLAGS='-O1 -g' fuzzers
	set -e; for f in $(FUZZERS); do \
		mkdir -p build/fuzz/corpus/$$f; seeds=; \
		[ ! -d tests/fuzz/corpus/$$f ] || seeds=tests/fuzz/corpus/$$f; \
		echo "fuzz $$f, $(FUZZ_SECONDS) s"; \
		build/fuzz/$$f -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 \
			-artifact_prefix=build/fuzz/$$f- build/fuzz/corpus/$$f $$seeds; \
	done

# Debian's own kernel, cgroup v2, root and an ordinary user; minutes with KVM, much longer without.
vm-test:
	.ci/deps vm
	+$(MAKE) --no-print-directory all
	CELLFS_BUILD=$(BUILD) tests/vm/run

bench:
	.ci/deps bench
	+$(MAKE) --no-print-directory all
	CELLFS_BUILD=$(BUILD) $(PYTHON) tests/bench/run.py

# ---- install -----------------------------------------------------------------------------------

KERNEL_FILES = $(shell find kernels -type f ! -path '*/__pycache__/*' ! -name '*.pyc')

install: all
	install -d $(DESTDIR)$(bindir) $(DESTDIR)$(libexecdir) $(DESTDIR)$(datadir) \
		$(DESTDIR)$(mandir)/man1 $(DESTDIR)$(mandir)/man5
	install -m 755 $(BUILD)/cellfs $(DESTDIR)$(bindir)/cellfs
	install -m 755 $(BUILD)/box $(BUILD)/libbox.so $(DESTDIR)$(libexecdir)
	set -e; for f in $(KERNEL_FILES); do \
		mode=644; [ ! -x $$f ] || mode=755; \
		install -D -p -m $$mode $$f $(DESTDIR)$(datadir)/$$f; \
	done
	install -m 644 fsd/cellfs.1 $(DESTDIR)$(mandir)/man1/cellfs.1
	install -m 644 fsd/cellfs.5 $(DESTDIR)$(mandir)/man5/cellfs.5

uninstall:
	rm -f $(DESTDIR)$(bindir)/cellfs $(DESTDIR)$(mandir)/man1/cellfs.1 \
		$(DESTDIR)$(mandir)/man5/cellfs.5
	rm -rf $(DESTDIR)$(libexecdir) $(DESTDIR)$(datadir)

# Ubuntu 23.10 and later lets only named programs use user namespaces.
install-apparmor:
	install -D -m 644 examples/apparmor/cellfs-box $(DESTDIR)/etc/apparmor.d/cellfs-box
	@[ -n "$(DESTDIR)" ] || apparmor_parser -r /etc/apparmor.d/cellfs-box

compile_commands.json: FORCE
	@{ sep='['; for f in $(SRC) $(BOX) $(wildcard tests/unit/*.c); do \
		printf '%s\n{"directory": "%s", "file": "%s", "arguments": [%s"-c", "%s"]}' \
			"$$sep" "$(CURDIR)" "$$f" \
			"$$(printf '"%s", ' $(CC) $(subst \",\\\",$(subst ",\",$(subst ',,$(daemon_cflags) $(unit_cflags)))))" "$$f"; \
		sep=','; done; printf '\n]\n'; } >$@

clean:
	@if grep -q " $(CURDIR)/build/" /proc/self/mountinfo; then \
		echo 'cellfs: something is still mounted below build/' >&2; exit 1; fi
	rm -rf build compile_commands.json kernels/java/cellfs.j* kernels/java/libcellfs.so \
		kernels/javascript/packages.js kernels/r/driver.rds
