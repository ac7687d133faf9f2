"""Cutting the connection between the kernel and a daemon from outside, as an operator does who finds a mount hung."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest


def abort(mountpoint: Path, directory: Path) -> None:
    """By the control file system of FUSE, mounted on `directory` for the moment; needs root."""
    number = os.minor(device_of(mountpoint))
    subprocess.run(["mount", "-t", "fusectl", "fusectl", directory], check=True)
    try:
        (directory / f"{number}" / "abort").write_text("1")
    finally:
        subprocess.run(["umount", directory], check=True)


def device_of(mountpoint: Path) -> int:
    """st_dev of the topmost mount at this path; nobody is asked who may not answer."""
    found = None
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split(" ")
        if fields[4] == str(mountpoint):
            found = fields[2]
    if found is None:
        pytest.fail(f"{mountpoint} is not mounted")
    major, minor = found.split(":")
    return os.makedev(int(major), int(minor))
