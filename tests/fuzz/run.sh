#!/bin/bash
# Runs each fuzzer for a while: tests/fuzz/run.sh SECONDS FUZZER... Findings end it with the input that shows them.
set -u
seconds=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
failed=0
for fuzzer in "$@"; do
    name=$(basename "$fuzzer")
    work=$(dirname "$fuzzer")/corpus/$name # what it finds; the seeds stay as they are
    mkdir -p "$work"
    seeds=()
    [ -d "$here/corpus/${name#fuzz_}" ] && seeds=("$here/corpus/${name#fuzz_}")
    echo "$name: $seconds s"
    "$fuzzer" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
        -artifact_prefix="$work-" "$work" "${seeds[@]}" >"$work.log" 2>&1 || {
        tail -40 "$work.log"
        failed=1
    }
    grep -h 'stat::number_of_executed_units' "$work.log"
done
exit $failed
