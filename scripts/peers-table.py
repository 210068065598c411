"""What scripts/bench-peers.sh measured, in words: settings, each run as it comes, and the table at the end.

    peers-table.py --runs FILE --format text|markdown settings < LINES
    peers-table.py --runs FILE --format text|markdown run ROUND SHAPE SYSTEM PROMISE REPORT
    peers-table.py --runs FILE --format text|markdown table        (exits with 1 where a run failed)
    peers-table.py --check                                         (its own tests)

REPORT is the driver's JSON, or `null` for a run that failed.
"""

import argparse
import json
import statistics
import sys

HEAD = ("load", "system", "acknowledged means", "acked/s", "lowest–highest", "p50 ms", "p99 ms", "Rookery ÷ it", "by round", "runs")


def rows(runs):
    """A row for each load and system, in the order in which they came: medians over the rounds that did not fail.

    >>> one = lambda round, system, rate: {"round": round, "shape": "1x1", "system": system, "promise": "synced",
    ...     "report": rate and {"acked_per_second": rate, "p50_ms": 1.0, "p99_ms": 2.0}}
    >>> for row in rows([one(1, "rookery", 200.0), one(1, "other", 100.0), one(2, "other", None), one(2, "rookery", 300.0)]):
    ...     print(*row, sep=" | ")
    1 × 1 | rookery | synced | 250 | 200–300 | 1.00 | 2.00 | 1 |  | 2 of 2
    1 × 1 | other | synced | 100 | 100–100 | 1.00 | 2.00 | 2.50 | 2.00–2.00 | 1 of 2
    >>> print(*rows([one(1, "rookery", 200.0), one(1, "other", None)])[1], sep=" | ")
    1 × 1 | other | synced | failed |  |  |  |  |  | 0 of 1
    """
    loads = {}
    for run in runs:
        loads.setdefault(run["shape"], {}).setdefault(run["system"], []).append(run)
    made = []
    for shape, systems in loads.items():
        ours = rates(systems.get("rookery", []))
        for system, all_runs in sorted(systems.items(), key=lambda item: item[0] != "rookery"):
            theirs = rates(all_runs)
            head = (shape.replace("x", " × "), system, all_runs[0]["promise"])
            count = f"{len(theirs)} of {len(all_runs)}"
            if not theirs:
                made.append((*head, "failed", "", "", "", "", "", count))
                continue
            middle = statistics.median(theirs.values())
            span = f"{min(theirs.values()):,.0f}–{max(theirs.values()):,.0f}"
            made.append((*head, f"{middle:,.0f}", span, *latencies(all_runs), *ratios(system, ours, theirs), count))
    return made


def rates(runs):
    """Acknowledged messages a second, by round."""
    return {run["round"]: run["report"]["acked_per_second"] for run in runs if run["report"]}


def latencies(runs):
    """Medians over the rounds of the median and the 99th percentile."""
    reports = [run["report"] for run in runs if run["report"]]
    return [f"{statistics.median(report[name] for report in reports):.2f}" for name in ("p50_ms", "p99_ms")]


def ratios(system, ours, theirs):
    """Rookery's median over theirs, and the span of the ratios within a round."""
    if system == "rookery" or not ours:
        return ("1" if ours else "", "")
    each = [ours[at] / theirs[at] for at in theirs if at in ours and theirs[at]]
    middle = statistics.median(theirs.values())
    whole = f"{statistics.median(ours.values()) / middle:.2f}" if middle else "∞"
    return (whole, f"{min(each):.2f}–{max(each):.2f}" if each else "")


def told(made, markdown):
    """The table's lines."""
    if markdown:
        return [f"| {' | '.join(row)} |" for row in (HEAD, ["---"] * len(HEAD), *made)]
    widths = [max(map(len, column)) for column in zip(HEAD, *made)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in (HEAD, *made)]


def run_line(run):
    """One run in words."""
    report = run["report"]
    name = f"{run['shape']:>6}  {run['system']:<13}"
    if not report:
        return f"{name} FAILED"
    return (
        f"{name} {report['acked_per_second']:>9.0f} acked/s  p50 {report['p50_ms']:>7.2f} ms  p99 {report['p99_ms']:>7.2f} ms"
        f"  there afterwards {report['read_back']} of {report['acked_in_all']}, seed {report['seed']}"
    )


def main():
    """Settings and the table go to stdout, with Markdown also what it is not: runs go to stderr then."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--runs")
    parser.add_argument("--format", choices=("text", "markdown"), default="text")
    parser.add_argument("act", nargs="*")
    args = parser.parse_args()
    if args.check:
        import doctest

        failed, tried = doctest.testmod()
        sys.exit(0 if tried and not failed else 1)
    markdown = args.format == "markdown"
    match args.act:
        case ["settings"]:
            for line in sys.stdin:
                print(f"- {line.rstrip()}" if markdown else line.rstrip())
            print(flush=True)
        case ["run", round_, shape, system, promise, report]:
            run = {"round": int(round_), "shape": shape, "system": system, "promise": promise, "report": json.loads(report)}
            with open(args.runs, "a", encoding="utf-8") as file:
                file.write(json.dumps(run) + "\n")
            print(run_line(run), file=sys.stderr if markdown else sys.stdout, flush=True)
        case ["table"]:
            with open(args.runs, encoding="utf-8") as file:
                runs = [json.loads(line) for line in file]
            print("" if markdown else "\n", end="")
            print("\n".join(told(rows(runs), markdown)))
            lost = [run for run in runs if not run["report"]]
            if lost:
                print(f"bench-peers: {len(lost)} of {len(runs)} runs FAILED", file=sys.stderr)
                sys.exit(1)
        case _:
            parser.error("settings, run or table")


if __name__ == "__main__":
    main()
