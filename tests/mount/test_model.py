"""A real mount beside a model of it, under random reads, listings, changes in the bucket and evictions."""

from __future__ import annotations

import errno
import os
from itertools import count
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from fluidfs.cache.maintenance import evict
from fluidfs.config import LevelSpec
from tests.conftest import Bucket, Mounter
from tests.support.accounts import Account
from tests.support.mounts import Mount
from tests.support.reading import MIB, content

# Some directories always exist: what becomes of an empty one is the store's own affair.
KEPT = ("keep", "d/keep", "d/e/keep", "f g/keep")
NAMES = st.sampled_from(["a", "b\n", "d/x", "d/y 1", "d/e/z", "d/e/é", "f g/%20"])
DIRECTORIES = st.sampled_from(["", "d", "d/e", "f g"])
SIZES = st.sampled_from([0, 1, 4096, 70_000, 262_144, 262_145, 900_000, 5 * MIB + 3])
# A position in a file of any size.
SHARES = st.floats(0, 1.1)
LENGTHS = st.sampled_from([1, 100, 4096, 70_000, 2 * MIB])


def pread(fd: int, length: int, offset: int) -> tuple[bytes | None, int | None]:
    """The bytes, or the errno."""
    try:
        return os.pread(fd, length, offset), None
    except OSError as error:
        return None, error.errno


def machine_of(mount: Mount, bucket: Bucket) -> type[RuleBasedStateMachine]:
    """The machine, on this mount; every run has a directory of its own."""
    runs = count()
    contents = count()

    class MountBesideModel(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.home = f"run{next(runs)}"
            self.root = mount.path / self.home
            self.objects: dict[str, bytes] = {}
            self.handles: list[tuple[int, bytes]] = []

        @initialize()
        def fill(self) -> None:
            for name in KEPT:
                self._put(name, b"kept")

        def _put(self, name: str, body: bytes) -> None:
            bucket.put(f"{self.home}/{name}", body)
            self.objects[name] = body

        # ---- the bucket changes

        @rule(name=NAMES, size=SIZES)
        def put_or_overwrite(self, name: str, size: int) -> None:
            self._put(name, content(next(contents), size))

        @rule(name=NAMES)
        def overwrite_with_the_same_size(self, name: str) -> None:
            if name in self.objects:
                self._put(name, content(next(contents), len(self.objects[name])))

        @rule(name=NAMES)
        def delete(self, name: str) -> None:
            bucket.delete(f"{self.home}/{name}")
            self.objects.pop(name, None)

        # ---- the file system is used

        @rule(directory=DIRECTORIES)
        def list_a_directory(self, directory: str) -> None:
            prefix = f"{directory}/" if directory else ""
            expected = {name.removeprefix(prefix).partition("/")[0] for name in self.objects if name.startswith(prefix)}
            assert set(os.listdir(self.root / directory)) == expected

        @rule(name=NAMES)
        def look_at_a_file(self, name: str) -> None:
            try:
                size = (self.root / name).stat().st_size
            except FileNotFoundError:
                assert name not in self.objects
            else:
                assert size == len(self.objects[name])

        @rule(name=NAMES)
        def read_a_whole_file(self, name: str) -> None:
            try:
                data = (self.root / name).read_bytes()
            except FileNotFoundError:
                assert name not in self.objects
            else:
                assert data == self.objects[name]

        @rule(name=NAMES, share=SHARES, length=LENGTHS)
        def read_a_part(self, name: str, share: float, length: int) -> None:
            if name in self.objects:
                body = self.objects[name]
                offset = int(len(body) * share)
                fd = os.open(self.root / name, os.O_RDONLY)
                try:
                    assert os.pread(fd, length, offset) == body[offset : offset + length]
                finally:
                    os.close(fd)

        @rule(name=NAMES)
        def open_and_hold(self, name: str) -> None:
            if name in self.objects and len(self.handles) < 4:
                self.handles.append((os.open(self.root / name, os.O_RDONLY), self.objects[name]))

        @rule(number=st.integers(0, 3), share=SHARES, length=LENGTHS)
        def read_what_is_held(self, number: int, share: float, length: int) -> None:
            if number < len(self.handles):
                fd, body = self.handles[number]
                offset = int(len(body) * share)
                data, failed = pread(fd, length, offset)
                if data is None:
                    assert failed == errno.ESTALE
                    assert body not in self.objects.values(), "the version is still there"
                else:
                    # A read that ends in what is gone gives its beginning.
                    assert data == body[offset : offset + len(data)]
                    assert data or offset >= len(body)

        @rule(number=st.integers(0, 3))
        def let_go(self, number: int) -> None:
            if number < len(self.handles):
                os.close(self.handles.pop(number)[0])

        @rule()
        def evict_everything(self) -> None:
            evict(LevelSpec(str(mount.account.cache), None, "SSD"), everything=True)

        @rule()
        def drop_the_page_cache_of_what_is_held(self) -> None:
            for fd, _ in self.handles:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

        @invariant()
        def a_missing_name_is_missing(self) -> None:
            assert not (self.root / "d/never").exists()

        def teardown(self) -> None:
            for fd, _ in self.handles:
                os.close(fd)

    return MountBesideModel


def test_a_mount_is_what_its_model_says(bucket: Bucket, me: Account, mounted: Mounter) -> None:
    mount = mounted(bucket.uri, "--metadata-ttl", "0s", account=me)
    run_state_machine_as_test(
        machine_of(mount, bucket),
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    status: dict[str, Any] = mount.status()
    assert status["integrity"]["bad_blocks"] == 0
    assert status["fetch"]["in_flight_bytes"] == 0
