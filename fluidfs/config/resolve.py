"""From what was given in four places to one MountOptions: flag before environment before file before default."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fluidfs.config.checks import refuse_cache_in_mount, refuse_foolish_mixes
from fluidfs.config.mount_o import split_mount_options, suggestion
from fluidfs.config.parsers import level
from fluidfs.config.table import BY_NAME, OPTIONS, Option
from fluidfs.config.values import DEFAULT_MEMORY_BYTES, DEFAULT_READAHEAD_BYTES, Addressing, LevelSpec, MountOptions
from fluidfs.errors import UsageError

Text = str | Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The four places, unread. Keys of `flags` are names of the table; a switch is "true" or "false".

    `file` is the content of the configuration file, all scalars still text; `file_name` is for messages.
    """

    flags: Mapping[str, Text] = field(default_factory=dict)
    mount_options: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    file: Mapping[str, object] = field(default_factory=dict)
    file_name: str = ""
    sloppy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who runs the command, and from where. `cache_home` is `$XDG_CACHE_HOME` or what stands for it; paths are
    absolute.
    """

    uid: int
    gid: int
    home: str
    directory: str
    cache_home: str


@dataclass(frozen=True, slots=True)
class Found:
    """A value and where it came from. `rank` is 0 for a flag and grows with the distance from the person."""

    value: Any
    rank: int
    origin: str


def resolve(*, source: str, mountpoint: str, given: Given, caller: Caller) -> MountOptions:
    """The options of one mount. Raises UsageError that names the place of a bad value."""
    found = _read_all(given, caller)
    addressing = _addressing(found)
    refuse_foolish_mixes({name: (item.value, item.origin) for name, item in found.items()}, source=source)
    values = {
        BY_NAME[name].field: item.value for name, item in found.items() if name not in ("path-style", "virtual-style")
    }
    values.setdefault("uid", caller.uid)
    values.setdefault("gid", caller.gid)
    values.setdefault("cache", (LevelSpec(posixpath.join(caller.cache_home, "fluidfs")),))
    # Only a window that was asked for may be at odds with the memory.
    half_bytes = values.get("memory_bytes", DEFAULT_MEMORY_BYTES) // 2
    values.setdefault("readahead_bytes", min(DEFAULT_READAHEAD_BYTES, half_bytes))
    if mountpoint:
        mountpoint = absolute(mountpoint, caller)
        refuse_cache_in_mount(values["cache"], mountpoint)
    return MountOptions(
        source=source,
        mountpoint=mountpoint,
        addressing=addressing,
        **values,
    )


def resolve_levels(texts: Sequence[str], *, environment: Mapping[str, str], caller: Caller) -> tuple[LevelSpec, ...]:
    """The cache levels that a command without a mount works on: those given, else `FLUIDFS_CACHE`, else the default."""
    given = Given(flags={"cache": list(texts)} if texts else {}, environment=environment)
    found = _read(BY_NAME["cache"], _places(given), caller)
    return found.value if found else (LevelSpec(posixpath.join(caller.cache_home, "fluidfs")),)


def absolute(path: str, caller: Caller) -> str:
    """`path` seen from the caller's directory, `~` being his home. Symbolic links are left alone."""
    if path == "~" or path.startswith("~/"):
        path = caller.home + path[1:]
    joined = posixpath.normpath(posixpath.join(caller.directory, path))
    # POSIX lets two leading slashes mean something; Linux does not.
    return "/" + joined.lstrip("/")


def _read_all(given: Given, caller: Caller) -> dict[str, Found]:
    places = _places(given)
    results = ((option.name, _read(option, places, caller)) for option in OPTIONS)
    return {name: found for name, found in results if found is not None}


def _places(given: Given) -> list[Mapping[str, tuple[Text, str]]]:
    """Name → (text, origin) for each place, the strongest first."""
    typed: dict[str, tuple[Text, str]] = {}
    for text in given.mount_options:
        for name, value in split_mount_options(text, sloppy=given.sloppy):
            if name in BY_NAME and BY_NAME[name].repeatable and name in typed:
                typed[name] = ([*_as_list(typed[name][0]), value], typed[name][1])
            else:
                typed[name] = (value, f"-o {name}")
    flags = {name: (text, f"--{name}") for name, text in given.flags.items()}
    environment = {
        option.name: (
            given.environment[option.variable].split(",") if option.repeatable else given.environment[option.variable],
            f"environment {option.variable}",
        )
        for option in OPTIONS
        if given.environment.get(option.variable)
    }
    # A flag and an -o of the same name have one rank, and the flag is the more deliberate of the two.
    return [{**typed, **flags}, environment, _from_file(given)]


def _from_file(given: Given) -> dict[str, tuple[Text, str]]:
    place: dict[str, tuple[Text, str]] = {}
    for key, value in given.file.items():
        name = str(key).replace("_", "-")
        origin = f"{given.file_name}: {key}"
        option = BY_NAME.get(name)
        if option is None:
            raise UsageError(f"{origin}: no such option{suggestion(name)}")
        if isinstance(value, str) or (
            isinstance(value, list) and option.repeatable and all(isinstance(item, str) for item in value)
        ):
            place[name] = (value, origin)
        else:
            raise UsageError(
                f"{origin}: {'a value or a list of values' if option.repeatable else 'one value'} is wanted"
            )
    return place


def _read(option: Option, places: Sequence[Mapping[str, tuple[Text, str]]], caller: Caller) -> Found | None:
    for rank, place in enumerate(places):
        if option.name not in place:
            continue
        text, origin = place[option.name]
        try:
            if option.repeatable:
                levels = tuple(level(item) for item in _as_list(text))
                return Found(tuple(replace(item, path=absolute(item.path, caller)) for item in levels), rank, origin)
            value = option.parse(_as_list(text)[-1])
        except UsageError as error:
            raise UsageError(f"{origin}: {error}") from error
        return Found(absolute(value, caller) if option.path else value, rank, origin)
    return None


def _addressing(found: Mapping[str, Found]) -> Addressing | None:
    """Path and virtual style are one setting with two names: the stronger place decides, one place may not say both."""
    styles: tuple[Addressing, ...] = ("path", "virtual")
    wanted = {style: found[f"{style}-style"] for style in styles if f"{style}-style" in found}
    wanted = {style: item for style, item in wanted.items() if item.value}
    if len(wanted) == 2 and wanted["path"].rank == wanted["virtual"].rank:
        raise UsageError(
            f"{wanted['path'].origin} and {wanted['virtual'].origin}: a bucket is addressed in one way, leave one out"
        )
    if len(wanted) == 2:
        return min(wanted, key=lambda style: wanted[style].rank)
    return next(iter(wanted), None)


def _as_list(text: Text) -> list[str]:
    return [text] if isinstance(text, str) else list(text)
