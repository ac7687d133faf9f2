"""Whom a test's programs run as: root, or an ordinary user who has nothing but fusermount3."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
# Present on every Debian; its home does not exist, which is why accounts get one of their own.
ORDINARY_USER = "nobody"


@dataclass(frozen=True, slots=True)
class Account:
    """A user with an empty home below `directory`, which is his alone and goes with the test.

    `code` is the checkout at a path that he can reach: `python` there runs this package. What is put into `closing` (a
    mount, say) ends before the directory goes.
    """

    name: str
    uid: int
    gid: int
    directory: Path
    code: Path
    closing: ExitStack
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def python(self) -> str:
        """The interpreter of the environment that the tests run in."""
        inside = Path(sys.prefix)
        if inside.is_relative_to(REPOSITORY):
            return str(self.code / inside.relative_to(REPOSITORY) / "bin" / "python")
        return sys.executable

    @property
    def cache(self) -> Path:
        """Where this account's cache is, unless a test says otherwise."""
        return self.directory / "cache"

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """A bare environment: nothing of the person who runs the tests gets in."""
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(self.directory / "home"),
            "TMPDIR": str(self.directory / "tmp"),
            "XDG_CACHE_HOME": str(self.cache),
            "XDG_RUNTIME_DIR": str(self.directory / "run"),
            "PYTHONPATH": str(self.code),
            "PYTHONDONTWRITEBYTECODE": "1",
            "LANG": "C.UTF-8",
            **self.variables,
            **(extra or {}),
        }

    def popen(self, *arguments: str | Path, extra: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Starts a program as this user, with pipes for its output and no terminal."""
        return subprocess.Popen(
            [str(argument) for argument in arguments],
            env=self.environment(extra),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            user=self._other(self.uid),
            group=self._other(self.gid),
            extra_groups=None if self._other(self.uid) is None else [],
        )

    def run(
        self, *arguments: str | Path, extra: Mapping[str, str] | None = None, timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Runs a program as this user to its end; its exit status is the caller's to judge."""
        return subprocess.run(
            [str(argument) for argument in arguments],
            env=self.environment(extra),
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            user=self._other(self.uid),
            group=self._other(self.gid),
            extra_groups=None if self._other(self.uid) is None else [],
        )

    def fluidfs(self, *arguments: str | Path, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """Runs the command line of this package."""
        return self.run(self.python, "-m", "fluidfs", *arguments, timeout_s=timeout_s)

    def make_directory(self, name: str) -> Path:
        """A new directory of this account."""
        path = self.directory / name
        path.mkdir(parents=True)
        os.chown(path, self.uid, self.gid)
        return path

    def _other(self, number: int) -> int | None:
        """`number` if a process has to change to it, which only root can."""
        return None if self.uid == os.geteuid() else number


@contextmanager
def account_of(kind: str, *, code: Path) -> Iterator[Account]:
    """`root` or `ordinary`. An ordinary user who runs the tests is himself the ordinary one, and has no root."""
    if kind == "root" and os.geteuid() != 0:
        pytest.fail("this test needs root: sudo make test")
    if kind == "ordinary":
        open_fuse_device()
    person = pwd.getpwnam(ORDINARY_USER) if kind == "ordinary" and os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    # Not pytest's tmp_path: that lies in a directory that only its owner may pass through.
    directory = Path(tempfile.mkdtemp(prefix="fluidfs-test-", dir="/tmp"))
    with ExitStack() as undo:
        undo.callback(shutil.rmtree, directory)
        account = Account(kind, person.pw_uid, person.pw_gid, directory, code, undo.enter_context(ExitStack()))
        for name in ("home", "tmp", "cache", "run"):
            os.chmod(account.make_directory(name), 0o700)
        os.chown(directory, person.pw_uid, person.pw_gid)
        yield account


def open_fuse_device() -> None:
    """Gives /dev/fuse the mode that udev gives it everywhere: a container's device may be root's alone.

    fusermount3 opens it with the rights of the user who mounts. The mode stays: another run may be using it, too.
    """
    device = Path("/dev/fuse")
    if os.geteuid() == 0 and device.exists() and device.stat().st_mode & 0o666 != 0o666:
        device.chmod(0o666)


@contextmanager
def reachable_checkout() -> Iterator[Path]:
    """The checkout where every user can go: itself, or bind mounts of its parts when it lies in a private place."""
    if os.geteuid() != 0 or all(place.stat().st_mode & 0o001 for place in (REPOSITORY, *REPOSITORY.parents)):
        yield REPOSITORY
        return
    with ExitStack() as undo:
        base = Path(tempfile.mkdtemp(prefix="fluidfs-code-", dir="/tmp"))
        undo.callback(base.rmdir)
        base.chmod(0o755)
        for part in ("fluidfs", "tests", ".venv"):
            if (REPOSITORY / part).is_dir():
                (base / part).mkdir()
                undo.callback((base / part).rmdir)
                subprocess.run(["mount", "--bind", str(REPOSITORY / part), str(base / part)], check=True)
                undo.callback(subprocess.run, ["umount", str(base / part)], check=True)
        yield base
