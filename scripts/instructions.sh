#!/usr/bin/env bash
# Instructions per message by stage, counted by valgrind's callgrind: a number that hardly depends on what else the machine
# does, so that two versions can be compared to a part in a thousand. Each stage runs twice, once only preparing its rounds;
# the difference is what the rounds cost (all threads, no kernel).
#   scripts/instructions.sh [STAGE…]       (default: all)
# ROUNDS in the environment (default 64); STAGES_PROGRAM names a built one. Prints a table in Markdown. callgrind's processor has no SHA instructions: what
# hashes with SHA-256 (seal: the digest) takes many more here than on a processor that has them.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
rounds=${ROUNDS:-64}
stages=${STAGES_PROGRAM:-${CARGO_TARGET_DIR:-$root/target}/release/rookery-stages}

command -v valgrind >/dev/null || { echo "instructions: valgrind is missing (Debian: apt-get install valgrind)" >&2; exit 1; }
if [[ -z ${STAGES_PROGRAM:-} ]]; then
    (cd "$root" && cargo build --release -p rookery-stages --bins) >&2
elif [[ ! -x $stages ]]; then
    echo "instructions: there is no program $stages (STAGES_PROGRAM)" >&2
    exit 2
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/rookery-instructions.XXXXXX")
trap 'rm -rf "$work"' EXIT

# count STAGE [--prepare-only]: instructions of a whole run.
count() {
    if ! valgrind --tool=callgrind --callgrind-out-file="$work/out" "$stages" run "$1" --rounds "$rounds" "${@:2}" \
        >"$work/log" 2>&1; then
        cat "$work/log" >&2
        return 1
    fi
    sed -n 's/^\(summary\|totals\): \([0-9]*\).*/\2/p' "$work/out" | tail -n 1
}

"$stages" list >"$work/list"
(($# > 0)) || mapfile -t names < <(cut -f 1 "$work/list")
(($# == 0)) || names=("$@")
echo "| stage | where | instructions per message | what |"
echo "|---|---|---|---|"
for name in "${names[@]}"; do
    IFS=$'\t' read -r _ where messages about < <(awk -F '\t' -v name="$name" '$1 == name' "$work/list") \
        || { echo "instructions: there is no stage $name" >&2; exit 1; }
    whole=$(count "$name")
    prepared=$(count "$name" --prepare-only)
    echo "| $name | $where | $(((whole - prepared) / (rounds * messages))) | $about |"
done
