"""The command line of the benchmark: `make bench`, or `python -m benchmarks` with options."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import benchmarks.cold.run
import benchmarks.warm.run
from benchmarks.clients.base import BenchError
from benchmarks.cold.metrics import METRICS as COLD_METRICS
from benchmarks.metric import Metric
from benchmarks.result import Outcome, Run
from benchmarks.settings import Settings
from benchmarks.stage import Report
from benchmarks.warm.metrics import METRICS as WARM_METRICS
from benchmarks.warm.rows import ALL_FAMILIES, FAMILIES

MIB = 1024**2
OUTPUT = Path("docs/benchmark")
# Figures of next to no data are not for publishing.
QUICK_OUTPUT = Path("build/benchmark")


class Measure(Protocol):
    """Runs a suite."""

    def __call__(self, settings: Settings, *, report: Report, after_round: Callable[[Outcome], None]) -> None:
        """Raises BenchError if it cannot be run here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """`optional` clients take part when asked for; `file` is what its output is called; seconds, of a random read."""

    run: Measure
    metrics: tuple[Metric, ...]
    clients: tuple[str, ...]
    optional: tuple[str, ...]
    file: str
    rounds: int
    seconds: float
    quick_rounds: int
    quick_seconds: float


SUITES = {
    "cold": Suite(
        run=benchmarks.cold.run.run,
        metrics=COLD_METRICS,
        clients=benchmarks.cold.run.NAMES,
        optional=(),
        file="benchmark",
        rounds=5,
        seconds=4.0,
        quick_rounds=1,
        quick_seconds=1.0,
    ),
    "warm": Suite(
        run=benchmarks.warm.run.run,
        metrics=WARM_METRICS,
        clients=FAMILIES,
        optional=tuple(name for name in ALL_FAMILIES if name not in FAMILIES),
        file="warm",
        rounds=7,
        seconds=0.5,
        quick_rounds=1,
        quick_seconds=0.3,
    ),
}


def main() -> int:
    options = _parse()
    if os.geteuid() != 0:
        print("bench: needs root, to drop the page cache between reads: sudo make bench", file=sys.stderr)
        return 4
    started = time.monotonic()

    def report(line: str) -> None:
        print(f"bench: {time.monotonic() - started:5.0f} s  {line}", file=sys.stderr, flush=True)

    for name in options.suites:
        report(f"the {name} suite")
        try:
            _measure(SUITES[name], options, report)
        except KeyboardInterrupt:
            report("interrupted; what is known is in the output files")
            return 1
        except BenchError as error:
            report(str(error))
            return 4
    return 0


def _measure(suite: Suite, options: argparse.Namespace, report: Report) -> None:
    output: Path = options.output or (QUICK_OUTPUT if options.quick else OUTPUT)
    output.mkdir(parents=True, exist_ok=True)
    last: list[Outcome] = []

    def write(outcome: Outcome) -> None:
        (output / f"{suite.file}.json").write_text(json.dumps(outcome.facts, indent=1, default=str) + "\n")
        (output / f"{suite.file}.md").write_text(outcome.markdown)
        last[:] = [outcome]

    suite.run(_settings(suite, options), report=report, after_round=write)
    for outcome in last:
        _draw(outcome.run, output / f"{suite.file}.svg")
        print(outcome.markdown)
        for line in _failures(outcome.run):
            report(line)


def _failures(run: Run) -> Iterator[str]:
    """A line for each reason that a client's figures are missing for, the metrics together that share it."""
    for client, rounds in run.rounds.items():
        keys: dict[str, list[str]] = {}
        for key, value in {key: value for results in rounds for key, value in results.items()}.items():
            if isinstance(value, str):
                keys.setdefault(value, []).append(key)
        for reason, found in keys.items():
            yield f"{client}: {reason} ({', '.join(found)})"


def _draw(run: Run, path: Path) -> None:
    try:
        from benchmarks.plot import draw

        draw(run, path)
    except ImportError:
        print("bench: no picture without matplotlib: pip install matplotlib", file=sys.stderr)


def _settings(suite: Suite, options: argparse.Namespace) -> Settings:
    wanted = options.clients.split(",") if options.clients else list(suite.clients)
    only = set(options.only.split(",")) if options.only else set()
    quick = options.quick
    return Settings(
        clients=tuple(name for name in wanted if name in (*suite.clients, *suite.optional)),
        only=frozenset(only.intersection(metric.key for metric in suite.metrics)),
        rounds=options.rounds or (suite.quick_rounds if quick else suite.rounds),
        large_bytes=(options.size or (128 if quick else 1024)) * MIB,
        small_files=options.small_files or (1_000 if quick else 10_000),
        names=options.names or (10_000 if quick else 100_000),
        random_seconds=options.seconds or (suite.quick_seconds if quick else suite.seconds),
        work=options.work,
    )


def _parse() -> argparse.Namespace:
    keys = {name: [metric.key for metric in suite.metrics] for name, suite in SUITES.items()}
    clients = list(dict.fromkeys(name for suite in SUITES.values() for name in (*suite.clients, *suite.optional)))
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures fluidfs beside other clients and beside the limits.",
        epilog=" ".join(f"Metrics of {name}: {', '.join(found)}." for name, found in keys.items()),
    )
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"{' or '.join(SUITES)} (default: both)")
    parser.add_argument(
        "--clients", default="", help=f"comma-separated, of {','.join(clients)} (default: all but python)"
    )
    parser.add_argument("--only", default="", metavar="METRICS", help="comma-separated keys of metrics (default: all)")
    parser.add_argument("--rounds", type=int, help="interleaved rounds (default: cold 5, warm 7)")
    parser.add_argument("--size", type=int, metavar="MIB", help="of the large file (default: 1024)")
    parser.add_argument("--small-files", type=int, help="of 100 KiB (default: 10000)")
    parser.add_argument("--names", type=int, help="objects for find (default: 100000)")
    parser.add_argument("--seconds", type=float, help="of each random read (default: cold 4, warm 0.5)")
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(tempfile.gettempdir()),
        help="a directory on a disk: the caches of cold, the store of warm (default: %(default)s)",
    )
    parser.add_argument("--output", type=Path, help=f"directory (default: {OUTPUT}; {QUICK_OUTPUT} with --quick)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the data, few rounds, to see that it works")
    options = parser.parse_args()
    if unknown := set(options.suites) - set(SUITES):
        parser.error(f"no such suite: {', '.join(sorted(unknown))}; there are {', '.join(SUITES)}")
    options.suites = options.suites or list(SUITES)
    if unknown := set(options.clients.split(",")) - {*clients, ""}:
        parser.error(f"no such client: {', '.join(sorted(unknown))}; there are {', '.join(clients)}")
    if unknown := set(options.only.split(",")) - {*(key for found in keys.values() for key in found), ""}:
        parser.error(f"no such metric: {', '.join(sorted(unknown))}")
    if options.only:
        # A suite of which no metric is asked for is left out; to it no metrics would mean all.
        options.suites = [name for name in options.suites if set(options.only.split(",")).intersection(keys[name])]
    if options.clients:
        wanted = set(options.clients.split(","))
        options.suites = [
            name for name in options.suites if wanted.intersection((*SUITES[name].clients, *SUITES[name].optional))
        ]
    return options


if __name__ == "__main__":
    sys.exit(main())
