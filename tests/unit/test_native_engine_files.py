"""A directory as a source: exact bytes of one version, and nothing from outside of it."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluidfs._native.engine import Completion, Status, open_beneath
from fluidfs._native.sink import MemorySink
from tests.unit.fetching import Fetching

DATA = random.Random(3).randbytes(600_007)


@pytest.fixture
def fetching() -> Iterator[Fetching]:
    with Fetching() as driver:
        yield driver


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_bytes(b"secret")
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "file").write_bytes(DATA)
    return root


def version_of(path: Path) -> str:
    found = path.stat()
    return f"{found.st_mtime_ns}-{found.st_size}-{found.st_ino}"


def fetch(
    fetching: Fetching, root: Path, target: bytes, *, offset: int = 0, length: int | None = None, version: str = ""
) -> tuple[Completion, bytes]:
    endpoint = fetching.engine.file_endpoint(root=str(root))
    return fetching.fetch(endpoint, size=len(DATA), offset=offset, length=length, target=target, version=version)


@pytest.mark.parametrize(("offset", "length"), [(0, 600_007), (600_006, 1), (1, 65_536), (123, 300_000)])
def test_a_range_of_a_file_arrives_byte_for_byte(fetching: Fetching, root: Path, offset: int, length: int) -> None:
    version = version_of(root / "sub" / "file")
    done, body = fetch(fetching, root, b"sub/file", offset=offset, length=length, version=version)
    assert done.status is Status.OK
    assert body == DATA[offset : offset + length]


def test_a_file_of_another_version_has_changed(fetching: Fetching, root: Path) -> None:
    version = version_of(root / "sub" / "file")
    os.utime(root / "sub" / "file", ns=(1, 1))
    assert fetch(fetching, root, b"sub/file", version=version)[0].status is Status.CHANGED


def test_a_file_that_has_shrunk_has_changed(fetching: Fetching, root: Path) -> None:
    os.truncate(root / "sub" / "file", 100)
    done, body = fetch(fetching, root, b"sub/file")
    assert (done.status, body) == (Status.CHANGED, b"")


def test_a_missing_file_is_not_found(fetching: Fetching, root: Path) -> None:
    assert fetch(fetching, root, b"sub/none")[0].status is Status.NOT_FOUND
    assert fetch(fetching, root, b"sub/file/below")[0].status is Status.NOT_FOUND


def test_a_directory_is_no_file(fetching: Fetching, root: Path) -> None:
    assert fetch(fetching, root, b"sub")[0].status is Status.IO


def test_a_fifo_is_no_file_and_is_not_waited_for(fetching: Fetching, root: Path) -> None:
    os.mkfifo(root / "fifo")
    assert fetch(fetching, root, b"fifo")[0].status is Status.IO


@pytest.mark.parametrize("target", [b"../secret", b"link", b"/etc/passwd", b"sub/../../secret", b"absolute"])
def test_nothing_outside_of_the_directory_is_read(fetching: Fetching, root: Path, target: bytes) -> None:
    (root / "link").symlink_to("../secret")
    (root / "absolute").symlink_to(root.parent / "secret")
    done, body = fetch(fetching, root, target)
    assert (done.status, body) == (Status.DENIED, b"")


def test_a_link_that_stays_inside_is_followed(fetching: Fetching, root: Path) -> None:
    (root / "link").symlink_to("sub/file")
    assert fetch(fetching, root, b"link")[1] == DATA


@pytest.mark.parametrize("target", [b"../secret", b"link", b"/etc/passwd", b"sub/../sub/file", b"sub//file", b"sub/"])
def test_without_openat2_no_link_and_no_way_up_is_followed(root: Path, target: bytes) -> None:
    (root / "link").symlink_to("sub/file")
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError, match=r"link") as refused:
            open_beneath(directory, target, resolved_by_kernel=False)
        assert refused.value.errno in (errno.EXDEV, errno.ELOOP)
        opened = open_beneath(directory, b"sub/file", resolved_by_kernel=False)
        assert os.read(opened, 10) == DATA[:10]
        os.close(opened)
    finally:
        os.close(directory)


def test_an_endpoint_needs_a_directory(fetching: Fetching, root: Path) -> None:
    with pytest.raises(FileNotFoundError):
        fetching.engine.file_endpoint(root=str(root / "none"))
    with pytest.raises(NotADirectoryError):
        fetching.engine.file_endpoint(root=str(root / "sub" / "file"))


def test_an_endpoint_of_files_takes_no_credentials(fetching: Fetching, root: Path) -> None:
    with pytest.raises(ValueError, match="credentials"):
        fetching.engine.file_endpoint(root=str(root)).set_credentials("AK", "SK", None)


def test_a_sink_that_is_too_small_ends_the_job_with_its_error(fetching: Fetching, root: Path) -> None:
    endpoint = fetching.engine.file_endpoint(root=str(root))
    ticket = fetching.submit(
        endpoint, MemorySink(0, 100_000), offset=0, length=500_000, size=len(DATA), target=b"sub/file", version=""
    )
    done = fetching.wait(ticket)
    assert (done.status, done.bytes_done) == (Status.SINK, 65_536)
    assert os.strerror(done.errno) in done.detail
