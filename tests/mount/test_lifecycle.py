"""The life of a mount: how it starts, how it ends, and that nothing is left of it, whatever ended it."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fluidfs.demo.seaweed import Identity, SeaweedServer
from fluidfs.demo.traces import daemons_of, is_mounted
from tests.conftest import Bucket, Mounter
from tests.support.accounts import Account
from tests.support.mounts import Mount, wait_until
from tests.support.proxy import CountingProxy, Fault
from tests.support.reading import MIB, content, digest, failing, opened, reader

BODY = content("lifecycle", 12 * MIB)


@pytest.fixture
def filled(bucket: Bucket) -> Bucket:
    bucket.put("file", BODY)
    bucket.put("dir/small", b"small")
    return bucket


@contextmanager
def in_the_foreground(account: Account, source: str, *options: str) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """A mount that is ready, and its process."""
    mountpoint = account.make_directory("foreground")
    process = account.popen(
        account.python, "-m", "fluidfs", "mount", source, mountpoint, "--foreground", "--cache", account.cache, *options
    )
    try:
        wait_until(lambda: is_mounted(mountpoint) or process.poll() is not None, what="the mount is there")
        assert process.stderr is not None
        while "is mounted at" not in (line := process.stderr.readline()):
            assert line, "the daemon ended before it was ready"
        yield process, mountpoint
    finally:
        process.kill()
        process.communicate()
        if is_mounted(mountpoint):
            account.run("fusermount3", "-u", "-z", mountpoint)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_a_signal_unmounts(
    account: Account, filled: Bucket, s3_server: SeaweedServer, number: signal.Signals
) -> None:
    with in_the_foreground(account, filled.uri, "--endpoint-url", s3_server.endpoint_url) as (process, mountpoint):
        assert account.run("cat", mountpoint / "dir/small").stdout == "small"
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 0, said
        assert not is_mounted(mountpoint)


def test_in_the_foreground_an_unmount_ends_the_command(
    account: Account, filled: Bucket, s3_server: SeaweedServer
) -> None:
    with in_the_foreground(account, filled.uri, "--endpoint-url", s3_server.endpoint_url) as (process, mountpoint):
        assert account.run("fusermount3", "-u", mountpoint).returncode == 0
        _, said = process.communicate(timeout=20)
        assert process.returncode == 0, said


def test_in_the_background_the_command_has_returned_and_the_daemon_holds_nothing_of_it(
    account: Account, filled: Bucket, mounted: Mounter
) -> None:
    mount = mounted(filled.uri, account=account)
    (daemon,) = mount.daemons
    assert os.readlink(f"/proc/{daemon}/cwd") == "/"
    assert os.getsid(daemon) == daemon, "a session of its own: a closed terminal does not end it"
    assert os.readlink(f"/proc/{daemon}/fd/0") == "/dev/null"
    assert Path(f"/proc/{daemon}/status").stat().st_uid == account.uid
    mount.unmount()
    assert not daemons_of(mount.path)


def test_a_plain_umount_ends_the_daemon(filled: Bucket, account: Account, mounted: Mounter) -> None:
    mount = mounted(filled.uri, account=account)
    command = ["umount"] if account.uid == 0 else ["fusermount3", "-u"]
    assert account.run(*command, mount.path).returncode == 0
    mount.must_be_gone()


def test_sigterm_with_reads_in_flight_leaves_nobody_waiting(
    filled: Bucket, me: Account, mounted: Mounter, counting_proxy: CountingProxy
) -> None:
    mount = mounted(filled.uri, account=me, endpoint_url=counting_proxy.endpoint_url)
    counting_proxy.inject(Fault(delay_s=3.0), when=lambda request: request.operation == "GET")
    (daemon,) = mount.daemons
    extents = [(0, MIB), (8 * MIB, MIB)]
    with reader(me, mount.path / "file", extents) as first, reader(me, mount.path / "file", extents) as second:
        wait_until(lambda: counting_proxy.counts()["GET"] > 0, what="a read is under way")
        os.kill(daemon, signal.SIGTERM)
        for answers in (first, second):
            for answer, (offset, length) in zip(answers(20), extents, strict=True):
                assert answer == digest(BODY[offset : offset + length]) or isinstance(answer, int)
    mount.must_be_gone()


def test_an_unmount_waits_for_open_files_as_long_as_it_is_told(filled: Bucket, me: Account, mounted: Mounter) -> None:
    mount = mounted(filled.uri, account=me)
    with opened(mount.path / "file") as fd:
        assert os.pread(fd, 10, 0) == BODY[:10]
        began = time.monotonic()
        refused = me.fluidfs("umount", mount.path, "--timeout", "1s")
        assert 1 <= time.monotonic() - began < 10
        assert refused.returncode == 1
        assert str(os.getpid()) in refused.stderr, "it says who"
        assert "--lazy" in refused.stderr, "it says what to do"
        assert refused.stderr.count("\n") == 1
        assert is_mounted(mount.path)
        assert os.pread(fd, 10, 5 * MIB) == BODY[5 * MIB : 5 * MIB + 10], "it goes on as if nothing had been asked"
    mount.unmount()


def test_a_lazy_unmount_takes_the_name_away_at_once(filled: Bucket, me: Account, mounted: Mounter) -> None:
    mount = mounted(filled.uri, account=me)
    with opened(mount.path / "file") as fd:
        assert os.pread(fd, 10, 0) == BODY[:10]
        result = me.fluidfs("umount", "--lazy", mount.path)
        assert result.returncode == 0, result.stderr
        assert not is_mounted(mount.path)
        assert os.listdir(mount.path) == []
    mount.must_be_gone()


def test_unmounting_what_is_not_mounted(me: Account) -> None:
    directory = me.make_directory("plain")
    for path in (directory, me.directory / "missing", Path("/proc")):
        result = me.fluidfs("umount", path)
        assert result.returncode == 1
        assert result.stderr.count("\n") == 1
    assert is_mounted(Path("/proc"))


def test_the_mount_of_a_killed_daemon_fails_at_once_and_can_be_cleared_away(
    filled: Bucket, account: Account, mounted: Mounter
) -> None:
    mount = mounted(filled.uri, account=account)
    kill(mount)
    assert is_mounted(mount.path)
    if account.uid == os.geteuid():
        with failing(errno.ENOTCONN, errno.ECONNABORTED):
            os.listdir(mount.path)
    status = account.fluidfs("status", mount.path, "--json")
    facts: dict[str, Any] = json.loads(status.stdout)
    assert (status.returncode, facts["state"]) == (1, "dead")
    result = account.fluidfs("umount", mount.path)
    assert result.returncode == 0, result.stderr
    mount.must_be_gone()


def test_a_mount_over_that_of_a_killed_daemon_takes_its_place(
    filled: Bucket, account: Account, mounted: Mounter
) -> None:
    mount = mounted(filled.uri, account=account)
    kill(mount)
    mount.start()
    assert mount.digest("file") == digest(BODY)
    with Path("/proc/self/mountinfo").open() as table:
        assert sum(str(mount.path) in line for line in table) == 1
    mount.unmount()
    assert os.listdir(mount.path) == []


def kill(mount: Mount) -> None:
    for pid in daemons_of(mount.path):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not daemons_of(mount.path), what="the killed daemon has ended")


def test_two_mounts_at_two_places_live_and_end_apart(filled: Bucket, me: Account, mounted: Mounter) -> None:
    first, second = mounted(filled.uri, account=me), mounted(f"{filled.uri}/dir", account=me)
    listed = json.loads(me.fluidfs("status", "--json").stdout)
    assert {str(first.path), str(second.path)} <= {facts["mountpoint"] for facts in listed}
    first.unmount()
    assert second.digest("small") == digest(b"small")


def test_two_mounts_at_one_place_started_at_once_make_one(
    filled: Bucket, me: Account, s3_server: SeaweedServer
) -> None:
    mountpoint = me.make_directory("contended")
    mount = Mount(filled.uri, mountpoint, me, ())
    command = ("mount", filled.uri, mountpoint, "--endpoint-url", s3_server.endpoint_url, "--cache", me.cache)
    try:
        both = [me.popen(me.python, "-m", "fluidfs", *command) for _ in range(2)]
        said = [process.communicate(timeout=60)[1] for process in both]
        assert sorted(process.returncode for process in both) == [0, 1], said
        with Path("/proc/self/mountinfo").open() as table:
            assert sum(str(mountpoint) in line for line in table) == 1
        assert mount.digest("file") == digest(BODY)
        mount.unmount()
    finally:
        kill(mount)
        while is_mounted(mountpoint):
            mount.detach()


def test_status_tells_the_facts(filled: Bucket, account: Account, mounted: Mounter) -> None:
    mount = mounted(filled.uri, account=account)
    assert mount.digest("file") == digest(BODY)
    facts: dict[str, Any] = mount.status()
    assert facts["state"] == "live"
    assert facts["source"] == f"{filled.uri}/"
    assert facts["mountpoint"] == str(mount.path)
    assert [facts["pid"]] == mount.daemons
    assert facts["reads"]["bytes"] >= len(BODY)
    assert facts["fetch"]["bytes"] >= len(BODY)
    assert facts["fetch"]["errors"] == 0
    assert facts["cache"][0]["path"] == str(account.cache)
    assert facts["cache"][0]["used_bytes"] >= len(BODY)
    assert facts["integrity"]["bad_blocks"] == 0
    assert 0 < facts["memory"]["anon_bytes"] + facts["memory"]["shmem_bytes"] < 300 * MIB
    secret = account.variables["AWS_SECRET_ACCESS_KEY"]
    assert secret not in json.dumps(facts)
    text = account.fluidfs("status", mount.path)
    assert text.returncode == 0
    assert str(mount.path) in text.stdout
    assert "live" in text.stdout
    metrics = account.fluidfs("status", mount.path, "--metrics")
    assert "fluidfs_cache_bad_blocks" in metrics.stdout


def test_the_log_says_no_secret(filled: Bucket, me: Account, mounted: Mounter) -> None:
    mount = mounted(filled.uri, "--log-level", "debug", account=me)
    assert mount.digest("file") == digest(BODY)
    facts: dict[str, Any] = mount.status()
    log = Path(facts["log_file"])
    mount.unmount()
    said = log.read_text()
    assert log.stat().st_mode & 0o077 == 0
    assert "mounted" in said
    assert me.variables["AWS_SECRET_ACCESS_KEY"] not in said
    assert "Signature" not in said


# ---- mount(8)


def test_the_helper_of_mount_8(filled: Bucket, account: Account, s3_server: SeaweedServer) -> None:
    helper = [account.python, "-c", "import sys; from fluidfs.cli.mount_helper import main; sys.exit(main())"]
    mountpoint = account.make_directory("fstab")
    mount = Mount(filled.uri, mountpoint, account, ())
    options = f"ro,_netdev,nofail,endpoint_url={s3_server.endpoint_url},cache={account.cache}"
    try:
        fake = account.run(*helper, filled.uri, mountpoint, "-f", "-o", options)
        assert fake.returncode == 0, fake.stderr
        assert not is_mounted(mountpoint)
        done = account.run(*helper, filled.uri, mountpoint, "-o", options)
        assert done.returncode == 0, done.stderr
        assert mount.digest("file") == digest(BODY)
        again = account.run(*helper, filled.uri, mountpoint, "-o", options)
        assert again.returncode == 32
        assert again.stderr.startswith("mount.fluidfs: ")
        mount.unmount()
        assert account.run(*helper, filled.uri, mountpoint, "-o", "no_such_option=1").returncode == 1
        assert account.run(*helper, "s3://no-such-bucket", mountpoint, "-o", options).returncode == 32
    finally:
        kill(mount)
        mount.detach()


# ---- credentials


def hand_out(account: Account, access_key: str, secret_key: str) -> None:
    """What the account's credential process says from now on. It asks to be asked again before every use."""
    expires = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 300))
    answer = {"Version": 1, "AccessKeyId": access_key, "SecretAccessKey": secret_key, "Expiration": expires}
    (account.directory / "answer.json").write_text(json.dumps(answer))


def test_credentials_that_are_rotated_while_mounted_are_taken_up(me: Account, mounted: Mounter, tmp_path: Path) -> None:
    second = Identity("second", "SECOND0000000000", "second-secret-second-secret", ("Admin",))
    config = me.directory / "config"
    config.write_text(f"[default]\ncredential_process = /bin/cat {me.directory / 'answer.json'}\n")
    variables = {name: value for name, value in me.variables.items() if "ACCESS_KEY" not in name}
    account = replace(me, variables={**variables, "AWS_CONFIG_FILE": str(config)})
    with SeaweedServer(tmp_path, identities=(second,)) as server, CountingProxy(server.port) as proxy:
        client = server.client()
        client.create_bucket(Bucket="rotated")
        for key in ("before", "after", "large"):
            client.put_object(Bucket="rotated", Key=key, Body=BODY if key == "large" else key.encode())
        client.close()
        hand_out(account, server.access_key, server.secret_key)
        mount = mounted("s3://rotated", "--metadata-ttl", "0s", account=account, endpoint_url=proxy.endpoint_url)
        assert mount.digest("before") == digest(b"before")
        hand_out(account, second.access_key, second.secret_key)
        # As AWS answers to those that are no longer good.
        proxy.inject(Fault(status=400), when=lambda request: server.access_key in request.headers["authorization"])
        proxy.forget()
        assert mount.digest("after") == digest(b"after")
        assert mount.digest("large") == digest(BODY)
        assert any(second.access_key in request.headers["authorization"] for request in proxy.requests)
        mount.unmount()
