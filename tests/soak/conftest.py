"""What long tests are given: how long, how often, by which seed. `make soak` runs them, `make test` does not."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Mounter
from tests.support.accounts import Account
from tests.support.mounts import Mount
from tests.support.watchdog import watchdog

# Beyond what a test is told to last: its begin, its end, and a daemon that is slow to go.
_GRACE_S = 900.0


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("soak")
    group.addoption("--soak-seed", type=int, help="repeat what an earlier run chose by chance (it printed its seed)")
    group.addoption("--soak-kills", type=int, default=100, help="how often the daemon is killed [100]")
    group.addoption("--soak-minutes", type=float, default=10.0, help="how long each mixed load lasts [10]")


@dataclass(frozen=True, slots=True)
class Plan:
    """What this run was told to do."""

    seed: int
    kills: int
    duration_s: float

    def rng(self, what: str) -> random.Random:
        """Chance for one test, whichever others run."""
        return random.Random(f"{self.seed} {what}")


@pytest.fixture(scope="session")
def plan(pytestconfig: pytest.Config) -> Plan:
    """The same for all tests of a run."""
    chosen = pytestconfig.getoption("--soak-seed")
    made = Plan(
        time.time_ns() % 1_000_000 if chosen is None else chosen,
        pytestconfig.getoption("--soak-kills"),
        60 * pytestconfig.getoption("--soak-minutes"),
    )
    print(f"\nsoak: --soak-seed {made.seed} --soak-kills {made.kills} --soak-minutes {made.duration_s / 60:g}")
    return made


@pytest.fixture
def mounted(mounted: Mounter, plan: Plan) -> Iterator[Mounter]:
    """As in all tests, and a mount that hangs is killed in the end."""
    with watchdog(plan.duration_s + 10 * plan.kills + _GRACE_S) as dog:

        def mount(
            source: str, *options: str, account: Account, endpoint_url: str | None = None, cache: str | None = None
        ) -> Mount:
            made = mounted(source, *options, account=account, endpoint_url=endpoint_url, cache=cache)
            dog.mounts.append(made)
            return made

        yield mount


@pytest.fixture
def ram() -> Iterator[Path]:
    """A directory for a cache, in memory."""
    directory = Path(tempfile.mkdtemp(prefix="fluidfs-soak-", dir="/dev/shm"))
    yield directory
    shutil.rmtree(directory)
