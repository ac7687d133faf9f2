"""`fluidfs warm`: brings objects into the cache before they are read."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable

from fluidfs.cli.parsing import EXITS, Commands, add_table_flags, finish
from fluidfs.cli.settings import caller, count_flag, mount_options
from fluidfs.cli.terminal import Terminal, shown
from fluidfs.config import table
from fluidfs.config.resolve import absolute
from fluidfs.errors import ExitStatus, UsageError
from fluidfs.model import WarmProgress, WarmResult
from fluidfs.units import format_size

_MOST_PARALLEL = 256


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add(
        "warm",
        usage="[OPTIONS] PATH…",
        brief="fill the cache",
        summary=(
            "Brings what each PATH names into the cache. What is there already is not fetched again, so a\n"
            "warm-up that was interrupted goes on where it was. A PATH is a file, a directory or a pattern\n"
            "(*, ?, [a-z]; quoted, so that the shell leaves it alone) in a mount, or a URI, which needs no mount\n"
            "and takes the options of one. A URI that ends in / is all that is below it."
        ),
        examples=(
            ("fluidfs warm /mnt/data/train", "a directory of a mount"),
            ("fluidfs warm '/mnt/data/shards/*.tar' --parallel 16", "a pattern"),
            ("fluidfs warm s3://bucket/models/ --cache /ssd/f:200G", "a prefix, without a mount"),
            ("find list -name '*.txt' -exec cat {} + | fluidfs warm --file-list -", "paths from a pipe, one a line"),
        ),
        exits=(EXITS[0], EXITS[1], EXITS[2], (3, "some objects failed; they are listed on stderr"), *EXITS[3:]),
        run=run,
    )
    parser.add_argument_group("Arguments").add_argument(
        "paths", metavar="PATH", nargs="*", help="path in a mount, or URI"
    )
    group = parser.add_argument_group("Options")
    group.add_argument("--file-list", metavar="FILE", help="read more paths from FILE, one a line; - is stdin")
    group.add_argument("--metadata-only", action="store_true", help="names and sizes, no content")
    group.add_argument("--parallel", metavar="N", default="8", help="objects at a time [8]")
    add_table_flags(parser, table.STORE, table.CACHE, table.FETCHING)
    finish(parser, json=True)


def run(args: argparse.Namespace, terminal: Terminal) -> int:
    """Warms, mount by mount and source by source."""
    from fluidfs.cli.progress import ProgressBar
    from fluidfs.control.warming import warm_mount, warm_targets
    from fluidfs.daemon import warm_uri

    parallel = count_flag("--parallel", args.parallel, most=_MOST_PARALLEL)
    who = caller()
    paths = [*args.paths, *(_listed(args.file_list) if args.file_list is not None else ())]
    if not paths:
        raise UsageError("warm: nothing to warm, give a PATH or --file-list (`fluidfs warm --help` shows how)")
    targets = warm_targets(
        [path if "://" in path else absolute(path, who) for path in paths], environment=os.environ, uid=os.geteuid()
    )
    results = []
    with ProgressBar("warming", stream=terminal.err) as bar:

        def report(progress: WarmProgress) -> None:
            note = f"{progress.objects_done:,} of {progress.objects_total or '?'} objects"
            bar.update(progress.bytes_done, progress.bytes_total, note=note)

        async def report_async(progress: WarmProgress) -> None:
            report(progress)

        for target in targets:
            request = target.request(metadata_only=args.metadata_only, parallel=parallel)
            if target.mount is not None:
                results.append(warm_mount(target.mount, request, report))
            else:
                import trio

                options = mount_options(args, source=target.source, mountpoint="")
                results.append(trio.run(warm_uri, options, request, report_async))
    return _print(_sum(results), args.json, terminal)


def _sum(results: Iterable[WarmResult]) -> WarmResult:
    listed = list(results)
    return WarmResult(
        objects=sum(result.objects for result in listed),
        bytes_fetched=sum(result.bytes_fetched for result in listed),
        bytes_present=sum(result.bytes_present for result in listed),
        failures=tuple(failure for result in listed for failure in result.failures),
    )


def _print(result: WarmResult, as_json: bool, terminal: Terminal) -> int:
    if as_json:
        terminal.json(
            {
                "objects": result.objects,
                "bytes_fetched": result.bytes_fetched,
                "bytes_present": result.bytes_present,
                "failures": [{"path": path, "why": why} for path, why in result.failures],
            }
        )
    else:
        terminal.fact(
            f"{result.objects:,} objects: {format_size(result.bytes_fetched)} fetched, "
            f"{format_size(result.bytes_present)} were there already"
        )
        for path, why in result.failures:
            terminal.say(f"failed: {shown(path)}: {shown(why)}")
    return ExitStatus.PARTLY if result.failures else ExitStatus.DONE


def _listed(name: str) -> list[str]:
    """The lines of a file or of stdin that are not empty."""
    try:
        if name == "-":
            lines = sys.stdin.buffer.read().split(b"\n")
        else:
            with open(name, "rb") as file:
                lines = file.read().split(b"\n")
    except OSError as error:
        raise UsageError(f"--file-list {name}: {error.strerror}") from error
    return [os.fsdecode(line.removesuffix(b"\r")) for line in lines if line.strip()]
