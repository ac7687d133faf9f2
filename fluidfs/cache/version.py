"""A version that is in use: the one thing that all handles of it share."""

from __future__ import annotations

import time
from typing import Final

from fluidfs._native.objects import VERIFY_ALWAYS, VERIFY_FIRST, VERIFY_NEVER, ObjectFile
from fluidfs.cache.identity import VersionIdentity
from fluidfs.cache.level import Level
from fluidfs.config import Verify

VERIFY_CODES: Final[dict[Verify, int]] = {
    "first": VERIFY_FIRST,
    "always": VERIFY_ALWAYS,
    "never": VERIFY_NEVER,
}


class CachedVersion:
    """An open version. `file` is None when no level could take it: then nothing of it is kept.

    `users` counts handles and jobs; the Cache closes the file some time after it has come to 0.
    """

    __slots__ = ("_verify", "file", "identity", "idle_since", "level", "trusted", "users")

    def __init__(self, identity: VersionIdentity, level: Level | None, file: ObjectFile | None, verify: Verify) -> None:
        self.identity = identity
        self.level = level
        self.file = file
        self.users = 0
        self.idle_since = 0.0
        self._verify = VERIFY_CODES[verify]
        self.trusted = file is not None and verify == "first" and file.seal_holds(trust=True)
        if file is not None:
            file.touch(int(time.time()))

    def next_missing(self, offset: int, end: int) -> tuple[int, int] | None:
        """The first absent run of [offset, end) as (from, to), widened to sub-blocks; all of it without a file."""
        if self.file is None:
            return (offset, min(end, self.identity.size)) if offset < min(end, self.identity.size) else None
        return self.file.next_missing(offset, end)

    def read(self, offset: int, length: int, *, nowait: bool) -> bytes | None:
        """The bytes, or None for a miss; BlockingIOError when `nowait` and the disk would be waited for."""
        if self.file is None:
            return None
        return self.file.read(offset, length, verify=self._verify, nowait=nowait)

    def close(self) -> None:
        """Lets go of the file; whoever still knows the version finds nothing of it. Nobody may be using it."""
        if self.file is not None:
            self.file.close()
        self.file = None
        self.trusted = False

    @property
    def to_be_compared(self) -> bool:
        """Whether blocks were taken on the word of a seal, or a complete version lacks its seal."""
        return self.file is not None and (self.trusted or (not self.file.sealed and self.file.complete))

    def recheck(self) -> None:
        """Looks whether the file was changed behind our back since it was sealed; then checksums decide again."""
        if self.file is not None and self.file.sealed:
            self.trusted = self.file.seal_holds(trust=False) and self.trusted
