"""What cannot be mounted is told before the command returns, in one line, and leaves nothing mounted."""

from __future__ import annotations

import os
import re
import shlex
import socket
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from fluidfs.demo.seaweed import SeaweedServer
from fluidfs.demo.traces import daemons_of, is_mounted
from tests.conftest import POWERLESS, Bucket, Mounter
from tests.support.accounts import Account

FAILED, USAGE, ENVIRONMENT = 1, 2, 4


def refused(
    account: Account,
    source: str,
    mountpoint: Path,
    *options: str | Path,
    status: int,
    says: str,
    variables: Mapping[str, str] | None = None,
    foreground: bool = False,
    cache: Path | None = None,
) -> None:
    """`fluidfs mount` ends with `status` and one line on stderr in which `says` (a pattern) is found."""
    asker = replace(account, variables={**account.variables, **(variables or {})})
    before = is_mounted(mountpoint)
    more = ["--foreground"] if foreground else []
    result = asker.fluidfs(
        "mount", source, mountpoint, "--cache", cache or account.cache, *options, *more, timeout_s=60
    )
    if result.returncode == 0:
        asker.fluidfs("umount", "--lazy", mountpoint)
    assert (result.returncode, result.stdout) == (status, ""), result.stderr
    assert re.search(says, result.stderr), result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("fluidfs: ")
    assert is_mounted(mountpoint) == before
    if not before:
        assert not daemons_of(mountpoint)


@pytest.fixture
def at(s3_server: SeaweedServer) -> tuple[str, str]:
    return ("--endpoint-url", s3_server.endpoint_url)


def test_what_the_store_refuses(account: Account, bucket: Bucket, at: tuple[str, str]) -> None:
    mountpoint = account.make_directory("mnt")
    refused(account, "s3://no-such-bucket", mountpoint, *at, status=FAILED, says="'no-such-bucket' does not exist")
    refused(
        account,
        bucket.uri,
        mountpoint,
        *at,
        status=FAILED,
        says="AKUNKNOWN",
        variables={"AWS_ACCESS_KEY_ID": "AKUNKNOWN"},
    )
    refused(
        account,
        bucket.uri,
        mountpoint,
        *at,
        status=FAILED,
        says="secret key",
        variables={"AWS_SECRET_ACCESS_KEY": "wrong"},
    )
    powerless = {"AWS_ACCESS_KEY_ID": POWERLESS.access_key, "AWS_SECRET_ACCESS_KEY": POWERLESS.secret_key}
    refused(account, bucket.uri, mountpoint, *at, status=FAILED, says="ListBucket", variables=powerless)
    refused(account, bucket.uri, mountpoint, *at, "--anonymous", status=FAILED, says="--anonymous")


def test_no_credentials(account: Account, bucket: Bucket, at: tuple[str, str]) -> None:
    bare = replace(
        account, variables={name: value for name, value in account.variables.items() if "ACCESS_KEY" not in name}
    )
    refused(bare, bucket.uri, account.make_directory("mnt"), *at, status=FAILED, says="no credentials.*--profile")


def test_an_endpoint_that_nobody_serves(account: Account, bucket: Bucket) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        refused(
            account,
            bucket.uri,
            account.make_directory("mnt"),
            "--endpoint-url",
            url,
            status=FAILED,
            says=re.escape(url),
        )


@pytest.mark.parametrize("foreground", [False, True], ids=["background", "foreground"])
def test_wrong_usage(me: Account, bucket: Bucket, at: tuple[str, str], foreground: bool) -> None:
    mountpoint = me.make_directory("mnt")
    for options, says in (
        (("--no-such-option",), "--no-such-option"),
        (("--memory", "lots"), "lots"),
        (("--verify", "sometimes"), "sometimes"),
        (("--block-size", "3M"), "block"),
        (("-o", "nonsense=1"), "nonsense"),
        (("--metadata-ttl", "soon"), "soon"),
        (("--file-mode", "999"), "999"),
    ):
        refused(me, bucket.uri, mountpoint, *at, *options, status=USAGE, says=says, foreground=foreground)
    refused(me, "gopher://x", mountpoint, status=USAGE, says="gopher", foreground=foreground)
    refused(me, "s3://", mountpoint, status=USAGE, says="bucket", foreground=foreground)
    refused(me, "file:///no/such/dir", mountpoint, status=FAILED, says="/no/such/dir", foreground=foreground)


def test_mountpoints_that_cannot_be(account: Account, bucket: Bucket, at: tuple[str, str]) -> None:
    file = account.directory / "file"
    file.touch()
    refused(account, bucket.uri, account.directory / "missing", *at, status=FAILED, says="mkdir -p")
    refused(account, bucket.uri, file, *at, status=FAILED, says="not a directory")


@pytest.mark.parametrize("account", ["ordinary"], indirect=True)
def test_a_mountpoint_of_somebody_else(account: Account, bucket: Bucket, at: tuple[str, str]) -> None:
    foreign = account.directory / "foreign"
    foreign.mkdir(mode=0o755)
    refused(account, bucket.uri, foreign, *at, status=FAILED, says="not writable by you")


def test_a_busy_mountpoint(account: Account, bucket: Bucket, at: tuple[str, str], mounted: Mounter) -> None:
    bucket.put("file", b"1")
    mount = mounted(bucket.uri, account=account)
    refused(account, bucket.uri, mount.path, *at, status=FAILED, says="already.*fluidfs umount")
    assert mount.digest("file"), "the mount that was there goes on"
    refused(account, bucket.uri, Path("/proc"), *at, status=FAILED, says="/proc has proc .*mounted on it already")


def test_a_cache_that_cannot_be_used(account: Account, bucket: Bucket, at: tuple[str, str]) -> None:
    file = account.directory / "file"
    file.touch()
    mountpoint = account.make_directory("mnt")
    refused(account, bucket.uri, mountpoint, *at, cache=file / "sub", status=ENVIRONMENT, says="cache directory")


@pytest.mark.parametrize("account", ["ordinary"], indirect=True)
def test_a_cache_of_somebody_else(account: Account, bucket: Bucket, at: tuple[str, str]) -> None:
    foreign = account.directory / "foreign"
    foreign.mkdir(mode=0o755)
    (foreign / "v1").mkdir(mode=0o755)
    mountpoint = account.make_directory("mnt")
    refused(account, bucket.uri, mountpoint, *at, cache=foreign, status=ENVIRONMENT, says="belongs to user 0")


# What /dev looks like without fuse; the rest of what a program may want is there.
_WITHOUT = "mount -t tmpfs tmpfs /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9 && "


def in_a_private_namespace(account: Account, preparation: str, command: list[str]) -> tuple[int, str]:
    """Runs the command where `preparation` (a shell line that ends in &&) changed the mounts, for it alone."""
    become = f"setpriv --reuid={account.uid} --regid={account.gid} --clear-groups"
    line = f"{preparation} exec {become} {shlex.join(command)}"
    root = replace(account, uid=os.geteuid(), gid=os.getegid())
    result = root.run("unshare", "--mount", "--propagation", "private", "sh", "-c", line)
    return result.returncode, result.stderr


def test_without_the_device(account: Account, bucket: Bucket, at: tuple[str, str]) -> None:
    assert os.geteuid() == 0, "a private /dev needs root: sudo make test"
    mountpoint = account.make_directory("mnt")
    command = [
        account.python,
        "-m",
        "fluidfs",
        "mount",
        bucket.uri,
        str(mountpoint),
        *at,
        "--cache",
        str(account.cache),
    ]
    status, said = in_a_private_namespace(account, _WITHOUT, command)
    assert (status, said.count("\n")) == (ENVIRONMENT, 1), said
    assert "/dev/fuse" in said
    assert "modprobe fuse" in said
    assert not is_mounted(mountpoint)
    assert not daemons_of(mountpoint)


@pytest.mark.parametrize("account", ["ordinary"], indirect=True)
def test_without_fusermount3(account: Account, bucket: Bucket, at: tuple[str, str]) -> None:
    mountpoint = account.make_directory("mnt")
    refused(
        account,
        bucket.uri,
        mountpoint,
        *at,
        status=ENVIRONMENT,
        says="apt-get install fuse3",
        variables={"PATH": "/nonexistent"},
    )


@pytest.mark.parametrize("account", ["ordinary"], indirect=True)
def test_allow_other_without_permission(account: Account, bucket: Bucket, at: tuple[str, str]) -> None:
    mountpoint = account.make_directory("mnt")
    refused(account, bucket.uri, mountpoint, *at, "--allow-other", status=ENVIRONMENT, says="user_allow_other")
