"""Starting in the background: what the caller learns, and what the child leaves behind."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fluidfs.control.background import run_in_background
from fluidfs.control.processes import start_ticks
from fluidfs.errors import BucketNotFound, EnvironmentLacking, MountError

Ready = Callable[[], None]


@pytest.fixture
def log_file(tmp_path: Path) -> str:
    return str(tmp_path / "d.log")


def wait_for_the_end(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_the_call_returns_when_the_daemon_is_ready_and_it_runs_on(log_file: str) -> None:
    def daemon(ready: Ready) -> None:
        ready()
        signal.pause()

    started = run_in_background(daemon, log_file=log_file)
    assert start_ticks(started.pid) is not None
    os.kill(started.pid, signal.SIGKILL)
    assert wait_for_the_end(started.pid) == -signal.SIGKILL


def test_an_error_before_ready_is_raised_by_the_caller_with_its_class(log_file: str) -> None:
    def daemon(ready: Ready) -> None:
        raise BucketNotFound("no bucket 'nix'")

    with pytest.raises(BucketNotFound, match="no bucket 'nix'"):
        run_in_background(daemon, log_file=log_file)


def test_an_unexpected_error_is_told_in_a_line_and_traced_in_the_log(log_file: str) -> None:
    def daemon(ready: Ready) -> None:
        raise ZeroDivisionError("of all things")

    with pytest.raises(MountError, match="ZeroDivisionError: of all things; its log is") as caught:
        run_in_background(daemon, log_file=log_file)
    assert log_file in str(caught.value)
    assert "Traceback" in Path(log_file).read_text()


def test_a_child_that_dies_without_a_word_is_told_with_its_signal_and_log(log_file: str) -> None:
    def daemon(ready: Ready) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(MountError, match="was killed by SIGKILL before it was ready") as caught:
        run_in_background(daemon, log_file=log_file)
    assert log_file in str(caught.value)


def test_a_daemon_that_returns_unready_is_an_error(log_file: str) -> None:
    with pytest.raises(MountError, match="ended before it was ready"):
        run_in_background(lambda ready: None, log_file=log_file)


def test_a_daemon_that_is_not_ready_in_time_is_ended(log_file: str) -> None:
    def daemon(ready: Ready) -> None:
        print(os.getpid(), flush=True)
        signal.pause()

    with pytest.raises(MountError, match="not ready after 1 s"):
        run_in_background(daemon, log_file=log_file, timeout_s=1)
    assert start_ticks(int(Path(log_file).read_text().split()[0])) is None


def test_the_child_keeps_nothing_of_its_caller(log_file: str, tmp_path: Path) -> None:
    read_fd, write_fd = os.pipe()
    facts = tmp_path / "facts"

    def daemon(ready: Ready) -> None:
        descriptors = [os.readlink(f"/proc/self/fd/{number}") for number in (0, 1, 2)]
        facts.write_text("\n".join([os.getcwd(), str(os.getsid(0) == os.getpid()), *descriptors]))
        ready()
        signal.pause()

    started = run_in_background(daemon, log_file=log_file)
    os.close(write_fd)
    # Only the end of all writers ends this read: the child has none.
    assert os.read(read_fd, 1) == b""
    os.close(read_fd)
    assert facts.read_text().split("\n") == ["/", "True", "/dev/null", log_file, log_file]
    os.kill(started.pid, signal.SIGKILL)
    wait_for_the_end(started.pid)


def test_an_error_after_ready_ends_in_the_log_and_in_the_exit_status(log_file: str) -> None:
    def daemon(ready: Ready) -> None:
        ready()
        raise MountError("gone wrong later")

    started = run_in_background(daemon, log_file=log_file)
    assert wait_for_the_end(started.pid) == 1
    assert "fluidfs: gone wrong later" in Path(log_file).read_text()


def test_a_log_that_cannot_be_written_is_said_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentLacking, match="--log-file"):
        run_in_background(lambda ready: None, log_file=str(tmp_path / "missing" / "d.log"))


def test_the_log_is_its_users_alone(log_file: str) -> None:
    with pytest.raises(MountError):
        run_in_background(lambda ready: time.sleep(0), log_file=log_file)
    assert Path(log_file).stat().st_mode & 0o777 == 0o600
