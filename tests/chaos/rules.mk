# make chaos FAULTS=1000 SEED=1 [MESSAGES=1200] [JOBS=4] [CLASS=regular expression], or ONE=class:seed again.
CHAOS_ARGUMENTS = $(if $(FAULTS),--faults $(FAULTS)) $(if $(SEED),--seed $(SEED)) $(if $(MESSAGES),--messages $(MESSAGES)) \
	$(if $(JOBS),--jobs $(JOBS)) $(if $(CLASS),--class '$(CLASS)') $(if $(ONE),--one '$(ONE)') $(if $(EACH),--each $(EACH))

chaos: packages-build-test
	@$(MAKE) $(PARALLEL) --no-print-directory all
	@SENSORLOGD=$(abspath $(BUILD))/sensorlogd /usr/bin/python3 -B tests/chaos/run.py --keep $(BUILD)/chaos $(CHAOS_ARGUMENTS)

.PHONY: chaos
