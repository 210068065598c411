#!/usr/bin/env bash
# Stops the leader of a loaded shard with SIGSTOP for some seconds and continues it, round after round (default 5,
# each at most 30 s), under load; then judges the clients' records and every replica.
#   scripts/pause.sh [ROUNDS] [more arguments of `rookery check`]
# No bound on ack gaps: a client of the frozen node waits until its own patience is over, which measures the client.
# The last line begins with the verdict: GOOD (exit 0), BAD (1) or INCONCLUSIVE (2).
set -euo pipefail
rounds=${1:-5}
shift || true
. "$(dirname "${BASH_SOURCE[0]}")/check-lib.sh"
run_check pause --fault pause --rounds "$rounds" "$@"
