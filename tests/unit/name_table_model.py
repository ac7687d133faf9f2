"""What the native name table should answer, said with dictionaries: slow, and plain to read."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from math import inf

from fluidfs.meta.listing import Listing, Row

Rows = dict[str, Row]
PLUS_BEFORE_NAME = 152
PLAIN_BEFORE_NAME = 24


class Refused(Exception):
    """The errno that the table refuses with."""

    def __init__(self, number: int) -> None:
        super().__init__(errno.errorcode[number])
        self.number = number


@dataclass(eq=False)
class ListingModel:
    """A listing, and the same as a dictionary."""

    rows: Rows
    packed: Listing


def listing_of(rows: Rows) -> ListingModel:
    return ListingModel(rows, Listing("", rows))


@dataclass(eq=False)
class NodeModel:
    """A node: one path at one version."""

    parent: NodeModel | None
    name: str
    row: Row
    listing: ListingModel | None  # that it points into; None: a copy of its own
    lookups: int = 0
    named: bool = True
    children: list[NodeModel] = field(default_factory=list)
    known: ListingModel | None = None  # the directory's own listing
    good_until: float = 0
    due_at: float = 0
    due: str = "no"  # or "waiting", "told"
    opened: int = 0

    @property
    def path(self) -> str:
        if self.parent is None:
            return ""
        return f"{self.parent.path}/{self.name}" if self.parent.parent is not None else self.name

    def child(self, name: str) -> NodeModel | None:
        return next((node for node in self.children if node.named and node.name == name), None)

    def confirms(self, row: Row) -> bool:
        return row == self.row or (row.is_directory and self.row.is_directory)


class NamesModel:
    """The table. A dead node is in `nodes` no more. `now` is in seconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.root = NodeModel(None, "", Row.directory(0), None)
        self.nodes = [self.root]
        # A listing that nobody uses any more is another one when it comes again.
        self._lives: dict[ListingModel, int] = {}
        self._next_life = count(1)

    def learn(self, directory: NodeModel, listing: ListingModel, good_until: float, due_at: float) -> set[str]:
        self._directory(directory)
        self._life_of(listing)
        if directory.known is None or directory.known.packed.packed != listing.packed.packed:
            directory.known = listing
        directory.good_until, directory.due_at, directory.due = good_until, due_at, "no"
        changed = set()
        for node in list(directory.children):
            if not node.named or node.listing is directory.known:
                continue
            row = directory.known.rows.get(node.name)
            if row is not None and node.confirms(row):
                node.row, node.listing = row, directory.known
            else:
                if node.lookups:
                    changed.add(node.name)
                self._unname(node)
        self._settle()
        return changed

    def expire(self, directory: NodeModel) -> None:
        if directory in self.nodes and directory.row.is_directory:
            directory.good_until = -inf
            if directory.lookups == 0 and directory is not self.root:
                directory.known, directory.due = None, "no"
            self._settle()

    def sweep(self, before: float) -> None:
        for node in self.nodes:
            if node.known is not None and node.good_until < before:
                node.known, node.due = None, "no"
        self._settle()

    def lookup(self, parent: NodeModel, name: str) -> NodeModel | None:
        directory = self._directory(parent)
        if directory.known is None or self.now >= directory.good_until:
            raise Refused(errno.ENODATA)
        self._note_use(directory)
        row = directory.known.rows.get(name)
        if row is None:
            there = directory.child(name)
            if there is not None:
                self._unname(there)
                self._settle()
            return None
        return self._claim(directory, name, row, directory.known)

    def found(self, parent: NodeModel, listing: ListingModel, name: str) -> NodeModel:
        return self._claim(self._directory(parent), name, listing.rows[name], listing)

    def open_directory(self, node: NodeModel) -> tuple[ListingModel, bool]:
        directory = self._directory(node)
        if directory.known is None or self.now >= directory.good_until:
            raise Refused(errno.ENODATA)
        self._note_use(directory)
        return directory.known, self.note_opened(directory, directory.known)

    def note_opened(self, node: NodeModel, listing: ListingModel) -> bool:
        directory = self._directory(node)
        life = self._life_of(listing)
        unchanged, directory.opened = directory.opened == life, life
        self._settle()
        return unchanged

    def read_plus(
        self, directory: NodeModel, listing: ListingModel, offset: int, capacity: int
    ) -> Iterator[tuple[str, Row, NodeModel | None]]:
        """The entries behind "." and "..", each with the node that the kernel is told."""
        if directory not in self.nodes or not directory.row.is_directory:
            return
        self._life_of(listing)
        names = [".", "..", *sorted(listing.rows, key=lambda name: name.encode("utf-8", "surrogateescape"))]
        for name in names[offset:]:
            capacity -= (PLUS_BEFORE_NAME + len(name.encode("utf-8", "surrogateescape")) + 7) // 8 * 8
            if capacity < 0:
                break
            if name in (".", ".."):
                continue
            row = listing.rows[name]
            node = directory.child(name)
            if node is None and directory.known in (None, listing):
                node = self._new(directory, name, row, listing)
            elif node is not None and not self._confirm(directory, node, row, listing):
                node = None
            if node is not None:
                node.lookups += 1
            yield name, row, node
        self._settle()

    def forget(self, node: NodeModel, lookups: int) -> None:
        if node in self.nodes and node is not self.root:
            node.lookups = max(0, node.lookups - lookups)
            self._settle()

    def take_due(self) -> set[NodeModel]:
        due = {node for node in self.nodes if node.due == "waiting"}
        for node in due:
            node.due = "told"
        return due

    def at(self, path: str) -> NodeModel | None:
        node: NodeModel | None = self.root
        for name in path.split("/") if path else ():
            node = None if node is None else node.child(name)
        return node

    def known(self) -> int:
        return 1 + sum(node.lookups > 0 for node in self.nodes)

    def listings_in_use(self) -> set[ListingModel]:
        used = {node.listing for node in self.nodes} | {node.known for node in self.nodes}
        return {listing for listing in used if listing is not None}

    # ---- the rules beneath

    def _directory(self, node: NodeModel) -> NodeModel:
        if node not in self.nodes:
            raise Refused(errno.ESTALE)
        if not node.row.is_directory:
            raise Refused(errno.ENOTDIR)
        return node

    def _life_of(self, listing: ListingModel) -> int:
        if listing not in self._lives:
            self._lives[listing] = next(self._next_life)
        return self._lives[listing]

    def _note_use(self, directory: NodeModel) -> None:
        if directory.due == "no" and self.now >= directory.due_at:
            directory.due = "waiting"

    def _claim(self, directory: NodeModel, name: str, row: Row, listing: ListingModel) -> NodeModel:
        self._life_of(listing)
        node = directory.child(name)
        if node is None or not self._confirm(directory, node, row, listing):
            before, node = node, self._new(directory, name, row, listing)
            node.lookups += 1
            if before is not None:
                self._unname(before)
        else:
            node.lookups += 1
        self._settle()
        return node

    def _confirm(self, directory: NodeModel, node: NodeModel, row: Row, listing: ListingModel) -> bool:
        if not node.confirms(row):
            return False
        if directory.known is listing:
            node.row, node.listing = row, listing
        return True

    def _new(self, directory: NodeModel, name: str, row: Row, listing: ListingModel) -> NodeModel:
        node = NodeModel(directory, name, row, listing)
        directory.children.append(node)
        self.nodes.append(node)
        return node

    def _unname(self, node: NodeModel) -> None:
        node.named = False
        if node.listing is not None and len(node.listing.rows) > 1 and (node.lookups or node.row.is_directory):
            node.listing = None

    def _settle(self) -> None:
        """Frees what nothing needs."""
        for node in self.nodes[1:]:
            if not node.named and not node.lookups:
                node.known, node.due = None, "no"
        while gone := [node for node in self.nodes[1:] if not (node.lookups or node.known or node.children)]:
            for node in gone:
                self.nodes.remove(node)
                assert node.parent is not None
                node.parent.children.remove(node)
        in_use = self.listings_in_use()
        self._lives = {listing: life for listing, life in self._lives.items() if listing in in_use}
