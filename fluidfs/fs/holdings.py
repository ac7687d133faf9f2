"""What the native contents of open files lie in, kept open for as long as anybody reads it.

Native code opens, reads and closes files by itself; what it has let go of is told afterwards, and settled here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from fluidfs._native.contents import Contents
from fluidfs._native.slabs import Slab
from fluidfs.cache.identity import VersionIdentity
from fluidfs.cache.level import Level
from fluidfs.cache.levels import Cache
from fluidfs.cache.slabs import SmallObject
from fluidfs.cache.version import VERIFY_CODES, CachedVersion


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A content of a large file: the version that it stands for, of which the cache counts it as one user."""

    content: int
    version: CachedVersion

    @property
    def identity(self) -> VersionIdentity:
        """What the version is a version of."""
        return self.version.identity


class Holdings:
    """Contents and the versions and slabs that they lie in. Belongs to one trio run.

    `may_pass(level)` says whether the kernel may read the files of a level by itself. Contents of small files are made
    by native code, and are known here by their ids only. `on_gone(content)` is called for every content that went.
    """

    def __init__(
        self,
        contents: Contents,
        cache: Cache,
        *,
        may_pass: Callable[[Level], bool],
        on_gone: Callable[[int], None],
    ) -> None:
        self._contents = contents
        self._cache = cache
        self._may_pass = may_pass
        self._on_gone = on_gone
        self._held: dict[int, Held] = {}
        self._slabs: dict[Slab, int] = {}

    def get(self, content: int) -> Held | None:
        """What a large file's content stands for; None: it is a small file's."""
        return self._held.get(content)

    async def open(self, identity: VersionIdentity) -> int:
        """A new content of a large file. It is the caller's too, until `hand_over`."""
        version = await self._cache.open(identity)
        if version.file is None or version.level is None:
            content = self._contents.add_through(identity.size)
        else:
            content = self._contents.add_object(
                version.file, verify=VERIFY_CODES[self._cache.verify], passthrough=self._may_pass(version.level)
            )
        self._held[content] = Held(content, version)
        return content

    def hand_over(self, content: int) -> None:
        """Leaves a content to whoever else refers to it; it goes when nobody does."""
        self._contents.drop(content)

    def place(self, content: int, small: SmallObject) -> bool:
        """Says where a small file's bytes lie. False: they have to be looked for anew, or nobody wants them."""
        slab = self._slabs.get(small.slab)
        if slab is None:
            slab = self._slabs[small.slab] = self._contents.add_slab(small.slab)
        try:
            return self._contents.place(content, slab, small.slot)
        except KeyError:
            return False

    def settle(self) -> None:
        """Lets the cache have back what native code is done with, and has it leave slabs that were evicted."""
        if self._slabs:
            # Eviction takes the slab first that was not read for longest.
            self._contents.touch(int(time.time()))
            self._leave_evicted_slabs()
        for gone in self._contents.gone():
            held = self._held.pop(gone, None)
            if held is not None:
                self._cache.release(held.version)
            self._on_gone(gone)

    def _leave_evicted_slabs(self) -> None:
        present = self._cache.slabs()
        for slab in [slab for slab in self._slabs if slab not in present]:
            self._contents.leave_slab(self._slabs.pop(slab))
