"""Names: what is asked of the store, what is remembered, and what a fault means."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fluidfs.errors import AccessDenied, NameNotFound, StoreError, StoreUnavailable
from fluidfs.meta.entries import DirectoryEntry, FileEntry
from fluidfs.meta.keys import HiddenKey, WhyHidden
from fluidfs.meta.names import SINGLE_LOOKUPS_MAX, Names
from fluidfs.model import ListPage
from tests.unit.memory_store import MemoryStore, Request

MOUNTED_NS = 10**18


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def names_of(store: MemoryStore, clock: Clock, *, prefix: str = "", ttl_s: float = 60.0) -> Names:
    return Names(
        store, prefix=prefix, ttl_s=ttl_s, limiter=trio.CapacityLimiter(8), clock=clock, mount_time_ns=MOUNTED_NS
    )


async def until(true: Callable[[], bool]) -> None:
    """Waits for what a thread does, which no event of trio tells."""
    with trio.fail_after(10):
        while not true():  # noqa: ASYNC110
            await trio.sleep(0.001)


async def shown(names: Names, directory: str) -> list[str]:
    return [entry.name + ("/" if isinstance(entry, DirectoryEntry) else "") for entry in await names.entries(directory)]


def many(count: int, directory: str = "") -> dict[str, bytes]:
    return {f"{directory}f{number:05d}": b"" for number in range(count)}


async def test_a_small_data_set_is_known_after_one_request(clock: Clock) -> None:
    store = MemoryStore({"a/b/c": b"123", "a/d": b"", "e": b"x"})
    names = names_of(store, clock)
    assert await shown(names, "") == ["a/", "e"]
    assert await shown(names, "a") == ["b/", "d"]
    found = await names.lookup("a/b", "c")
    assert isinstance(found, FileEntry)
    assert found.info == store.head("a/b/c")
    with pytest.raises(NameNotFound):
        await names.lookup("a/b", "nothing")
    assert [request.verb for request in store.requests] == ["list", "head"]


async def test_entries_are_sorted_by_the_bytes_of_their_names(clock: Clock) -> None:
    store = MemoryStore(dict.fromkeys(["a/x", "a-b", "a.c", "B", "é", "😀", "\uffff"], b""))
    assert await shown(names_of(store, clock), "") == ["B", "a/", "a-b", "a.c", "é", "\uffff", "😀"]


async def test_a_prefix_is_the_root_and_what_lies_beside_it_is_not_seen(clock: Clock) -> None:
    store = MemoryStore({"p/q/a": b"1", "p/q/": b"", "p/qa": b"", "p/r": b""})
    names = names_of(store, clock, prefix="p/q/")
    assert await shown(names, "") == ["a"]
    entry = await names.lookup("", "a")
    assert isinstance(entry, FileEntry)
    assert (entry.name, entry.info.key) == ("a", "p/q/a")
    assert [path async for path, _ in names.walk("")] == ["a"]


async def test_an_empty_prefix_is_an_empty_directory(clock: Clock) -> None:
    names = names_of(MemoryStore(), clock, prefix="nothing/")
    assert await shown(names, "") == []
    assert [path async for path, _ in names.walk("")] == []


async def test_what_is_no_directory_has_no_entries_and_no_walk(clock: Clock) -> None:
    names = names_of(MemoryStore({"file": b""}), clock)
    for directory in ("nothing", "file"):
        with pytest.raises(NameNotFound):
            await names.entries(directory)
        with pytest.raises(NameNotFound):
            await anext(names.walk(directory))
        with pytest.raises(NameNotFound):
            await names.lookup(directory, "x")


async def test_a_name_that_no_file_system_can_have_is_not_asked_for(clock: Clock) -> None:
    store = MemoryStore({"./x": b"", "": b""})
    names = names_of(store, clock)
    for name in ("", ".", "..", "x" * 256, "é" * 128, "a\0b"):
        with pytest.raises(NameNotFound):
            await names.lookup("", name)
    assert store.requests == []


async def test_a_listing_that_expired_is_asked_for_again(clock: Clock) -> None:
    store = MemoryStore({"old": b""})
    names = names_of(store, clock, ttl_s=60)
    assert await shown(names, "") == ["old"]
    store.put("new", b"")
    clock.now_s += 59.9
    assert await shown(names, "") == ["old"]
    with pytest.raises(NameNotFound):
        await names.lookup("", "new")
    clock.now_s += 0.1
    assert await shown(names, "") == ["new", "old"]
    assert (await names.lookup("", "new")).name == "new"
    assert len(store.requests) == 2


async def test_directories_of_one_flat_listing_are_renewed_by_one(clock: Clock) -> None:
    store = MemoryStore({f"d{number}/f": b"" for number in range(20)})
    names = names_of(store, clock)
    await names.entries("")
    clock.now_s += 60
    store.put("d7/g", b"")
    for number in range(20):
        await names.entries(f"d{number}")
    assert len(store.requests) == 2
    assert await shown(names, "d7") == ["f", "g"]


async def test_a_deleted_directory_is_gone_after_the_ttl(clock: Clock) -> None:
    store = MemoryStore({"d/f": b"", "e": b""})
    names = names_of(store, clock)
    assert await shown(names, "d") == ["f"]
    store.delete("d/f")
    clock.now_s += 60
    with pytest.raises(NameNotFound):
        await names.entries("d")
    assert await shown(names, "") == ["e"]


async def test_with_a_ttl_of_zero_every_question_goes_to_the_store(clock: Clock) -> None:
    store = MemoryStore({"d/f": b"1"})
    names = names_of(store, clock, ttl_s=0)
    first = await names.lookup("d", "f")
    store.put("d/f", b"22")
    second = await names.lookup("d", "f")
    assert isinstance(first, FileEntry)
    assert isinstance(second, FileEntry)
    assert (first.info.size, second.info.size) == (1, 2)
    await names.entries("d")
    await names.entries("d")
    assert len(store.requests) == 4
    store.delete("d/f")
    with pytest.raises(NameNotFound):
        await names.lookup("d", "f")


async def test_a_directory_with_much_below_costs_two_requests_not_all_pages(clock: Clock) -> None:
    store = MemoryStore({f"d{number // 500}/f{number}": b"" for number in range(5000)})
    names = names_of(store, clock)
    assert len(await names.entries("")) == 10
    assert store.requests == [Request("list", ""), Request("list", "", "/")]


async def test_directories_that_a_cut_off_page_has_passed_need_no_request(clock: Clock) -> None:
    store = MemoryStore({f"d{number // 300}/f{number}": b"" for number in range(3000)})
    names = names_of(store, clock)
    await names.entries("")
    asked = len(store.requests)
    for directory in ("d0", "d1", "d2"):
        assert len(await names.entries(directory)) == 300
    assert len(store.requests) == asked
    await names.entries("d3")
    assert len(store.requests) == asked + 1


async def test_names_of_a_large_directory_are_asked_for_singly_then_listed_whole(clock: Clock) -> None:
    store = MemoryStore(many(2500))
    names = names_of(store, clock)
    for number in range(SINGLE_LOOKUPS_MAX):
        await names.lookup("", f"f{2000 + number:05d}")
    assert len(store.requests) == 2 + SINGLE_LOOKUPS_MAX
    await names.lookup("", "f02000")
    with pytest.raises(NameNotFound):
        await names.lookup("", "f99999")
    whole = len(store.requests)
    assert whole == 2 + SINGLE_LOOKUPS_MAX + 3
    for number in range(0, 2500, 100):
        await names.lookup("", f"f{number:05d}")
    assert len(store.requests) == whole


async def test_that_a_name_is_not_in_a_large_directory_is_remembered_too(clock: Clock) -> None:
    store = MemoryStore(many(1500))
    names = names_of(store, clock)
    for _ in range(3):
        with pytest.raises(NameNotFound):
            await names.lookup("", "missing")
    assert len(store.requests) == 3
    store.put("missing", b"")
    clock.now_s += 60
    assert (await names.lookup("", "missing")).name == "missing"


async def test_a_single_lookup_finds_a_directory_behind_many_neighbours(clock: Clock) -> None:
    store = MemoryStore({**many(1500), **{f"name-{number:03d}": b"" for number in range(100)}, "name/x": b""})
    names = names_of(store, clock)
    assert isinstance(await names.lookup("", "name"), DirectoryEntry)
    assert isinstance(await names.lookup("", "name-000"), FileEntry)


async def test_a_large_listing_that_expired_is_not_made_again_for_one_name(clock: Clock) -> None:
    store = MemoryStore(many(2500))
    names = names_of(store, clock)
    await names.entries("")
    clock.now_s += 60
    before = len(store.requests)
    await names.lookup("", "f00001")
    assert len(store.requests) == before + 1


async def test_a_walk_passes_every_file_and_leaves_the_tree_known(clock: Clock) -> None:
    keys = [f"d{number % 7}/e{number % 3}/f{number}" for number in range(4321)]
    store = MemoryStore(dict.fromkeys(keys, b""))
    names = names_of(store, clock)
    seen = [path async for path, _ in names.walk("")]
    assert sorted(seen) == sorted(keys)
    asked = len(store.requests)
    assert asked == 5
    assert await shown(names, "") == [f"d{number}/" for number in range(7)]
    await names.lookup("d3/e1", "f10")
    assert len(store.requests) == asked


async def test_a_walk_yields_before_the_last_page_has_come(clock: Clock) -> None:
    store = MemoryStore(many(2500))
    names = names_of(store, clock)
    walk = names.walk("")
    assert (await anext(walk))[0] == "f00000"
    assert len(store.requests) <= 2


async def test_a_walk_holds_a_file_back_until_no_directory_can_hide_it(clock: Clock) -> None:
    for page_keys in (1, 2, 1000):
        keys = ["a", "a-", "a--/x", "a-b", "a.c", "a.c/d", "a/b", "a0", "b", "b-/c", "c"]
        names = names_of(MemoryStore(dict.fromkeys(keys, b""), page_keys=page_keys), clock)
        walked = sorted([path async for path, _ in names.walk("")])
        assert walked == sorted(set(keys) - {"a", "a.c"})


async def test_a_store_that_lists_out_of_order_is_an_error_not_half_a_directory(clock: Clock) -> None:
    class Unordered(MemoryStore):
        def list_page(self, prefix: str, **options: object) -> ListPage:
            page = super().list_page(prefix, **options)  # type: ignore[arg-type]
            return ListPage((*page.objects[1:], page.objects[0]), page.prefixes, page.next_token)

    names = names_of(Unordered({"a/1": b"", "a/2": b"", "b/1": b""}), clock)
    with pytest.raises(StoreError, match="out of order"):
        await names.entries("")


async def test_a_walk_that_is_dropped_half_way_leaves_nothing_behind(clock: Clock) -> None:
    limiter = trio.CapacityLimiter(2)
    names = Names(MemoryStore(many(5000)), prefix="", ttl_s=60, limiter=limiter, clock=clock)
    async for path, _ in names.walk(""):
        if path == "f00003":
            break
    await until(lambda: not limiter.borrowed_tokens)


async def test_tasks_that_want_one_listing_share_one_request(clock: Clock) -> None:
    store = MemoryStore({"d/f": b""})
    names = names_of(store, clock)
    release = threading.Event()
    store.before_answer = lambda _request: (release.wait(10), None)[1]
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(names.lookup, "d", "f")
        await wait_all_tasks_blocked()
        release.set()
    assert len(store.requests) == 1


async def test_when_the_asking_task_is_cancelled_those_who_wait_are_served(clock: Clock) -> None:
    store = MemoryStore({"f": b""})
    names = names_of(store, clock)
    release = threading.Event()
    store.before_answer = lambda _request: (release.wait(10), None)[1]
    found = []

    async def wait_for_it() -> None:
        found.append(await names.lookup("", "f"))

    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as first:
            first.start_soon(names.lookup, "", "f")
            await wait_all_tasks_blocked()
            nursery.start_soon(wait_for_it)
            await wait_all_tasks_blocked()
            first.cancel_scope.cancel()
        release.set()
    assert [entry.name for entry in found] == ["f"]


async def test_a_fault_is_raised_as_itself_to_all_who_wait_and_is_not_remembered(clock: Clock) -> None:
    store = MemoryStore({"f": b""})
    names = names_of(store, clock)
    store.fail_with = lambda _request: AccessDenied("no")
    for _ in range(2):
        with pytest.raises(AccessDenied):
            await names.lookup("", "f")
        with pytest.raises(AccessDenied):
            await names.entries("")
        with pytest.raises(AccessDenied):
            await anext(names.walk(""))
    store.fail_with = lambda _request: None
    assert (await names.lookup("", "f")).name == "f"


async def test_a_passing_fault_is_tried_again(autojump_clock: MockClock) -> None:
    store = MemoryStore(many(2100))
    names = Names(store, prefix="", ttl_s=60, limiter=trio.CapacityLimiter(1))
    store.fail_with = lambda request: StoreUnavailable("later") if store.requests.count(request) <= 2 else None
    assert len(await names.entries("")) == 2100
    store.requests.clear()
    assert len([path async for path, _ in names.walk("")]) == 2100


async def test_a_lasting_outage_is_an_error_within_bounds_and_never_a_missing_name(autojump_clock: MockClock) -> None:
    store = MemoryStore({"f": b""})
    names = Names(store, prefix="", ttl_s=60, limiter=trio.CapacityLimiter(1))
    store.fail_with = lambda _request: StoreUnavailable("down")
    started = trio.current_time()
    with pytest.raises(StoreError) as caught:
        await names.lookup("", "f")
    assert not isinstance(caught.value, NameNotFound)
    assert trio.current_time() - started <= 15
    assert 1 < len(store.requests) <= 8


async def test_a_fault_after_the_ttl_is_told_and_stale_names_are_not(clock: Clock) -> None:
    store = MemoryStore({"f": b""})
    names = names_of(store, clock)
    await names.entries("")
    clock.now_s += 60
    store.fail_with = lambda _request: AccessDenied("revoked")
    with pytest.raises(AccessDenied):
        await names.lookup("", "f")


async def test_a_path_seen_to_have_changed_is_asked_for_again_at_once(clock: Clock) -> None:
    store = MemoryStore({"d/f": b"1", "d/g": b"", "e/h": b""})
    names = names_of(store, clock)
    await names.entries("")
    store.put("d/f", b"22")
    names.forget_path("d/f")
    entry = await names.lookup("d", "f")
    assert isinstance(entry, FileEntry)
    assert entry.info.size == 2
    assert [request.key for request in store.requests] == ["", "d/"]
    await names.entries("e")
    assert len(store.requests) == 2


async def test_an_answer_older_than_the_news_of_a_change_is_not_kept(clock: Clock) -> None:
    store = MemoryStore({"f": b"1"})
    names = names_of(store, clock)
    answering, release = threading.Event(), threading.Event()

    def hold(_request: Request) -> None:
        answering.set()
        release.wait(10)

    store.before_answer = hold
    async with trio.open_nursery() as nursery:
        nursery.start_soon(names.lookup, "", "f")
        await until(answering.is_set)
        store.put("f", b"22")
        names.forget_path("f")
        release.set()
    entry = await names.lookup("", "f")
    assert isinstance(entry, FileEntry)
    assert entry.info.size == 2


async def test_one_change_in_a_large_directory_does_not_list_it_again(clock: Clock) -> None:
    store = MemoryStore(many(2500))
    names = names_of(store, clock)
    await names.entries("")
    before = len(store.requests)
    store.put("f00042", b"new")
    names.forget_path("f00042")
    entry = await names.lookup("", "f00042")
    assert isinstance(entry, FileEntry)
    assert entry.info.size == 3
    assert len(store.requests) == before + 1


async def test_listings_in_use_are_renewed_before_they_expire(clock: Clock) -> None:
    store = MemoryStore({"d/f": b""})
    names = names_of(store, clock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(names.renew_ahead)
        await names.entries("d")
        await names.entries("d")
        clock.now_s += 50
        await names.entries("d")
        await until(lambda: len(store.requests) == 2)
        await wait_all_tasks_blocked(0.01)
        clock.now_s += 50
        await names.lookup("d", "f")
        assert len(store.requests) == 2
        nursery.cancel_scope.cancel()


async def test_a_directorys_time_is_the_mounts_or_its_markers_if_newer(clock: Clock) -> None:
    store = MemoryStore({"old/": b"", "new/": b"", "none/f": b""})
    names = Names(
        store,
        prefix="",
        ttl_s=60,
        limiter=trio.CapacityLimiter(1),
        clock=clock,
        mount_time_ns=store.head("old/").mtime_ns + 1,
    )
    times = {entry.name: entry.mtime_ns for entry in await names.entries("") if isinstance(entry, DirectoryEntry)}
    mounted_ns = store.head("old/").mtime_ns + 1
    assert times == {"old": mounted_ns, "new": store.head("new/").mtime_ns, "none": mounted_ns}


HIDING = {
    "a": b"shadowed",
    "a/b": b"",
    "c//d": b"",
    "c//e": b"",
    "./x": b"",
    "f/../g": b"",
    "h/": b"content",
    "i/" + "x" * 256: b"",
    "fine": b"",
    "c/ok": b"",
}
HIDDEN = {
    HiddenKey("a", WhyHidden.SHADOWED),
    HiddenKey("c//", WhyHidden.EMPTY),
    HiddenKey("./", WhyHidden.DOT),
    HiddenKey("f/../", WhyHidden.DOT),
    HiddenKey("h/", WhyHidden.MARKER_WITH_BYTES),
    HiddenKey("i/" + "x" * 256, WhyHidden.LONG),
}


async def test_keys_that_cannot_be_shown_are_hidden_and_accounted_for_once(clock: Clock) -> None:
    names = names_of(MemoryStore(HIDING), clock)
    for _ in range(3):
        assert await shown(names, "") == ["a/", "c/", "f/", "fine", "h/", "i/"]
        assert await shown(names, "c") == ["ok"]
        assert await shown(names, "f") == await shown(names, "h") == await shown(names, "i") == []
        assert {path async for path, _ in names.walk("")} == {"a/b", "fine", "c/ok"}
        assert set(names.hidden.sample()) == HIDDEN
        assert sum(names.hidden.counts().values()) == len(HIDDEN)
        clock.now_s += 60


async def test_hidden_keys_are_the_same_whether_listed_flat_or_folded(clock: Clock) -> None:
    names = names_of(MemoryStore(HIDING, page_keys=2), clock)
    for directory in ("", "a", "c", "f", "h", "i"):
        await names.entries(directory)
    assert set(names.hidden.sample()) == HIDDEN


async def test_the_sample_of_hidden_keys_is_bounded_and_the_counts_are_not(clock: Clock) -> None:
    store = MemoryStore({f"d{number:03d}//x": b"" for number in range(300)})
    names = names_of(store, clock)
    await names.entries("")
    assert len(names.hidden.sample()) == 100
    assert names.hidden.counts() == {WhyHidden.EMPTY: 300}


# ---- where names are written, for whoever keeps them above us


async def test_a_name_is_located_in_the_listing_of_its_directory(clock: Clock) -> None:
    names = names_of(MemoryStore({"d/a": b"1", "d/b": b"2"}), clock)
    assert names.known("d") is None
    place = await names.locate("d", "b")
    assert names.known("d") is place.listing
    assert place.listing[place.position] == await names.lookup("d", "b")
    assert await names.listing("d") is place.listing
    with pytest.raises(NameNotFound):
        await names.locate("d", "c")


async def test_a_name_of_a_large_directory_is_located_in_a_listing_of_its_own(clock: Clock) -> None:
    names = names_of(MemoryStore({**many(2500), "sub/x": b""}), clock)
    for name in ("f00007", "sub"):
        place = await names.locate("", name)
        assert (list(place.listing), place.position) == ([await names.lookup("", name)], 0)
    assert names.known("") is None


async def test_what_expired_is_not_known_and_what_was_forgotten_neither(clock: Clock) -> None:
    names = names_of(MemoryStore({"d/a": b"1"}), clock)
    await names.lookup("d", "a")
    clock.now_s += 61
    assert names.known("d") is None
    await names.lookup("d", "a")
    names.forget_path("d/a")
    assert names.known("d") is None


async def test_a_listing_is_due_when_most_of_its_time_is_over_and_is_renewed_then(clock: Clock) -> None:
    store = MemoryStore({"d/a": b"1"})
    names = names_of(store, clock)
    await names.lookup("d", "a")
    assert names.due_in_s("d") == 45
    clock.now_s += 44
    before = len(store.requests)
    await names.renew("d")
    assert len(store.requests) == before
    clock.now_s += 2
    assert names.due_in_s("d") == 0
    await names.renew("d")
    assert len(store.requests) == before + 1
    assert (names.due_in_s("d"), names.good_for_s("d")) == (45, 60)


async def test_a_large_listing_is_not_renewed_ahead(clock: Clock) -> None:
    store = MemoryStore(many(2500))
    names = names_of(store, clock)
    await names.entries("")
    assert names.due_in_s("") == names.good_for_s("") == 60
    clock.now_s += 50
    before = len(store.requests)
    await names.renew("")
    assert len(store.requests) == before
