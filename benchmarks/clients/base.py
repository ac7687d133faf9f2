"""A client that serves the bucket as a directory: mounted, measured from outside, unmounted, its cache emptied."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.dataset import DataSet
from benchmarks.person import ROOT, Person
from benchmarks.processes import tree_of
from benchmarks.reading import Reader
from fluidfs.demo.seaweed import SeaweedServer
from fluidfs.demo.traces import is_mounted

MOUNT_TIMEOUT_S = 60.0
UNMOUNT_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What every client is given: the server, the bucket, the same files on the local disk, and a place to work.

    `reader` is the program that reads. With `names_ttl_s` every client is told to believe names for so long.
    """

    server: SeaweedServer
    bucket: str
    data: DataSet
    local: Path
    work: Path
    reader: Path
    names_ttl_s: int | None = None


class BenchError(Exception):
    """A client could not be used; the message goes into its cells."""


class MountedClient(ABC):
    """A client with a daemon of its own. `mount` and `unmount` may be called again and again."""

    name: str
    has_processes = True

    def __init__(self, bench: Bench, *, person: Person = ROOT, name: str | None = None) -> None:
        """Mounts and reads as `person`; `name` is for a second client of a class."""
        self.name = name or self.name
        self.bench = bench
        self.person = person
        self.reader = Reader(bench.reader, person)
        # Some clients take commas and colons in a path for separators.
        self.home = bench.work / re.sub(r"\W+", "-", self.name)
        self.cache = self.home / "cache"
        self.mountpoint = self.home / "mnt"
        self.log = self.home / "log"
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """The command line that mounts in the foreground."""

    @abstractmethod
    def version(self) -> str:
        """What the client calls its version."""

    def environment(self) -> dict[str, str]:
        """The daemon's environment."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            # Where an ordinary user's daemon is found again; without it that would be a directory in /tmp, which stays.
            "XDG_RUNTIME_DIR": str(self.home),
            "PYTHONPATH": str(self.person.checkout),
            **self.bench.server.environment(),
        }

    def prepare(self) -> None:
        """Called once, before the first mount; a client with a layout of its own copies the data here.

        BenchError if it is not installed.
        """
        self.version()
        for place in (self.home, self.mountpoint, self.cache):
            place.mkdir(exist_ok=True)
            self.person.own(place)

    def finish(self) -> None:
        """Called once, after the last unmount: removes the cache and all else that the client wrote."""
        shutil.rmtree(self.home, ignore_errors=True)

    @property
    def root(self) -> Path:
        """Where the data is seen while mounted."""
        return self.mountpoint

    def mount(self) -> None:
        """Returns when the mount answers; BenchError with the end of the log when it does not come to that."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.person.prefix, *self.command()],
                env=self.environment(),
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + MOUNT_TIMEOUT_S
        while not (is_mounted(self.mountpoint) and self.reader.exists(self.root / self.bench.data.large_key)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = self.log.read_text(errors="replace").splitlines()[-3:]
                self.unmount()
                raise BenchError(f"{self.name} did not mount: {' | '.join(tail)}")
            time.sleep(0.02)

    def unmount(self) -> None:
        """Unmounts and waits for the daemon; both are forced where they do not go."""
        process = self._process
        deadline = time.monotonic() + UNMOUNT_TIMEOUT_S
        while is_mounted(self.mountpoint):
            forced = ["-z"] if time.monotonic() > deadline else []
            subprocess.run(["fusermount3", "-u", *forced, str(self.mountpoint)], check=False, capture_output=True)
            time.sleep(0.05)
        if process is not None:
            pids = tree_of(process.pid)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(5)
                for pid in pids:
                    with suppress(ProcessLookupError):
                        os.kill(pid, 9)
                process.wait()
            self._process = None

    def clear_cache(self) -> None:
        """Empties the cache on disk; only between mounts."""
        shutil.rmtree(self.cache, ignore_errors=True)
        self.cache.mkdir()
        self.person.own(self.cache)

    def cached_bytes(self) -> int:
        """What the files of the cache occupy."""
        return sum(
            os.lstat(os.path.join(place, name)).st_blocks * 512
            for place, _, names in os.walk(self.cache)
            for name in names
        )

    def processes(self) -> list[int]:
        """The processes whose CPU time and memory are the client's."""
        return [] if self._process is None else tree_of(self._process.pid)


def program(name: str, *, person: Person, install: str) -> str:
    """The path by which `person` reaches a program of this Python environment or of PATH; BenchError says how to get
    it.
    """
    beside_python = Path(sysconfig.get_path("scripts")) / name
    found = str(person.reach(beside_python)) if beside_python.exists() else shutil.which(name)
    if found is None:
        raise BenchError(f"{name} is not installed: {install}")
    return found


def first_line(*command: str) -> str:
    """The first line that a program prints; "" if it cannot be run."""
    with suppress(OSError, subprocess.TimeoutExpired):
        result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        return (result.stdout or result.stderr).strip().split("\n")[0]
    return ""
