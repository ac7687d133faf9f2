"""Which version of which object something in the cache is: its name on disk, and how that is written down. Pure."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

# What a map's header has room for (FF_MAP_IDENTITY_BYTES).
MAX_IDENTITY_BYTES = 3584
# 16 bytes of BLAKE2b: keys come from strangers, so the hash must resist those who look for collisions.
DIGEST_BYTES = 16

_LENGTHS = struct.Struct("<HHHQ")


@dataclass(frozen=True, slots=True)
class VersionIdentity:
    """A version of an object: equal identities mean equal bytes.

    `store` is the store's canonical identity, so that mounts with different prefixes, and endpoints that are spelled
    differently, share what they cache.
    """

    store: str
    key: str
    version: str
    size: int

    def digest(self) -> bytes:
        """The 16 bytes that name this version on disk."""
        hash_ = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for part in (self.store, self.key, self.version):
            data = part.encode("utf-8", "surrogateescape")
            hash_.update(struct.pack("<Q", len(data)))
            hash_.update(data)
        hash_.update(struct.pack("<Q", self.size))
        return hash_.digest()

    def encode(self) -> bytes:
        """The identity as bytes for the files' headers; at most MAX_IDENTITY_BYTES, the key cut short to fit."""
        store, key, version = (part.encode("utf-8", "surrogateescape") for part in (self.store, self.key, self.version))
        room = MAX_IDENTITY_BYTES - _LENGTHS.size
        # Sources that are within S3's and Linux' own limits need no cutting, but for POSIX paths near 4096 bytes.
        store, version = store[:1024], version[:1024]
        key = key[: room - len(store) - len(version)]
        return _LENGTHS.pack(len(store), len(key), len(version), self.size) + store + key + version


def decode_identity(data: bytes) -> VersionIdentity:
    """The identity that `encode` wrote; raises ValueError for anything else."""
    if len(data) < _LENGTHS.size:
        raise ValueError("an identity is too short")
    store_length, key_length, version_length, size = _LENGTHS.unpack_from(data)
    body = data[_LENGTHS.size :]
    if len(body) != store_length + key_length + version_length:
        raise ValueError("an identity's lengths do not add up")
    parts = (body[:store_length], body[store_length : store_length + key_length], body[store_length + key_length :])
    store, key, version = (part.decode("utf-8", "surrogateescape") for part in parts)
    return VersionIdentity(store, key, version, size)
