#!/usr/bin/env bash
# Restarts one node after another in an orderly way (SIGTERM), round after round (default 20, each at most 30 s, about 3 s
# where nothing is wrong), under load; then judges the clients' records and every replica.
#   scripts/rolling-restart.sh [ROUNDS] [more arguments of `rookery check`]
# BAD too if a client waited more than 150 ms for an ack in more than one of 20 rounds (--max-gap-ms 150; a later one
# counts): that is what a planned hand-over may cost, new connections included. `--fault transfer` moves the leads alone.
# The last line begins with the verdict: GOOD (exit 0), BAD (1) or INCONCLUSIVE (2).
set -euo pipefail
rounds=${1:-20}
shift || true
. "$(dirname "${BASH_SOURCE[0]}")/check-lib.sh"
run_check rolling-restart --fault rolling --max-gap-ms 150 --rounds "$rounds" "$@"
