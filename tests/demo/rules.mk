# Included by the Makefile.

$(BUILD)/demo/altimeter: tests/demo/altimeter.c
	@mkdir -p $(@D)
	$(COMPILE) -o $@ $< -lpaho-mqtt3c

demo: packages-build-demo
	@$(MAKE) --no-print-directory $(BUILD)/sensorlogd $(BUILD)/demo/altimeter
	@BUILD=$(BUILD) tests/demo/demo.sh

.PHONY: demo
