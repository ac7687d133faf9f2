"""Whether the kernel reads sealed files by itself, and if not, why: for `fluidfs status`."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path

from fluidfs.config import Verify

# The number of the capability in <linux/capability.h>.
_CAP_SYS_ADMIN = 21


def unwanted(*, disabled: frozenset[str], verify: Verify, refusals: Iterable[str | None]) -> str | None:
    """Why passthrough is not even asked for; None: it is. `refusals` are those of the cache's levels."""
    refusals = list(refusals)
    if "passthrough" in disabled:
        return "--fuse-disable passthrough"
    if verify == "always":
        return "--verify=always compares every read"
    if not may_register():
        return "backing files need CAP_SYS_ADMIN"
    if not refusals:
        return "there is no cache"
    if None not in refusals:
        return "; ".join(str(refusal) for refusal in refusals)
    return None


def may_register() -> bool:
    """Whether this process may give the kernel backing files."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return found is not None and bool(int(found[1], 16) >> _CAP_SYS_ADMIN & 1)


def refused(*, features: frozenset[str], backing_errno: int, passthrough_opens: int) -> str | None:
    """Why a passthrough that is wanted is not had; None: it is, or will be with the first sealed file."""
    if "passthrough" not in features:
        return "this kernel offers no passthrough (Linux 6.9 is the first that does)"
    if backing_errno == 0 or passthrough_opens:
        return None
    if backing_errno == errno.ELOOP:
        return "the cache lies on stacked file systems, which the kernel does not read through"
    if backing_errno == errno.EPERM:
        return "backing files need CAP_SYS_ADMIN"
    return f"the kernel refuses the cache's files: {os.strerror(backing_errno)}"
