"""The native name table answers as the model does, whatever is learnt, asked, read, forgotten and swept."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fluidfs._native.names import ROOT_NODE, NameTable, Shown
from fluidfs.meta.listing import Row
from tests.unit.dirents import parse_plus
from tests.unit.name_table_model import ListingModel, NamesModel, NodeModel, Refused, listing_of
from tests.unit.naming import S, encoded, refused

T = TypeVar("T")
U = TypeVar("U")

NAMES = ("a", "b", "d", "é\udcff", "x" * 255)
FILES = st.sampled_from([Row(1, 5, "v"), Row(1, 5, "w"), Row(2, 5, "v"), Row(1, -6, "v")])
DIRECTORIES = st.sampled_from([Row.directory(0), Row.directory(7)])
# The same names most of the time, in directories within directories.
LISTINGS = st.fixed_dictionaries(
    {},
    optional={
        name: st.one_of(DIRECTORIES, FILES) if name in "ab" else DIRECTORIES if name == "d" else FILES for name in NAMES
    },
)
NUMBERS = st.integers(0, 1 << 20)
SECONDS = st.integers(0, 30)


class NameTableMachine(RuleBasedStateMachine):
    """Nodes are chosen among all that there ever were, so that stale ids are asked for as well."""

    def __init__(self) -> None:
        super().__init__()
        self.model = NamesModel()
        self.table = NameTable(
            uid=1,
            gid=2,
            file_mode=0o440,
            dir_mode=0o550,
            root_mtime_ns=0,
            entry_of=lambda *facts: facts,
            clock=lambda: int(self.model.now * S),
        )
        self.ids: dict[NodeModel, int] = {self.model.root: ROOT_NODE}
        self.inos: dict[str, int] = {"": ROOT_NODE}
        self.ever = [self.model.root]
        self.opened: list[tuple[NodeModel, ListingModel]] = []
        self.listings = [listing_of({})]

    # ---- what both sides are asked

    def node(self, number: int) -> NodeModel:
        """One in eight may be dead."""
        among = self.model.nodes if number % 8 else self.ever
        return among[number // 8 % len(among)]

    def directory(self, number: int) -> NodeModel:
        """One in eight may be dead, or a file."""
        among = [node for node in self.model.nodes if node.row.is_directory]
        return among[number // 8 % len(among)] if number % 8 else self.node(number // 8)

    def id_of(self, node: NodeModel) -> int:
        return self.ids[node]

    def agree(self, theirs: Callable[[], T], ours: Callable[[], U]) -> tuple[T, U] | None:
        """Both answer, or both refuse for the same reason (None)."""
        try:
            expected = ours()
        except Refused as why:
            with refused(why.number):
                theirs()
            return None
        return theirs(), expected

    def note(self, node: NodeModel, shown_id: int) -> None:
        """An answer named a node: it is the one it was, or one with an id that no other node has now."""
        if node not in self.ids:
            assert shown_id not in {self.ids[other] for other in self.model.nodes if other in self.ids}
            self.ids[node] = shown_id
            self.ever.append(node)
        assert self.ids[node] == shown_id

    def check_shown(self, shown: Shown, node: NodeModel) -> None:
        self.note(node, shown.node)
        row = node.row
        assert shown.mode == (stat.S_IFDIR | 0o550 if row.is_directory else stat.S_IFREG | 0o440)
        assert (shown.size_bytes, shown.mtime_ns) == (max(0, row.size), row.mtime_ns)
        assert (shown.uid, shown.gid, shown.nlink) == (1, 2, 1)
        assert shown.ino == self.inos.setdefault(node.path, shown.ino), "st_ino is that of the path"

    # ---- rules

    @initialize(rows=LISTINGS, inner=LISTINGS)
    def learn_the_root(self, rows: dict[str, Row], inner: dict[str, Row]) -> None:
        self.learn(1, {**rows, "d": Row.directory(1)}, 60, 45)
        self.lookup(1, "d")
        self.learn(9, {**inner, "b": Row(1, 5, "v")}, 60, 45)

    @rule(number=NUMBERS, rows=LISTINGS, good_for=SECONDS, due_in=SECONDS)
    def learn(self, number: int, rows: dict[str, Row], good_for: int, due_in: int) -> None:
        self.listings.append(listing_of(rows))
        self.learn_again(number, len(self.listings) - 1, good_for, due_in)

    @rule(number=NUMBERS, which=NUMBERS, good_for=SECONDS, due_in=SECONDS)
    def learn_again(self, number: int, which: int, good_for: int, due_in: int) -> None:
        """Often in vain, and sometimes with the very listing, or an equal one."""
        node, listing = self.directory(number), self.listings[which % len(self.listings)]
        now = self.model.now
        answers = self.agree(
            lambda: set(self.table.learn(self.id_of(node), listing.packed, good_for_s=good_for, due_in_s=due_in)),
            lambda: {encoded(name) for name in self.model.learn(node, listing, now + good_for, now + due_in)},
        )
        if answers is not None:
            assert answers[0] == answers[1]

    @rule(number=NUMBERS, name=st.sampled_from((*NAMES, "missing", "..")))
    def lookup(self, number: int, name: str) -> None:
        node = self.directory(number)
        answers = self.agree(
            lambda: self.table.lookup(self.id_of(node), encoded(name)),
            lambda: self.model.lookup(node, name),
        )
        if answers is not None:
            shown, expected = answers
            assert shown.name_valid_ns == (node.good_until - self.model.now) * S
            if expected is None:
                assert shown.node == 0
            else:
                self.check_shown(shown, expected)

    @rule(number=NUMBERS, which=NUMBERS)
    def look_up_what_is_there(self, number: int, which: int) -> None:
        known = self.directory(number).known
        if known is not None and known.rows:
            self.lookup(number, sorted(known.rows)[which % len(known.rows)])

    @rule(number=NUMBERS, which=NUMBERS, name_number=NUMBERS, good_for=SECONDS)
    def found(self, number: int, which: int, name_number: int, good_for: int) -> None:
        node, listing = self.directory(number), self.listings[which % len(self.listings)]
        if not listing.rows:
            return
        index = name_number % len(listing.rows)
        name = listing.packed[index].name
        answers = self.agree(
            lambda: self.table.found(self.id_of(node), listing.packed, index, good_for_s=good_for),
            lambda: self.model.found(node, listing, name),
        )
        if answers is not None:
            self.check_shown(answers[0], answers[1])
            assert answers[0].name_valid_ns == good_for * S

    @rule(number=NUMBERS)
    def open_directory(self, number: int) -> None:
        node = self.directory(number)
        answers = self.agree(
            lambda: self.table.open_directory(self.id_of(node)),
            lambda: self.model.open_directory(node),
        )
        if answers is not None:
            opened, (listing, unchanged) = answers
            assert opened.listing is listing.packed
            assert (opened.good_until_ns, opened.unchanged) == (node.good_until * S, unchanged)
            self.opened.append((node, listing))

    @rule(number=NUMBERS, which=NUMBERS)
    def note_opened(self, number: int, which: int) -> None:
        node, listing = self.directory(number), self.listings[which % len(self.listings)]
        answers = self.agree(
            lambda: self.table.note_opened(self.id_of(node), listing.packed),
            lambda: self.model.note_opened(node, listing),
        )
        if answers is not None:
            assert answers[0] == answers[1]
            self.opened.append((node, listing))

    @rule(number=NUMBERS)
    def list_all(self, number: int) -> None:
        self.open_directory(number)
        self.read_plus(-1, 0, 4096, 20)

    @rule(
        which=NUMBERS,
        offset=st.sampled_from([0, 0, 2, 3, 10]),
        capacity=st.sampled_from([0, 300, 500, 1000, 4096]),
        good_for=SECONDS,
    )
    def read_plus(self, which: int, offset: int, capacity: int, good_for: int) -> None:
        if not self.opened:
            return
        node, listing = self.opened[which % len(self.opened)]
        data = self.table.read_directory(
            self.id_of(node), listing.packed, offset, plus=True, good_for_s=good_for, capacity=capacity
        )
        expected = self.model.read_plus(node, listing, offset, capacity)
        shown = list(parse_plus(data))
        assert [entry.following for entry in shown] == list(range(offset + 1, offset + 1 + len(shown)))
        entries = [entry for entry in shown if entry.name not in (b".", b"..")]
        for entry, (name, row, found) in zip(entries, expected, strict=True):
            path = f"{node.path}/{name}" if node.path else name
            assert entry.name == encoded(name)
            assert entry.ino == self.inos.setdefault(path, entry.ino)
            assert entry.kind << 12 == (stat.S_IFDIR if row.is_directory else stat.S_IFREG)
            if found is None:
                assert (entry.node, entry.attributes_ino, entry.name_valid_ns) == (0, 0, 0)
            else:
                self.note(found, entry.node)
                assert entry.attributes_ino == entry.ino
                assert (entry.size_bytes, entry.name_valid_ns) == (max(0, row.size), good_for * S)

    @rule(number=NUMBERS, lookups=st.sampled_from((0, 1, 1, 2, 100)))
    def forget(self, number: int, lookups: int) -> None:
        node = self.node(number)
        self.table.forget(self.id_of(node), lookups)
        self.model.forget(node, lookups)

    @rule(number=NUMBERS)
    def expire(self, number: int) -> None:
        node = self.directory(number)
        self.table.expire(self.id_of(node))
        self.model.expire(node)

    @rule(age=SECONDS)
    def sweep(self, age: int) -> None:
        self.table.sweep(age)
        self.model.sweep(self.model.now - age)

    @rule(seconds=st.integers(0, 10))
    def time_passes(self, seconds: int) -> None:
        self.model.now += seconds

    @rule()
    def take_due(self) -> None:
        due = self.table.take_due()
        assert len(due) == len(set(due))
        assert set(due) == {self.ids[node] for node in self.model.take_due()}

    # ---- what always holds

    @invariant()
    def every_node_is_what_it_was_and_the_dead_are_gone(self) -> None:
        alive = set(self.model.nodes)
        for node, node_id in self.ids.items():
            if node not in alive:
                with refused(errno.ESTALE):
                    self.table.path(node_id)
                continue
            assert self.table.path(node_id) == node.path
            self.check_shown(self.table.attributes(node_id), node)
            if node.parent is not None:
                version = "" if node.row.is_directory else node.row.version
                assert self.table.entry(node_id) == (node.path, node.row.size, node.row.mtime_ns, version)
            found = self.model.at(node.path)
            assert self.table.at(node.path) == (None if found is None else self.ids[found])

    @invariant()
    def as_much_is_known_and_kept_alive_as_in_the_model(self) -> None:
        assert self.table.known == self.model.known()
        self.table.collect()
        assert self.table.listings == len(self.model.listings_in_use())

    def teardown(self) -> None:
        """Nothing is left of what the kernel forgot and time has eaten."""
        self.model.now += 1000
        for node_id in self.ids.values():
            self.table.forget(node_id, 1 << 40)
        self.table.sweep(0)
        assert self.table.known == 1
        assert self.table.listings == 0


TestNameTable = NameTableMachine.TestCase
TestNameTable.settings = settings(
    max_examples=250,
    stateful_step_count=60,
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
