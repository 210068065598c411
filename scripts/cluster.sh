#!/usr/bin/env bash
# The nodes of cluster.toml on this machine: scripts/cluster.sh up | down | status | kill N | pause N | resume N |
# transfer SHARD NODE | logs [N]. Builds the program when it is not there and hands everything to `rookery cluster`.
# ROOKERY names another program, ROOKERY_CONFIG another configuration. The last line begins with the verdict, GOOD (exit 0)
# or BAD (the exit of the program); with --json it goes to stderr, for stdout is the document. Nothing takes more than three
# minutes but `logs --follow`, which ends with Ctrl-C and without a verdict.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
rookery=${ROOKERY:-${CARGO_TARGET_DIR:-$root/target}/release/rookery}
export ROOKERY_CONFIG=${ROOKERY_CONFIG:-$root/cluster.toml}

if [[ $# -eq 0 ]]; then
    sed -n '2,/^set -/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
if [[ ! -x $rookery ]]; then
    if [[ -n ${ROOKERY:-} ]]; then
        echo "cluster: BAD  there is no program $rookery (ROOKERY)"
        exit 2
    fi
    echo "building $rookery" >&2
    (cd "$root" && cargo build --release --bin rookery) >&2
fi
last=1 bound=(timeout --foreground --kill-after=10 180)
for argument in "$@"; do
    case $argument in
        --json) last=2 ;;
        -f | --follow) exec "$rookery" cluster "$@" ;;
    esac
done
code=0
"${bound[@]}" "$rookery" cluster "$@" || code=$?
if ((code == 0)); then
    echo "cluster: GOOD  $*" >&"$last"
elif ((code == 124 || code == 137)); then
    echo "cluster: BAD  $*: not done within 180 s" >&"$last"
else
    echo "cluster: BAD  $*: exit $code" >&"$last"
fi
exit "$code"
