"""The requests by which names are learned; each method is one strategy of listing, without any memory."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from fluidfs.meta.asking import Asking, Begun
from fluidfs.meta.entries import DirectoryEntry, Entry, FileEntry
from fluidfs.meta.fold import FlatFold, Folded, Gathering
from fluidfs.model import ListPage
from fluidfs.store.base import Store

# S3's own maximum; no server gives more.
PAGE_KEYS = 1000

# A lookup of one name lists what begins with it. "name" sorts first and "name/" behind all of "name-…" and "name.…";
# with more neighbours than this in between, a second request is made.
_NEIGHBOURS = 32


@dataclass(frozen=True, slots=True)
class Survey:
    """What listing a directory told. `aside` are other directories that became known on the way.

    `answer` is the directory itself; None if it does not exist, or, with `cut_off`, if it has more names than one page
    holds and no more pages were wanted. `covers_all`: one flat page held everything below.
    """

    answer: Folded | None
    aside: tuple[Folded, ...] = ()
    cut_off: bool = False
    covers_all: bool = False


class Surveyor:
    """Lists what lies below `prefix` of a store. Paths are relative to it, "" is the prefix itself.

    All methods raise StoreError when the store does not tell, and only then.
    """

    __slots__ = ("_asking", "_mtime_ns", "_prefix", "_store")

    def __init__(self, store: Store, *, prefix: str, asking: Asking, directory_mtime_ns: int) -> None:
        self._store = store
        self._prefix = prefix
        self._asking = asking
        self._mtime_ns = directory_mtime_ns

    def path_of(self, key: str) -> str:
        """The path that a key below the prefix has."""
        return key[len(self._prefix) :]

    def fold(self, directory: str) -> FlatFold:
        """What takes the flat listing of `directory`."""
        return FlatFold(directory, key_prefix=self._key_prefix(directory), default_mtime_ns=self._mtime_ns)

    async def directory(self, directory: str, *, whole: bool, flat_first: bool = True) -> Survey:
        """List `directory`: one flat page; if that is cut off, folded pages, all of them if `whole`, else one.

        `flat_first` False saves the flat page, for a directory that is known to be large.
        """
        aside: tuple[Folded, ...] = ()
        if flat_first:
            page = await self._asking.ask(partial(self._list, directory))
            fold = self.fold(directory)
            done = list(fold.feed(page.objects))
            if page.next_token is None:
                *below, answer = [*done, *fold.finish()]
                exists = fold.saw_any or not directory
                return Survey(answer if exists else None, tuple(below), covers_all=True)
            aside = tuple(done)
        return await self._folded(directory, whole=whole, aside=aside)

    async def single(self, directory: str, name: str) -> Entry | None:
        """What `name` in `directory` is, by one request (rarely two); None if it is not there."""
        key = self._key_prefix(directory) + name
        page = await self._asking.ask(partial(self._store.list_page, key, delimiter="/", limit=_NEIGHBOURS))
        is_directory = f"{key}/" in page.prefixes
        if not is_directory and page.next_token is not None:
            below = await self._asking.ask(partial(self._store.list_page, f"{key}/", limit=1))
            is_directory = bool(below.objects)
        if is_directory:
            return DirectoryEntry(name, self._mtime_ns)
        return next((FileEntry(name, info) for info in page.objects if info.key == key), None)

    async def flat_page(self, directory: str) -> ListPage:
        """The first page of everything below `directory`."""
        return await self._asking.ask(partial(self._list, directory))

    def flat_page_ahead(self, directory: str, token: str) -> Begun[ListPage]:
        """The page of everything below `directory` that `token` stands for, fetched while the caller goes on."""
        return self._asking.begin(partial(self._list, directory, token=token))

    async def _folded(self, directory: str, *, whole: bool, aside: tuple[Folded, ...]) -> Survey:
        key_prefix = self._key_prefix(directory)
        gathering = Gathering(directory, key_prefix=key_prefix, default_mtime_ns=self._mtime_ns)
        token: str | None = None
        saw_any = False
        while True:
            page = await self._asking.ask(partial(self._list, directory, token=token, delimiter="/"))
            saw_any = saw_any or bool(page.objects or page.prefixes)
            for info in page.objects:
                gathering.add_object(info)
            for prefix in page.prefixes:
                gathering.add_directory(prefix[len(key_prefix) : -1], self._mtime_ns)
            token = page.next_token
            if token is None:
                exists = saw_any or not directory
                return Survey(gathering.folded() if exists else None, aside)
            if not whole:
                return Survey(None, aside, cut_off=True)

    def _list(self, directory: str, *, token: str | None = None, delimiter: str = "") -> ListPage:
        prefix = self._key_prefix(directory)
        return self._store.list_page(prefix, delimiter=delimiter, token=token, limit=PAGE_KEYS)

    def _key_prefix(self, directory: str) -> str:
        return f"{self._prefix}{directory}/" if directory else self._prefix
