"""What tests through a real mount are given on top of what all tests are given."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import Mounter
from tests.support.accounts import Account
from tests.support.mounts import Mount
from tests.support.watchdog import watchdog


@pytest.fixture
def mounted(mounted: Mounter) -> Iterator[Mounter]:
    """As in all tests, and a mount that hangs is killed before it hangs the tests."""
    with watchdog() as dog:

        def mount(
            source: str, *options: str, account: Account, endpoint_url: str | None = None, cache: str | None = None
        ) -> Mount:
            made = mounted(source, *options, account=account, endpoint_url=endpoint_url, cache=cache)
            dog.mounts.append(made)
            return made

        yield mount
