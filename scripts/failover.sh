#!/usr/bin/env bash
# Kills the leader of a loaded shard with kill -9 and restarts it, round after round (default 20, each at most 30 s),
# under load from clients that record everything; then judges the records and every replica. The nodes keep so little
# log that the killed one comes back by snapshots (--snapshots); the last line counts them.
#   scripts/failover.sh [ROUNDS] [more arguments of `rookery check`]
# BAD too if a client waited more than a second for an ack in more than one of 20 rounds (--max-gap-ms 1000; a later one
# counts).
# The last line begins with the verdict: GOOD (exit 0), BAD (1) or INCONCLUSIVE (2).
set -euo pipefail
rounds=${1:-20}
shift || true
. "$(dirname "${BASH_SOURCE[0]}")/check-lib.sh"
run_check failover --fault kill --snapshots --max-gap-ms 1000 --rounds "$rounds" "$@"
