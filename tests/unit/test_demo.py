"""The parts of the demonstration that need neither server nor mount."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fluidfs.demo.dataset import Kind, SourceFile, standard_library, write_incompressible, write_weights
from fluidfs.demo.figures import Figures, Row
from fluidfs.demo.measure import Reading, drop_page_cache, read_all
from fluidfs.demo.run import run_demo
from fluidfs.demo.seaweed import SeaweedServer
from fluidfs.demo.traces import daemons_of, is_mounted, process_state
from fluidfs.errors import EnvironmentLacking, StoreUnavailable


def source_file(root: Path, key: str, content: bytes) -> SourceFile:
    path = root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return SourceFile(Kind.SMALL, key, path, len(content), hashlib.sha256(content).hexdigest())


def test_the_generated_file_is_the_same_every_time_and_of_the_size_asked_for(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_incompressible(tmp_path / name, size_bytes=9_000_001)
    assert (tmp_path / "a").stat().st_size == 9_000_001
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_the_weights_are_read_by_the_library_that_wrote_them(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    write_weights(tmp_path / "w.safetensors")
    layers = load_file(tmp_path / "w.safetensors")
    assert len(layers) == 16
    assert all(layer.shape == (1024, 1024) and layer.any() for layer in layers.values())


def test_the_standard_library_comes_without_what_was_installed_or_compiled(tmp_path: Path) -> None:
    for name in ("os.py", "json/decoder.py", "site-packages/x.py", "dist-packages/y.py", "json/__pycache__/z.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "dangling.py").symlink_to("nowhere")
    assert {str(path.relative_to(tmp_path)) for path in standard_library(tmp_path)} == {"os.py", "json/decoder.py"}


@pytest.mark.parametrize("sizes", [(0, 1, 5000), (9 * 1024 * 1024, 10 * 1024 * 1024 + 1)], ids=["small", "large"])
def test_equal_copies_read_right_and_one_wrong_byte_is_told(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    files = [source_file(tmp_path, f"d/{size}", os.urandom(size)) for size in sizes]
    reading = read_all(tmp_path, files)
    assert (reading.files, reading.size_bytes, reading.wrong) == (len(sizes), sum(sizes), ())
    with files[-1].path.open("r+b") as file:
        file.seek(sizes[-1] // 2)
        byte = file.read(1)
        file.seek(sizes[-1] // 2)
        file.write(bytes([byte[0] ^ 1]))
    assert read_all(tmp_path, files).wrong == (files[-1].key,)


def test_dropping_the_page_cache_harms_no_file(tmp_path: Path) -> None:
    file = source_file(tmp_path, "f", b"content")
    drop_page_cache(tmp_path)
    assert file.path.read_bytes() == b"content"


def test_the_table_shows_each_kind_and_the_verdict() -> None:
    good = Reading(files=10, size_bytes=2_000_000, seconds=0.5, wrong=())
    figures = Figures(rows=(Row("small files", good, good),), cached_bytes=2_000_000, status={})
    assert "small files     10  2.0          4          4            20            20" in figures.table()
    assert "all 10 files are equal" in figures.table()


def test_files_that_read_wrong_are_in_the_table_and_in_the_facts() -> None:
    good = Reading(files=2, size_bytes=10, seconds=1, wrong=())
    bad = Reading(files=2, size_bytes=10, seconds=1, wrong=("b", "a"))
    figures = Figures(rows=(Row("x", good, bad),), cached_bytes=0, status={})
    assert "2 of 2 files differ" in figures.table()
    assert figures.facts()["wrong"] == ["a", "b"]


def test_a_disk_that_is_too_small_is_said_before_anything_is_done() -> None:
    with pytest.raises(EnvironmentLacking, match="TMPDIR"):
        run_demo(size_bytes=2**60, keep=False, report=pytest.fail)


def test_a_server_that_never_started_has_no_address(tmp_path: Path) -> None:
    server = SeaweedServer(tmp_path)
    with pytest.raises(StoreUnavailable):
        _ = server.endpoint_url
    server.stop()
    server.kill()


def test_a_directory_is_no_mount_and_proc_is_one(tmp_path: Path) -> None:
    assert is_mounted(Path("/proc"))
    assert not is_mounted(tmp_path)


def test_a_process_that_names_fluidfs_and_the_mountpoint_is_found_while_it_lives(tmp_path: Path) -> None:
    code = "import sys; print('up', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "fluidfs", str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        assert daemons_of(tmp_path) == [process.pid]
        assert process_state(process.pid) in {"R", "S"}
        process.communicate()
    assert daemons_of(tmp_path) == []
    assert process_state(process.pid) == ""
