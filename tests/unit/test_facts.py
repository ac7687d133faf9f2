"""Extended attributes that tell facts."""

from __future__ import annotations

import pytest

from fluidfs.fs.facts import FACT_NAMES, FileFacts, fact
from fluidfs.model import ObjectInfo

FACTS = FileFacts(ObjectInfo("prefix/key", 1000, 0, "9a0364b9"), "s3+aws/bucket", 250)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("user.fluidfs.etag", "9a0364b9"),
        ("user.fluidfs.cached", "250/1000"),
        ("user.fluidfs.key", "prefix/key"),
        ("user.fluidfs.store", "s3+aws/bucket"),
    ],
)
def test_a_fact_is_told(name: str, value: str) -> None:
    assert fact(name, FACTS) == value


def test_every_name_that_is_listed_has_a_value() -> None:
    assert all(fact(name, FACTS) is not None for name in FACT_NAMES)


@pytest.mark.parametrize("name", ["", "user.fluidfs", "user.fluidfs.nothing", "security.capability", "user.etag"])
def test_other_names_have_none(name: str) -> None:
    assert fact(name, FACTS) is None
