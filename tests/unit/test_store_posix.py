"""A directory as a store: keys, order, pages, and what is left out."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fluidfs.errors import AccessDenied, BucketNotFound, ObjectNotFound
from fluidfs.model import ListPage
from fluidfs.store.base import FileTransport
from fluidfs.store.open import open_store
from fluidfs.store.posix import PosixStore
from fluidfs.store.source import parse_source
from tests.unit.memory_store import MemoryStore


def fill(root: Path, *keys: str) -> None:
    for key in keys:
        path = root / key
        if key.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(key.encode("utf-8", "surrogateescape"))


def keys_of(store: PosixStore | MemoryStore, prefix: str = "", delimiter: str = "", limit: int = 1000) -> list[str]:
    """All keys and prefixes, over all pages, in the order of their bytes."""
    keys: list[str] = []
    token: str | None = None
    while True:
        page: ListPage = store.list_page(prefix, delimiter=delimiter, token=token, limit=limit)
        assert len(page.objects) + len(page.prefixes) <= limit
        names = sorted([*(info.key for info in page.objects), *page.prefixes], key=os.fsencode)
        assert not keys or not names or os.fsencode(keys[-1]) < os.fsencode(names[0])
        keys += names
        token = page.next_token
        if token is None:
            return keys


def test_files_are_objects_in_the_order_of_their_keys_bytes(tmp_path: Path) -> None:
    fill(tmp_path, "a/x", "a-b", "a.c", "B", "é", "a/y/z", os.fsdecode(b"\xff"))
    store = PosixStore(str(tmp_path))
    assert keys_of(store) == ["B", "a-b", "a.c", "a/x", "a/y/z", "é", "\udcff"]
    assert keys_of(store, delimiter="/") == ["B", "a-b", "a.c", "a/", "é", "\udcff"]
    assert keys_of(store, "a") == ["a-b", "a.c", "a/x", "a/y/z"]
    assert keys_of(store, "a/", "/") == ["a/x", "a/y/"]
    assert keys_of(store, "a/x/") == keys_of(store, "nothing/") == keys_of(store, "a/../") == keys_of(store, "/") == []


def test_a_file_has_its_size_time_and_a_version_that_changes_with_it(tmp_path: Path) -> None:
    fill(tmp_path, "d/f")
    store = PosixStore(str(tmp_path))
    listed = store.list_page("").objects[0]
    status = os.stat(tmp_path / "d/f")
    assert listed == store.head("d/f")
    assert (listed.size, listed.mtime_ns) == (3, status.st_mtime_ns)
    (tmp_path / "new").write_bytes(b"d/f")
    os.utime(tmp_path / "new", ns=(0, status.st_mtime_ns))
    os.replace(tmp_path / "new", tmp_path / "d/f")
    assert store.head("d/f").version != listed.version


def test_an_empty_directory_shows_as_a_marker(tmp_path: Path) -> None:
    fill(tmp_path, "a/empty/", "f")
    store = PosixStore(str(tmp_path))
    assert keys_of(store) == keys_of(store, limit=1) == ["a/empty/", "f"]
    assert keys_of(store, "a/empty/") == keys_of(store, "a/empty/", "/") == ["a/empty/"]
    assert keys_of(store, "a/", "/") == ["a/empty/"]
    assert store.list_page("a/").objects[0].size == 0


def test_links_sockets_and_fifos_are_left_out(tmp_path: Path) -> None:
    fill(tmp_path, "d/file")
    os.symlink("file", tmp_path / "d/link")
    os.symlink("/etc", tmp_path / "d/etc")
    os.mkfifo(tmp_path / "d/fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "d/sock"))
        store = PosixStore(str(tmp_path))
        assert keys_of(store) == ["d/file"]
        assert keys_of(store, "d/etc/") == []
        for key in (
            "d/link",
            "d/etc/passwd",
            "d/fifo",
            "d/sock",
            "d",
            "d/",
            "../x",
            "d/../d/file",
            "/etc/passwd",
            "n" * 300,
        ):
            with pytest.raises(ObjectNotFound):
                store.head(key)


def test_names_that_are_not_utf8_go_through(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9")).write_bytes(b"1")
    store = PosixStore(str(tmp_path))
    key = store.list_page("").objects[0].key
    assert store.head(key).size == 1
    assert store.target(key) == b"caf\xe9"


def test_a_directory_that_is_missing_or_a_file_cannot_be_mounted(tmp_path: Path) -> None:
    fill(tmp_path, "f")
    PosixStore(str(tmp_path)).probe()
    for name in ("nothing", "f"):
        with pytest.raises(BucketNotFound):
            PosixStore(str(tmp_path / name)).probe()


def test_one_directory_has_one_identity_however_it_is_reached(tmp_path: Path) -> None:
    fill(tmp_path, "real/f")
    os.symlink("real", tmp_path / "link")
    assert PosixStore(str(tmp_path / "link")).identity == PosixStore(str(tmp_path / "real")).identity


def test_a_file_source_opens_as_a_directory(tmp_path: Path) -> None:
    store = open_store(parse_source(f"file://{tmp_path}"))
    assert isinstance(store, PosixStore)
    assert store.transport == FileTransport(str(tmp_path))
    assert store.credentials() is None


def test_a_directory_that_grows_between_pages_is_listed_on(tmp_path: Path) -> None:
    fill(tmp_path, *(f"f{number:03d}" for number in range(0, 100, 2)))
    store = PosixStore(str(tmp_path))
    first = store.list_page("", limit=10)
    fill(tmp_path, "f001", "f051", "zzz/new")
    rest = keys_of_rest(store, first)
    assert "f051" in rest
    assert "zzz/new" in rest
    assert "f001" not in rest


def keys_of_rest(store: PosixStore, page: ListPage) -> list[str]:
    keys: list[str] = []
    while page.next_token is not None:
        page = store.list_page("", token=page.next_token, limit=10)
        keys += [info.key for info in page.objects]
    return keys


def test_a_deep_tree_is_listed(tmp_path: Path) -> None:
    key = "/".join(["d"] * 500) + "/f"
    here = os.open(tmp_path, os.O_RDONLY)
    for component in key.split("/")[:-1]:
        os.mkdir(component, dir_fd=here)
        below = os.open(component, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    assert keys_of(PosixStore(str(tmp_path))) == [key]


NAMES = st.sampled_from(["a", "b", "a-", "a.b", "a0", "é", "c d", "\udcff"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.lists(PATHS, max_size=12),
    limit=st.integers(1, 5),
    prefix=st.sampled_from(["", "a", "a/", "a/b", "a/a/", "b/a-", "c"]),
    delimiter=st.sampled_from(["", "/"]),
)
def test_listings_are_those_of_an_object_store_with_the_same_keys(
    tmp_path_factory: pytest.TempPathFactory, files: list[str], limit: int, prefix: str, delimiter: str
) -> None:
    root = tmp_path_factory.mktemp("tree")
    taken: list[str] = []
    for key in files:
        if not any(key.startswith(f"{other}/") or other.startswith(f"{key}/") or other == key for other in taken):
            fill(root, key)
            taken.append(key)
    memory = MemoryStore(dict.fromkeys(taken, b""))
    assert keys_of(PosixStore(str(root)), prefix, delimiter, limit) == keys_of(memory, prefix, delimiter, limit)


@pytest.fixture
def as_ordinary_user() -> Iterator[Path]:
    """A directory of an ordinary user, as whom the test runs: root may read everything."""
    with tempfile.TemporaryDirectory() as name:
        root = os.geteuid() == 0
        if root:
            os.chown(name, 65534, 65534)
            os.seteuid(65534)
        try:
            yield Path(name)
        finally:
            if root:
                os.seteuid(0)


def test_a_directory_that_may_not_be_read_is_told_of_only_when_it_is_asked_for(as_ordinary_user: Path) -> None:
    fill(as_ordinary_user, "closed/f", "open/g")
    closed = as_ordinary_user / "closed"
    closed.chmod(0)
    store = PosixStore(str(as_ordinary_user))
    assert keys_of(store) == ["closed/", "open/g"]
    assert keys_of(store, delimiter="/") == ["closed/", "open/"]
    with pytest.raises(AccessDenied):
        store.list_page("closed/")
    with pytest.raises(AccessDenied):
        store.head("closed/f")
    with pytest.raises(AccessDenied):
        PosixStore(str(closed)).probe()
    closed.chmod(0o700)
