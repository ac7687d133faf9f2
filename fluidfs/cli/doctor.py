"""`fluidfs doctor`: what this machine and a source can do, and what to change."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fluidfs.cli.parsing import Commands, add_table_flags, finish
from fluidfs.cli.settings import mount_options
from fluidfs.cli.terminal import Terminal, shown
from fluidfs.config import table
from fluidfs.errors import ExitStatus

if TYPE_CHECKING:
    from fluidfs.doctor.check import Check

_SIGNS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


def add(commands: Commands) -> None:
    """Adds the command."""
    parser = commands.add(
        "doctor",
        usage="[OPTIONS] [SOURCE]",
        brief="what this machine can do, and what to change",
        summary=(
            "Checks what a mount needs of this machine; with SOURCE also whether it answers, how fast, and which of\n"
            "its keys no file system can show. Changes nothing, prints no secret."
        ),
        examples=(
            ("fluidfs doctor", "the machine and the default cache"),
            ("fluidfs doctor s3://bucket/data --endpoint-url http://127.0.0.1:9000", "and a source"),
        ),
        exits=(
            (0, "nothing that a mount needs is missing (there may be warnings)"),
            (1, "the source failed"),
            (2, "wrong usage"),
            (4, "the machine lacks something that a mount needs"),
            (130, "interrupted"),
        ),
        run=run,
    )
    group = parser.add_argument_group("Arguments")
    group.add_argument("source", metavar="SOURCE", nargs="?", help="s3://BUCKET[/PREFIX] or file:///DIRECTORY")
    add_table_flags(parser, table.STORE, table.CACHE)
    finish(parser, json=True)


def run(args: argparse.Namespace, terminal: Terminal) -> int:
    """Checks, and prints each result as soon as there is one."""
    checks = []
    for group, check in _checks(args):
        checks.append((group, check))
        if not args.json:
            terminal.fact(f"{_SIGNS[check.state]}  {shown(check.name):<18}  {shown(check.found)}")
            if check.advice:
                terminal.fact(f"{'':<26}→ {shown(check.advice)}")
    if args.json:
        from dataclasses import asdict

        terminal.json([{"group": group, **asdict(check)} for group, check in checks])
    failed = {group for group, check in checks if check.state == "fail"}
    if "machine" in failed:
        return ExitStatus.ENVIRONMENT
    return ExitStatus.FAILED if failed else ExitStatus.DONE


def _checks(args: argparse.Namespace) -> Iterator[tuple[str, Check]]:
    from fluidfs.doctor.cache import cache_checks
    from fluidfs.doctor.credentials import credentials_check
    from fluidfs.doctor.machine import machine_checks

    options = mount_options(args, source=args.source or "s3://", mountpoint="")
    for check in (*machine_checks(os.environ), *cache_checks(options.cache)):
        yield "machine", check
    is_s3 = options.source.startswith("s3:")
    if is_s3:
        needed = args.source is not None
        check = credentials_check(profile=options.profile, anonymous=options.anonymous, needed=needed)
        yield "source", check
        if check.state == "fail":
            return  # the source would say the same
    if args.source is not None:
        from fluidfs.doctor.source import source_checks

        for check in source_checks(options):
            yield "source", check
