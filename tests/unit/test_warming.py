"""Filling the cache ahead of use."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from fluidfs.model import WarmProgress, WarmRequest, WarmResult
from tests.unit.http_server import Exchange, answer, s3_error
from tests.unit.rig import HttpObjects, Rig, pattern, running, until

MIB = 1 << 20
FILES = {
    "a/large": pattern(5 * MIB + 1, 1),
    "a/small.txt": pattern(10_000, 2),
    "a/b/deep.txt": pattern(10_000, 3),
    "c": pattern(300_000, 4),
    "empty": b"",
}
TOTAL = sum(map(len, FILES.values()))


async def silent(progress: WarmProgress) -> None:
    del progress


async def warm(rig: Rig, *paths: str, **options: object) -> WarmResult:
    with trio.fail_after(30):
        return await rig.warmer.warm(WarmRequest(paths=paths, **options), silent)  # type: ignore[arg-type]


async def test_all_is_brought_in_and_then_read_without_a_get(tmp_path: Path) -> None:
    store = HttpObjects(FILES)
    with store.server as server:
        async with running(store, tmp_path / "c") as rig:
            result = await warm(rig, "")
            assert result == WarmResult(objects=len(FILES), bytes_fetched=TOTAL, bytes_present=0, failures=())
            requests = len(server.requests)
            for name, data in FILES.items():
                assert await rig.read(name) == data
            assert len(server.requests) == requests
            assert await warm(rig, "") == WarmResult(
                objects=len(FILES), bytes_fetched=0, bytes_present=TOTAL, failures=()
            )


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (("a",), {"a/large", "a/small.txt", "a/b/deep.txt"}),
        (("a/",), {"a/large", "a/small.txt", "a/b/deep.txt"}),
        (("c",), {"c"}),
        (("c", "c", "*"), set(FILES)),
        (("*.txt",), {"a/small.txt", "a/b/deep.txt"}),
        (("a/b/*",), {"a/b/deep.txt"}),
        (("a/?mall.txt",), {"a/small.txt"}),
    ],
)
async def test_paths_are_files_directories_or_patterns(paths: tuple[str, ...], names: set[str], tmp_path: Path) -> None:
    store = HttpObjects(FILES)
    with store.server:
        async with running(store, tmp_path / "c") as rig:
            result = await warm(rig, *paths)
            assert result.failures == ()
            assert result.objects == len(names)
            assert result.bytes_fetched == sum(len(FILES[name]) for name in names)


async def test_a_path_that_names_nothing_is_a_failure_of_its_own(tmp_path: Path) -> None:
    store = HttpObjects(FILES)
    with store.server:
        async with running(store, tmp_path / "c") as rig:
            result = await warm(rig, "nothing", "c", "x/*")
            assert [path for path, _ in result.failures] == ["nothing", "x/*"]
            assert result.objects == 1


async def test_an_object_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    store = HttpObjects(FILES)
    with store.server as server:

        def refuse_one(exchange: Exchange) -> None:
            if exchange.request.target.endswith("/a/large"):
                exchange.send(answer("403 Forbidden", {}, s3_error("AccessDenied")))
            else:
                store.serve(exchange)

        server.script = refuse_one
        async with running(store, tmp_path / "c") as rig:
            result = await warm(rig, "")
            ((path, why),) = result.failures
            assert path == "a/large"
            assert "AccessDenied" in why
            assert result.objects == len(FILES) - 1
            assert result.bytes_fetched == TOTAL - len(FILES["a/large"])
            assert result.bytes_present == 0


async def test_what_the_cache_cannot_take_is_a_failure(tmp_path: Path) -> None:
    store = HttpObjects(FILES)
    with store.server:
        async with running(store, None) as rig:
            result = await warm(rig, "")
            assert {path for path, _ in result.failures} == set(FILES) - {"empty"}
            assert (result.bytes_fetched, result.bytes_present) == (0, 0)


async def test_names_only_fetches_no_bytes(tmp_path: Path) -> None:
    store = HttpObjects(FILES)
    with store.server as server:
        async with running(store, tmp_path / "c") as rig:
            result = await warm(rig, "", metadata_only=True)
            assert (result.objects, result.bytes_fetched) == (len(FILES), 0)
        assert server.requests == []


async def test_progress_ends_where_the_work_does(tmp_path: Path) -> None:
    store = HttpObjects(FILES)
    told: list[WarmProgress] = []

    async def report(progress: WarmProgress) -> None:
        told.append(progress)

    with store.server:
        async with running(store, tmp_path / "c") as rig:
            await rig.warmer.warm(WarmRequest(paths=("",)), report)
    assert told[-1] == WarmProgress(
        objects_done=len(FILES), objects_total=len(FILES), bytes_done=TOTAL, bytes_total=TOTAL, failed=0
    )
    assert [progress.bytes_done for progress in told] == sorted(progress.bytes_done for progress in told)


async def test_a_reader_is_not_kept_waiting_by_a_warm_up(tmp_path: Path) -> None:
    store = HttpObjects({f"warm/{number}": pattern(40 * MIB, number) for number in range(2)} | {"read": pattern(MIB)})
    with store.server as server:

        def slow_warming(exchange: Exchange) -> None:
            if "/warm/" in exchange.request.target:
                exchange.hold()
            else:
                store.serve(exchange)

        server.script = slow_warming
        async with running(store, tmp_path / "c", quota_bytes=256 * MIB) as rig, trio.open_nursery() as nursery:
            nursery.start_soon(rig.warmer.warm, WarmRequest(paths=("warm",)), silent)
            await until(lambda: server.requests)
            with trio.fail_after(10):
                assert await rig.read("read") == pattern(MIB)
            nursery.cancel_scope.cancel()


async def test_a_warm_up_that_is_cut_off_goes_on_where_it_was(tmp_path: Path) -> None:
    store = HttpObjects(FILES)
    with store.server:
        async with running(store, tmp_path / "c") as rig:
            await warm(rig, "a/large")
        async with running(store, tmp_path / "c") as rig:
            result = await warm(rig, "")
            assert result.bytes_present == len(FILES["a/large"])
            assert result.bytes_fetched == TOTAL - len(FILES["a/large"])
