"""The image as built does its job: as root and as nobody, with a read-only root file system."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from fluidfs.demo.seaweed import SeaweedServer
from fluidfs.version import VERSION
from tests.conftest import Bucket
from tests.images.container import NOBODY, Container

# There is no shell in the image, so what runs there is written in what there is.
MOUNT_AND_READ = """
import hashlib, subprocess, sys
source, *options = sys.argv[1:]
subprocess.run(["fluidfs", "mount", source, "/mnt/mounted", *options], check=True)
with open("/mnt/mounted/deep/ä file.bin", "rb") as file:
    print(hashlib.sha256(file.read()).hexdigest())
assert " /mnt/mounted fuse.fluidfs ro," in open("/proc/self/mounts").read()
subprocess.run(["fluidfs", "status"], check=True, stdout=subprocess.DEVNULL)
subprocess.run(["fluidfs", "umount", "/mnt/mounted"], check=True)
assert " fuse.fluidfs " not in open("/proc/self/mounts").read()
"""
CONTENT = bytes(range(256)) * 40_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()

users = pytest.mark.parametrize("uid", [0, NOBODY], ids=["root", "nobody"])


@pytest.fixture
def lent(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "ä file.bin").write_bytes(CONTENT)
    tmp_path.chmod(0o755)
    return tmp_path


@users
def test_it_says_its_version(container: Container, lent: Path, uid: int) -> None:
    done = container.run("/usr/local/bin/fluidfs", "--version", uid=uid, lent=lent)
    assert (done.stdout, done.stderr, done.returncode) == (f"fluidfs {VERSION}\n", "", 0)


@users
def test_doctor_finds_everything_that_a_mount_needs(container: Container, lent: Path, uid: int) -> None:
    done = container.run("fluidfs", "doctor", "--json", uid=uid, lent=lent)
    checks = json.loads(done.stdout)
    assert {check["name"] for check in checks} >= {"native code", "/dev/fuse", "fusermount3"}
    assert not [check for check in checks if check["state"] == "fail"]
    assert done.returncode == 0


@users
def test_a_directory_is_mounted_and_read(container: Container, lent: Path, uid: int) -> None:
    done = container.run("python3.11", "-c", MOUNT_AND_READ, "file:///mnt/source", uid=uid, lent=lent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == DIGEST


@users
def test_a_bucket_is_mounted_and_read(
    container: Container, lent: Path, uid: int, bucket: Bucket, s3_server: SeaweedServer
) -> None:
    bucket.put("deep/ä file.bin", CONTENT)
    endpoint = ("--endpoint-url", s3_server.endpoint_url)
    done = container.run(
        *("python3.11", "-c", MOUNT_AND_READ, bucket.uri, *endpoint),
        uid=uid,
        lent=lent,
        extra=s3_server.environment(),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == DIGEST


def test_tls_trusts_the_authorities_of_the_image(container: Container, lent: Path) -> None:
    """That is where OpenSSL looks by default, and both Python and the native code take that default."""
    script = "import ssl; print(ssl.create_default_context().cert_store_stats()['x509_ca'])"
    done = container.run("python3.11", "-c", script, uid=NOBODY, lent=lent)
    assert int(done.stdout) > 100


def test_every_command_can_be_loaded(container: Container, lent: Path) -> None:
    """A module of Python's that was left out would be missed here."""
    script = """
import importlib, pkgutil, fluidfs
for module in pkgutil.walk_packages(fluidfs.__path__, "fluidfs."):
    if not module.name.startswith("fluidfs.demo") and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""
    done = container.run("python3.11", "-c", script, uid=NOBODY, lent=lent)
    assert (done.stderr, done.returncode) == ("", 0)
