"""Contents under many threads at once, and a million of them."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fluidfs._native.contents import Contents
from fluidfs._native.objects import VERIFY_FIRST
from tests.unit.caching import BLOCK, KIB, content, lone, slab_in, usage_in

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "fluidfs" / "_native"
READ_SOURCES = ("content.c", "content_read.c", "slab.c", "map_guard.c", "object_open.c", "object_read.c")
READ_SOURCES += ("object_seal.c", "object_sink.c", "object_block.c")
SIZE = 2 * BLOCK + 17
SMALL = 5000


def run_built(program: Path, sources: list[Path], *arguments: str, flags: str = "-fsanitize=address,undefined") -> str:
    """Compiles a program of C and runs it; what it prints. Fails when either fails."""
    always = "-std=c11 -D_GNU_SOURCE -pthread -O1 -g -Wall -Wextra -Werror -fno-sanitize-recover=all"
    command = [os.environ.get("CC", "cc"), *always.split(), flags, f"-I{NATIVE}", *map(str, sources)]
    subprocess.run([*command, "-o", str(program)], check=True)
    # A preloaded library, as of a sanitized interpreter, must not meet this program's own.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    run = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout


def run_together(acts: list[Callable[[random.Random], None]], *, for_s: float) -> None:
    """Each in a thread of its own, again and again; what one of them raises fails the test."""
    end, failed = time.monotonic() + for_s, threading.Event()

    def repeat(number: int, act: Callable[[random.Random], None]) -> None:
        rng = random.Random(number)
        try:
            while time.monotonic() < end and not failed.is_set():
                act(rng)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(len(acts)) as pool:
        for future in [pool.submit(repeat, number, act) for number, act in enumerate(acts)]:
            future.result()


def test_readers_see_right_bytes_or_a_miss_while_slabs_come_and_go(tmp_path: Path) -> None:
    contents, usage = Contents(), usage_in(tmp_path)
    numbers = range(12)
    small = [contents.add_small(SMALL, verify=number % 3) for number in numbers]
    hits = [0]
    slabs: dict[int, list[int]] = {}

    def new_slab(generation: int) -> None:
        (tmp_path / str(generation)).mkdir()
        slab = slab_in(tmp_path / str(generation), usage)
        slots = [slab.put(number.to_bytes(16, "big"), b"who", content(SMALL, number)) for number in numbers]
        slabs[contents.add_slab(slab)] = [slot for slot in slots if slot is not None]
        slab.close()

    def read(rng: random.Random) -> None:
        number = rng.choice(numbers)
        offset, length = rng.choice(((0, SMALL), (100, 50)))
        try:
            got = contents.read(small[number], offset, length, nowait=rng.random() < 0.3)
        except BlockingIOError:
            return
        assert got is None or got == content(SMALL, number)[offset : offset + length]
        hits[0] += got is not None

    def place(rng: random.Random) -> None:
        number, (slab_id, slots) = rng.choice(numbers), rng.choice([*slabs.items()])
        act = contents.place if rng.random() < 0.8 else contents.unplace
        act(small[number], slab_id, slots[number])
        contents.present(small[number], 0, 1)

    generations, told = iter(range(1, 1_000_000)), list[int]()
    new_slab(0)

    def turn_over(_: random.Random) -> None:
        old = list(slabs)
        new_slab(next(generations))
        for slab_id in old:
            # Left first: the other thread may still place contents in it.
            contents.leave_slab(slab_id)
            del slabs[slab_id]
        contents.touch(5)
        told.extend(contents.gone())

    run_together([read, read, read, place, turn_over], for_s=2)
    for slab_id in slabs:
        contents.leave_slab(slab_id)
    told.extend(contents.gone())
    assert hits[0]
    assert sorted(told) == list(range(1, next(generations) + 1))


def test_contents_dropped_while_they_are_read_go_after_the_read(tmp_path: Path) -> None:
    contents, files = Contents(), lone(tmp_path, SIZE)
    file = files.filled()
    current, made, told = [contents.add_object(file, verify=VERIFY_FIRST)], [1], list[int]()

    def read(rng: random.Random) -> None:
        offset = rng.randrange(SIZE)
        try:
            got = contents.read(current[0], offset, 64 * KIB)
        except KeyError:
            return
        assert got == content(SIZE)[offset : offset + 64 * KIB]

    def replace(_: random.Random) -> None:
        old, current[0] = current[0], contents.add_object(file, verify=VERIFY_FIRST)
        made[0] += 1
        contents.drop(old)
        told.extend(contents.gone())

    run_together([read, read, replace], for_s=1)
    contents.drop(current[0])
    told.extend(contents.gone())
    assert len(set(told)) == len(told) == made[0]


@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
def test_threads_that_read_place_leave_and_drop_at_once_break_nothing(tmp_path: Path, sanitizer: str) -> None:
    sources = [ROOT / "tests" / "native" / "content_hammer.c", *(NATIVE / source for source in READ_SOURCES)]
    run_built(tmp_path / "hammer", sources, str(tmp_path), "1.5", flags=f"-fsanitize={sanitizer}")


MILLION = """
#include <malloc.h>
#include <stdio.h>
#include "content.h"
int main(void) {
    struct mallinfo2 before = mallinfo2();
    ff_contents *contents = ff_contents_new();
    uint64_t first = 0;
    for (int i = 0; i < 1000000; i++) {
        ff_content *content = ff_content_small(contents, 1, FF_VERIFY_FIRST);
        if (content == NULL)
            return 1;
        if (i == 0)
            first = content->id;
    }
    struct mallinfo2 after = mallinfo2();
    printf("%f\\n", (double)(after.uordblks + after.hblkhd - before.uordblks - before.hblkhd) / 1e6);
    for (uint64_t id = first; id < first + 1000000; id++) {
        ff_content *content = ff_contents_find(contents, id);
        if (content == NULL || content->id != id)
            return 2;
        ff_content_drop(content);
        ff_content_drop(content);
    }
    ff_contents_free(contents);
    return 0;
}
"""


def test_a_million_contents_take_little_more_than_a_hundred_bytes_each(tmp_path: Path) -> None:
    # In a process of its own, whose memory nobody else has used before.
    source = tmp_path / "million.c"
    source.write_text(MILLION)
    assert float(run_built(tmp_path / "million", [source, NATIVE / "content.c"], flags="-O2")) < 112
