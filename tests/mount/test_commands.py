"""The commands that work on a mount and its cache: warm, cache, doctor, status."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import Bucket, Mounter
from tests.support.accounts import Account
from tests.support.mounts import Mount, wait_until
from tests.support.proxy import CountingProxy, Fault
from tests.support.reading import MIB, content

PARTLY = 3
BODIES = {
    "train/a.bin": content("a", 6 * MIB),
    "train/b.bin": content("b", 100_000),
    "train/deep/c.bin": content("c", 300_000),
    "train/with space\n.bin": content("d", 5_000),
    "test/e.txt": content("e", 2 * MIB),
    "f.txt": b"",
}
TRAIN_BYTES = sum(len(body) for key, body in BODIES.items() if key.startswith("train/"))


@pytest.fixture
def filled(bucket: Bucket) -> Bucket:
    for key, body in BODIES.items():
        bucket.put(key, body)
    return bucket


@pytest.fixture
def mount(filled: Bucket, me: Account, mounted: Mounter, counting_proxy: CountingProxy) -> Mount:
    mount = mounted(filled.uri, account=me, endpoint_url=counting_proxy.endpoint_url)
    counting_proxy.forget()
    return mount


def warm(account: Account, *arguments: object, status: int = 0) -> dict[str, Any]:
    result = account.fluidfs("warm", *(str(argument) for argument in arguments), "--json")
    assert result.returncode == status, result.stderr
    return dict(json.loads(result.stdout))


def test_a_directory_is_warmed_and_then_read_without_a_get(
    mount: Mount, me: Account, request_count: Callable[[str], int]
) -> None:
    told = warm(me, mount.path / "train")
    assert told == {"objects": 4, "bytes_fetched": TRAIN_BYTES, "bytes_present": 0, "failures": []}
    gets = request_count("GET")
    for key, body in BODIES.items():
        if key.startswith("train/"):
            assert (mount.path / key).read_bytes() == body
    assert request_count("GET") == gets
    again = warm(me, mount.path / "train")
    assert again == {"objects": 4, "bytes_fetched": 0, "bytes_present": TRAIN_BYTES, "failures": []}
    assert request_count("GET") == gets


def test_a_pattern_is_warmed(mount: Mount, me: Account) -> None:
    assert warm(me, mount.path / "t[a-r]*/?.bin")["objects"] >= 2
    assert os.getxattr(mount.path / "train/a.bin", "user.fluidfs.cached") == b"%d/%d" % (6 * MIB, 6 * MIB)
    assert os.getxattr(mount.path / "test/e.txt", "user.fluidfs.cached").startswith(b"0/")
    assert warm(me, mount.path / "train/?.bin")["objects"] == 2


def test_a_list_of_paths_is_warmed(mount: Mount, me: Account) -> None:
    paths = me.directory / "paths"
    paths.write_text(f"{mount.path}/train/b.bin\n\n{mount.path}/f.txt\n")
    assert warm(me, "--file-list", paths)["objects"] == 2
    piped = subprocess.run(
        [me.python, "-m", "fluidfs", "warm", "--file-list", "-"],
        input=f"{mount.path}/test\n",
        env=me.environment(),
        cwd=me.directory,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert piped.returncode == 0, piped.stderr
    assert piped.stdout.startswith("1 objects: 2.00MiB fetched")


def test_names_only(mount: Mount, me: Account, request_count: Callable[[str], int]) -> None:
    assert warm(me, mount.path, "--metadata-only")["objects"] == len(BODIES)
    assert request_count("GET") == 0


def test_a_uri_is_warmed_without_a_mount_for_the_mounts_to_come(
    filled: Bucket, me: Account, mounted: Mounter, counting_proxy: CountingProxy, request_count: Callable[[str], int]
) -> None:
    where = ("--endpoint-url", counting_proxy.endpoint_url, "--cache", me.cache)
    assert warm(me, f"{filled.uri}/train/", *where)["bytes_fetched"] == TRAIN_BYTES
    mount = mounted(filled.uri, account=me, endpoint_url=counting_proxy.endpoint_url)
    counting_proxy.forget()
    assert (mount.path / "train/a.bin").read_bytes() == BODIES["train/a.bin"]
    assert request_count("GET") == 0


def test_what_fails_is_listed_and_the_rest_is_warmed(mount: Mount, me: Account, counting_proxy: CountingProxy) -> None:
    counting_proxy.inject(Fault(status=403), when=lambda request: request.key == "train/a.bin")
    told = warm(me, mount.path / "train", mount.path / "nothing here", status=PARTLY)
    assert told["objects"] == 3
    assert sorted(failure["path"] for failure in told["failures"]) == ["nothing here", "train/a.bin"]
    text = me.fluidfs("warm", mount.path / "train")
    assert text.returncode == PARTLY
    assert "train/a.bin" in text.stderr


def test_what_lies_in_no_mount_cannot_be_warmed(me: Account) -> None:
    result = me.fluidfs("warm", me.directory)
    assert result.returncode in (1, 2)
    assert result.stderr.count("\n") == 1


def test_the_cache_is_listed_evicted_and_tidied(mount: Mount, me: Account) -> None:
    assert mount.tree()
    where = ("--cache", me.cache)
    (level,) = json.loads(me.fluidfs("cache", "ls", *where, "--json").stdout)
    by_key = {version["key"]: version for version in level["versions"]}
    assert set(by_key) == {key for key, body in BODIES.items() if body}
    assert by_key["train/a.bin"]["cached_bytes"] == 6 * MIB
    assert {key for key, version in by_key.items() if version["kind"] == "object"} == {
        "train/a.bin",
        "train/deep/c.bin",
        "test/e.txt",
    }
    text = me.fluidfs("cache", "ls", *where)
    assert "train/a.bin" in text.stdout
    assert "train/with space\n" not in text.stdout, "a newline in a name does not break the table"
    mount.unmount()
    matched = me.fluidfs("cache", "evict", *where, "--match", "train/*", "--json")
    assert json.loads(matched.stdout)[0]["versions"] == 4
    evicted = me.fluidfs("cache", "evict", *where, "--all")
    assert evicted.returncode == 0, evicted.stderr
    (level,) = json.loads(me.fluidfs("cache", "ls", *where, "--json").stdout)
    assert (level["versions"], level["usage"]["used_bytes"]) == ([], 0)
    tidied = me.fluidfs("cache", "gc", *where)
    assert tidied.returncode == 0, tidied.stderr


def test_what_is_in_use_is_not_evicted(mount: Mount, me: Account) -> None:
    with (mount.path / "train/a.bin").open("rb") as file:
        assert file.read() == BODIES["train/a.bin"]
        (report,) = json.loads(me.fluidfs("cache", "evict", "--all", "--cache", me.cache, "--json").stdout)
        assert report["in_use_kept"] == 1
        assert os.getxattr(mount.path / "train/a.bin", "user.fluidfs.cached").startswith(b"6291456/")


def test_eviction_to_a_size_leaves_what_was_used_last(mount: Mount, me: Account) -> None:
    assert mount.tree()
    mount.unmount()
    result = me.fluidfs("cache", "evict", "--to", "3M", "--cache", me.cache)
    assert result.returncode == 0, result.stderr
    (level,) = json.loads(me.fluidfs("cache", "ls", "--cache", me.cache, "--json").stdout)
    assert level["usage"]["used_bytes"] <= 3 * MIB


def test_commands_on_a_cache_that_is_not_there(me: Account) -> None:
    for command in ("ls", "verify", "gc"):
        result = me.fluidfs("cache", command, "--cache", me.directory / "nothing")
        assert result.returncode == 1
        assert result.stderr.count("\n") == 1
    assert not (me.directory / "nothing").exists(), "looking makes none"


def test_the_doctor_tries_a_source(filled: Bucket, account: Account, counting_proxy: CountingProxy) -> None:
    result = account.fluidfs(
        "doctor", filled.uri, "--endpoint-url", counting_proxy.endpoint_url, "--cache", account.cache
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert filled.name in result.stdout
    assert account.variables["AWS_SECRET_ACCESS_KEY"] not in result.stdout + result.stderr
    broken = account.fluidfs("doctor", "s3://no-such-bucket", "--endpoint-url", counting_proxy.endpoint_url)
    assert broken.returncode != 0
    assert "no-such-bucket" in broken.stdout + broken.stderr


def test_status_in_words(mount: Mount, me: Account) -> None:
    assert mount.tree()
    wait_until(lambda: "from the cache" in me.fluidfs("status", mount.path).stdout, what="status says how it does")
    text = me.fluidfs("status", mount.path).stdout
    for word in (str(mount.path), "live", "data plane", "cache", "reads", "store", "integrity", "names", "memory"):
        assert word in text
    assert me.fluidfs("status", me.directory).returncode == 1
