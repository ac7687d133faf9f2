"""Extended attributes that tell facts about a file. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from fluidfs.model import ObjectInfo


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is known of a file: its object, and how much of it is cached."""

    info: ObjectInfo
    store: str
    cached_bytes: int


FACT_NAMES = ("user.fluidfs.etag", "user.fluidfs.cached", "user.fluidfs.key", "user.fluidfs.store")


def fact(name: str, facts: FileFacts) -> str | None:
    """The attribute's value; None when there is no such attribute.

    `user.fluidfs.cached` is `CACHED/SIZE` in bytes.
    """
    match name:
        case "user.fluidfs.etag":
            return facts.info.version
        case "user.fluidfs.cached":
            return f"{facts.cached_bytes}/{facts.info.size}"
        case "user.fluidfs.key":
            return facts.info.key
        case "user.fluidfs.store":
            return facts.store
        case _:
            return None
