#!/bin/bash
# Installs those packages of the named groups of packages.txt that are missing: install-packages.sh GROUP...
set -eu
list=$(dirname "$0")/../packages.txt
[ $# -gt 0 ] || { echo "usage: $0 GROUP...   (groups: $(awk '!/^#/ && NF { print $1 }' "$list" | sort -u | xargs))" >&2; exit 2; }

missing=()
for group in "$@"; do
    packages=$(awk -v group="$group" '$1 == group { for (i = 2; i <= NF; i++) print $i }' "$list")
    [ -n "$packages" ] || { echo "$0: packages.txt has no group '$group'" >&2; exit 2; }
    for package in $packages; do
        status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
        [ "$status" = installed ] || missing+=("$package")
    done
done
[ ${#missing[@]} -gt 0 ] || exit 0
mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)

if [ "$(id -u)" -ne 0 ]; then
    echo "These packages are missing; please install them:" >&2
    echo "    sudo apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
fi

# The tests and the demo run private servers of their own. So nothing that is installed here may start a
# service or create a database cluster; both settings of the machine are put back afterwards.
policy=/usr/sbin/policy-rc.d
cluster=/etc/postgresql-common/createcluster.conf
log=$(mktemp)
made_policy='' made_cluster=''
restore()
{
    [ -z "$made_policy" ] || rm -f "$policy"
    if [ -n "$made_cluster" ] && [ -e "/usr/share/postgresql-common/createcluster.conf" ]; then
        cp "/usr/share/postgresql-common/createcluster.conf" "$cluster"
    elif [ -n "$made_cluster" ]; then
        rm -f "$cluster"
    fi
    rm -f "$log"
}
trap restore EXIT
trap 'exit 130' INT TERM
if [ ! -e "$policy" ]; then
    made_policy=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
if [ ! -e "$cluster" ]; then
    made_cluster=yes
    mkdir -p "${cluster%/*}"
    echo 'create_main_cluster = false' >"$cluster"
fi

install()
{
    DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1 apt-get install -qq --no-install-recommends \
        -o DPkg::Lock::Timeout=300 "${missing[@]}" >"$log" 2>&1 </dev/null
}

echo "installing ${missing[*]}"
if ! install && ! { apt-get update -qq >"$log" 2>&1 && install; }; then
    cat "$log" >&2
    exit 1
fi
