"""The command line of the benchmark: `make bench`, or `python -m benchmarks` with options."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.metrics import METRICS
from benchmarks.result import Run
from benchmarks.run import NAMES, Settings, is_allowed, run

MIB = 1024**2


def main() -> int:
    options = _parse()
    if not is_allowed():
        print("bench: needs root, to drop the page cache between reads: sudo make bench", file=sys.stderr)
        return 4
    settings = Settings(
        clients=tuple(options.clients.split(",")),
        only=frozenset(options.only.split(",")) if options.only else frozenset(),
        rounds=options.rounds,
        large_bytes=options.size * MIB,
        small_files=options.small_files,
        names=options.names,
        random_seconds=options.seconds,
        work=options.work,
    )
    started = time.monotonic()

    def report(line: str) -> None:
        print(f"bench: {time.monotonic() - started:5.0f} s  {line}", file=sys.stderr, flush=True)

    def write(result: Run) -> None:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "benchmark.json").write_text(json.dumps(result.facts(), indent=1, default=str) + "\n")
        (options.output / "benchmark.md").write_text(result.markdown())

    try:
        result = run(settings, report=report, after_round=write)
    except KeyboardInterrupt:
        report("interrupted; what is known is in the output files")
        return 1
    _draw(result, options.output)
    print(result.markdown())
    for client, rounds in result.rounds.items():
        for key, value in {key: value for results in rounds for key, value in results.items()}.items():
            if isinstance(value, str):
                report(f"{client}, {key}: {value}")
    return 0


def _draw(result: Run, output: Path) -> None:
    try:
        from benchmarks.plot import draw

        draw(result, output / "benchmark.svg")
    except ImportError:
        print("bench: no picture without matplotlib: pip install matplotlib", file=sys.stderr)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures fluidfs beside other clients and beside the limits.",
        epilog="metrics: " + ", ".join(metric.key for metric in METRICS),
    )
    parser.add_argument("--clients", default=",".join(NAMES), help="comma-separated (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="METRICS", help="comma-separated keys of metrics (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: %(default)s)")
    parser.add_argument(
        "--size", type=int, default=1024, metavar="MIB", help="of the large file (default: %(default)s)"
    )
    parser.add_argument("--small-files", type=int, default=10_000, help="of 100 KiB (default: %(default)s)")
    parser.add_argument("--names", type=int, default=100_000, help="objects for find (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each random read (default: %(default)s)")
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()), help="where caches lie (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, default=Path("docs/benchmark"), help="directory (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the data, 1 round, to see that it works")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.size, options.small_files, options.names, options.seconds = 1, 128, 1_000, 10_000, 1.0
    unknown = set(options.clients.split(",")) - set(NAMES)
    if unknown:
        parser.error(f"no such client: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    keys = {metric.key for metric in METRICS}
    if options.only and (unknown := set(options.only.split(",")) - keys):
        parser.error(f"no such metric: {', '.join(sorted(unknown))}")
    return options


if __name__ == "__main__":
    sys.exit(main())
