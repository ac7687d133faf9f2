"""What goes into the image, as contents.toml says."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DIRECTORY = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """Patterns are of pathlib's `glob`, relative to the root of the image, but `drop_python` to the packages' home."""

    # Debian package → what of it is kept, as its archive spells it.
    packages: Mapping[str, tuple[str, ...]]
    drop: tuple[str, ...]
    drop_python: tuple[str, ...]
    botocore_keep: tuple[str, ...]
    setuid: tuple[str, ...]
    builder_packages: tuple[str, ...]


def read_contents(path: Path = DIRECTORY / "contents.toml") -> Contents:
    """Raises what tomllib and a missing key raise: the file is ours."""
    table = tomllib.loads(path.read_text())
    return Contents(
        packages={name: tuple(row["keep"]) for name, row in table["packages"].items()},
        drop=tuple(table["drop"]),
        drop_python=tuple(table["drop-python"]),
        botocore_keep=tuple(table["botocore"]["keep"]),
        setuid=tuple(table["setuid"]),
        builder_packages=tuple(table["builder"]["packages"]),
    )
