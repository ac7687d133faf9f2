"""The pages that are made from the code say what the code says."""

import sys
from pathlib import Path

from tests.support.accounts import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "scripts"))
from generate_docs import pages


def test_generated_pages_are_up_to_date() -> None:
    stale = [path.name for path, text in pages().items() if Path(path).read_text() != text]
    assert not stale, "run `make docs`"


def test_every_command_is_in_the_reference() -> None:
    text = next(iter(pages().values()))
    for command in ("mount", "umount", "status", "warm", "cache verify", "doctor", "demo", "completion"):
        assert f"## fluidfs {command}\n" in text
