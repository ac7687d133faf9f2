"""Programs that wait for a store that does not answer, each in another system call."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.support.mounts import Mount, wait_until
from tests.support.proxy import CountingProxy, Request

_MAPPED = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    print(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)[5])
"""

# What each asks the store for: an object's key, or the prefix of a listing.
LARGE = ("read/large", "direct/large", "mapped/large")
SMALL = ("small/file",)
NAMES = ("stat/", "listed/")
KEYS = (*LARGE, *SMALL, "stat/file", "listed/file")
# More than one page of keys, sorted before those of `LARGE` and `NAMES`: so one listing does not tell of all.
FILLERS = tuple(f"a filler/{number}" for number in range(1010))


@contextmanager
def waiting(mount: Mount, proxy: CountingProxy) -> Iterator[Mapping[str, subprocess.Popen[str]]]:
    """A process for each way to wait, all of them waiting: the store was asked for what each of them needs.

    The mount's bucket has `KEYS` and `FILLERS`. Known to the mount must be the root, and the directories of `LARGE`
    and `SMALL`.
    """
    path, account = mount.path, mount.account
    commands: dict[str, list[str | Path]] = {
        "read": ["cat", path / "read/large"],
        "direct": ["dd", f"if={path}/direct/large", "of=/dev/null", "iflag=direct", "bs=64k", "count=1"],
        "mapped": [account.python, "-c", _MAPPED, path / "mapped/large"],
        "small": ["cat", path / "small/file"],
        "stat": ["stat", "--format=%s", path / "stat/file"],
        "ls": ["ls", path / "listed"],
    }
    processes: dict[str, subprocess.Popen[str]] = {}
    try:
        for name, command in commands.items():
            processes[name] = account.popen(*command)
        wait_until(lambda: not not_asked_for(proxy), what="the store was asked for each")
        yield processes
    finally:
        for process in processes.values():
            process.kill()
        for process in processes.values():
            with process:
                pass


def not_asked_for(proxy: CountingProxy) -> set[str]:
    """What of it no request has asked for since the last `forget`."""
    asked = {_wanted(request) for request in proxy.requests}
    return {*LARGE, *SMALL, *NAMES} - asked


def _wanted(request: Request) -> str:
    if request.operation == "LIST":
        return parse_qs(urlsplit(request.target).query).get("prefix", [""])[0]
    return request.key
