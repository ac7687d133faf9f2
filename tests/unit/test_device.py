"""How a mount is asked for, and what is made of a refusal; nothing is mounted here."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from fluidfs.errors import EnvironmentLacking, MountError, MountpointBusy
from fluidfs.fuse.device import (
    MountFacts,
    Tuning,
    _fusermount_error,
    _fusermount_options,
    _mount_error,
    _receive_fd,
    _set,
    open_mounted,
    tune,
)


def facts(source: str = "s3://bucket/prefix", *, read_only: bool = True, allow_other: bool = False) -> MountFacts:
    return MountFacts(source, "/mnt/data", read_only, allow_other)


def split_as_fusermount_does(options: str) -> list[str]:
    """At each comma that no backslash precedes; then `\\x` is x (util/fusermount.c)."""
    parts, now, characters = [], "", iter(options)
    for character in characters:
        if character == "\\":
            now += next(characters)
        elif character == ",":
            parts.append(now)
            now = ""
        else:
            now += character
    return [*parts, now]


@pytest.mark.parametrize("source", ["s3://bucket/p", "s3://b/a,b", "file:///a\\b", "s3://b/\\,", "s3://b/a=b c\tü"])
def test_a_source_with_any_characters_stays_one_option(source: str) -> None:
    options = split_as_fusermount_does(",".join(_fusermount_options(facts(source))))
    assert f"fsname={source}" in options
    assert options[-1] == "ro"
    assert "default_permissions" in options


def test_options_follow_the_facts() -> None:
    assert "allow_other" not in _fusermount_options(facts())
    assert "allow_other" in _fusermount_options(facts(allow_other=True))
    assert "ro" not in _fusermount_options(facts(read_only=False))


@pytest.mark.parametrize(
    ("said", "kind", "hint"),
    [
        (
            "fusermount3: option allow_other only allowed if 'user_allow_other' is set in /etc/fuse.conf",
            EnvironmentLacking,
            "user_allow_other",
        ),
        ("fusermount3: fuse device not found, try 'modprobe fuse' first", EnvironmentLacking, "modprobe fuse"),
        ("fusermount3: failed to open /dev/fuse: Permission denied", EnvironmentLacking, "/dev/fuse"),
        ("fusermount3: mount failed: Operation not permitted", EnvironmentLacking, "setuid root"),
        (
            "fusermount3: user has no write access to mountpoint /mnt/data",
            MountError,
            "writable and owned by you",
        ),
        ("fusermount3: mount failed: Device or resource busy", MountpointBusy, "busy"),
        ("fusermount3: failed to access mountpoint /mnt/data: No such file or directory", MountError, "No such file"),
        ("", MountError, "it says nothing"),
    ],
)
def test_what_fusermount_says_becomes_what_to_do(said: str, kind: type[Exception], hint: str) -> None:
    error = _fusermount_error(said, facts())
    assert type(error) is kind
    assert hint in error.message
    assert "\n" not in error.message


@pytest.mark.parametrize(
    ("code", "kind", "hint"),
    [
        (errno.EPERM, EnvironmentLacking, "CAP_SYS_ADMIN"),
        (errno.ENODEV, EnvironmentLacking, "modprobe fuse"),
        (errno.EBUSY, MountpointBusy, "/mnt/data"),
        (errno.ENOENT, MountError, "mkdir -p"),
        (errno.ENOTDIR, MountError, "not a directory"),
        (errno.EINVAL, MountError, "Invalid argument"),
    ],
)
def test_what_mount_says_becomes_what_to_do(code: int, kind: type[Exception], hint: str) -> None:
    error = _mount_error(code, "/mnt/data")
    assert type(error) is kind
    assert hint in error.message


def test_a_mountpoint_that_does_not_exist_is_refused_and_nothing_stays_open(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises((MountError, EnvironmentLacking)):
        open_mounted(MountFacts("file:///x", str(tmp_path / "nothing"), True, False))
    assert os.listdir("/proc/self/fd") == before


def test_a_descriptor_comes_through_the_socket() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, open(os.devnull) as file:
        socket.send_fds(theirs, [b"\0"], [file.fileno()])
        received = _receive_fd(ours)
        assert received is not None
        assert os.path.sameopenfile(received, file.fileno())
        os.close(received)


def test_a_socket_without_a_descriptor_gives_none() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        assert _receive_fd(ours) is None


def test_what_may_not_be_tuned_stays_at_the_kernels_default(tmp_path: Path) -> None:
    assert _set(str(tmp_path / "no" / "file"), 1024, default=128) == 128
    assert _set(str(tmp_path / "file"), 1024, default=128) == 1024
    # No FUSE connection has this device.
    assert tune(os.makedev(4095, 1 << 19)) == Tuning(read_ahead_kib=128, max_background=12)
