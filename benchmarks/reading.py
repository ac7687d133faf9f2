"""The reads themselves, of a mounted or a local directory, by a small program of ours, fio and find."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.person import Person

SMALL_READERS = 16
# Longer than any read here takes, of the slowest client.
TIMEOUT_S = 300.0
NO_LIMIT_S = 1e9

_SOURCE = Path(__file__).with_name("reader.c")

How = Literal["buffered", "direct"]


def compile_reader(target: Path) -> None:
    """Makes the program at `target`; OSError with the compiler's words where that fails."""
    command = [
        "gcc",
        "-O2",
        "-std=c11",
        "-D_GNU_SOURCE",
        "-Wall",
        "-Wextra",
        "-pthread",
        "-o",
        str(target),
        str(_SOURCE),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise OSError(f"the reader cannot be compiled: {result.stderr.strip()[-300:]}")
    target.chmod(0o755)


def drop_caches(*, names: bool = False) -> None:
    """Empties the kernel's page cache, with `names` its directory entries and inodes too; PermissionError unless root.

    Nothing that lies on a tmpfs is dropped: there the page cache is the disk.
    """
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3" if names else "1")


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads as `person`, with the program that `compile_reader` made. All raise OSError with what the program said.

    Reads of one file empty the page cache of it first, as its file system sees it; what lies below has its own.
    """

    program: Path
    person: Person

    def sequential(self, path: Path, *, how: How = "buffered") -> float:
        """Bytes per second of reading a file from its beginning to its end, 1 MiB at a time."""
        answer = self._ask("sequential", str(path), how)
        return answer["bytes"] / answer["seconds"]

    def mapped(self, path: Path, *, seconds: float) -> float:
        """Touches per second of random pages of 4 KiB of a mapped file, each page once, without readahead."""
        answer = self._ask("mapped", str(path), str(seconds), str(time.monotonic_ns() % 2**31))
        return answer["count"] / answer["seconds"]

    def small_files(self, root: Path, keys: Sequence[str], *, seconds: float = NO_LIMIT_S) -> float:
        """Files per second of reading whole small files, `SMALL_READERS` at a time, until `seconds` are over."""
        names = b"".join(os.fsencode(key) + b"\0" for key in keys)
        answer = self._ask("files", str(SMALL_READERS), str(seconds), cwd=root, names=names)
        return answer["count"] / answer["seconds"]

    def random(
        self,
        path: Path,
        *,
        readers: int,
        seconds: float,
        how: How = "buffered",
        again: bool = False,
        every_other: int | None = None,
    ) -> float:
        """Random reads of 4 KiB per second by fio; each reader has a part of the file.

        No block is read twice, so that no page cache that was empty before answers, and it ends early when every block
        was read; with `again` it lasts its time and reads blocks again. With `every_other` it goes through the first,
        third, fifth… stretch of so many bytes and leaves the others alone.
        """
        share = self._size(path) // readers // 4096 * 4096
        arguments = {
            "name": "random",
            "filename": str(path).replace(":", "\\:"),
            "rw": "randread",
            "bs": "4k",
            "ioengine": "psync",
            "direct": str(int(how == "direct")),
            "invalidate": "1",
            "thread": "1",
            "numjobs": str(readers),
            "size": str(share),
            "offset_increment": str(share),
            "runtime": f"{round(seconds * 1000)}ms",
            "randseed": str(time.monotonic_ns() % 2**31),
            "group_reporting": "1",
            "output-format": "json",
            **({"time_based": "1", "norandommap": "1"} if again else {}),
        }
        if every_other is not None:
            arguments |= {"zonemode": "strided", "zonesize": str(every_other), "zonerange": str(every_other)}
            arguments["zoneskip"] = str(every_other)
        command = ["fio", "--readonly", *(f"--{name}={value}" for name, value in arguments.items())]
        output = self._run(command)
        # A warning may come before the object.
        answer = json.loads(output[output.index("{") :])
        return float(answer["jobs"][0]["read"]["iops"])

    def find(self, root: Path, *, expected: int, sizes: bool = False) -> float:
        """Seconds that the program of this name takes for a tree of `expected` files, with `sizes` asking each for its
        own; OSError if it does not see them all.
        """
        # The size is printed, so that it has to be asked for whatever is known of the file's type.
        command = ["find", str(root), "-type", "f", "-printf", "%s\\n" if sizes else "\\n"]
        started = time.monotonic()
        output = self._run(command)
        seconds = time.monotonic() - started
        if (seen := output.count("\n")) != expected:
            raise OSError(f"find saw {seen} of {expected} files")
        return seconds

    def exists(self, path: Path) -> bool:
        """Whether this user sees something there."""
        if not self.person.prefix:
            return path.exists()
        return subprocess.run([*self.person.prefix, "test", "-e", str(path)], check=False).returncode == 0

    def _size(self, path: Path) -> int:
        return int(self._run(["stat", "--format=%s", str(path)]))

    def _ask(self, *arguments: str, cwd: Path | None = None, names: bytes = b"") -> dict[str, float]:
        command = [str(self.program), *arguments]
        if cwd is not None:
            # Changed to by this user: root may not be let into a mount that is his.
            command = ["env", f"--chdir={cwd}", *command]
        answer: dict[str, float] = json.loads(self._run(command, data=names))
        return answer

    def _run(self, command: Sequence[str], *, data: bytes = b"") -> str:
        result = subprocess.run(
            [*self.person.prefix, *command],
            input=data,
            capture_output=True,
            cwd="/",
            timeout=TIMEOUT_S,
            check=False,
        )
        if result.returncode != 0:
            said = (result.stderr or result.stdout).decode(errors="replace").strip()
            raise OSError(f"{Path(command[0]).name}: {said[-300:]}")
        return result.stdout.decode()
