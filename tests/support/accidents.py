"""What may happen to the files of a cache while a daemon uses them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.support.cachefiles import data_files, map_files, slab_files

Accident = Callable[[Path], None]


def _cut(paths: list[Path], share: float) -> None:
    for path in paths:
        # The daemon may be removing it at this moment.
        with suppress(FileNotFoundError):
            os.truncate(path, int(path.stat().st_size * share))


def _remove(paths: list[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def remove_data(cache: Path) -> None:
    """The bytes of large objects lose their names."""
    _remove(data_files(cache))


def remove_maps(cache: Path) -> None:
    """What says which of their blocks are there goes."""
    _remove(map_files(cache))


def remove_slabs(cache: Path) -> None:
    """The bytes of small objects go, and what says where each lies."""
    _remove(slab_files(cache))
    _remove([path.with_suffix(".idx") for path in slab_files(cache)])


def cut_maps(cache: Path) -> None:
    """Maps, which a daemon has mapped, end before their end."""
    _cut(map_files(cache), 0.5)


def empty_maps(cache: Path) -> None:
    """Maps have no pages left."""
    _cut(map_files(cache), 0)


def cut_slabs(cache: Path) -> None:
    """Slabs lose the larger part of their bytes."""
    _cut(slab_files(cache), 0.3)


def cut_indexes(cache: Path) -> None:
    """Slabs lose half of their indexes."""
    _cut([path.with_suffix(".idx") for path in slab_files(cache)], 0.5)


def cut_data(cache: Path) -> None:
    """Large objects lose their second half. Not to be told from an end of file where the kernel reads by itself."""
    _cut(data_files(cache), 0.5)


def empty_data(cache: Path) -> None:
    """Large objects lose all their bytes. See `cut_data`."""
    _cut(data_files(cache), 0)


def remove_everything(cache: Path) -> None:
    """`rm -r` of the directory's content."""
    shutil.rmtree(cache / "v1", ignore_errors=True)


def forbid(cache: Path) -> None:
    """Nothing may be opened, made or removed by anybody but root. `permit` ends it."""
    for path in [*cache.rglob("*"), cache]:
        with suppress(FileNotFoundError):
            path.chmod(0)


def permit(cache: Path) -> None:
    """Ends `forbid`."""
    for path in [cache, *cache.rglob("*")]:
        with suppress(FileNotFoundError):
            path.chmod(0o700 if path.is_dir() else 0o600)


# What a cache must bear in every mode, one after the other and in any order. The daemon may have been reading the files
# when it happens.
ANY_TIME: tuple[Accident, ...] = (
    remove_data,
    remove_maps,
    remove_slabs,
    cut_maps,
    cut_indexes,
    empty_maps,
    remove_everything,
)
# Bytes that were compared with their checksum change: found out at once by whoever compares each time.
COMPARED: tuple[Accident, ...] = (cut_slabs, cut_data, empty_data)
