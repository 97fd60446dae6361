#!/bin/sh
# Prints the migrations as C, for store/migrations.h: sql/embed.sh sql/[0-9][0-9][0-9]_*.sql > migrations.c
set -eu

printf '// The migrations of sql/, made by sql/embed.sh.\n#include "store/migrations.h"\n\n'
printf 'const struct migration migrations[] = {\n'
for file in "$@"; do
    name=$(basename "$file" .sql)
    version=$(printf '%s\n' "$name" | sed -n 's/^0\{0,2\}\([0-9][0-9]*\)_.*/\1/p')
    checksum=$(sha256sum <"$file" | cut -d ' ' -f 1)
    printf '    {%s, "%s",\n     "%s",\n' "$version" "$name" "$checksum"
    sed 's/\\/\\\\/g; s/"/\\"/g; s/^/     "/; s/$/\\n"/' "$file"
    printf '    },\n'
done
printf '};\n\nconst size_t migration_count = %d;\n' "$#"
