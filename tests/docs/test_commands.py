"""Every command of the documentation is run here, as it stands there.

A fenced block that begins with `sh` is run by a shell, the blocks of a page one after the other, in an empty home, with
a real S3 server at the address that the pages use. A block `sh setup` prepares a machine; those may hold only what CI
runs by itself, or what a test here stands for.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fluidfs.demo.seaweed import SeaweedServer
from fluidfs.demo.traces import daemons_of, is_mounted
from tests.conftest import Bucket
from tests.support.accounts import Account

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

# What the pages call the server, the bucket and the metrics' address.
ENDPOINT_IN_PAGES = "http://127.0.0.1:8333"
BUCKET_IN_PAGES = "my-bucket"

# `sh setup` blocks: CI runs the make targets and installs packages; the link only gives a command a second place.
KNOWN_SETUP = {
    "apt-get install -y git make",
    "make demo",
    "make test",
    'ln -s "$PWD/.venv/bin/mount.fluidfs" /usr/sbin/mount.fluidfs',
}

_FENCE = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, info: str) -> list[str]:
    """The fenced blocks of a page whose first line says exactly `info`."""
    return [body for kind, rest, body in _FENCE.findall(page.read_text()) if f"{kind}{rest}".strip() == info]


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def book_bucket(bucket: Bucket) -> Bucket:
    """What the pages take for granted: training data in a bucket."""
    for number in range(3):
        bucket.put(f"train/part-{number}", f"record {number}\n".encode() * 50_000)
    bucket.put("labels.csv", b"part,label\n0,cat\n")
    return bucket


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "sh")], ids=named)
def test_the_commands_of_a_page_do_what_it_says(
    page: Path, me: Account, s3_server: SeaweedServer, book_bucket: Bucket
) -> None:
    script = "\n".join(["set -euo pipefail", *blocks(page, "sh")])
    script = script.replace(ENDPOINT_IN_PAGES, s3_server.endpoint_url).replace(BUCKET_IN_PAGES, book_bucket.name)
    path = f"{Path(me.python).parent}:{me.environment()['PATH']}"
    done = me.run("bash", "-c", script, extra={"PATH": path, "AWS_ENDPOINT_URL": ""})

    mountpoint = me.directory / "home" / "data"
    try:
        assert done.returncode == 0, f"{named(page)} stops:\n{done.stdout}\n{done.stderr}"
        assert not is_mounted(mountpoint), f"{named(page)} leaves a mount behind"
        assert not daemons_of(mountpoint), f"{named(page)} leaves a daemon behind"
    finally:
        if is_mounted(mountpoint):
            me.fluidfs("umount", "--lazy", mountpoint)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_that_set_a_machine_up_are_known(page: Path) -> None:
    lines = {line.strip() for block in blocks(page, "sh setup") for line in block.splitlines() if line.strip()}
    assert lines <= KNOWN_SETUP


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = _FENCE.sub("", page.read_text())
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{named(page)} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_block_says_what_it_is(page: Path) -> None:
    kinds = {f"{kind}{rest}".strip() for kind, rest, _ in _FENCE.findall(page.read_text())}
    assert kinds <= {"", "sh", "sh setup", "text", "python", "c", "json", "yaml"}
