"""Every file below a directory, page by page of a flat listing, the next page fetched while one is consumed."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator

from fluidfs.errors import NameNotFound
from fluidfs.meta.asking import Begun
from fluidfs.meta.entries import FileEntry
from fluidfs.meta.fold import Folded
from fluidfs.meta.keys import component_problem
from fluidfs.meta.survey import Surveyor
from fluidfs.model import ListPage, ObjectInfo


class VisibleFiles:
    """Passes on the objects of a flat listing that a file system shows as files, by the rule of `keys`.

    Whether `a` is hidden by `a/b` is known only once the listing is past all of `a-…`, `a.…` and the like; until then
    the object is held back.
    """

    __slots__ = ("_base", "_held", "_last_parents", "_parents_are_good")

    def __init__(self, base: int) -> None:
        """`base` is how many characters of each key come before its path."""
        self._base = base
        self._held: list[ObjectInfo] = []
        self._last_parents: list[str] = []
        self._parents_are_good = True

    def feed(self, objects: Iterable[ObjectInfo]) -> Iterator[ObjectInfo]:
        """Take objects in the order of a listing; give those now known to be visible files."""
        for info in objects:
            yield from self._release(info.key)
            *parents, name = info.key[self._base :].split("/")
            if parents != self._last_parents:
                self._last_parents = parents
                self._parents_are_good = not any(map(component_problem, parents))
            if self._parents_are_good and not component_problem(name):
                self._held.append(info)

    def finish(self) -> Iterator[ObjectInfo]:
        """The listing has ended: nothing can hide what is still held."""
        yield from self._held
        self._held.clear()

    def _release(self, key: str) -> Iterator[ObjectInfo]:
        while self._held:
            held = self._held[-1].key
            if key.startswith(held):
                following = key[len(held)]
                if following < "/":
                    return
                hidden = following == "/"
            else:
                hidden = False
            info = self._held.pop()
            if not hidden:
                yield info


class Walk(AsyncIterator[tuple[str, FileEntry]]):
    """An iterator over (path, file). It may be dropped half-way: nothing has to be closed."""

    __slots__ = ("_ahead", "_begun", "_directory", "_fold", "_keep", "_ready", "_surveyor", "_visible")

    def __init__(
        self, surveyor: Surveyor, directory: str, *, base: int, keep: Callable[[Iterable[Folded]], None]
    ) -> None:
        """`base`: characters of a key before its path. `keep` gets the directories that the walk has passed."""
        self._surveyor = surveyor
        self._directory = directory
        self._keep = keep
        self._fold = surveyor.fold(directory)
        self._visible = VisibleFiles(base)
        self._ready: deque[ObjectInfo] = deque()
        self._begun = False
        self._ahead: Begun[ListPage] | None = None

    async def __anext__(self) -> tuple[str, FileEntry]:
        while not self._ready:
            if self._begun and self._ahead is None:
                raise StopAsyncIteration
            await self._next_page()
        info = self._ready.popleft()
        path = self._surveyor.path_of(info.key)
        return path, FileEntry(path.rpartition("/")[2], info)

    async def _next_page(self) -> None:
        if self._ahead is None:
            page = await self._surveyor.flat_page(self._directory)
        else:
            page = await self._ahead.answer()
        self._begun = True
        token = page.next_token
        self._ahead = None if token is None else self._surveyor.flat_page_ahead(self._directory, token)
        self._ready.extend(self._visible.feed(page.objects))
        self._keep(self._fold.feed(page.objects))
        if token is None:
            if self._directory and not self._fold.saw_any:
                raise NameNotFound(f"{self._directory!r} is not a directory")
            self._ready.extend(self._visible.finish())
            self._keep(self._fold.finish())
