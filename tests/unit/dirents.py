"""Takes answers to READDIR and READDIRPLUS apart, as the kernel does."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

_ENTRY = struct.Struct("<QQQQII")  # nodeid, generation, entry_valid, attr_valid, and their nanoseconds
_ATTRIBUTES = struct.Struct("<QQQQQQIIIIIIIIII")
_DIRENT = struct.Struct("<QQII")  # ino, off, namelen, type


class Dirent(NamedTuple):
    """One entry; with READDIRPLUS `node` is the node id, and what follows it is told of the node."""

    name: bytes
    ino: int
    following: int
    kind: int
    node: int = 0
    name_valid_ns: int = 0
    attributes_ino: int = 0
    size_bytes: int = 0
    mode: int = 0


def parse_plain(data: bytes) -> Iterator[Dirent]:
    at = 0
    while at < len(data):
        ino, following, name_bytes, kind = _DIRENT.unpack_from(data, at)
        at += _DIRENT.size
        yield Dirent(data[at : at + name_bytes], ino, following, kind)
        at += (name_bytes + 7) // 8 * 8
    assert at == len(data)


def parse_plus(data: bytes) -> Iterator[Dirent]:
    at = 0
    while at < len(data):
        node, generation, valid_s, _, valid_ns, _ = _ENTRY.unpack_from(data, at)
        attributes = _ATTRIBUTES.unpack_from(data, at + _ENTRY.size)
        at += _ENTRY.size + _ATTRIBUTES.size
        ino, following, name_bytes, kind = _DIRENT.unpack_from(data, at)
        at += _DIRENT.size
        assert generation == 0
        yield Dirent(
            data[at : at + name_bytes],
            ino,
            following,
            kind,
            node,
            valid_s * 1_000_000_000 + valid_ns,
            attributes[0],
            attributes[1],
            attributes[9],
        )
        at += (name_bytes + 7) // 8 * 8
    assert at == len(data)
