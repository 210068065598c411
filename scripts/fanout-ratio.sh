#!/usr/bin/env bash
# Deliveries per second beside what the machine gives to whoever only writes one buffer to as many sockets: `rookery bench spread`
# with one large group, and right after it `rookery-limit-probe fanout` with what that run was found to do: as many sockets,
# frames of as many bytes, as many of them with one write. Both in alternation, round after round, so that both meet the same
# minutes of the machine; prints every run, and medians.
#   scripts/fanout-ratio.sh [ROUNDS] [--markdown | --json]        (default 3 rounds)
# In the environment:
#   MEMBERS           of the group, all of them online (default 1000)
#   SENDERS, WINDOW   who of them speak, and what each has in flight (default 16, 16)
#   SIZE              bytes of content (default 128)
#   SECONDS_MEASURED  of each run (default 5)
#   ROOKERY, PROBE    other programs than those built here
# A run in which a delivery is missing, or came twice, ends the script with 1.
set -euo pipefail

rounds=3 format=words
for argument in "$@"; do
    case $argument in
        --markdown | --json) format=${argument#--} ;;
        [1-9] | [1-9][0-9]) rounds=$argument ;;
        *)
            sed -n '2,/^set -/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" | head -n -1 >&2
            exit 2
            ;;
    esac
done
# shellcheck source-path=SCRIPTDIR
. "$(dirname "${BASH_SOURCE[0]}")/check-lib.sh"
members=${MEMBERS:-1000} length=${SECONDS_MEASURED:-5}
[[ $length =~ ^[1-9][0-9]{0,2}$ ]] || { echo "fanout-ratio: SECONDS_MEASURED is a number of whole seconds, not $length" >&2; exit 2; }
probe=${PROBE:-${CARGO_TARGET_DIR:-$root/target}/release/rookery-limit-probe}
command -v python3 >/dev/null || { echo "fanout-ratio: python3 is missing" >&2; exit 1; }
build_rookery
if [[ -z ${PROBE:-} ]]; then
    (cd "$root" && cargo build --release -p rookery-limit-probe) >&2
elif [[ ! -x $probe ]]; then
    echo "fanout-ratio: there is no program $probe (PROBE)" >&2
    exit 2
fi
work=$(mktemp -d "${TMPDIR:-/tmp}/rookery-fanout.XXXXXX")
trap 'rm -rf "$work"' EXIT
# Of one run, everything included; what it started ends with it.
bound=$((length + 120))

for ((round = 1; round <= rounds; round++)); do
    timeout --kill-after=10 "$bound" "$rookery" bench spread --groups 1 --members "$members" --online "$members" \
        --senders "${SENDERS:-16}" --window "${WINDOW:-16}" --size "${SIZE:-128}" --seconds "$length" --json >"$work/spread-$round"
    # The probe takes whole numbers, and at most 1,024 with one call.
    read -r bytes batch < <(python3 -c 'import json, sys
run = json.load(open(sys.argv[1]))
print(round(run["bytes_per_delivery"]), min(1024, max(1, round(run["deliveries_per_write"]))))' "$work/spread-$round")
    timeout --kill-after=10 "$bound" "$probe" fanout --sockets "$members" --size "$bytes" --batch "$batch" \
        --seconds "$length" --json >"$work/probe-$round"
    echo "fanout-ratio: round $round of $rounds is done" >&2
done

python3 - "$work" "$rounds" "$format" <<'TABLE'
import json, statistics, sys
work, rounds, form = sys.argv[1], int(sys.argv[2]), sys.argv[3]
runs = []
for number in range(1, rounds + 1):
    spread, probe = (json.load(open(f"{work}/{name}-{number}")) for name in ("spread", "probe"))
    runs.append({
        "deliveries_per_second": spread["deliveries_per_second"],
        "delivery_p99_ms": spread["delivery"]["p99_ms"],
        "deliveries_per_write": spread["deliveries_per_write"],
        "bytes_per_delivery": spread["bytes_per_delivery"],
        "probe_batch": probe["batch"],
        "probe_deliveries_per_second": probe["deliveries_per_second"],
        "ratio": spread["deliveries_per_second"] / probe["deliveries_per_second"],
    })
middle = lambda name: statistics.median(run[name] for run in runs)
medians = {name: middle(name) for name in ("deliveries_per_second", "probe_deliveries_per_second", "ratio")}
if form == "json":
    print(json.dumps({"rounds": runs, "medians": medians}))
elif form == "markdown":
    print("| round | deliveries/s | p99 ms | with one write | B each | probe: with one write | probe: deliveries/s | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for number, run in enumerate(runs, 1):
        print("| {} | {deliveries_per_second:,.0f} | {delivery_p99_ms:.1f} | {deliveries_per_write:.1f} | {bytes_per_delivery:.0f} "
              "| {probe_batch} | {probe_deliveries_per_second:,.0f} | {ratio:.2f} |".format(number, **run))
    print("| median | {deliveries_per_second:,.0f} | | | | | {probe_deliveries_per_second:,.0f} | **{ratio:.2f}** |".format(**medians))
else:
    for number, run in enumerate(runs, 1):
        print("round {}: {deliveries_per_second:.0f} deliveries/s (p99 {delivery_p99_ms:.1f} ms), {deliveries_per_write:.1f} with one write, "
              "{bytes_per_delivery:.0f} B each; probe with {probe_batch}: {probe_deliveries_per_second:.0f}/s; ratio {ratio:.2f}"
              .format(number, **run))
    print("fanout-ratio: medians of {}: {deliveries_per_second:.0f} deliveries/s, probe {probe_deliveries_per_second:.0f}/s, ratio {ratio:.2f}"
          .format(rounds, **medians))
TABLE
