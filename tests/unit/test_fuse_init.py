"""What is agreed with the kernel at INIT: with each generation of kernels, and with everything switched off."""

from __future__ import annotations

import errno
import resource
import struct
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidfs._native.protocol import OFF, Session, negotiate

PAGE = resource.getpagesize()
KIB, MIB = 1 << 10, 1 << 20
MAX_READAHEAD = 128 * KIB

# Bits of include/uapi/linux/fuse.h.
BITS = {
    "ASYNC_READ": 0,
    "POSIX_LOCKS": 1,
    "ATOMIC_O_TRUNC": 3,
    "EXPORT_SUPPORT": 4,
    "BIG_WRITES": 5,
    "DONT_MASK": 6,
    "SPLICE_WRITE": 7,
    "SPLICE_MOVE": 8,
    "SPLICE_READ": 9,
    "FLOCK_LOCKS": 10,
    "AUTO_INVAL_DATA": 12,
    "DO_READDIRPLUS": 13,
    "READDIRPLUS_AUTO": 14,
    "ASYNC_DIO": 15,
    "WRITEBACK_CACHE": 16,
    "NO_OPEN_SUPPORT": 17,
    "PARALLEL_DIROPS": 18,
    "MAX_PAGES": 22,
    "CACHE_SYMLINKS": 23,
    "NO_OPENDIR_SUPPORT": 24,
    "EXPLICIT_INVAL_DATA": 25,
    "INIT_EXT": 30,
    "SECURITY_CTX": 32,
    "PASSTHROUGH": 37,
    "NO_EXPORT_SUPPORT": 38,
    "HAS_RESEND": 39,
    "ALLOW_IDMAP": 40,
    "OVER_IO_URING": 41,
    "REQUEST_TIMEOUT": 42,
}
# In the order in which kernels learned them, by minor version; each offers what the older ones do.
LEARNED = {
    12: ("ASYNC_READ", "POSIX_LOCKS", "ATOMIC_O_TRUNC", "EXPORT_SUPPORT", "BIG_WRITES", "DONT_MASK"),
    14: ("SPLICE_WRITE", "SPLICE_MOVE", "SPLICE_READ", "FLOCK_LOCKS"),
    23: ("AUTO_INVAL_DATA", "DO_READDIRPLUS", "READDIRPLUS_AUTO", "ASYNC_DIO", "WRITEBACK_CACHE", "NO_OPEN_SUPPORT"),
    25: ("PARALLEL_DIROPS",),
    31: ("MAX_PAGES", "CACHE_SYMLINKS", "NO_OPENDIR_SUPPORT", "EXPLICIT_INVAL_DATA"),
    36: ("INIT_EXT", "SECURITY_CTX"),
    40: ("PASSTHROUGH", "NO_EXPORT_SUPPORT", "HAS_RESEND"),
    41: ("ALLOW_IDMAP",),
    42: ("OVER_IO_URING",),
    43: ("REQUEST_TIMEOUT",),
}
NEWEST = 45
WANTED = {
    "ASYNC_READ",
    "BIG_WRITES",
    "PARALLEL_DIROPS",
    "DO_READDIRPLUS",
    "READDIRPLUS_AUTO",
    "MAX_PAGES",
    "INIT_EXT",
    "PASSTHROUGH",
    "HAS_RESEND",
    "ALLOW_IDMAP",
    "REQUEST_TIMEOUT",
}


def bits(names: set[str]) -> int:
    return sum(1 << BITS[name] for name in names)


def names_of(flags: int) -> set[str]:
    found = {name for name, bit in BITS.items() if flags >> bit & 1}
    assert bits(found) == flags
    return found


def offered(minor: int) -> set[str]:
    return {name for since, names in LEARNED.items() if since <= minor for name in names}


def request(minor: int, *, flags: set[str] | None = None, major: int = 7) -> bytes:
    """INIT's body as that kernel sends it."""
    offer = bits(offered(minor) if flags is None else flags)
    short = struct.pack("=IIII", major, minor, MAX_READAHEAD, offer & 0xFFFFFFFF)
    return short if minor < 36 else short + struct.pack("=I44x", offer >> 32)


@dataclass(frozen=True, slots=True)
class Answer:
    """struct fuse_init_out."""

    major: int
    minor: int
    max_readahead: int
    flags: int
    max_background: int
    congestion_threshold: int
    max_write: int
    time_gran: int
    max_pages: int
    map_alignment: int
    flags2: int
    max_stack_depth: int
    request_timeout_s: int

    @property
    def granted(self) -> set[str]:
        return names_of(self.flags | self.flags2 << 32)


def read_answer(raw: bytes) -> Answer:
    assert len(raw) == 64
    assert raw[42:] == bytes(22)  # unused
    return Answer(*struct.unpack("=IIIIHHIIHHIIH", raw[:42]))


def agree(
    minor: int, *off: str, flags: set[str] | None = None, wants_passthrough: bool = True, allow_idmap: bool = True
) -> tuple[Answer, Session]:
    """What is agreed on; fails unless something is."""
    mask = sum(OFF[name] for name in off)
    error, raw, session = negotiate(
        request(minor, flags=flags), off=mask, wants_passthrough=wants_passthrough, allow_idmap=allow_idmap
    )
    assert error == 0
    answer = read_answer(raw)
    # The two never contradict each other.
    assert session.flags == answer.flags | answer.flags2 << 32
    assert (session.minor, session.max_write_bytes) == (answer.minor, answer.max_write)
    assert session.max_background == answer.max_background
    return answer, session


# ---- generations of kernels


@pytest.mark.parametrize("minor", [23, 25, 31, 36, 38, 40, 41, 43, NEWEST])
def test_each_kernel_gets_of_what_we_want_all_that_it_offers_and_nothing_else(minor: int) -> None:
    answer, session = agree(minor)
    assert answer.granted == WANTED & offered(minor)
    assert (answer.major, answer.minor) == (7, min(minor, 43))
    assert (answer.max_background, answer.congestion_threshold) == (64, 48)
    assert (answer.max_readahead, answer.time_gran) == (MAX_READAHEAD, 1)
    assert answer.max_stack_depth == (1 if minor >= 40 else 0)
    assert answer.request_timeout_s == (600 if minor >= 43 else 0)
    assert (answer.max_pages * PAGE, session.max_read_bytes) == ((MIB, MIB) if minor >= 31 else (0, 32 * PAGE))
    assert answer.max_write == min(MIB, session.max_read_bytes)


@pytest.mark.parametrize("minor", [0, 8, 12, 22])
def test_a_kernel_before_linux_3_15_is_refused(minor: int) -> None:
    error, raw, session = negotiate(request(minor))
    assert error == -errno.EPROTO
    assert session == Session(0, 0, 0, 0, 0)
    assert read_answer(raw).granted == set()


@pytest.mark.parametrize("major", [0, 6, 8, 1 << 31])
def test_a_kernel_of_another_major_version_is_told_ours(major: int) -> None:
    error, raw, session = negotiate(request(NEWEST, major=major))
    assert error == -errno.EPROTO
    answer = read_answer(raw)
    assert (answer.major, answer.minor, answer.max_write, answer.granted) == (7, 43, 0, set())
    assert session.flags == 0


def test_a_kernel_newer_than_we_know_is_taken_for_the_one_that_we_know() -> None:
    answer, _ = agree(200, flags=set(BITS))
    assert answer.minor == 43
    assert answer.granted == WANTED


# ---- what the user, or the machine, does without

SWITCHES = {
    "PASSTHROUGH": {"PASSTHROUGH"},
    "MAX_PAGES": {"MAX_PAGES"},
    "PARALLEL_DIROPS": {"PARALLEL_DIROPS"},
    "READDIRPLUS": {"DO_READDIRPLUS", "READDIRPLUS_AUTO"},
    "ASYNC_READ": {"ASYNC_READ"},
    "RESEND": {"HAS_RESEND"},
    "IDMAP": {"ALLOW_IDMAP"},
    "REQUEST_TIMEOUT": {"REQUEST_TIMEOUT"},
}
# Theirs is no flag of INIT.
ELSEWHERE = {"CLONE", "CACHE_DIR", "NO_FLUSH"}


def test_every_switch_is_tested_here() -> None:
    assert set(SWITCHES) | ELSEWHERE == set(OFF)
    assert len(set(OFF.values())) == len(OFF)


@pytest.mark.parametrize("name", SWITCHES)
def test_what_is_switched_off_is_not_granted_and_all_else_is(name: str) -> None:
    answer, _ = agree(NEWEST, name)
    assert answer.granted == WANTED - SWITCHES[name]


@pytest.mark.parametrize("name", sorted(ELSEWHERE))
def test_switches_of_the_relay_change_nothing_here(name: str) -> None:
    assert agree(NEWEST, name) == agree(NEWEST)


def test_without_max_pages_reads_are_the_kernels_own_32_pages() -> None:
    answer, session = agree(NEWEST, "MAX_PAGES")
    assert (answer.max_pages, session.max_read_bytes) == (0, 32 * PAGE)
    assert answer.max_write == session.max_write_bytes == min(MIB, 32 * PAGE)


def test_without_passthrough_there_is_no_stack() -> None:
    for answer, _ in (agree(NEWEST, "PASSTHROUGH"), agree(NEWEST, wants_passthrough=False)):
        assert answer.granted == WANTED - {"PASSTHROUGH"}
        assert answer.max_stack_depth == 0


def test_without_a_request_timeout_none_is_named() -> None:
    assert agree(NEWEST, "REQUEST_TIMEOUT")[0].request_timeout_s == 0


def test_idmapped_mounts_need_the_kernels_own_checks() -> None:
    assert agree(NEWEST, allow_idmap=False)[0].granted == WANTED - {"ALLOW_IDMAP"}


def test_with_everything_switched_off_there_is_still_a_session() -> None:
    answer, session = agree(NEWEST, *OFF)
    assert answer.granted == {"INIT_EXT", "BIG_WRITES"}
    assert session.max_read_bytes == 32 * PAGE


@pytest.mark.parametrize("missing", sorted(WANTED))
def test_what_a_kernel_does_not_offer_is_not_granted(missing: str) -> None:
    answer, _ = agree(NEWEST, flags=offered(NEWEST) - {missing})
    lost = {missing}
    if missing == "DO_READDIRPLUS":  # the other only says when
        lost.add("READDIRPLUS_AUTO")
    if missing == "INIT_EXT":  # without it the upper flags are not looked at
        lost |= {name for name in WANTED if BITS[name] >= 32}
    assert answer.granted == WANTED - lost


# ---- messages that no kernel sends


@pytest.mark.parametrize("minor", [23, 31, 36, NEWEST])
def test_a_message_cut_short_is_refused(minor: int) -> None:
    whole = request(minor)
    needed = 20 if minor >= 36 else 16
    for length in range(needed):
        error, raw, session = negotiate(whole[:length])
        assert error == -errno.EINVAL
        assert (read_answer(raw).granted, session.flags) == (set(), 0)
    for length in range(needed, len(whole) + 1):
        assert negotiate(whole[:length])[0] == 0


def test_a_message_longer_than_we_know_is_read_as_far_as_we_know() -> None:
    assert negotiate(request(NEWEST) + b"\xff" * 64) == negotiate(request(NEWEST))


@given(st.binary(max_size=80), st.integers(0, (1 << 32) - 1), st.booleans(), st.booleans())
def test_no_message_is_answered_with_more_than_it_offers(
    tail: bytes, off: int, wants_passthrough: bool, allow_idmap: bool
) -> None:
    for body in (tail, struct.pack("=II", 7, NEWEST) + tail):
        error, raw, session = negotiate(body, off=off, wants_passthrough=wants_passthrough, allow_idmap=allow_idmap)
        answer = read_answer(raw)
        assert error in (0, -errno.EINVAL, -errno.EPROTO)
        if error != 0:
            assert (answer.granted, session.flags) == (set(), 0)
            continue
        flags, flags2 = struct.unpack_from("=II", body.ljust(20, b"\0"), 12)
        assert session.flags & ~(flags | flags2 << 32) == 0
        assert answer.granted <= WANTED
        assert PAGE <= session.max_write_bytes <= MIB
