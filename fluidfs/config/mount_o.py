"""The text after `-o`: mount(8)'s comma-separated options, told apart from what mount(8) and fstab mean for
themselves.
"""

from __future__ import annotations

import difflib
import re

from fluidfs.config.table import BY_NAME
from fluidfs.errors import UsageError

# Words that fstab lines carry for mount(8), the boot or the kernel. What they ask for either holds already (a fluidfs
# mount is nosuid and nodev) or is none of our business.
_GENERIC = frozenset(
    {
        *("defaults", "auto", "noauto", "nofail", "_netdev", "rw", "sync", "async", "dirsync", "loud", "silent"),
        *("user", "nouser", "users", "owner", "group", "dev", "nodev", "suid", "nosuid", "exec", "noexec"),
        *(
            "atime",
            "noatime",
            "diratime",
            "nodiratime",
            "relatime",
            "norelatime",
            "strictatime",
            "lazytime",
            "nolazytime",
        ),
        *("default_permissions", "nonempty", "subtype", "comment", "context", "fscontext", "defcontext", "rootcontext"),
    }
)
_GENERIC_PREFIXES = ("x-", "X-")
_ESCAPED = re.compile(r"\\(.)")


def split_mount_options(text: str, *, sloppy: bool = False) -> list[tuple[str, str]]:
    """The pairs of option name (as in the table, or `config`) and value text that `text` holds, in order.

    A switch that is only named is `true`; `no` or `no-` before its name makes it `false`. A comma inside a value is
    written `\\,`, as libfuse has it. Raises UsageError for words that neither we nor mount(8) know; `sloppy` (mount
    -s) drops them.
    """
    pairs: list[tuple[str, str]] = []
    for word in re.split(r"(?<!\\),", text):
        if not word:
            continue
        name, equals, value = word.partition("=")
        name = name.strip()
        if name in _GENERIC or name.startswith(_GENERIC_PREFIXES):
            continue
        if name == "ro":
            pairs.append(("read-only", "true"))
            continue
        if name == "remount":
            raise UsageError("-o remount: a fluidfs mount cannot be changed; umount it and mount it again")
        pair = _ours(name.replace("_", "-"), _ESCAPED.sub(r"\1", value) if equals else None)
        if pair is not None:
            pairs.append(pair)
        elif not sloppy:
            raise UsageError(f"-o {name}: no such option{suggestion(name.replace('_', '-'))}")
    return pairs


def _ours(name: str, value: str | None) -> tuple[str, str] | None:
    """The pair that a word of ours means; None for a stranger."""
    if name == "config" and value:
        return name, value
    option = BY_NAME.get(name)
    if option is not None:
        if value is None and option.value is not None:
            raise UsageError(f"-o {name}: needs a value, {name}={option.value}")
        return name, "true" if value is None else value
    for prefix in ("no-", "no"):
        positive = BY_NAME.get(name.removeprefix(prefix)) if name.startswith(prefix) else None
        if positive is not None and positive.value is None and value is None:
            return positive.name, "false"
    return None


def suggestion(name: str) -> str:
    """` (did you mean …?)`, or nothing."""
    near = difflib.get_close_matches(name, BY_NAME, n=1)
    return f" (did you mean {near[0]}?)" if near else ""
