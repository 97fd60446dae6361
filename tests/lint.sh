#!/bin/bash
# Looks at the sources without running them: includes between rooms, size, warnings of a second compiler, format,
# manual pages, shell.
set -u
cd "$(dirname "$0")/.." || exit 1
failed=0
complain() {
    echo "lint: $*" >&2
    failed=1
}

# ---- rooms: who may include whom; one that is not here, nobody ----
declare -A allowed=(
    [base]="base"
    [core]="base core"
    [mqtt]="base core mqtt"
    [disk]="base core disk"
    [broker]="base core mqtt disk broker"
    [forward]="base core forward"
    [spool]="base core disk spool"
    [store]="base core spool store"
    [pipeline]="base core store pipeline"
    [conf]="base core mqtt broker forward store pipeline conf"
    [ops]="base core ops"
)
while read -r room; do
    while IFS=: read -r file line text; do
        target=${text#*\"}
        target=${target%%/*}
        [[ " ${allowed[$room]:-} " == *" $target "* ]] ||
            complain "$file:$line: $room must not include $target/"
    done < <(grep -n '^#include "' daemon/"$room"/*.[ch] /dev/null)
done < <(printf '%s\n' daemon/*/*.[ch] | cut -d/ -f2 | sort -u)
while read -r file; do
    [[ $file == daemon/store/pg* ]] || complain "$file: only store/pg knows libpq"
done < <(grep -l 'libpq-fe.h' -r daemon)
while read -r where; do
    complain "$where: libpq's blocking calls are not for the daemon"
done < <(grep -nE '\bPQ(exec|execParams|prepare|execPrepared|connectdb|connectdbParams)\(' -r daemon)

# ---- size: files of 500 lines, functions of 60 ----
for file in daemon/*.[ch] daemon/*/*.[ch]; do
    lines=$(wc -l <"$file")
    [ "$lines" -le 500 ] || complain "$file has $lines lines; 500 is the most"
    awk -v file="$file" '
        /^[a-z].*\)$/ || /^[a-z].*,$/ { start = FNR }
        /^}$/ && start { if (FNR - start > 60) { print file ":" start ": a function of " FNR - start " lines; 60 is the most"; bad = 1 } start = 0 }
        END { exit bad }' "$file" >&2 || failed=1
done

# ---- a second compiler ----
packages="libevent libevent_openssl libpq libconfig inih libsystemd openssl sqlite3 libargon2"
# shellcheck disable=SC2046,SC2086
clang -fsyntax-only -std=c11 -D_GNU_SOURCE -DSENSORLOGD_VERSION='"lint"' -Werror -Wall -Wextra -Wshadow \
    -Wconversion -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wvla -Idaemon -Itests/unit \
    $(pkg-config --cflags $packages) daemon/*.c daemon/*/*.c || complain "clang has warnings"

# ---- format, manual pages and shell ----
clang-format --dry-run -Werror daemon/*.[ch] daemon/*/*.[ch] || complain "clang-format would change the above"
[ -z "$(groff -mdoc -Tutf8 -ww -z daemon/man/*.[58] 2>&1 | tee /dev/stderr)" ] || complain "groff has warnings"
mapfile -t scripts < <(git ls-files --cached --others --exclude-standard -- '*.sh')
shellcheck -x -P SCRIPTDIR -S warning "${scripts[@]}" || complain "shellcheck"

[ $failed -eq 0 ] && echo "lint: ok"
exit $failed
