"""Which keys a file system can show, and an account of those that it cannot.

The rule. A key is split at every `/`. Its components, up to the first that no file system can have, are directories
(and the last one a file, if all are good). What follows from a bad component on is hidden.

- bad components: the empty one, `.`, `..`, more than 255 bytes of UTF-8, a NUL in it;
- a key that ends in `/` is the marker of a directory, which makes the directory exist; bytes that it holds are hidden;
- where a key is both a file and a directory (`a` beside `a/b`), the directory is shown and the file hidden.

This is what a listing with a delimiter can decide as well as one without, so both show the same tree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import islice

# NAME_MAX of Linux, in bytes.
NAME_BYTES_MAX = 255


class WhyHidden(Enum):
    """Why a key cannot be shown; the value is a phrase for a person."""

    EMPTY = "an empty component"
    DOT = "a component '.' or '..'"
    LONG = "a component of more than 255 bytes"
    NUL = "a NUL in a component"
    SHADOWED = "a file where a directory has the same name"
    MARKER_WITH_BYTES = "a directory marker that has content"


@dataclass(frozen=True, slots=True)
class HiddenKey:
    """A key of the store that no path stands for. One that ends in `/` stands for all keys that begin with it."""

    key: str
    reason: WhyHidden


def component_problem(name: str) -> WhyHidden | None:
    """Why no file system can have `name` as one component of a path; None if it can."""
    if name in ("", ".", ".."):
        return WhyHidden.DOT if name else WhyHidden.EMPTY
    # Only a name over a quarter of the limit can exceed it in UTF-8, which spares the encoding for nearly all.
    if len(name) > NAME_BYTES_MAX // 4 and len(name.encode("utf-8", "surrogateescape")) > NAME_BYTES_MAX:
        return WhyHidden.LONG
    return WhyHidden.NUL if "\0" in name else None


class HiddenKeys:
    """An account of hidden keys by directory, so that a directory listed twice is not counted twice.

    Memory: one small record for each directory that hides something, and at most `sample_max` keys.
    """

    __slots__ = ("_counts", "_sample", "_sample_max")

    def __init__(self, *, sample_max: int = 100) -> None:
        self._sample_max = sample_max
        self._counts: dict[str, Counter[WhyHidden]] = {}
        self._sample: dict[str, list[HiddenKey]] = {}

    def replace(self, directory: str, hidden: Iterable[HiddenKey]) -> None:
        """What `directory` was now seen to hide, instead of what was known of it; sub-directories are not touched."""
        known = list(hidden)
        self._counts.pop(directory, None)
        self._sample.pop(directory, None)
        if known:
            self._counts[directory] = Counter(key.reason for key in known)
            room = self._sample_max - sum(map(len, self._sample.values()))
            if room > 0:
                self._sample[directory] = known[:room]

    def counts(self) -> Mapping[WhyHidden, int]:
        """How many keys are hidden, by reason, as far as directories have been listed."""
        total: Counter[WhyHidden] = Counter()
        for counts in self._counts.values():
            total.update(counts)
        return total

    def sample(self) -> tuple[HiddenKey, ...]:
        """Some of the hidden keys, at most `sample_max`."""
        every = (key for keys in self._sample.values() for key in keys)
        return tuple(islice(every, self._sample_max))
