from collections.abc import Mapping
from typing import Literal, NamedTuple

from fluidfs._native.contents import Contents
from fluidfs._native.names import NameTable

AskKind = Literal["lookup", "directory", "open", "read", "ahead", "due"]

class Ask(NamedTuple):
    """What the data plane wants to know; `ticket` 0 is a note, which wants no answer.

    lookup: `name` in directory `node` · directory: the listing of `node` · open: the content of `node` ·
    read: `length` bytes at `offset` of `content` (cut at its end), for the `tries`th time · ahead: only what to fetch
    ahead · due: the listing of `node` is in use and should be renewed. `ahead` is (from, to), or None: nothing.
    """

    kind: AskKind
    ticket: int
    node: int
    name: bytes
    content: int
    handle: int
    offset: int
    length: int
    ahead: tuple[int, int] | None
    tries: int

class Session(NamedTuple):
    """What INIT agreed on: the protocol's minor version, the features by name, the largest READ."""

    minor: int
    features: frozenset[str]
    max_read_bytes: int
    max_background: int

class Facts(NamedTuple):
    """Counters since the start; `native` and `python` by the name of the request. `waiting`, `open_files`: now."""

    native: Mapping[str, int]
    python: Mapping[str, int]
    read_requests: int
    read_bytes: int
    read_hit_bytes: int
    read_errors: int
    opens: int
    passthrough_opens: int
    given_up: int
    interrupted: int
    replies_failed: int
    waiting: int
    open_files: int
    clones: int
    backing_errno: int

class Relay:
    """The native data plane of one mount; relay.h has the contracts.

    Answers by ticket never raise for a ticket that was answered already: the watchdog may have been first.
    """

    def __init__(
        self,
        device_fd: int,
        *,
        names: NameTable,
        contents: Contents,
        disabled: frozenset[str],
        passthrough: bool,
        verify: int,
        boot_id: bytes,
        small_max_bytes: int,
        max_window_bytes: int,
        threads: int,
        at_device: int,
        workers: int,
        spin_us: int,
        give_up_s: float,
        silence_s: float,
    ) -> None: ...
    def start(self) -> None:
        """Takes over the device. Raises OSError; then the device is still the caller's."""
    def stop(self) -> bool:
        """Ends it: what waits gets EIO, the device is closed. Blocks some seconds at most; False: a disk hangs."""
    def take_pair(self) -> int:
        """The descriptor for pyfuse3; the caller's to close."""
    def fileno(self) -> int:
        """Readable when there are asks, or the relay ended."""
    @property
    def ended(self) -> bool:
        """The kernel's connection is gone."""
    @property
    def session(self) -> Session: ...
    def facts(self) -> Facts: ...
    def beat(self) -> None:
        """Tells the watchdog that Python lives."""
    def drain(self) -> list[Ask]: ...
    def fail(self, ticket: int, errno: int) -> None: ...
    def missing(self, ticket: int, *, good_for_s: float) -> None: ...
    def found(self, ticket: int, listing: object, index: int, *, good_for_s: float) -> None: ...
    def directory(self, ticket: int, listing: object, *, good_for_s: float) -> None: ...
    def opened(self, ticket: int, content: int) -> None: ...
    def retry(self, ticket: int) -> None: ...
    def give(self, ticket: int, data: bytes) -> None: ...
    def forget_name(self, parent: int, name: bytes) -> None: ...
    def learn(self, node: int, listing: object, *, good_for_s: float, due_in_s: float) -> None:
        """As NameTable.learn, and has the kernel forget the names that changed."""
    def detach_idle(self, *, idle_for_s: float, keep_most: int) -> int: ...

FEATURES: frozenset[str]
"""What `disabled` may name."""
