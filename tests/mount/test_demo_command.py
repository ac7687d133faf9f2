"""`fluidfs demo` as a newcomer meets it, and what it leaves: nothing."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.support.accounts import Account
from tests.support.mounts import wait_until


def traces_of(account: Account) -> list[str]:
    """Everything on this machine that names the directory in which the account's demonstration works."""
    place = str(account.directory / "tmp")
    files = [str(path) for path in (account.directory / "tmp").iterdir()]
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if place in line]
    processes = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(place) in line:
                processes.append(f"{entry.name} {line!r}")
    return files + mounts + processes


def test_everything_is_read_right_and_nothing_is_left(account: Account) -> None:
    result = account.fluidfs("demo", "--size", "32M", "--json", timeout_s=300)
    assert result.returncode == 0, result.stderr
    facts = json.loads(result.stdout)
    assert facts["wrong"] == []
    assert [row["what"] for row in facts["rows"]] == ["small files", "one large file", "model weights"]
    assert all(row["cold_bytes_per_s"] > 0 and row["warm_bytes_per_s"] > 0 for row in facts["rows"])
    assert traces_of(account) == []
    assert "fluidfs mount s3://demo" in result.stderr, "it shows the command that it runs"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demonstration_leaves_nothing(me: Account, number: signal.Signals) -> None:
    process = me.popen(me.python, "-m", "fluidfs", "demo", "--size", "64M")
    with process:
        assert process.stderr is not None
        for line in process.stderr:
            if "reading everything cold" in line:
                break
        process.send_signal(number)
        process.communicate(timeout=120)
    assert process.returncode != 0
    wait_until(lambda: traces_of(me) == [], what="all traces are gone")
