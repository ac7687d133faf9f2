from typing import NamedTuple

OFF: dict[str, int]

class Session(NamedTuple):
    minor: int
    flags: int
    max_read_bytes: int
    max_write_bytes: int
    max_background: int

def negotiate(
    body: bytes, *, off: int = 0, wants_passthrough: bool = True, allow_idmap: bool = True
) -> tuple[int, bytes, Session]: ...
def plan(
    stream: tuple[int, int, int], offset: int, length: int, *, size_bytes: int, max_window_bytes: int
) -> tuple[tuple[int, int, int], tuple[int, int] | None]: ...
