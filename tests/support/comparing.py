"""A program that reads a mounted tree in one way, again and again, and compares every byte with a copy of the tree.

It outlives its mount: an error that a mount may give (`ALLOWED`) is counted, and it begins anew on what is mounted
then. A wrong byte, a wrong name or any other error ends it: exit status 1, and a line that says what was wrong. It
needs nothing but the standard library, and opens no file by its whole path, so that it never takes the bare directory
for the mount.

Usage: python -m tests.support.comparing WAY MOUNTPOINT DEVICE COPY SEED TALLY
where DEVICE is st_dev of the bare mountpoint and TALLY a file of `TALLY_BYTES`.
"""

from __future__ import annotations

import errno
import mmap
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# What a mount whose daemon dies, or whose store does not answer, gives.
ALLOWED = (errno.EIO, errno.ENOTCONN, errno.ECONNABORTED)
# Between two tries at a mount that is dead or not there.
PAUSE_S = 0.01
PAGE = mmap.PAGESIZE
# After each extent: readers that compare leave the processors to the daemon, as those that compute would.
BREATH_S = 0.001
# The tally: unsigned words of 8 bytes. A count of errors for each errno, after these.
RIGHT_ANSWERS, READ_BYTES, ERRORS = 0, 1, 2
TALLY_WORDS = ERRORS + 256
TALLY_BYTES = 8 * TALLY_WORDS
# Exit statuses of the child that maps a file; others are errnos.
WRONG = 255


class WrongAnswer(Exception):
    """The mount said something that is not so."""


class Tally:
    """What this process has done so far, in shared memory: another may look at it while a read hangs."""

    def __init__(self, path: str) -> None:
        with open(path, "r+b") as file:
            self._words = memoryview(mmap.mmap(file.fileno(), TALLY_BYTES)).cast("Q")

    def read(self, size_bytes: int) -> None:
        """An answer came and was right; so many bytes if it was one to a read."""
        self._words[READ_BYTES] += size_bytes
        self._words[RIGHT_ANSWERS] += 1

    def failed(self, number: int) -> None:
        """A call failed with this errno."""
        self._words[ERRORS + number] += 1


class Copy:
    """What the tree holds."""

    def __init__(self, root: str) -> None:
        self._root = Path(root)
        self._bodies: dict[str, bytes | mmap.mmap] = {}
        self.sizes = {
            str(path.relative_to(root)): path.stat().st_size for path in sorted(self._root.rglob("*")) if path.is_file()
        }
        self.large = [name for name in self.sizes if "/" not in name]
        self.small = [name for name in self.sizes if "/" in name]

    def check(self, name: str, offset: int, data: bytes) -> None:
        """Raises WrongAnswer unless this is what the file has at `offset`."""
        body = self._bodies.get(name)
        if body is None:
            with (self._root / name).open("rb") as file:
                size = self.sizes[name]
                body = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) if size else b""
            self._bodies[name] = body
        if data != body[offset : offset + len(data)]:
            at = next((i for i, byte in enumerate(data) if byte != body[offset + i]), len(data))
            right = sum(byte == body[offset + i] for i, byte in enumerate(data))
            raise WrongAnswer(
                f"{name}: {len(data)} bytes at {offset}, wrong from {offset + at} on, {right} of them right; "
                f"{'all zero' if not any(data[at:]) else data[at : at + 16].hex()}"
            )

    def names_in(self, directory: str) -> list[str]:
        """The names of a directory ("" is the root), sorted."""
        start = f"{directory}/" if directory else ""
        return sorted({name[len(start) :].split("/")[0] for name in self.sizes if name.startswith(start)})


class Session:
    """The tree while one and the same mount stands: `root` is its descriptor."""

    def __init__(self, root: int, mountpoint: str, copy: Copy, rng: random.Random, tally: Tally) -> None:
        self.root = root
        self.mountpoint = mountpoint
        self.copy = copy
        self.rng = rng
        self.tally = tally

    @contextmanager
    def opened(self, name: str, flags: int = os.O_RDONLY) -> Iterator[int]:
        """A descriptor of a file of the mount, without pages that the kernel kept unless chance says otherwise."""
        fd = os.open(name, flags | os.O_CLOEXEC, dir_fd=self.root)
        try:
            if self.rng.random() < 0.7:
                forget(fd)
            yield fd
        finally:
            # At a dead mount close says so.
            os.close(fd)

    def compare(self, name: str, fd: int, offset: int, length: int, *, buffer: mmap.mmap | None = None) -> None:
        """Reads an extent, which may lie beyond the end, and compares it; `buffer` is for O_DIRECT."""
        wanted = max(0, min(length, self.copy.sizes[name] - offset))
        got = 0
        while got < length:
            if buffer is None:
                data = os.pread(fd, length - got, offset + got)
            else:
                count = os.preadv(fd, [memoryview(buffer)[: length - got]], offset + got)
                data = buffer[:count]
            self.copy.check(name, offset + got, data)
            got += len(data)
            self.tally.read(len(data))
            if not data or (buffer is not None and got % PAGE):
                break
        if got != wanted:
            raise WrongAnswer(f"{name}: {got} bytes at {offset} instead of {wanted} of {length}")
        time.sleep(BREATH_S)


def forget(fd: int) -> None:
    """Drops what the kernel has of a file, so that the next read is the daemon's."""
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def sequentially(session: Session) -> None:
    """One large file from its beginning to its end."""
    name = session.rng.choice(session.copy.large)
    step = session.rng.choice((64 << 10, 1 << 20, 4 << 20))
    with session.opened(name) as fd:
        for offset in range(0, session.copy.sizes[name] + 1, step):
            session.compare(name, fd, offset, step)


def at_random(session: Session) -> None:
    """Extents of all sizes in large files, across blocks and ends; now and then past the kernel's pages."""
    rng = session.rng
    name = rng.choice(session.copy.large)
    size = session.copy.sizes[name]
    if rng.random() < 0.3:
        with mmap.mmap(-1, 1 << 20) as buffer, session.opened(name, os.O_RDONLY | os.O_DIRECT) as fd:
            for _ in range(10):
                length = PAGE * rng.randint(1, 256)
                session.compare(name, fd, rng.randrange(size) // PAGE * PAGE, length, buffer=buffer)
        return
    with session.opened(name) as fd:
        for _ in range(20):
            length = rng.choice((1, 100, PAGE, 65_536, 300_000, 2_000_000))
            session.compare(name, fd, max(0, rng.randrange(-PAGE, size + PAGE)), rng.randint(1, length))
            if rng.random() < 0.3:
                forget(fd)


def small_files(session: Session) -> None:
    """Many small files from their opening to their end, and the names beside them."""
    rng, copy = session.rng, session.copy
    for name in rng.sample(copy.small, min(20, len(copy.small))):
        with session.opened(name) as fd:
            size = os.fstat(fd).st_size
            if size != copy.sizes[name]:
                raise WrongAnswer(f"{name}: a size of {size} instead of {copy.sizes[name]}")
            session.compare(name, fd, 0, size + 1)
    directory = rng.choice(copy.small).rpartition("/")[0]
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY, dir_fd=session.root)
    try:
        names = sorted(os.listdir(fd))
    finally:
        os.close(fd)
    if names != copy.names_in(directory):
        raise WrongAnswer(f"{directory}: {len(names)} names instead of {len(copy.names_in(directory))}")
    session.tally.read(0)


def mapped(session: Session) -> None:
    """Pages of a mapping, in a child: one that cannot be had is SIGBUS there, and EIO here."""
    child = os.fork()
    if child == 0:
        status = 0
        try:
            _touch(session)
        except OSError as error:
            status = error.errno or errno.EIO
        except WrongAnswer as error:
            print(error, flush=True)
            status = WRONG
        finally:
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    session.rng.random()  # the child's draws are not ours
    if os.WIFSIGNALED(ended):
        number = os.WTERMSIG(ended)
        if number != signal.SIGBUS:
            raise WrongAnswer(f"the process that maps a file was ended by signal {number}")
        raise OSError(errno.EIO, "SIGBUS")
    if os.WEXITSTATUS(ended) == WRONG:
        raise WrongAnswer("in a mapping")
    if os.WEXITSTATUS(ended):
        raise OSError(os.WEXITSTATUS(ended), "in a mapping")


def _touch(session: Session) -> None:
    rng = session.rng
    name = rng.choice(session.copy.large)
    size = session.copy.sizes[name]
    with session.opened(name) as fd:
        view = mmap.mmap(fd, size, prot=mmap.PROT_READ)
        if rng.random() < 0.5:
            view.madvise(mmap.MADV_RANDOM)
        for _ in range(60):
            offset = rng.randrange(size)
            length = min(size - offset, rng.choice((1, PAGE, 100_000)))
            session.copy.check(name, offset, view[offset : offset + length])
            session.tally.read(length)
            time.sleep(BREATH_S)


def walk(session: Session) -> None:
    """Names and sizes of the whole tree, as find(1) sees them from the mount's root."""
    done = subprocess.run(
        ["find", f"/proc/self/fd/{session.root}/", "-type", "f", "-printf", "%P\t%s\n"],
        pass_fds=(session.root,),
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
    )
    if done.returncode != 0:
        wanted = {os.strerror(number) for number in ALLOWED}
        strange = [line for line in done.stderr.splitlines() if not any(line.endswith(text) for text in wanted)]
        if strange:
            raise WrongAnswer(strange[0])
        raise OSError(errno.EIO, "find")
    found = dict(line.split("\t") for line in done.stdout.splitlines())
    if found != {name: str(size) for name, size in session.copy.sizes.items()}:
        missing = sorted(set(session.copy.sizes) - set(found))
        raise WrongAnswer(f"find: {len(found)} files instead of {len(session.copy.sizes)}; not there: {missing[:5]}")
    session.tally.read(0)


WAYS: dict[str, Callable[[Session], None]] = {
    "sequentially": sequentially,
    "at_random": at_random,
    "mapped": mapped,
    "small_files": small_files,
    "walk": walk,
}


def run(way: Callable[[Session], None], mountpoint: str, bare_device: int, make: Callable[[int], Session]) -> None:
    """Reads for ever; raises WrongAnswer, or an OSError that no mount should give."""
    while True:
        root = -1
        try:
            # Not a request to the daemon: from here on the mount is ours, whatever is mounted over or unmounted.
            root = os.open(mountpoint, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            while os.fstat(root).st_dev != bare_device:
                way(make(root))
        except OSError as error:
            if error.errno not in ALLOWED:
                raise
            make(root).tally.failed(error.errno)
        finally:
            if root >= 0:
                os.close(root)
        time.sleep(PAUSE_S)


def main() -> int:
    """Reads for ever; returns 1 when something was wrong."""
    way, mountpoint, device, copy_root, seed, tally_path = sys.argv[1:]
    # A SIGBUS is expected, its core is not.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    copy, rng, tally = Copy(copy_root), random.Random(seed), Tally(tally_path)
    try:
        run(WAYS[way], mountpoint, int(device), lambda root: Session(root, mountpoint, copy, rng, tally))
    except (WrongAnswer, OSError) as error:
        print(f"{way}: {error}", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
