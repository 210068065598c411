#!/usr/bin/env bash
# Shows that the checker finds what it is there for: builds the program with the feature `planted-bugs`, lets one bug
# at a time act in every node (ROOKERY_PLANT), and wants the verdict BAD each time, by a rule that is there for this bug: what
# another rule finds is no catch, for the rule could be gone and nobody would notice. And GOOD with no bug.
#   scripts/planted-bugs.sh [BUG…]         (default: all)
# ROOKERY names a program built with the feature. A bug may show only when a fault meets the right moment, so up to
# TRIES seeds are tried. The last line says how many were caught; exit 0 only if all were. A bug that only a power cut
# brings out is SKIPPED, loudly, where scripts/powercut.sh has no root or no loop devices.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
rookery=${ROOKERY:-$target/planted/release/rookery}
readonly FIRST_SEED=7 TRIES=3
# name, the rules that count (as in src/check/judge/verdict.rs), the fault that brings it out, rounds, further arguments of
# `rookery check`
bugs=(
    "none - kill 2 --snapshots"
    # Acknowledges 50 ms before the journal is written; a process that is killed between has promised too much.
    "ack-before-write Answers crash 2"
    # Acknowledges what is written to the journal and syncs it about once a second. All nodes lose power, for of what one
    # has lost the others have a copy. The databases must not be flushed meanwhile: they would be ahead of the journal,
    # and the nodes would rightly refuse to start.
    "late-fsync Answers blackout 1"
    "dedup-lost Entries|Answers|Replicas kill 3"
    "dedup-lost-in-snapshot Entries|Answers|Replicas kill 3 --snapshots"
    "deliver-before-commit Pushes|Delivery kill 2"
    "apply-skips Replicas none 1"
    "cursor-back Cursors none 1"
    "record-flipped Replicas none 1"
    "stale-reads Linear none 1"
    # The gateway forgets one answer of 200.
    "answer-lost Answers none 1"
    "joined-unpushed News none 1"
    "left-unpushed News none 1"
    "no-membership Membership none 2"
    "push-twice Pushes none 1"
    "push-lost Delivery none 1"
    "pushes-swapped Pushes|Delivery none 1"
    # A recall is a signal that changes nothing.
    "recall-kept Recall none 1"
    # What was recalled or edited is so in memory and not in rows: it is back when a node or an actor comes back.
    "recall-forgotten Recall kill 3 --snapshots"
    "unread-recalled Unread none 1"
    "block-ignored Blocks none 1"
    # A block is answered a tenth of a second before the session has it.
    "block-early Blocks none 2"
    "mark-unpushed Cursors none 1"
    # A READ is so in memory and not in rows.
    "cursor-lost Cursors kill 3 --snapshots"
    # A user's list takes no removals.
    "left-listed Lists none 1"
    # One replica salts some messages otherwise: all that is shown is the same, and the proof is another.
    "salt-flipped Digest none 1"
    "expiry-early Expiry|Recall none 1"
    "expiry-kept Expiry none 1"
    "unread-expired Unread none 1"
    "trim-more Trimmed none 1"
    "trim-untold Trimmed|Digest none 1"
    "unread-trimmed Unread none 1"
    # SYNC since a mark leaves out some of what has changed.
    "since-forgets Linear|Lists|Unread none 1"
    # What was carried out under a request key is not remembered now and then.
    "key-forgotten Entries|Keys none 1"
    "audit-twice Keys none 1"
)
[[ -n ${ROOKERY:-} ]] ||
    (cd "$root" && cargo build --release --bin rookery --features planted-bugs --target-dir "$target/planted") >&2

# check BUG FAULT ROUNDS SEED FOLDER ARGUMENTS…: one run; verdict and details into the folder, exit code of the check.
check() {
    local bug=$1 fault=$2 rounds=$3 seed=$4 work=$5
    shift 5
    local what=("$rookery" check --fault "$fault" --rounds "$rounds" --folder "$work")
    [[ $fault != blackout ]] || what=("$root/scripts/powercut.sh" "$rounds" --fault "$fault")
    ROOKERY=$rookery ROOKERY_PLANT=$bug timeout --kill-after=10 300 "${what[@]}" --seed "$seed" \
        ${RATE:+--rate "$RATE"} "$@" >"$work/verdict" 2>"$work/details"
}

caught=0 asked=0 missed=() skipped=()
for line in "${bugs[@]}"; do
    read -r bug rules fault rounds rest <<<"$line"
    read -r -a more <<<"$rest"
    if (($# > 0)) && [[ " $* " != *" $bug "* ]]; then continue; fi
    asked=$((asked + 1))
    want=1 tries=$TRIES
    [[ $bug == none ]] && want=0 tries=1
    found=
    for ((seed = FIRST_SEED; seed < FIRST_SEED + tries; seed++)); do
        work=$(mktemp -d "${TMPDIR:-/tmp}/rookery-planted.XXXXXX")
        code=0
        check "$bug" "$fault" "$rounds" "$seed" "$work" "${more[@]}" || code=$?
        first=$(grep -m 1 -E "^violation: ($rules) \(" "$work/details" || true)
        other=$(grep -m 1 -E '^violation:' "$work/details" || true)
        last=$(tail -n 1 "$work/verdict")
        last=${last:-$(tail -n 1 "$work/details")}
        rm -rf "$work"
        if [[ $last == *": SKIPPED "* ]]; then
            found=skipped
            break
        fi
        # A cluster that does not come back proves something else, and so does another rule.
        if ((code == want)) && [[ $want == 0 || -n $first ]]; then
            found=yes
            break
        fi
    done
    if [[ $found == skipped ]]; then
        asked=$((asked - 1))
        skipped+=("$bug")
        printf '%-22s NOT SHOWN: %s\n' "$bug" "$last"
        printf '%-22s NOT SHOWN: %s\n' "$bug" "$last" >&2
    elif [[ -n $found ]]; then
        caught=$((caught + 1))
        printf '%-22s %s (seed %s)  %s\n' "$bug" "$([[ $want == 0 ]] && echo good || echo caught)" "$seed" "${first:0:150}"
    else
        missed+=("$bug")
        printf '%-22s MISSED by %s (exit %s, %s of %s seeds)  %s\n' "$bug" "$rules" "$code" "$tries" "$tries" "${other:-$last}"
    fi
done
not_shown=${skipped[*]:+; SKIPPED: ${skipped[*]}}
if ((caught == asked)); then
    echo "planted-bugs: GOOD  $caught of $asked as they should be$not_shown"
else
    echo "planted-bugs: BAD  $caught of $asked as they should be; missed: ${missed[*]}$not_shown"
    exit 1
fi
