"""Content that a test can check, and ways to read it that cannot hang the test."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.support.accounts import Account
from tests.support.mounts import DEADLINE_S

MIB = 1 << 20

# Reads [offset, length] pairs from the JSON list on its command line and prints what became of each: a digest of the
# bytes, or the errno. A process of its own, so that a read which hangs, or a SIGBUS, is not the test's own.
_READ = """
import errno, hashlib, json, os, sys, time
path, extents = sys.argv[1], json.loads(sys.argv[2])
def digest(data): return hashlib.sha256(data).hexdigest()
answers = []
try:
    fd = os.open(path, os.O_RDONLY)
except OSError as error:
    answers = [error.errno] * len(extents)
else:
    for offset, length in extents:
        try:
            data = b""
            while len(data) < length and (part := os.pread(fd, length - len(data), offset + len(data))):
                data += part
            answers.append(digest(data))
        except OSError as error:
            answers.append(error.errno)
print(json.dumps(answers))
"""

_ASK = """
import os, sys
try: print(getattr(os, sys.argv[1])(sys.argv[2]))
except OSError as error: print(error.errno)
"""


def content(seed: object, size_bytes: int) -> bytes:
    """Bytes that look random and are the same for the same `seed`."""
    rng = random.Random(f"{seed}")
    # One call cannot give more than 256 MiB.
    return b"".join(rng.randbytes(min(16 * MIB, size_bytes - at)) for at in range(0, size_bytes, 16 * MIB))


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


@contextmanager
def opened(path: Path, flags: int = os.O_RDONLY) -> Iterator[int]:
    """A descriptor that is closed at the end."""
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def failing(*numbers: int) -> Iterator[None]:
    """What is inside must fail with one of these errnos."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 - the errno below is what matters
        yield
    said = caught.value.errno
    wanted = " or ".join(errno.errorcode[number] for number in numbers)
    assert said in numbers, f"{errno.errorcode.get(said or 0, said)} instead of {wanted}"


def random_extents(seed: object, size_bytes: int, *, count: int, most_bytes: int) -> list[tuple[int, int]]:
    """`count` extents of at most `most_bytes` that lie in a file of `size_bytes`, or reach beyond its end."""
    rng = random.Random(f"{seed}")
    return [(rng.randrange(size_bytes), rng.randint(1, most_bytes)) for _ in range(count)]


@contextmanager
def reader(
    account: Account, path: Path, extents: Sequence[tuple[int, int]]
) -> Iterator[Callable[[float], list[str | int]]]:
    """A process of the account that opens `path` and reads the extents.

    Yields a function that waits, at most so many seconds, and gives for each extent the SHA-256 of its bytes or the
    errno that it got. A reader that is still there then fails the test.
    """
    process = account.popen(account.python, "-c", _READ, path, json.dumps(extents))

    def answers(timeout_s: float) -> list[str | int]:
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"a reader of {path.name} did not come back within {timeout_s:.0f} s")
        assert process.returncode == 0, err
        return list(json.loads(out))

    try:
        yield answers
    finally:
        process.kill()
        with process:
            pass


def read_by_process(
    account: Account, path: Path, extents: Sequence[tuple[int, int]], *, timeout_s: float = DEADLINE_S
) -> list[str | int]:
    """As `reader`, from start to end."""
    with reader(account, path, extents) as answers:
        return answers(timeout_s)


def asked_at_once(account: Account, asked: Sequence[tuple[str, Path]], *, timeout_s: float) -> list[str]:
    """What functions of `os` (`stat`, `listdir`) say of paths, each in its own process: an errno where they fail."""
    with ExitStack() as stack:
        processes = []
        for function, path in asked:
            processes.append(stack.enter_context(account.popen(account.python, "-c", _ASK, function, path)))
            stack.callback(processes[-1].kill)
        deadline = time.monotonic() + timeout_s
        return [process.communicate(timeout=max(0.1, deadline - time.monotonic()))[0].strip() for process in processes]


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Runs `work(number)` in so many threads at once; raises the first error."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001 - raised again below, in the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
