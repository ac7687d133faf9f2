"""Real mounts through the real command line, and the proof that nothing of them is left."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fluidfs.demo.traces import daemons_of, is_mounted
from tests.support.accounts import Account

# Starting an interpreter on a busy machine of one core took 6 s.
DEADLINE_S = 30.0
POLL_S = 0.02

# Walks a directory as whoever runs it and prints what it found; names are escaped as Python does for the file system.
_TREE = """
import hashlib, json, os, sys
root = os.fsencode(sys.argv[1])
def fail(error): raise error
found = {}
for folder, _, names in os.walk(root, onerror=fail):
    for name in names:
        path = os.path.join(folder, name)
        digest = hashlib.sha256()
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        found[os.fsdecode(os.path.relpath(path, root))] = [size, digest.hexdigest()]
sys.stdout.write(json.dumps(found))
"""


def wait_until(condition: Callable[[], bool], *, what: str, timeout_s: float = DEADLINE_S) -> None:
    """Returns as soon as `condition` holds; the test fails with `what` when it never does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(POLL_S)


@dataclass(slots=True)
class Mount:
    """A mount of `source` that was made by `fluidfs mount` as `account`."""

    source: str
    path: Path
    account: Account
    options: tuple[str, ...]
    daemons: list[int] = field(default_factory=list)

    def start(self) -> None:
        """Mounts in the background, as a person would; the test fails with the command's own words when it cannot."""
        result = self.account.fluidfs("mount", self.source, self.path, *self.options)
        if result.returncode != 0:
            pytest.fail(f"fluidfs mount: exit status {result.returncode}\n{result.stderr}")
        assert is_mounted(self.path), "fluidfs mount returned before the mount was there"
        self.daemons = daemons_of(self.path)
        assert self.daemons, "no daemon names the mountpoint in its command line"

    def unmount(self) -> None:
        """By `fluidfs umount`, after which neither mount nor daemon may be there."""
        result = self.account.fluidfs("umount", self.path)
        if result.returncode != 0:
            pytest.fail(f"fluidfs umount: exit status {result.returncode}\n{result.stderr}")
        self.must_be_gone()

    def must_be_gone(self) -> None:
        """Fails the test unless mount and daemon are gone, or go within the deadline."""
        wait_until(lambda: not is_mounted(self.path), what=f"{self.path} is unmounted")
        wait_until(lambda: not daemons_of(self.path), what="the daemon has ended")

    def kill_daemon(self) -> None:
        """SIGKILL, and what an operator does then: detaches the dead mount. `start` mounts anew."""
        for pid in daemons_of(self.path):
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not daemons_of(self.path), what="the killed daemon has ended")
        self.detach()

    def detach(self) -> None:
        """Removes the mount from the name space, whatever became of its daemon."""
        if is_mounted(self.path):
            self.account.run("fusermount3", "-u", "-z", self.path)
            wait_until(lambda: not is_mounted(self.path), what=f"{self.path} is detached")

    def status(self) -> dict[str, object]:
        """What `fluidfs status --json` says of this mount."""
        result = self.account.fluidfs("status", self.path, "--json")
        assert result.returncode == 0, result.stderr
        answer = json.loads(result.stdout)
        return dict(answer[0] if isinstance(answer, list) else answer)

    def tree(self) -> dict[str, tuple[int, str]]:
        """Size and SHA-256 of every file by its relative path, read by a process of the account."""
        result = self.account.run(self.account.python, "-c", _TREE, self.path, timeout_s=600)
        assert result.returncode == 0, result.stderr
        return {path: (size, digest) for path, (size, digest) in json.loads(result.stdout).items()}

    def digest(self, name: str) -> str:
        """SHA-256 of one file, read by a process of the account."""
        code = "import hashlib,sys; print(hashlib.file_digest(open(sys.argv[1],'rb',0),'sha256').hexdigest())"
        result = self.account.run(self.account.python, "-c", code, self.path / name, timeout_s=600)
        assert result.returncode == 0, result.stderr
        return result.stdout.strip()


@contextmanager
def no_trace_of(mount: Mount) -> Iterator[Mount]:
    """Unmounts at the end; whatever is left then is removed by force and fails the test."""
    try:
        yield mount
        if is_mounted(mount.path):
            mount.unmount()
        else:
            mount.must_be_gone()
    finally:
        for pid in daemons_of(mount.path):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        mount.detach()
