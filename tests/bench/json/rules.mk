# Included by the Makefile: make bench-json.

$(BUILD)/bench/json_compare: tests/bench/json/compare.c tests/unit/sample_mapping.h $(BUILD)/rooms.a
	@mkdir -p $(@D)
	$(COMPILE) -o $@ $< $(BUILD)/rooms.a -ljansson $(PKG_LIBS)

bench-json: packages-build-bench
	@$(MAKE) $(PARALLEL) --no-print-directory $(BUILD)/bench/json_compare
	@$(BUILD)/bench/json_compare

.PHONY: bench-json
