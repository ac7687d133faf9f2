"""Reads what the process was given: its user, its environment, the configuration file."""

from __future__ import annotations

import argparse
import os
import pwd
from collections.abc import Mapping, Sequence

from fluidfs.cli.parsing import table_flags
from fluidfs.config import LevelSpec, MountOptions
from fluidfs.config.mount_o import split_mount_options
from fluidfs.config.resolve import Caller, Given, absolute, resolve, resolve_levels
from fluidfs.errors import EnvironmentLacking, UsageError
from fluidfs.units import parse_duration, parse_size

_CONFIG_VARIABLE = "FLUIDFS_CONFIG"


def caller() -> Caller:
    """Who runs this process."""
    home = os.environ.get("HOME", "")
    if not home.startswith("/"):
        # As in a boot, where mount(8) runs without a home.
        home = _home_of(os.getuid())
    cache_home = os.environ.get("XDG_CACHE_HOME", "")
    try:
        directory = os.getcwd()
    except FileNotFoundError as error:
        raise EnvironmentLacking("the current directory does not exist any more: cd to another one") from error
    return Caller(
        uid=os.getuid(),
        gid=os.getgid(),
        home=home,
        directory=directory,
        cache_home=cache_home if cache_home.startswith("/") else f"{home.rstrip('/')}/.cache",
    )


def mount_options(
    args: argparse.Namespace, *, source: str, mountpoint: str, typed: Sequence[str] = (), sloppy: bool = False
) -> MountOptions:
    """The options of a command that has table flags. `typed` is what followed `-o`. Raises UsageError."""
    who = caller()
    config = getattr(args, "config", None) or _config_after_o(typed, sloppy) or os.environ.get(_CONFIG_VARIABLE, "")
    given = Given(
        flags=table_flags(args),
        mount_options=typed,
        environment=os.environ,
        file=read_config(absolute(config, who)) if config else {},
        file_name=config,
        sloppy=sloppy,
    )
    return resolve(source=source, mountpoint=mountpoint, given=given, caller=who)


def cache_levels(args: argparse.Namespace) -> tuple[LevelSpec, ...]:
    """The levels that `--cache` names, or those that a mount would use."""
    return resolve_levels(table_flags(args).get("cache") or [], environment=os.environ, caller=caller())


def duration_flag(flag: str, text: str) -> float:
    """The seconds that the value of `flag` says. Raises UsageError that names the flag."""
    try:
        return parse_duration(text)
    except UsageError as error:
        raise UsageError(f"{flag}: {error}") from error


def size_flag(flag: str, text: str) -> int:
    """The bytes that the value of `flag` says. Raises UsageError that names the flag."""
    try:
        return parse_size(text)
    except UsageError as error:
        raise UsageError(f"{flag}: {error}") from error


def count_flag(flag: str, text: str, *, most: int) -> int:
    """The number from 1 to `most` that the value of `flag` says. Raises UsageError that names the flag."""
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= most:
        raise UsageError(f"{flag}: {text!r} is not a number from 1 to {most}")
    return int(text)


def read_config(path: str) -> Mapping[str, object]:
    """The keys of a YAML file; every scalar stays the text that it is, so that all values are read in one place."""
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            # No tags, no types: this loader makes texts, lists and mappings only.
            content = yaml.load(file, Loader=yaml.BaseLoader)
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"--config {path}: not YAML: {' '.join(str(error).split())}") from error
    if content in (None, ""):
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"--config {path}: a mapping of option names to values is wanted")
    return content


def _config_after_o(typed: Sequence[str], sloppy: bool) -> str:
    pairs = (pair for text in typed for pair in split_mount_options(text, sloppy=sloppy))
    return next((value for name, value in pairs if name == "config"), "")


def _home_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_dir
    except KeyError:
        return "/"
