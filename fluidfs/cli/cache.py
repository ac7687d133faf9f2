"""`fluidfs cache`: the node's cache, whether or not a daemon runs."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from fluidfs.cli.parsing import Commands, Parser, add_table_flags, finish
from fluidfs.cli.progress import ProgressBar
from fluidfs.cli.settings import cache_levels, size_flag
from fluidfs.cli.terminal import Terminal, shown
from fluidfs.config import table
from fluidfs.errors import ExitStatus, UsageError
from fluidfs.units import format_duration, format_size

if TYPE_CHECKING:
    from fluidfs.cache.maintenance import CachedVersion

Step = Callable[[argparse.Namespace, Terminal], int]

_BAD_SHOWN = 20


def add(commands: Commands) -> None:
    """Adds the command and its four subcommands."""
    parser = commands.add(
        "cache",
        usage="COMMAND [OPTIONS]",
        brief="list, verify, evict and tidy the cache",
        summary="Works on cache directories, whether or not a daemon uses them meanwhile.",
        examples=(
            ("fluidfs cache ls", "what is cached"),
            ("fluidfs cache evict --to 50G", "make room"),
        ),
    )
    subcommands = Commands(parser, dest="subcommand")
    _add(
        subcommands,
        "ls",
        ls,
        brief="what is cached",
        summary="Lists the object versions in the cache, the last used first.",
        examples=(
            ("fluidfs cache ls", "the default cache"),
            ("fluidfs cache ls --cache /ssd/f --json", "another, for a program"),
        ),
    )
    _add(
        subcommands,
        "verify",
        verify,
        brief="compare all blocks with their checksums",
        summary="Compares every complete block with its checksum. Bad ones are dropped, to be fetched again.",
        examples=(("fluidfs cache verify", "the default cache"),),
        exits=(
            (0, "all good"),
            (1, "bad blocks were found and dropped, or the cache cannot be read"),
            (2, "wrong usage"),
        ),
    )
    _add(
        subcommands,
        "evict",
        evict,
        brief="make room",
        summary="Removes object versions, the longest unused first; those in use stay. Asks nothing, says what it did.",
        examples=(
            ("fluidfs cache evict --to 50G", "until at most 50 GiB are used"),
            ("fluidfs cache evict --match 'train/*.tar'", "objects whose key matches"),
            ("fluidfs cache evict --all", "everything"),
        ),
        flags=_evict_flags,
    )
    _add(
        subcommands,
        "gc",
        gc,
        brief="remove what is left over, recount the usage",
        summary="Removes files that no version needs, as a crash may leave them, and counts the usage anew.",
        examples=(("fluidfs cache gc", "the default cache"),),
    )
    finish(parser)


def ls(args: argparse.Namespace, terminal: Terminal) -> int:
    """Lists."""
    from dataclasses import asdict

    from fluidfs.cache.maintenance import level_usage, list_versions

    facts = []
    for level in cache_levels(args):
        versions = sorted(list_versions(level), key=lambda version: version.last_use_s, reverse=True)
        usage = level_usage(level)
        facts.append(
            {"path": level.path, "usage": asdict(usage), "versions": [asdict(version) for version in versions]}
        )
        if args.json:
            continue
        terminal.fact(f"{shown(level.path)}: {format_size(usage.used_bytes)} of {format_size(usage.quota_bytes)} used")
        if versions:
            head = ("SIZE", "CACHED", "UNUSED", "STATE", "OBJECT")
            terminal.table([head, *(_row(version) for version in versions)], right=frozenset({0, 1, 2}))
    if args.json:
        terminal.json(facts)
    return ExitStatus.DONE


def verify(args: argparse.Namespace, terminal: Terminal) -> int:
    """Verifies."""
    from dataclasses import asdict

    from fluidfs.cache.maintenance import verify as verify_level

    facts = []
    for level in cache_levels(args):
        with ProgressBar(f"verifying {shown(level.path)}", stream=terminal.err) as bar:
            report = verify_level(level, progress=bar.update)
        facts.append({"path": level.path, **asdict(report)})
        if args.json:
            continue
        terminal.fact(
            f"{shown(level.path)}: {report.blocks_checked:,} blocks, {format_size(report.bytes_checked)} in "
            f"{report.versions:,} versions checked, {report.blocks_bad:,} bad"
        )
        for name in report.bad[:_BAD_SHOWN]:
            terminal.say(f"bad, dropped: {shown(name)}")
        if len(report.bad) > _BAD_SHOWN:
            terminal.say(f"and {len(report.bad) - _BAD_SHOWN:,} more (--json lists all)")
    if args.json:
        terminal.json(facts)
    return ExitStatus.FAILED if any(fact["blocks_bad"] for fact in facts) else ExitStatus.DONE


def evict(args: argparse.Namespace, terminal: Terminal) -> int:
    """Evicts."""
    from dataclasses import asdict

    from fluidfs.cache.maintenance import evict as evict_level

    if sum((args.all, args.to is not None, args.match is not None)) != 1:
        raise UsageError("cache evict: say what, with one of --all, --to SIZE and --match PATTERN")
    target_bytes = size_flag("--to", args.to) if args.to is not None else None
    facts = []
    for level in cache_levels(args):
        report = evict_level(level, target_bytes=target_bytes, pattern=args.match, everything=args.all)
        facts.append({"path": level.path, **asdict(report)})
        if not args.json:
            kept = f"; {report.in_use_kept:,} are in use and stay" if report.in_use_kept else ""
            freed = f"{report.versions:,} versions evicted, {format_size(report.bytes_freed)} freed"
            terminal.fact(f"{shown(level.path)}: {freed}{kept}")
    if args.json:
        terminal.json(facts)
    return ExitStatus.DONE


def gc(args: argparse.Namespace, terminal: Terminal) -> int:
    """Collects."""
    from dataclasses import asdict

    from fluidfs.cache.maintenance import collect

    facts = []
    for level in cache_levels(args):
        report = collect(level)
        facts.append({"path": level.path, **asdict(report)})
        if not args.json:
            terminal.fact(
                f"{shown(level.path)}: {report.orphans_removed:,} left-over files removed, "
                f"{format_size(report.bytes_freed)} freed; usage counted as {format_size(report.usage_after_bytes)}, "
                f"was {format_size(report.usage_before_bytes)}"
            )
    if args.json:
        terminal.json(facts)
    return ExitStatus.DONE


def _add(
    commands: Commands,
    name: str,
    run: Step,
    *,
    brief: str,
    summary: str,
    examples: Sequence[tuple[str, str]],
    exits: Sequence[tuple[int, str]] = ((0, "done"), (1, "the cache cannot be read or written"), (2, "wrong usage")),
    flags: Callable[[Parser], None] | None = None,
) -> None:
    parser = commands.add(
        name, usage="[OPTIONS]", brief=brief, summary=summary, examples=examples, exits=exits, run=run
    )
    if flags is not None:
        flags(parser)
    add_table_flags(parser, table.CACHE, only=("cache",), config=False)
    finish(parser, json=True)


def _evict_flags(parser: Parser) -> None:
    group = parser.add_argument_group("What to evict (one of these)")
    group.add_argument("--all", action="store_true", help="everything")
    group.add_argument("--to", metavar="SIZE", help="until the level uses at most SIZE")
    group.add_argument("--match", metavar="PATTERN", help="object keys that match, * and ? as in a shell")


def _row(version: CachedVersion) -> tuple[str, ...]:
    share = version.cached_bytes / version.size_bytes if version.size_bytes else 1.0
    state = ["sealed"] if version.sealed else []
    state += ["in use"] if version.in_use else []
    return (
        format_size(version.size_bytes),
        f"{share * 100:.0f} %",
        format_duration(max(time.time() - version.last_use_s, 0.0)),
        ", ".join(state) or "partial",
        shown(f"{version.store}/{version.key}"),
    )
