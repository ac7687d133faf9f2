"""Whom a client and the readers of its mount run as: root, or an ordinary user who has nothing but fusermount3."""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
# Present on every Debian, and never the owner of anything.
ORDINARY_USER = "nobody"


@dataclass(frozen=True, slots=True)
class Person:
    """A user. `checkout` is this repository at a path that he can reach."""

    uid: int
    gid: int
    checkout: Path = REPOSITORY

    @property
    def prefix(self) -> tuple[str, ...]:
        """What stands before a command line so that it runs as this user; the process id stays the same."""
        if self.uid == os.geteuid():
            return ()
        return ("setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups", "--")

    def reach(self, path: Path) -> Path:
        """The same file by a path that this user can reach."""
        return self.checkout / path.relative_to(REPOSITORY) if path.is_relative_to(REPOSITORY) else path

    def own(self, path: Path) -> None:
        """Gives a file or directory to this user."""
        os.chown(path, self.uid, self.gid)


ROOT = Person(0, 0)


@contextmanager
def ordinary_person() -> Iterator[Person]:
    """An ordinary user who can mount and run what is installed here; needs root.

    A checkout in a private place is shown to him by a bind mount. /dev/fuse gets the mode that udev gives it
    everywhere, since fusermount3 opens it with the rights of its caller; the mode stays.
    """
    device = Path("/dev/fuse")
    if device.exists() and device.stat().st_mode & 0o666 != 0o666:
        device.chmod(0o666)
    account = pwd.getpwnam(ORDINARY_USER)
    with ExitStack() as undo:
        checkout = REPOSITORY
        if not all(place.stat().st_mode & 0o001 for place in (REPOSITORY, *REPOSITORY.parents)):
            checkout = Path(tempfile.mkdtemp(prefix="fluidfs-bench-code-"))
            undo.callback(checkout.rmdir)
            subprocess.run(["mount", "--bind", str(REPOSITORY), str(checkout)], check=True)
            undo.callback(subprocess.run, ["umount", str(checkout)], check=True)
        yield Person(account.pw_uid, account.pw_gid, checkout)
