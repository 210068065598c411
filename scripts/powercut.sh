#!/usr/bin/env bash
# Power cuts: every node keeps its data on an ext4 image of its own behind a loop device. A cut shuts the file system
# down without a journal flush (what was not synced is gone), kills the process, mounts the image again and restarts
# the node. In a third of the rounds several nodes lose power at once, in a third all of them.
#   scripts/powercut.sh [COUNT] [more arguments of `rookery check`]     (--fault blackout: all nodes in every round)
# BAD too if a client waited more than five seconds for an ack in more than one of 20 rounds (--max-gap-ms 5000; a later
# one counts): with a majority cut, two nodes have to come back first.
# Needs root and loop devices; without them it says SKIPPED and exits 0. The last line begins with the verdict:
# GOOD (exit 0), BAD (1) or INCONCLUSIVE (2). Mounts, loop devices and images are removed whatever happens.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Three nodes' images; a node of a short run needs a few hundred MiB of journal and data.
image_mib=${ROOKERY_POWERCUT_MIB:-1024}

# Called by `rookery check` as: powercut.sh cut N | restore N, with POWERCUT_DIR in the environment.
hook() {
    local dir=$POWERCUT_DIR/node-$2
    case $1 in
    cut)
        # EXT4_IOC_SHUTDOWN with NOLOGFLUSH: the file system is dead from this instant on.
        python3 - "$dir" <<'PY'
import fcntl, os, struct, sys
descriptor = os.open(sys.argv[1], os.O_RDONLY)
fcntl.ioctl(descriptor, 0x8004587D, struct.pack("I", 2))
PY
        ;;
    restore)
        # The process has just been killed: its last descriptors may take a moment to close.
        for _ in $(seq 100); do
            umount "$dir" 2>/dev/null && break
            sleep 0.05
        done
        mount -o loop "$POWERCUT_DIR/node-$2.img" "$dir"
        ;;
    esac
}

if [[ ${1:-} == cut || ${1:-} == restore ]]; then
    hook "$@"
    exit
fi

count=${1:-20}
shift || true

skip() {
    echo "powercut: SKIPPED  $1" >&2
    echo "powercut: SKIPPED  $1"
    exit 0
}
[[ $(id -u) == 0 ]] || skip "needs root to mount images"
for tool in mkfs.ext4 losetup mount umount python3; do
    command -v $tool >/dev/null || skip "needs $tool"
done
losetup -f >/dev/null 2>&1 || skip "needs loop devices"

POWERCUT_DIR=$(mktemp -d "${TMPDIR:-/tmp}/rookery-powercut.XXXXXX")
export POWERCUT_DIR
cleanup() {
    local node
    for node in 1 2 3; do
        umount -l "$POWERCUT_DIR/node-$node" 2>/dev/null || true
    done
    losetup -j "$POWERCUT_DIR/node-1.img" 2>/dev/null | cut -d: -f1 | xargs -r losetup -d 2>/dev/null || true
    losetup -j "$POWERCUT_DIR/node-2.img" 2>/dev/null | cut -d: -f1 | xargs -r losetup -d 2>/dev/null || true
    losetup -j "$POWERCUT_DIR/node-3.img" 2>/dev/null | cut -d: -f1 | xargs -r losetup -d 2>/dev/null || true
    if [[ ${keep:-0} == 1 ]]; then
        rm -f "$POWERCUT_DIR"/node-?.img
        echo "powercut: kept $POWERCUT_DIR (logs and history)" >&2
    else
        rm -rf "$POWERCUT_DIR"
    fi
}
trap cleanup EXIT
trap 'exit 130' INT TERM

for node in 1 2 3; do
    truncate -s "${image_mib}M" "$POWERCUT_DIR/node-$node.img"
    mkfs.ext4 -q -F -m 0 "$POWERCUT_DIR/node-$node.img"
    mkdir "$POWERCUT_DIR/node-$node"
    mount -o loop "$POWERCUT_DIR/node-$node.img" "$POWERCUT_DIR/node-$node" 2>/dev/null ||
        skip "cannot mount an image over a loop device here"
done

. "$here/check-lib.sh"
code=0
run_check powercut --fault powercut --max-gap-ms 5000 --rounds "$count" --folder "$POWERCUT_DIR" --power-hook "$here/powercut.sh" "$@" || code=$?
# With a planted bug BAD is what is wanted, and nobody looks at the logs.
((code == 0)) || [[ -n ${ROOKERY_PLANT:-} ]] || keep=1
exit $code
