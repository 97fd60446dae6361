# Included by the Makefile. make bench BENCH="--quick sink" runs one section with fewer messages.

BENCH_PROGRAMS := $(addprefix $(BUILD)/bench/,feeder publisher ackonly bare_libpq sink load idle copier)
BENCH_COMMON := $(BUILD)/bench/wire.o $(BUILD)/bench/reading.o

$(BUILD)/bench/%.o: tests/bench/%.c $(wildcard tests/bench/*.h)
	@mkdir -p $(@D)
	$(call QUIET,CC)$(COMPILE) -c -o $@ $<

$(BUILD)/bench/sink: $(BUILD)/rooms.a
$(BENCH_PROGRAMS): $(BUILD)/bench/%: $(BUILD)/bench/%.o $(BENCH_COMMON)
	$(call QUIET,LD)$(LINK) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(PKG_LIBS)

bench: packages-build-bench
	@$(MAKE) $(PARALLEL) --no-print-directory $(BUILD)/sensorlogd $(BENCH_PROGRAMS)
	@BUILD=$(BUILD) tests/with_postgres.sh --conf max_wal_size=4GB -- /usr/bin/python3 -B tests/bench/run.py $(BENCH)

-include $(wildcard $(BUILD)/bench/*.d)
.PHONY: bench
