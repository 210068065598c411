# shellcheck shell=bash
# Sourced by the fault scripts: finds or builds the program, runs `rookery check` within a bound, passes its exit on.
# ROOKERY names another program.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
rookery=${ROOKERY:-${CARGO_TARGET_DIR:-$root/target}/release/rookery}

build_rookery() {
    if [[ -z ${ROOKERY:-} ]]; then
        (cd "$root" && cargo build --release --bin rookery) >&2
    elif [[ ! -x $rookery ]]; then
        echo "there is no program $rookery (ROOKERY)" >&2
        exit 2
    fi
}

# run_check NAME ARGUMENTS…: the check cleans up after itself; should it hang, it is ended, and its nodes end with it, frozen ones
# too: timeout signals the whole group, with SIGCONT, and a node that loses its parent is continued and ends.
run_check() {
    local name=$1 rounds=20 at
    shift
    build_rookery
    for ((at = 1; at < $#; at++)); do
        if [[ ${!at} == --rounds ]]; then
            local value=$((at + 1))
            rounds=${!value}
        fi
    done
    # 30 s a round, three minutes around them.
    local code=0 out
    out=$(mktemp)
    timeout --signal=TERM --kill-after=10 $((rounds * 30 + 180)) "$rookery" check --name "$name" "$@" >"$out" || code=$?
    cat "$out"
    # Whatever happened, the last line is a verdict. The check itself ends with one; this is for one that cannot any more.
    if ((code == 124 || code == 137)); then
        echo "$name: BAD  not finished within $((rounds * 30 + 180)) s"
        code=1
    elif ! tail -n 1 "$out" | grep -q "^$name: "; then
        echo "$name: BAD  not judged: rookery check ended with $code"
        code=1
    fi
    rm -f "$out"
    return $code
}
