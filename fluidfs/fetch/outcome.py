"""What the end of a job means: done, worth another try, or an error for the reader. Pure."""

from __future__ import annotations

import errno

from fluidfs._native.engine import Completion, Status
from fluidfs.errors import (
    AccessDenied,
    CacheError,
    CacheFull,
    CacheUnusable,
    FluidfsError,
    ObjectChanged,
    SlowDown,
    StoreError,
    StoreUnavailable,
    WrongRegion,
)

# A full disk; a block that another process was killed at, and a map that somebody damaged while it was in use, which
# are about one version. Everything else is a level that fails.
_SINK_ERRORS: dict[int, type[CacheError]] = {
    errno.ENOSPC: CacheFull,
    errno.EDQUOT: CacheFull,
    errno.EBUSY: CacheError,
    errno.EUCLEAN: CacheError,
}


def error_of(completion: Completion, key: str) -> FluidfsError | None:
    """The error that a completion stands for; None when it is good.

    StoreUnavailable (and SlowDown) are worth another try, a CacheError means that the bytes must go elsewhere, the
    rest is final.
    """
    status, detail = completion.status, f": {completion.detail}" if completion.detail else ""
    code = f" ({completion.code})" if completion.code else ""
    match status:
        case Status.OK:
            return None
        case Status.CHANGED | Status.NOT_FOUND:
            return ObjectChanged(f"{key!r} was overwritten or deleted in the store")
        case Status.DENIED:
            return AccessDenied(f"the store refuses to give {key!r}{code}{detail}")
        case Status.REDIRECT:
            return WrongRegion(f"the store sends us to another region for {key!r}{detail}")
        case Status.SLOW_DOWN:
            return SlowDown(f"the store asks for fewer requests{code}")
        case Status.SINK:
            kind = _SINK_ERRORS.get(completion.errno, CacheUnusable)
            return kind(f"the cache cannot be written (errno {completion.errno})")
        case Status.HTTP:
            return StoreError(f"the store answers {completion.http_status}{code} for {key!r}{detail}")
        case Status.TLS:
            return StoreError(f"no secure connection to the store{detail}")
        case Status.CANCELLED:
            return StoreUnavailable(f"the fetch of {key!r} was cancelled")
        case _:
            return StoreUnavailable(
                f"fetching {key!r} failed: {status.name.lower()} {completion.http_status or ''}{code}{detail}"
            )
