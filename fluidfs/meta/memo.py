"""What is remembered of directories, and for how long it is good."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from fluidfs.meta.entries import Entry
from fluidfs.meta.fold import Folded
from fluidfs.meta.listing import Listing

# A listing that needs more than one page is expensive to make again because of one name.
_PAGE_NAMES = 1000

# Renewal ahead of need starts when this share of the time to live has gone by.
_DUE_SHARE = 0.75

# Records that expired this many times the TTL ago are dropped: a mount that sees directories come and go for months
# must not keep them all.
_DEAD_AFTER_TTLS = 10


@dataclass(frozen=True, slots=True)
class Known:
    """A directory of which all is known. `listing` None: there is no such directory.

    `origin` is the directory whose flat listing told it, and whose listing would tell it again.
    """

    listing: Listing | None
    asked_at: float
    origin: str


@dataclass(frozen=True, slots=True)
class Large:
    """A directory with too many names for one page; `singles` are those asked for singly (None: not there)."""

    asked_at: float
    singles: dict[str, Entry | None] = field(default_factory=dict)


class Memo:
    """Records of directories with one time to live for all. Not thread-safe."""

    __slots__ = ("_clock", "_records", "_sweep_at", "_ttl_s")

    def __init__(self, *, ttl_s: float, clock: Callable[[], float]) -> None:
        self._ttl_s = ttl_s
        self._clock = clock
        self._records: dict[str, Known | Large] = {}
        self._sweep_at = _PAGE_NAMES

    @property
    def keeps(self) -> bool:
        """Whether anything is remembered at all."""
        return self._ttl_s > 0

    def get(self, directory: str) -> Known | Large | None:
        """What is known and still good. A large listing that expired leaves the knowledge that it is large."""
        record = self._records.get(directory)
        if record is None:
            return None
        if self._clock() - record.asked_at < self._ttl_s:
            return record
        if isinstance(record, Known) and _is_large(record):
            return self._start_over(directory)
        return None

    def good_for_s(self, directory: str) -> float:
        """The seconds until what is known of `directory` expires; 0 when nothing is."""
        record = self._records.get(directory)
        return 0.0 if record is None else max(0.0, record.asked_at + self._ttl_s - self._clock())

    def is_due(self, directory: str) -> bool:
        """Whether a listing is still good, small, and so old that it is worth renewing before it expires."""
        record = self._records.get(directory)
        if not isinstance(record, Known) or _is_large(record):
            return False
        return _DUE_SHARE * self._ttl_s <= self._clock() - record.asked_at < self._ttl_s

    def due_in_s(self, directory: str) -> float:
        """The seconds until what is known of `directory` is worth renewing; for a large listing, until it expires."""
        record = self._records.get(directory)
        if not isinstance(record, Known) or _is_large(record):
            return self.good_for_s(directory)
        return max(0.0, record.asked_at + _DUE_SHARE * self._ttl_s - self._clock())

    def origin(self, directory: str) -> str:
        """Whose flat listing is likely to renew what is, or was, known of `directory`."""
        record = self._records.get(directory)
        return record.origin if isinstance(record, Known) else directory

    def keep(self, folded: Iterable[Folded], asked_at: float, *, origin: str | None = None) -> None:
        """Remember listings asked for at `asked_at`; `origin` is what was listed, if that gave them all."""
        if not self.keeps:
            return
        for one in folded:
            self.put(one.path, Known(one.listing, asked_at, one.path if origin is None else origin))

    def put(self, directory: str, record: Known | Large) -> None:
        """Remember one record."""
        if not self.keeps:
            return
        self._records[directory] = record
        if len(self._records) >= self._sweep_at:
            self._sweep()

    def forget(self, directory: str) -> None:
        """Let nothing that was known of the names in `directory` be given again."""
        record = self._records.pop(directory, None)
        if isinstance(record, Large) or (isinstance(record, Known) and _is_large(record)):
            self._start_over(directory)

    def _start_over(self, directory: str) -> Large:
        large = Large(self._clock())
        self._records[directory] = large
        return large

    def _sweep(self) -> None:
        dead_before = self._clock() - _DEAD_AFTER_TTLS * self._ttl_s
        self._records = {path: record for path, record in self._records.items() if record.asked_at > dead_before}
        # Twice what lives: sweeping stays a constant share of the work of adding.
        self._sweep_at = max(_PAGE_NAMES, 2 * len(self._records))


def _is_large(record: Known) -> bool:
    return record.listing is not None and len(record.listing) > _PAGE_NAMES
