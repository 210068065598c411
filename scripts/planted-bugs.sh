#!/usr/bin/env bash
# Shows that the checker finds what it is there for: builds the program with the feature `planted-bugs`, lets one bug
# at a time act in every node (ROOKERY_PLANT), and wants the verdict BAD each time; and GOOD with no bug.
#   scripts/planted-bugs.sh [BUG…]         (default: all)
# ROOKERY names a program built with the feature. The last line says how many were caught; exit 0 only if all were.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
rookery=${ROOKERY:-$target/planted/release/rookery}
# name, the fault that brings it out, rounds
bugs=(
    "none kill 2"
    "ack-before-fsync crash 2"
    "dedup-lost kill 3"
    "deliver-before-commit kill 2"
    "apply-skips none 1"
    "cursor-back none 1"
    "stale-reads none 1"
    "no-membership none 2"
    "push-twice none 1"
    "push-lost none 1"
    "pushes-swapped none 1"
)
[[ -n ${ROOKERY:-} ]] ||
    (cd "$root" && cargo build --release --bin rookery --features planted-bugs --target-dir "$target/planted") >&2

caught=0 asked=0 missed=()
for line in "${bugs[@]}"; do
    read -r bug fault rounds <<<"$line"
    if (($# > 0)) && [[ " $* " != *" $bug "* ]]; then continue; fi
    asked=$((asked + 1))
    work=$(mktemp -d "${TMPDIR:-/tmp}/rookery-planted.XXXXXX")
    code=0
    want=1
    [[ $bug == none ]] && want=0
    ROOKERY_PLANT=$bug timeout --kill-after=10 300 "$rookery" check --fault "$fault" --rounds "$rounds" \
        --folder "$work" ${RATE:+--rate "$RATE"} >"$work/verdict" 2>"$work/details" || code=$?
    # Only a rule that the judge names counts: a cluster that does not come back proves something else.
    first=$(grep -m 1 -E '^violation:' "$work/details" || true)
    if ((code == want)) && [[ $want == 0 || -n $first ]]; then
        caught=$((caught + 1))
        printf '%-22s %s  %s\n' "$bug" "$([[ $want == 0 ]] && echo good || echo caught)" "${first:0:150}"
    else
        missed+=("$bug")
        why=$(tail -n 1 "$work/verdict")
        printf '%-22s MISSED (exit %s)  %s\n' "$bug" "$code" "${why:-$(tail -n 1 "$work/details")}"
    fi
    rm -rf "$work"
done
if ((caught == asked)); then
    echo "planted-bugs: GOOD  $caught of $asked as they should be"
else
    echo "planted-bugs: BAD  $caught of $asked as they should be; missed: ${missed[*]}"
    exit 1
fi
