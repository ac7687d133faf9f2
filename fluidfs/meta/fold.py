"""Folds a flat run of keys, in their order, into the listings of the directories that it covers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fluidfs.errors import StoreError
from fluidfs.meta.keys import HiddenKey, WhyHidden, component_problem
from fluidfs.meta.listing import Listing, Row
from fluidfs.model import ObjectInfo


@dataclass(frozen=True, slots=True)
class Folded:
    """One directory that was seen from its first key to its last. `path` is relative to the mount."""

    path: str
    listing: Listing
    hidden: tuple[HiddenKey, ...]


class Gathering:
    """The names of one directory while they come in, by the rule of `keys`."""

    __slots__ = ("_default_mtime_ns", "_hidden", "_rows", "key_prefix", "mtime_ns", "path")

    def __init__(self, path: str, *, key_prefix: str, default_mtime_ns: int) -> None:
        """`key_prefix` is what the keys in this directory begin with; directories have at least `default_mtime_ns`."""
        self.path = path
        self.key_prefix = key_prefix
        self.mtime_ns = default_mtime_ns
        self._default_mtime_ns = default_mtime_ns
        self._rows: dict[str, Row] = {}
        self._hidden: dict[HiddenKey, None] = {}

    def add_object(self, info: ObjectInfo) -> None:
        """Take an object that is the directory's own marker, or lies in it directly."""
        name = info.key[len(self.key_prefix) :]
        if not name:
            self.mtime_ns = max(self._default_mtime_ns, info.mtime_ns)
            if info.size:
                self._hide(info.key, WhyHidden.MARKER_WITH_BYTES)
        elif problem := component_problem(name):
            self._hide(info.key, problem)
        elif self.has_directory(name):
            self._hide(info.key, WhyHidden.SHADOWED)
        else:
            self._rows[name] = Row.file(info)

    def add_directory(self, name: str, mtime_ns: int) -> bool:
        """Take a directory of which a key was seen; False if no file system can show its name."""
        if problem := component_problem(name):
            self._hide(f"{self.key_prefix}{name}/", problem)
            return False
        there = self._rows.get(name)
        if there is not None and not there.is_directory:
            self._hide(self.key_prefix + name, WhyHidden.SHADOWED)
        self._rows[name] = Row.directory(mtime_ns)
        return True

    def has_directory(self, name: str) -> bool:
        """Whether a directory of this name was taken before."""
        there = self._rows.get(name)
        return there is not None and there.is_directory

    def folded(self) -> Folded:
        """The directory as it is now known."""
        return Folded(self.path, Listing(self.key_prefix, self._rows), tuple(self._hidden))

    def _hide(self, key: str, reason: WhyHidden) -> None:
        self._hidden[HiddenKey(key, reason)] = None


class FlatFold:
    """Takes the objects of flat LIST pages and gives each directory as soon as the keys have passed it.

    All keys of a directory are neighbours in a flat listing. So a directory is known once a key behind it appears,
    even when the listing is cut off later; only those still open then are not known. Iteration raises StoreError for
    a listing that breaks this rule.
    """

    __slots__ = ("_default_mtime_ns", "_open", "_open_names", "saw_any")

    def __init__(self, directory: str, *, key_prefix: str, default_mtime_ns: int) -> None:
        """`directory` is what is listed; its keys begin with `key_prefix`."""
        self.saw_any = False
        self._default_mtime_ns = default_mtime_ns
        # The directories around the present key, and the names that lead from the first of them to the last.
        self._open = [Gathering(directory, key_prefix=key_prefix, default_mtime_ns=default_mtime_ns)]
        self._open_names: list[str] = []

    def feed(self, objects: Iterable[ObjectInfo]) -> Iterator[Folded]:
        """Take objects in the order of a listing; give the directories that they leave behind."""
        base = len(self._open[0].key_prefix)
        for info in objects:
            self.saw_any = True
            parents = info.key[base:].split("/")[:-1]
            if parents != self._open_names:
                shared = _shared_length(parents, self._open_names)
                while len(self._open_names) > shared:
                    yield self._close()
                if not self._descend(parents[shared:]):
                    continue
            self._open[-1].add_object(info)

    def finish(self) -> Iterator[Folded]:
        """The listing has ended: give the directories still open, the listed one last."""
        while self._open_names:
            yield self._close()
        yield self._open[0].folded()

    def _descend(self, names: list[str]) -> bool:
        for name in names:
            parent = self._open[-1]
            if parent.has_directory(name):
                # What was said of this directory, and perhaps kept, was not all. Better no listing than half a one.
                raise StoreError(f"the store lists keys out of order: {parent.key_prefix}{name}/ came twice")
            if not parent.add_directory(name, self._default_mtime_ns):
                return False
            self._open.append(
                Gathering(
                    f"{parent.path}/{name}" if parent.path else name,
                    key_prefix=f"{parent.key_prefix}{name}/",
                    default_mtime_ns=self._default_mtime_ns,
                )
            )
            self._open_names.append(name)
        return True

    def _close(self) -> Folded:
        gathering = self._open.pop()
        self._open[-1].add_directory(self._open_names.pop(), gathering.mtime_ns)
        return gathering.folded()


def _shared_length(left: list[str], right: list[str]) -> int:
    for position, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return position
    return min(len(left), len(right))
