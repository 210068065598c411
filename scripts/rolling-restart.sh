#!/usr/bin/env bash
# Restarts one node after another in an orderly way (SIGTERM), round after round (default 2, each at most 30 s), under
# load; then judges the clients' records and every replica.
#   scripts/rolling-restart.sh [ROUNDS] [more arguments of `rookery check`]
# BAD too if a client waited more than a second for an ack in more than one of 20 rounds (--max-gap-ms 1000; a later one
# counts).
# The last line begins with the verdict: GOOD (exit 0), BAD (1) or INCONCLUSIVE (2).
set -euo pipefail
rounds=${1:-2}
shift || true
. "$(dirname "${BASH_SOURCE[0]}")/check-lib.sh"
run_check rolling-restart --fault rolling --max-gap-ms 1000 --rounds "$rounds" "$@"
