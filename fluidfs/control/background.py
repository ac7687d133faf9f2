"""Running the daemon in the background, so that whoever started it learns how the start went.

The process forks before it has threads, a trio loop or anything that minds. The child leaves the session and the
directory, gives up the caller's descriptors (a shell that reads our output must see its end), and says one line
through a pipe: ready, or the error. The parent waits for that line, for the child's death, or for the timeout,
whichever is first.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from fluidfs.control.protocol import error_named
from fluidfs.errors import EnvironmentLacking, FluidfsError, MountError

# A store behind a slow link, retried, may take this long to say that it is there.
START_TIMEOUT_S = 120.0
# For the child to undo what it began, once it is told to stop.
_STOP_TIMEOUT_S = 10.0
_MAX_WORD_BYTES = 64 * 1024
# Escaped, a character takes up to twelve bytes of the word.
_MAX_MESSAGE_CHARS = 4096

Ready = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Started:
    """A daemon in the background that is ready."""

    pid: int
    log_file: str


def run_in_background(daemon: Callable[[Ready], None], *, log_file: str, timeout_s: float = START_TIMEOUT_S) -> Started:
    """Runs `daemon(ready)` in a child process and returns when it has called `ready()`.

    What `daemon` raises before that is raised here, with its class where it is one of fluidfs. `log_file` (absolute)
    receives the child's stderr and stdout. Raises MountError when the child dies without a word or is not ready in
    time; it is ended in the latter case, and also when the wait is interrupted.
    """
    log_fd = _open_log(log_file)
    read_fd, write_fd = os.pipe()
    # What is buffered would otherwise be written twice.
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(read_fd)
        _be_the_child(daemon, log_fd=log_fd, write_fd=write_fd)
    os.close(write_fd)
    os.close(log_fd)
    try:
        word = _read_word(read_fd, timeout_s)
    except BaseException:
        _end(pid)
        raise
    finally:
        os.close(read_fd)
    if word is None:
        _end(pid)
        raise MountError(f"the mount was not ready after {timeout_s:.0f} s; its log is {log_file}")
    _judge(word, pid, log_file)
    return Started(pid, log_file)


def _open_log(log_file: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(log_file, flags, 0o600)
    except OSError as error:
        raise EnvironmentLacking(
            f"the log {log_file} cannot be written ({error.strerror}): choose another with --log-file"
        ) from error


def _be_the_child(daemon: Callable[[Ready], None], *, log_fd: int, write_fd: int) -> None:
    """Never returns, and never runs what the parent registered for its own end."""
    status = 1
    told = False

    def tell(**word: object) -> None:
        nonlocal told
        if not told:
            told = True
            # The parent may have been killed meanwhile; the mount is good all the same.
            with contextlib.suppress(OSError):
                os.write(write_fd, json.dumps(word).encode("ascii") + b"\n")
            os.close(write_fd)

    try:
        _leave_the_caller(log_fd, keep=write_fd)
        daemon(lambda: tell(ready=True))
        status = 0
        tell(error="MountError", message="the daemon ended before it was ready")
    except FluidfsError as error:
        status = 1
        print(f"fluidfs: {error}", file=sys.stderr)
        tell(error=type(error).__name__, message=error.message[:_MAX_MESSAGE_CHARS])
    except BaseException as error:  # noqa: BLE001 - nothing above this frame could report it: here the process ends
        traceback.print_exc()
        tell(error="", message=f"{type(error).__name__}: {error}"[:_MAX_MESSAGE_CHARS])
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(status)


def _leave_the_caller(log_fd: int, *, keep: int) -> None:
    os.setsid()
    os.chdir("/")
    # What the daemon makes is its user's alone.
    os.umask(0o077)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    null_fd = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null_fd, 0)
    os.dup2(log_fd, 1)
    os.dup2(log_fd, 2)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != keep:
            with contextlib.suppress(OSError):
                os.close(int(name))
    # The caller's objects may be anything (a test's, a notebook's); these write to the descriptors.
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False)  # noqa: SIM115


def _read_word(read_fd: int, timeout_s: float) -> bytes | None:
    """What the child said; empty if it died without a word, None if it still says nothing."""
    word = b""
    deadline_s = time.monotonic() + timeout_s
    while not word.endswith(b"\n") and len(word) < _MAX_WORD_BYTES:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0 or not select.select([read_fd], [], [], left_s)[0]:
            return None
        part = os.read(read_fd, _MAX_WORD_BYTES)
        if not part:
            break
        word += part
    return word


def _judge(word: bytes, pid: int, log_file: str) -> None:
    """Raises what the child's word says, unless it says ready."""
    if not word.endswith(b"\n"):
        _, wait_status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(wait_status)
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        raise MountError(f"the daemon {how} before it was ready, without saying why; its log is {log_file}")
    said = json.loads(word)
    if said.get("ready"):
        return
    os.waitpid(pid, 0)
    if said["error"]:
        raise error_named(said["error"], said["message"])
    raise MountError(f"the daemon failed: {said['message']}; its log is {log_file}")


def _end(pid: int) -> None:
    """Ends a child that has not become ready, gently and then not, and reaps it."""
    os.kill(pid, signal.SIGTERM)
    deadline_s = time.monotonic() + _STOP_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
