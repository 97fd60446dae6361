# sensorlogd: make, make install, make demo, make run, make test, make lint, make fuzz, make bench, make drill.

CC ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
BUILD ?= build
PREFIX ?= /usr
SYSCONFDIR ?= /etc
UNITDIR ?= $(PREFIX)/lib/systemd/system
DESTDIR ?=
VERSION := $(shell cat daemon/VERSION)

WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wvla
HARDEN := -fPIE -fstack-protector-strong -fstack-clash-protection -fcf-protection -D_FORTIFY_SOURCE=2
HARDEN_LD := -pie -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--as-needed
ifeq ($(CI),true)
WARN += -Werror
endif

# make SANITIZE=1 puts a build with AddressSanitizer and UBSan into build/asan.
ifdef SANITIZE
override BUILD := $(BUILD)/asan
OPTIMISE := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
else
OPTIMISE := -O3 -g $(HARDEN)
endif
# make FAILPOINTS=1 puts a build that dies where a test tells it to into build/failpoints.
ifdef FAILPOINTS
override BUILD := $(BUILD)/failpoints
OPTIMISE := -O1 -g $(HARDEN) -DFAILPOINTS
endif
CFLAGS ?=
PACKAGES := libevent libevent_openssl libpq libconfig inih libsystemd openssl sqlite3 libargon2
# Looked up when something is compiled, so that "make demo" can install them first.
PKG_CFLAGS = $(shell pkg-config --cflags $(PACKAGES))
PKG_LIBS = $(shell pkg-config --libs $(PACKAGES)) -ludunits2 -lpaho-mqtt3as -lm -pthread
COMPILE = $(CC) -std=c11 -D_GNU_SOURCE -DSENSORLOGD_VERSION='"$(VERSION)"' $(WARN) $(OPTIMISE) $(CFLAGS) \
	-Idaemon $(PKG_CFLAGS)
LINK = $(CC) $(OPTIMISE) $(if $(SANITIZE),,$(HARDEN_LD)) $(LDFLAGS)

# make V=1 shows the commands.
ifneq ($(V),1)
QUIET = @echo "  $(1) $(@:$(BUILD)/%=%)";
endif

SOURCES := $(wildcard daemon/*.c daemon/*/*.c)
MIGRATIONS := $(sort $(wildcard sql/[0-9][0-9][0-9]_*.sql))
OBJECTS := $(SOURCES:daemon/%.c=$(BUILD)/obj/%.o) $(BUILD)/obj/store/migrations.o
# All but what stands at the top of daemon/: what the tests and benchmarks link.
ROOMS := $(patsubst daemon/%.c,$(BUILD)/obj/%.o,$(wildcard daemon/*/*.c)) $(BUILD)/obj/store/migrations.o
UNIT_TESTS := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/test_*.c))
UNIT_HELPERS := $(patsubst tests/unit/%.c,$(BUILD)/tests/%.o,$(filter-out tests/unit/test_%.c,$(wildcard tests/unit/*.c)))
FUZZERS := $(patsubst tests/fuzz/%.c,build/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))

all: $(BUILD)/sensorlogd

$(BUILD)/sensorlogd: $(OBJECTS)
	$(call QUIET,LD)$(LINK) -o $@ $^ $(PKG_LIBS)

$(BUILD)/obj/%.o: daemon/%.c daemon/VERSION Makefile
	@mkdir -p $(@D)
	$(call QUIET,CC)$(COMPILE) -MMD -MP -c -o $@ $<

$(BUILD)/obj/store/migrations.c: sql/embed.sh $(MIGRATIONS)
	@mkdir -p $(@D)
	sh sql/embed.sh $(MIGRATIONS) >$@.tmp && mv $@.tmp $@

$(BUILD)/obj/store/migrations.o: $(BUILD)/obj/store/migrations.c
	$(call QUIET,CC)$(COMPILE) -MMD -MP -c -o $@ $<

$(BUILD)/rooms.a: $(ROOMS)
	@rm -f $@
	$(call QUIET,AR)ar rcs $@ $^

# What a target builds before it runs is built on all cores, unless make was told how many.
PARALLEL = $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc))

# ---- tests ----

$(BUILD)/tests/%.o: tests/unit/%.c
	@mkdir -p $(@D)
	$(call QUIET,CC)$(COMPILE) -Itests/unit -MMD -MP -c -o $@ $<

$(BUILD)/tests/test_%: $(BUILD)/tests/test_%.o $(UNIT_HELPERS) $(BUILD)/rooms.a
	$(call QUIET,LD)$(LINK) -o $@ $^ $(PKG_LIBS) -lcmocka

.SECONDARY:

unit-tests: $(UNIT_TESTS)

# Everything runs on a machine that nobody prepared: what is missing is installed first.
packages-%:
	@tests/install-packages.sh $(subst -, ,$*)

# Unit tests on a build with sanitizers, system tests on what a user installs, and most of them on the other once more;
# those that let the daemon die at a given point on a build of their own.
with-sanitizers:
	@BUILD=$(BUILD) $(MAKE) --no-print-directory SANITIZE=1 all unit-tests
with-failpoints:
	@BUILD=$(BUILD) $(MAKE) --no-print-directory FAILPOINTS=1 all
test: packages-build-test
	@$(MAKE) $(PARALLEL) --no-print-directory all with-sanitizers with-failpoints
	@BUILD=$(abspath $(BUILD)) tests/with_postgres.sh --conf fsync=off -- \
		tests/run.sh $(UNIT_TESTS:$(BUILD)/%=$(BUILD)/asan/%) -- tests/system

lint: packages-build-lint
	@tests/lint.sh

build/fuzz/%: tests/fuzz/%.c $(SOURCES) $(BUILD)/obj/store/migrations.c
	@mkdir -p $(@D)
	$(call QUIET,FUZZ)clang -std=c11 -D_GNU_SOURCE -DSENSORLOGD_VERSION='"fuzz"' -O1 -g \
		-fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -Idaemon $(PKG_CFLAGS) \
		-o $@ $< $(wildcard daemon/*/*.c) $(BUILD)/obj/store/migrations.c $(PKG_LIBS) -ljansson

# Each fuzzer for FUZZ_SECONDS, from the seeds in tests/fuzz/corpus.
FUZZ_SECONDS ?= 60
fuzz: packages-build-fuzz
	@$(MAKE) $(PARALLEL) --no-print-directory $(FUZZERS)
	@tests/fuzz/run.sh $(FUZZ_SECONDS) $(FUZZERS)

include tests/bench/rules.mk tests/bench/json/rules.mk tests/chaos/rules.mk

# PostgreSQL is away for MINUTES while RATE messages a second go on coming; with figures.
MINUTES ?= 10
RATE ?= 2000
drill: packages-build-test
	@$(MAKE) $(PARALLEL) --no-print-directory all
	@SENSORLOGD=$(abspath $(BUILD))/sensorlogd /usr/bin/python3 -B tests/chaos/drill.py --minutes $(MINUTES) --rate $(RATE)

# ---- demo ----

$(BUILD)/demo/altimeter: tests/demo/altimeter.c
	@mkdir -p $(@D)
	$(call QUIET,CC)$(COMPILE) -o $@ $< -lpaho-mqtt3c

demo: packages-build-demo
	@$(MAKE) $(PARALLEL) --no-print-directory all $(BUILD)/demo/altimeter
	@BUILD=$(abspath $(BUILD)) tests/demo/demo.sh

# The same as a playground that stays until Ctrl-C.
run: packages-build-demo
	@$(MAKE) $(PARALLEL) --no-print-directory all
	@BUILD=$(abspath $(BUILD)) tests/demo/run.sh

# ---- install ----

# Puts the places of this installation into a text: install_text FROM,TO
define install_text
	@echo "install $(1) $(DESTDIR)$(2)"
	@install -d $(dir $(DESTDIR)$(2))
	@sed -e 's|/usr/bin/sensorlogd|$(PREFIX)/bin/sensorlogd|g; s|/usr/share/doc/|$(PREFIX)/share/doc/|g' \
		-e 's|/etc/sensorlogd|$(SYSCONFDIR)/sensorlogd|g' $(1) >$(DESTDIR)$(2)
	@chmod 644 $(DESTDIR)$(2)

endef
DOCDIR := $(PREFIX)/share/doc/sensorlogd

install: $(BUILD)/sensorlogd install-configuration
	install -D -m 755 $(BUILD)/sensorlogd $(DESTDIR)$(PREFIX)/bin/sensorlogd
	$(call install_text,systemd/sensorlogd.service,$(UNITDIR)/sensorlogd.service)
	$(call install_text,systemd/sensorlogd.socket,$(UNITDIR)/sensorlogd.socket)
	$(call install_text,systemd/sysusers.d/sensorlogd.conf,$(PREFIX)/lib/sysusers.d/sensorlogd.conf)
	$(call install_text,systemd/tmpfiles.d/sensorlogd.conf,$(PREFIX)/lib/tmpfiles.d/sensorlogd.conf)
	$(call install_text,daemon/man/sensorlogd.8,$(PREFIX)/share/man/man8/sensorlogd.8)
	$(call install_text,daemon/man/sensorlogd.conf.5,$(PREFIX)/share/man/man5/sensorlogd.conf.5)
	$(call install_text,README.md,$(DOCDIR)/README.md)
	$(call install_text,sql/README.md,$(DOCDIR)/sql/README.md)
	$(foreach file,config/sensorlogd.conf $(wildcard config/examples/*),$(call install_text,$(file),$(DOCDIR)/examples/$(notdir $(file))))

# Once only: what the user has changed stays as it is, and a mapping that he has removed does not come back.
install-configuration:
	@[ -e $(DESTDIR)$(SYSCONFDIR)/sensorlogd/sensorlogd.conf ] || { \
		echo "install config $(DESTDIR)$(SYSCONFDIR)/sensorlogd" && \
		install -D -m 640 -t $(DESTDIR)$(SYSCONFDIR)/sensorlogd/topics.d config/topics.d/*.cfg && \
		install -m 640 config/sensorlogd.conf $(DESTDIR)$(SYSCONFDIR)/sensorlogd; }

clean:
	rm -rf build

-include $(OBJECTS:.o=.d) $(wildcard $(BUILD)/tests/*.d)
.PHONY: all unit-tests with-sanitizers with-failpoints test lint fuzz drill demo run install install-configuration clean
