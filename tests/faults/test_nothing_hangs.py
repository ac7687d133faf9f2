"""Whatever dies, stops or keeps silent: callers get their bytes or an error in bounded time, none stays in state D."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fluidfs.cache.maintenance import evict
from fluidfs.config import LevelSpec
from fluidfs.demo.seaweed import SeaweedServer
from fluidfs.demo.traces import is_mounted
from tests.conftest import Bucket, Mounter, empty_bucket
from tests.support.aborting import abort
from tests.support.accounts import Account
from tests.support.compared import comparing, write_tree
from tests.support.halting import halted
from tests.support.killing import kill, kill_again_and_again
from tests.support.latency import measuring
from tests.support.mounts import Mount
from tests.support.proxy import CountingProxy, Fault
from tests.support.reading import MIB, content, digest, in_threads
from tests.support.tasks import must_end
from tests.support.waiters import FILLERS, KEYS, waiting

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

LARGE = {"one.bin": content("one", 14 * MIB + 4321), "two.bin": content("two", 9 * MIB), "three.bin": content("3", MIB)}
SMALL = {f"small/{number % 7}/{number:03}": content(number, 211 * number) for number in range(200)}
BODIES = {**LARGE, **SMALL}
EXPECTED = {key: (len(body), digest(body)) for key, body in BODIES.items()}
WAYS = ("sequentially", "at_random", "mapped", "small_files")
# Both ends of a mount have it: five seconds for requests that are under way, and some for two busy cores.
END_WITHIN_S = 15.0
# Without a request to the daemon, which therefore waits for nobody.
ABORTED_WITHIN_S = 10.0


@pytest.fixture(scope="module")
def filled(s3_client: S3Client) -> Iterator[Bucket]:
    """No test of this module changes it."""
    bucket = Bucket(f"hangs-{uuid.uuid4().hex[:12]}", s3_client)
    s3_client.create_bucket(Bucket=bucket.name)
    fill(bucket, BODIES)
    yield bucket
    empty_bucket(s3_client, bucket.name)


def fill(bucket: Bucket, bodies: Mapping[str, bytes]) -> None:
    def put(number: int) -> None:
        for key in list(bodies)[number::4]:
            bucket.put(key, bodies[key])

    in_threads(4, put)


@pytest.fixture
def copy(me: Account) -> Path:
    return write_tree(me.make_directory("copy"), BODIES)


def level_of(account: Account) -> LevelSpec:
    return LevelSpec(str(account.cache), None, "SSD")


# ---- the daemon dies


def test_killed_at_random_moments_under_four_readers(
    filled: Bucket, me: Account, mounted: Mounter, counting_proxy: CountingProxy, copy: Path
) -> None:
    seed = int(os.environ.get("FLUIDFS_TEST_SEED", time.time_ns() % 100_000))
    print(f"seed {seed}")  # pytest shows it with a failure
    rng = random.Random(seed)
    mount = mounted(filled.uri, account=me, endpoint_url=counting_proxy.endpoint_url)
    # Something is always under way.
    counting_proxy.inject(Fault(delay_s=0.15), when=lambda request: request.operation == "GET" and rng.random() < 0.3)

    def between(turn: int) -> None:
        if turn in (2, 5):
            evict(level_of(me), everything=True)

    with comparing(mount, copy, WAYS, seed=seed) as readers:
        kill_again_and_again(readers, kills=10, rng=rng, between=between)
        print(readers.summary())
    must_serve_its_cache(mount, counting_proxy)


def must_serve_its_cache(mount: Mount, proxy: CountingProxy) -> None:
    """What was sealed is not fetched again by the next mount; what was read once, by none."""
    assert mount.tree() == EXPECTED
    mount.kill_daemon()
    mount.start()
    proxy.forget()
    assert mount.tree() == EXPECTED
    assert [request.key for request in proxy.requests if request.operation == "GET"] == []
    verified = mount.account.fluidfs("cache", "verify", "--cache", mount.account.cache)
    assert verified.returncode == 0, verified.stderr


# ---- the store keeps silent


@dataclass(frozen=True, slots=True)
class Stalling:
    """A mount whose store can be frozen: it then accepts connections and never answers."""

    mount: Mount
    server: SeaweedServer
    proxy: CountingProxy

    def must_be_right(self) -> None:
        """The store answers again, and everything can be read."""
        self.server.resume()
        told = self.mount.account.run("sha256sum", *(self.mount.path / key for key in KEYS))
        assert [line.split()[0] for line in told.stdout.splitlines()] == [digest(STALLED)] * len(KEYS), told.stderr


STALLED = content("stalled", 300_000)


@pytest.fixture(scope="module")
def stalling_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    """A server for the tests of this module, with a bucket of what `waiting` waits for."""
    with SeaweedServer(tmp_path_factory.mktemp("stalling")) as server:
        client = server.client()
        client.create_bucket(Bucket="stalling")
        fill(Bucket("stalling", client), {**dict.fromkeys(KEYS, STALLED), **dict.fromkeys(FILLERS, b"")})
        client.close()
        yield server


@pytest.fixture
def stalling(me: Account, mounted: Mounter, stalling_server: SeaweedServer) -> Iterator[Stalling]:
    """Frozen, and known to the mount but for what the waiters will ask for."""
    variables = stalling_server.environment()
    del variables["AWS_ENDPOINT_URL"]
    account = replace(me, variables=variables)
    with CountingProxy(stalling_server.port) as proxy:
        mount = mounted("s3://stalling", account=account, endpoint_url=proxy.endpoint_url)
        known = account.run("ls", *(mount.path / folder for folder in ("read", "direct", "mapped", "small")))
        assert known.returncode == 0, known.stderr
        proxy.forget()
        stalling_server.pause()
        try:
            yield Stalling(mount, stalling_server, proxy)
        finally:
            stalling_server.resume()


def test_whoever_waits_for_a_silent_store_can_be_killed(stalling: Stalling) -> None:
    with waiting(stalling.mount, stalling.proxy) as waiters:
        began = time.monotonic()
        for process in waiters.values():
            process.kill()
        must_end([process.pid for process in waiters.values()], since=began, within_s=2.0)
    stalling.must_be_right()


@pytest.mark.parametrize("end", ["SIGTERM", "umount --lazy"])
def test_a_mount_of_a_silent_store_ends_when_it_is_told_to(stalling: Stalling, end: str) -> None:
    mount = stalling.mount
    with waiting(mount, stalling.proxy) as waiters:
        began = time.monotonic()
        if end == "SIGTERM":
            for pid in mount.daemons:
                os.kill(pid, signal.SIGTERM)
        else:
            done = mount.account.fluidfs("umount", "--lazy", mount.path)
            assert done.returncode == 0, done.stderr
        must_be_over(mount, waiters, since=began, within_s=END_WITHIN_S)


def must_be_over(mount: Mount, waiters: Mapping[str, subprocess.Popen[str]], *, since: float, within_s: float) -> None:
    """All who waited have got an error, no mount is left, and the daemon ended by itself and in order."""
    must_end([process.pid for process in waiters.values()], since=since, within_s=within_s)
    said = {way: process.returncode for way, process in waiters.items() if process.wait() == 0}
    assert said == {}, "these got an answer that nobody gave"
    must_end(mount.daemons, since=since, within_s=within_s)
    assert not is_mounted(mount.path)
    assert os.listdir(mount.path) == []
    log = mount.path.with_suffix(".log").read_text()
    assert "Traceback" not in log
    listed = mount.account.fluidfs("status")
    assert str(mount.path) not in listed.stdout, "no record of it is left"


@pytest.mark.parametrize("account", ["root"], indirect=True)
@pytest.mark.parametrize("how", ["umount -f", "umount -l", "abort"])
def test_a_connection_that_is_cut_from_outside_ends_the_daemon(
    stalling: Stalling, account: Account, how: str, tmp_path: Path
) -> None:
    mount = stalling.mount
    with waiting(mount, stalling.proxy) as waiters:
        began = time.monotonic()
        if how == "abort":
            abort(mount.path, tmp_path)
        else:
            # With files open, -f aborts the connection and then says that the mount is busy.
            subprocess.run([*how.split(), mount.path], stderr=subprocess.DEVNULL, check=False)
        must_be_over(mount, waiters, since=began, within_s=ABORTED_WITHIN_S)


# ---- the daemon stands still


@pytest.fixture
def warm(filled: Bucket, me: Account, mounted: Mounter) -> Mount:
    """All of it was read, and all names are known."""
    mount = mounted(filled.uri, "--metadata-ttl", "1h", account=me)
    assert mount.tree() == EXPECTED
    return mount


def test_readers_wait_for_a_daemon_that_is_stopped_and_go_on_with_it(warm: Mount, copy: Path) -> None:
    evict(level_of(warm.account), everything=True)
    with comparing(warm, copy, WAYS, seed="stopped") as readers:
        for _ in range(3):
            readers.must_go_on()
            (daemon,) = warm.daemons
            os.kill(daemon, signal.SIGSTOP)
            # Long enough for all of them to come to a read that the daemon would have to answer.
            time.sleep(0.7)
            os.kill(daemon, signal.SIGCONT)
        readers.must_go_on()
        assert readers.error_counts() == [0] * len(WAYS)


@pytest.mark.parametrize("account", ["root"], indirect=True)
def test_what_is_cached_is_read_while_the_python_half_stands_still(warm: Mount, copy: Path, account: Account) -> None:
    """Files are opened and closed, directories listed and pages mapped meanwhile, all of it without Python."""
    ways = (*WAYS, "walk")
    with comparing(warm, copy, ways, seed="halted") as readers:
        readers.must_go_on()
        (daemon,) = warm.daemons
        with halted(daemon):
            for _ in range(3):
                readers.must_go_on(timeout_s=10)
            with warm.account.popen("stat", "--file-system", warm.path) as process:
                # Python answers that; whether the process waits for it yet makes no difference to what follows.
                time.sleep(0.3)
                began = time.monotonic()
                process.kill()
                must_end([process.pid], since=began, within_s=2.0)
        readers.must_go_on()
        assert readers.error_counts() == [0] * len(ways)


def test_reads_of_what_is_cached_stay_quick_while_the_python_half_is_busy(
    me: Account, mounted: Mounter, record_property: Callable[[str, object], None]
) -> None:
    """Figures for the reader of the report; the bound is what a person would call a hang."""
    source = me.make_directory("source")
    write_tree(source, {"read.bin": content("read", 4 * MIB), "busy/0": b""})
    for number in range(20_000):
        (source / "busy" / f"{number}").touch()
    write_tree(source, {f"warm/{number}": content(number, 20_000) for number in range(1500)})
    mount = mounted(f"file://{source}", account=me)
    assert mount.digest("read.bin") == digest(content("read", 4 * MIB))
    work: dict[str, list[str | Path]] = {
        "nothing": ["sleep", "1"],
        "a listing of 20,000 names": ["ls", "-f", mount.path / "busy"],
        "a warm-up of 1,500 files": [me.python, "-m", "fluidfs", "warm", mount.path / "warm"],
    }
    for name, command in work.items():
        with measuring(me, mount.path / "read.bin") as result:
            done = me.run(*command)
            latency = result()
        assert done.returncode == 0, done.stderr
        print(f"{name}: {latency}")
        record_property(name, str(latency))
        assert latency.longest_s < 5.0


# ---- half dead


def test_a_dead_mount_that_is_still_in_use_is_replaced_and_cleared_away(warm: Mount) -> None:
    account, path = warm.account, warm.path
    hold = (
        "import os, sys, time; os.chdir(sys.argv[1]); file = open('one.bin'); print('held', flush=True); time.sleep(99)"
    )
    with account.popen(account.python, "-c", hold, f"{path}/") as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            kill(warm.daemons)
            must_end(warm.daemons, since=time.monotonic(), within_s=2.0)
            assert account.fluidfs("status", path).returncode == 1
            warm.start()
            assert warm.digest("two.bin") == EXPECTED["two.bin"][1]
            kill(warm.daemons)
            must_end(warm.daemons, since=time.monotonic(), within_s=2.0)
            warm.unmount()
            assert os.listdir(path) == []
        finally:
            holder.kill()
