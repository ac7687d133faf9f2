"""What is in the image as built, and what is not."""

from __future__ import annotations

import hashlib
import re
import stat
from pathlib import Path

import pytest

from fluidfs.version import VERSION
from tests.images.conftest import build_image
from tests.images.container import NOBODY
from tests.images.layout import Layout
from tests.support.accounts import REPOSITORY

MAGIC_OF_PYTHON_3_11 = (3495).to_bytes(2, "little") + b"\r\n"
# PEP 552: the hash of the source is in the file, and nobody compares it.
NEVER_COMPARED = (1).to_bytes(4, "little")


def files_of(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]


def test_every_blob_has_the_digest_and_size_that_refers_to_it(layout: Layout) -> None:
    assert layout.files["oci-layout"] == b'{"imageLayoutVersion":"1.0.0"}'
    referred = [layout.manifest["config"], *layout.manifest["layers"]]
    assert all(layout.blob(descriptor) for descriptor in referred)
    # The manifest besides.
    assert len([name for name in layout.files if name.startswith("blobs/")]) == len(referred) + 1


def test_the_configuration_names_the_uncompressed_layers(layout: Layout) -> None:
    digests = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layout.layers()]
    assert layout.config["rootfs"] == {"type": "layers", "diff_ids": digests}
    assert len(layout.config["history"]) == len(digests)


def test_it_runs_fluidfs_as_nobody(layout: Layout) -> None:
    config = layout.config["config"]
    assert config["Entrypoint"] == ["/usr/local/bin/fluidfs"]
    assert config["User"] == f"{NOBODY}:{NOBODY}"
    assert config["Labels"]["org.opencontainers.image.version"] == VERSION


def test_building_again_gives_the_same_bytes(image_file: Path, tmp_path: Path) -> None:
    build_image(tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == image_file.read_bytes()


def test_it_has_two_programs_and_the_interpreter(image_root: Path) -> None:
    programs = {
        str(path.relative_to(image_root))
        for directory in ("usr/bin", "usr/sbin", "usr/local")
        for path in (image_root / directory).rglob("*")
        if path.is_file() and path.stat().st_mode & 0o111 and not path.name.endswith(".so")
    }
    assert programs == {"usr/bin/fusermount3", "usr/bin/python3.11", "usr/local/bin/fluidfs"}


@pytest.mark.parametrize("name", ["apt", "apt-get", "dpkg", "pip", "pip3", "sh", "bash", "dash", "busybox", "perl"])
def test_there_is_no_package_manager_and_no_shell(image_root: Path, name: str) -> None:
    assert not [path for path in image_root.rglob(name) if path.is_file() or path.is_symlink()]


@pytest.mark.parametrize("name", ["pip", "setuptools", "ensurepip", "Cython"])
def test_nothing_that_installs_python_packages_is_there(image_root: Path, name: str) -> None:
    assert not [path for path in image_root.rglob("*") if re.split(r"[-.]", path.name)[0] == name]


def test_only_fusermount3_has_more_rights_than_its_caller(layout: Layout) -> None:
    privileged = {entry.name for entry in layout.entries() if entry.isreg() and entry.mode & 0o6000}
    assert privileged == {"usr/bin/fusermount3"}
    assert not [entry.name for entry in layout.entries() if "SCHILY.xattr.security.capability" in entry.pax_headers]


def test_everything_belongs_to_root_and_only_scratch_directories_can_be_written(layout: Layout) -> None:
    entries = layout.entries()
    assert {(entry.uid, entry.gid) for entry in entries} == {(0, 0)}
    writable = {entry.name for entry in entries if not entry.issym() and entry.mode & 0o022}
    assert writable == {"tmp", "var/cache"}
    assert all(entry.isreg() or entry.isdir() or entry.issym() for entry in entries)


def test_all_times_are_the_same(layout: Layout) -> None:
    assert len({entry.mtime for entry in layout.entries()}) == 1


def test_every_module_is_there_compiled_once_and_as_source(image_root: Path) -> None:
    compiled = list(image_root.rglob("*.pyc"))
    assert all(path.read_bytes()[:8] == MAGIC_OF_PYTHON_3_11 + NEVER_COMPARED for path in compiled)
    sources = {path.parent.parent / f"{path.name.removesuffix('.cpython-311.pyc')}.py" for path in compiled}
    assert sources == set(image_root.rglob("*.py"))
    assert {path.suffix for cache in image_root.rglob("__pycache__") for path in cache.iterdir()} == {".pyc"}


def test_every_link_leads_to_something_in_the_image(image_root: Path) -> None:
    for path in image_root.rglob("*"):
        if path.is_symlink() and path.name != "mtab":
            target = path.readlink()
            there = image_root / target.relative_to("/") if target.is_absolute() else path.parent / target
            assert there.exists(), f"{path} → {target}"


def test_scanners_find_each_package_with_its_version_and_copyright(image_root: Path) -> None:
    records = list((image_root / "var/lib/dpkg/status.d").iterdir())
    assert len(records) > 10
    for record in records:
        assert re.search(r"^Version: \S+$", record.read_text(), re.MULTILINE)
        documents = image_root / "usr/share/doc" / record.name
        assert (documents / "copyright").stat().st_size > 0
    packages = image_root / "usr/local/lib/python3.11/dist-packages"
    assert {path.name.partition("-")[0] for path in packages.glob("*.dist-info")} >= {"fluidfs", "botocore", "pyfuse3"}


def test_nothing_of_the_machine_that_built_it_is_there(image_root: Path) -> None:
    assert not [
        name for name in ("etc/resolv.conf", "etc/hosts", "etc/hostname", "etc/apt") if (image_root / name).exists()
    ]
    assert not list(image_root.rglob("pip.conf"))
    here = (str(REPOSITORY).encode() + b"/", b"/build/source", b"/build/layers")
    for path in files_of(image_root):
        content = path.read_bytes()
        assert not [trace for trace in here if trace in content], path


def test_there_is_no_secret(image_root: Path) -> None:
    key = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}|\bAKIA[0-9A-Z]{16}\b")
    assert not [path for path in files_of(image_root) if key.search(path.read_bytes())]
    names = {"credentials", ".netrc", ".pgpass", "id_rsa", "auth.conf", ".git", ".env"}
    assert not [path for path in image_root.rglob("*") if path.name in names]


def test_the_authorities_are_debians_and_none_of_this_machine(image_root: Path) -> None:
    bundle = (image_root / "etc/ssl/certs/ca-certificates.crt").read_text()
    assert bundle.count("BEGIN CERTIFICATE") > 100
    for own in Path("/usr/local/share/ca-certificates").glob("*.crt"):
        assert own.read_text().strip() not in bundle


def test_programs_are_not_writable_and_directories_can_be_entered(layout: Layout) -> None:
    modes = {stat.S_IMODE(entry.mode) for entry in layout.entries() if not entry.issym()}
    assert modes <= {0o644, 0o755, 0o1777, 0o4755}
