"""The daemon is killed under its readers: they get an error at once, and the cache outlives it."""

from __future__ import annotations

import errno
import os
import random
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from fluidfs.demo.traces import daemons_of, process_state
from tests.conftest import Bucket, Mounter
from tests.support.accounts import Account
from tests.support.mounts import Mount, wait_until
from tests.support.proxy import CountingProxy, Fault
from tests.support.reading import MIB, content, digest

BODY = content("daemon", 60 * MIB)
SMALL = {f"small/{number:03}": content(number, 1000 + number) for number in range(200)}

# Reads at random until the first error, comparing every byte with a copy; prints the errno, or `wrong`.
_COMPARE = """
import os, random, sys
root, copy, seed = sys.argv[1], open(sys.argv[2], "rb").read(), sys.argv[3]
rng = random.Random(seed)
try:
    fd = os.open(root + "/file", os.O_RDONLY)
    while True:
        offset, length = rng.randrange(len(copy)), rng.choice((100, 5000, 300_000, 2_000_000))
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        data = os.pread(fd, length, offset)
        # A read whose end fails gives its beginning; the next one then fails.
        if data != copy[offset : offset + len(data)]:
            print("wrong", offset, length)
            break
        for name in rng.sample(sorted(os.listdir(root + "/small")), 5):
            with open(root + "/small/" + name, "rb") as small:
                small.read()
except OSError as error:
    print(error.errno)
"""


@pytest.fixture
def filled(bucket: Bucket) -> Bucket:
    bucket.put("file", BODY)
    for key, body in SMALL.items():
        bucket.put(key, body)
    return bucket


EXPECTED = {key: (len(body), digest(body)) for key, body in {"file": BODY, **SMALL}.items()}


def kill(mount: Mount) -> None:
    for pid in mount.daemons:
        os.kill(pid, signal.SIGKILL)


def test_killed_again_and_again_under_four_readers(
    filled: Bucket, me: Account, mounted: Mounter, counting_proxy: CountingProxy, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(BODY)
    rng = random.Random(4)
    mount = mounted(filled.uri, account=me, endpoint_url=counting_proxy.endpoint_url)
    for turn in range(5):
        with ExitStack() as stack:
            readers = [
                stack.enter_context(me.popen(me.python, "-c", _COMPARE, mount.path, copy, f"{turn} {number}"))
                for number in range(4)
            ]
            for process in readers:
                stack.callback(process.kill)
            # A random moment is what is tested: in the first turns the cache is cold, in the last it is warm.
            time.sleep(rng.uniform(0.2, 1.2))
            assert all(process.poll() is None for process in readers), readers[0].communicate()
            kill(mount)
            deadline = time.monotonic() + 2
            while time.monotonic() < deadline and any(process.poll() is None for process in readers):
                time.sleep(0.01)
            states = {process_state(process.pid) for process in readers}
            assert states <= {"Z", ""}, f"readers that are left hanging: {states}"
            said = [process.communicate() for process in readers]
            expected = {f"{errno.ENOTCONN}\n", f"{errno.ECONNABORTED}\n"}
            assert all(out in expected for out, _ in said), said
        wait_until(lambda: not daemons_of(mount.path), what="the killed daemon has ended")
        mount.start()
    assert mount.tree() == EXPECTED
    mount.kill_daemon()
    mount.start()
    counting_proxy.forget()
    assert mount.tree() == EXPECTED
    assert counting_proxy.counts()["GET"] == 0
    verified = me.fluidfs("cache", "verify", "--cache", me.cache)
    assert verified.returncode == 0, verified.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_daemon_that_ends_while_the_store_is_silent_leaves_nobody_waiting(
    filled: Bucket, me: Account, mounted: Mounter, counting_proxy: CountingProxy, number: signal.Signals
) -> None:
    mount = mounted(filled.uri, account=me, endpoint_url=counting_proxy.endpoint_url)
    assert mount.digest("small/001") == digest(SMALL["small/001"])
    # Longer than either waits.
    counting_proxy.inject(Fault(delay_s=3.0 if number == signal.SIGKILL else 8.0))
    with ExitStack() as stack:
        readers = [
            stack.enter_context(me.popen("cat", mount.path / "file")),
            stack.enter_context(me.popen("cat", mount.path / "small/100")),
            stack.enter_context(me.popen("ls", mount.path / "other")),
        ]
        for process in readers:
            stack.callback(process.kill)
        wait_until(lambda: counting_proxy.counts()["GET"] >= 2, what="reads are under way")
        began = time.monotonic()
        for pid in mount.daemons:
            os.kill(pid, number)
        # SIGTERM gives requests that are under way five seconds to be answered.
        limit_s = 2 if number == signal.SIGKILL else 7.5
        for process in readers:
            process.wait(max(0.1, began + limit_s - time.monotonic()))
        assert {process_state(process.pid) for process in readers} <= {"Z", ""}
    # Threads of the killed daemon may still be closing connections.
    wait_until(lambda: not daemons_of(mount.path), what="the daemon has ended")
    mount.detach()


def test_a_reader_that_is_killed_while_it_waits_goes_at_once(
    filled: Bucket, me: Account, mounted: Mounter, counting_proxy: CountingProxy
) -> None:
    mount = mounted(filled.uri, account=me, endpoint_url=counting_proxy.endpoint_url)
    assert mount.digest("small/001") == digest(SMALL["small/001"])
    counting_proxy.inject(Fault(delay_s=3.0), times=1)
    with me.popen("cat", mount.path / "file") as process:
        wait_until(lambda: counting_proxy.counts()["GET"] >= 2, what="the read is under way")
        process.kill()
        process.wait(2)
    assert mount.digest("file") == digest(BODY), "others go on"


def test_a_daemon_that_is_frozen_holds_readers_up_and_nothing_else(
    filled: Bucket, me: Account, mounted: Mounter
) -> None:
    mount = mounted(filled.uri, account=me)
    (daemon,) = mount.daemons
    os.kill(daemon, signal.SIGSTOP)
    try:
        status = me.fluidfs("status", mount.path, timeout_s=60)
        assert status.returncode == 1, status.stdout
        assert status.stderr.count("\n") <= 1
    finally:
        os.kill(daemon, signal.SIGCONT)
    assert mount.digest("file") == digest(BODY)
