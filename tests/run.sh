#!/bin/bash
# Runs the tests: run.sh UNIT_TEST_PROGRAMS... -- PYTEST_ARGUMENTS... (within with_postgres.sh, for pgTAP).
# The last line of its output is "N passed, N failed, N skipped", over both kinds; it fails if a test failed.
# TEST_JOBS: how many system tests run at a time (default: cores + 3, since they mostly wait, where python3-pytest-xdist is installed).
# TEST_UNIT_TIMEOUT: seconds that one unit test program may take (default 300).
set -u

here=$(cd "$(dirname "$0")" && pwd)
build=${BUILD:-$here/../build}
# The stories that take the daemon through most of its code; the others differ in what is around it.
sanitized=("$here"/system/test_{altimeter,ack_after_commit,bad_messages,subscriber,outage,types,explain,commands}.py
    "$here"/system/test_broker_{connect,session,will,publish,allowed,retained,subscribe,properties,flow,wire,acks}.py
    "$here"/system/test_{broker_review,exchange,tls,websocket,reload}.py)
passed=0 failed=0 skipped=0
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# What cmocka has counted under a heading, "[  PASSED  ] 3 test(s).", over all groups of the program.
cmocka_count() {
    awk -v heading="$1" '
        match($0, "\\[  " heading " *\\] [0-9]+ test\\(s\\)") {
            split(substr($0, RSTART), words, /\] /)
            count += words[2]
            seen = 1
        }
        END { if (seen) print count }' "$scratch/output"
}

run_unit_test() {
    local program=$1 status good bad omitted
    echo "== $(basename "$program")"
    timeout --kill-after=10 "${TEST_UNIT_TIMEOUT:-300}" "$program" >"$scratch/output" 2>&1
    status=$?
    good=$(cmocka_count PASSED)
    bad=$(cmocka_count FAILED)
    omitted=$(cmocka_count SKIPPED)
    passed=$((passed + ${good:-0}))
    failed=$((failed + ${bad:-0}))
    skipped=$((skipped + ${omitted:-0}))
    # A crash, a sanitizer's report, or an end before the first test is a failure that cmocka has not counted.
    if { [ $status -ne 0 ] && [ "${bad:-0}" = 0 ]; } || [ -z "$good" ]; then
        failed=$((failed + 1))
        echo "$program: exit status $status"
    fi
    if [ $status -ne 0 ]; then
        cat "$scratch/output"
    else
        echo "${good:-0} passed"
    fi
}

# Half of the programs, with a PostgreSQL of their own; leaves the counts in the file $1.
run_unit_tests() {
    local counts=$1
    shift
    while [ $# -gt 0 ]; do
        run_unit_test "$1"
        shift
    done
    echo "$passed $failed $skipped" >"$counts"
}

# Two at a time, since they mostly wait for the disk and for PostgreSQL.
run_all_unit_tests() {
    local half halves=2 pids=() good bad omitted
    for ((half = 0; half < halves; half++)); do
        local mine=() number=0 program
        for program in "$@"; do
            ((number++ % halves == half)) && mine+=("$program")
        done
        mkdir "$scratch/$half"
        env scratch="$scratch/$half" "$here/with_postgres.sh" --conf fsync=off -- \
            bash -c 'passed=0 failed=0 skipped=0; run_unit_tests "$@"' _ "$scratch/$half/counts" "${mine[@]}" \
            >"$scratch/$half/log" 2>&1 &
        pids+=($!)
    done
    for ((half = 0; half < halves; half++)); do
        wait "${pids[half]}"
        cat "$scratch/$half/log"
        if ! read -r good bad omitted <"$scratch/$half/counts"; then
            good=0 bad=1 omitted=0
        fi
        passed=$((passed + good))
        failed=$((failed + bad))
        skipped=$((skipped + omitted))
    done
}
export -f cmocka_count run_unit_test run_unit_tests

# pgTAP's lines: "ok 1 - ...", "not ok 2 - ...".
run_pgtap() {
    local status good bad
    echo "== pgTAP"
    "$here/pgtap/run.sh" >"$scratch/output" 2>&1
    status=$?
    good=$(grep -c '^ok ' "$scratch/output")
    bad=$(grep -c '^not ok ' "$scratch/output")
    passed=$((passed + good))
    failed=$((failed + bad))
    if [ $status -ne 0 ] || [ "$good" = 0 ]; then
        [ "$bad" -gt 0 ] || failed=$((failed + 1))
        cat "$scratch/output"
    else
        echo "$good passed"
    fi
}

# run_system_tests WHAT BINARY PYTEST_ARGUMENTS...
run_system_tests() {
    local jobs=${TEST_JOBS:-$(($(nproc) + 3))} parallel=() status before=$failed
    if [ "$jobs" -gt 1 ] && /usr/bin/python3 -c 'import xdist' 2>/dev/null; then
        parallel=(-n "$jobs" --dist loadfile)
    fi
    echo "== system tests, $1"
    rm -f "$scratch/counts"
    # They bring clusters of their own; that of pgTAP must not be found by chance.
    env -u PGHOST -u PGPORT -u PGUSER -u PGDATABASE -u PGDATA SENSORLOGD="$2" \
        SENSORLOGD_FAILPOINTS="$build/failpoints/sensorlogd" TEST_COUNTS="$scratch/counts" PYTHONDONTWRITEBYTECODE=1 \
        /usr/bin/python3 -m pytest -q "${parallel[@]}" "${@:3}"
    status=$?
    if [ ! -s "$scratch/counts" ]; then
        failed=$((failed + 1))
        return
    fi
    while read -r outcome count; do
        declare -g "$outcome=$((${!outcome} + count))"
    done <"$scratch/counts"
    # Such as no test at all (5), or pytest itself has failed.
    if [ $status -ne 0 ] && [ "$failed" = "$before" ]; then
        failed=$((failed + 1))
    fi
}

programs=()
while [ $# -gt 0 ] && [ "$1" != -- ]; do
    programs+=("$1")
    shift
done
[ ${#programs[@]} = 0 ] || run_all_unit_tests "${programs[@]}"
if [ "${1-}" = -- ]; then
    shift
    run_pgtap
    run_system_tests "as installed" "$build/sensorlogd" "$@"
    TEST_PATIENCE=90 run_system_tests "with sanitizers" "$build/asan/sensorlogd" "${sanitized[@]}"
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
