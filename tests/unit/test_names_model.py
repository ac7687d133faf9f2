"""Names agree with a naive model of the stated rule, whatever the keys, the page size and the way they are asked."""

from __future__ import annotations

from collections.abc import Iterable

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fluidfs.errors import NameNotFound
from fluidfs.meta.entries import Entry, FileEntry
from fluidfs.meta.names import Names
from tests.unit.memory_store import MemoryStore

COMPONENTS = st.one_of(
    st.sampled_from(["a", "b", "a-", "a.b", "a0", "", ".", "..", "é", "\udcff", "😀", "x" * 255, "y" * 256, "n\0"]),
    st.text(st.characters(codec="utf-8", exclude_characters="/"), max_size=3),
)
KEYS = st.lists(COMPONENTS, min_size=1, max_size=4).map("/".join).filter(bool)
Tree = dict[str, dict[str, bool]]


def is_bad(component: str) -> bool:
    too_long = len(component.encode("utf-8", "surrogateescape")) > 255
    return component in ("", ".", "..") or "\0" in component or too_long


def model(keys: Iterable[str], prefix: str) -> Tree:
    """Directories by path, each with its names: True for a directory, False for a file."""
    tree: Tree = {"": {}}
    for key in keys:
        if not key.startswith(prefix):
            continue
        *parents, last = key[len(prefix) :].split("/")
        here = ""
        for component in parents:
            if is_bad(component):
                break
            tree[here][component] = True
            here = f"{here}/{component}" if here else component
            tree.setdefault(here, {})
        else:
            if not is_bad(last):
                tree[here].setdefault(last, False)
    return tree


def kind(entry: Entry) -> tuple[str, bool]:
    return entry.name, not isinstance(entry, FileEntry)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=150)
@given(
    keys=st.lists(KEYS, unique=True, max_size=40),
    prefix=st.sampled_from(["", "a/", "b/a/"]),
    page_keys=st.integers(1, 12),
    ttl_s=st.sampled_from([0.0, 60.0]),
    order=st.randoms(use_true_random=False),
    walk_first=st.booleans(),
)
def test_names_show_what_the_rule_says(keys, prefix, page_keys, ttl_s, order, walk_first) -> None:  # type: ignore[no-untyped-def]
    tree = model(keys, prefix)
    store = MemoryStore({key: key.encode("utf-8", "surrogateescape") for key in keys}, page_keys=page_keys)

    async def check() -> None:
        names = Names(store, prefix=prefix, ttl_s=ttl_s, limiter=trio.CapacityLimiter(4))

        async def check_walk(directory: str) -> None:
            below = f"{directory}/" if directory else ""
            expected = [
                (f"{path}/{name}" if path else name)
                for path, rows in tree.items()
                for name, is_directory in rows.items()
                if not is_directory and (path == directory or path.startswith(below))
            ]
            walked = [path async for path, _ in names.walk(directory)]
            assert sorted(walked) == sorted(expected)

        async def check_entries(directory: str) -> None:
            entries = await names.entries(directory)
            by_bytes = sorted(tree[directory].items(), key=lambda row: row[0].encode("utf-8", "surrogateescape"))
            assert [kind(entry) for entry in entries] == by_bytes

        async def check_lookup(directory: str, name: str) -> None:
            expected = tree[directory].get(name)
            try:
                found = await names.lookup(directory, name)
            except NameNotFound:
                assert expected is None
                return
            assert kind(found) == (name, expected)
            if isinstance(found, FileEntry):
                assert found.info == store.head(found.info.key)
                assert found.info.key == prefix + (f"{directory}/{name}" if directory else name)

        if walk_first:
            await check_walk("")
        questions = [(check_walk, (directory,)) for directory in tree]
        questions += [(check_entries, (directory,)) for directory in tree]  # type: ignore[misc]
        questions += [
            (check_lookup, (directory, name))  # type: ignore[misc]
            for directory, rows in tree.items()
            for name in [*rows, "missing", "a"]
        ]
        order.shuffle(questions)
        for question, arguments in questions:
            await question(*arguments)

    trio.run(check)
