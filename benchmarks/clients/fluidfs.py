"""fluidfs, with its defaults unless a row of the table says otherwise."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.clients.base import Bench, BenchError, MountedClient
from benchmarks.person import ROOT, Person
from fluidfs.version import VERSION

# Requests of one kind: how many the native side answered, and how many came to Python.
Requests = dict[str, tuple[int, int]]


class Fluidfs(MountedClient):
    """fluidfs of this checkout."""

    name = "fluidfs"

    def __init__(
        self,
        bench: Bench,
        *,
        person: Person = ROOT,
        name: str | None = None,
        level: str = "",
        flags: Sequence[str] = (),
    ) -> None:
        """`level` is quota and medium of the cache, as `--cache` takes them after its path; `flags` are added."""
        super().__init__(bench, person=person, name=name)
        self._level = level
        self._flags = flags

    def command(self) -> list[str]:
        """Only what says where things are, and what a row asks for."""
        ttl_s = self.bench.names_ttl_s
        return [
            *self._program(),
            "mount",
            f"s3://{self.bench.bucket}",
            str(self.mountpoint),
            "--foreground",
            f"--endpoint-url={self.bench.server.endpoint_url}",
            f"--cache={self.cache}{self._level}",
            *([f"--metadata-ttl={ttl_s}s"] if ttl_s else []),
            *self._flags,
        ]

    def version(self) -> str:
        """The package's version."""
        return f"fluidfs {VERSION}"

    def data_plane(self) -> dict[str, Any]:
        """What `status` says of the way that reads take, the requests so far included; BenchError if it fails."""
        result = subprocess.run(
            [*self.person.prefix, *self._program(), "status", str(self.mountpoint), "--json"],
            env=self.environment(),
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if result.returncode != 0:
            raise BenchError(f"fluidfs status: {result.stderr.strip()[-300:]}")
        plane: dict[str, Any] = json.loads(result.stdout)["data_plane"]
        return plane

    def _program(self) -> list[str]:
        return [str(self.person.reach(Path(sys.executable))), "-m", "fluidfs"]


def requests_of(data_plane: dict[str, Any]) -> Requests:
    """The requests so far by opcode; BenchError where they are not counted."""
    counts = data_plane.get("requests")
    if counts is None:
        raise BenchError("fluidfs status --json has no data_plane.requests")
    native, python = counts["native"], counts["python"]
    return {name: (native.get(name, 0), python.get(name, 0)) for name in sorted({*native, *python})}


def difference(before: Requests, after: Requests) -> Requests:
    """The requests in between, of the opcodes that there were any of."""
    counts = {}
    for name, (native, python) in after.items():
        native_before, python_before = before.get(name, (0, 0))
        if (native, python) != (native_before, python_before):
            counts[name] = (native - native_before, python - python_before)
    return counts
