#!/usr/bin/env bash
# The nodes of cluster.toml on this machine: scripts/cluster.sh up | down | status | kill N | pause N | resume N |
# transfer SHARD NODE | logs [N]. Builds the program when it is not there and hands everything to `rookery cluster`.
# ROOKERY names another program, ROOKERY_CONFIG another configuration.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
rookery=${ROOKERY:-${CARGO_TARGET_DIR:-$root/target}/release/rookery}
export ROOKERY_CONFIG=${ROOKERY_CONFIG:-$root/cluster.toml}

if [[ $# -eq 0 ]]; then
    sed -n '2,4s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
if [[ ! -x $rookery ]]; then
    echo "building $rookery" >&2
    (cd "$root" && cargo build --release --bin rookery)
fi
exec "$rookery" cluster "$@"
