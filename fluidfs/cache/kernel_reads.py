"""Which file systems a cache may lie on for the kernel to read it by itself, past us and our checksums."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

# f_type of statfs(2), from <linux/magic.h> and the file systems' own sources. What such a file system does when its
# server is gone (it hangs, or gives errors) would reach the reader, to whom a fault of the cache is to be a miss.
_REFUSED: Final[dict[int, str]] = {
    0x65735546: "FUSE",
    0x00006969: "NFS",
    0x0000517B: "SMB",
    0xFE534D42: "SMB",
    0xFF534D42: "CIFS",
    0x00C36400: "Ceph",
    0x5346414F: "AFS",
    0x01021997: "9P",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
    0x19830326: "BeeGFS",
}
# struct statfs is 120 bytes on every 64-bit Linux; f_type is the long that it begins with.
_STATFS_BYTES = 256


def refused_for(path: Path) -> str | None:
    """What kind of file system forbids it for files at `path`; None: none does. Waits for the file system."""
    return _REFUSED.get(file_system_type(path))


def file_system_type(path: Path) -> int:
    """f_type of the file system that `path` lies on; 0 when that cannot be told."""
    facts = ctypes.create_string_buffer(_STATFS_BYTES)
    if ctypes.CDLL(None, use_errno=True).statfs(os.fsencode(path), facts) != 0:
        return 0
    return ctypes.c_long.from_buffer(facts).value & 0xFFFFFFFF
