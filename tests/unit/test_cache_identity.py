"""What names a version on disk."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fluidfs.cache.identity import MAX_IDENTITY_BYTES, VersionIdentity, decode_identity

# S3 keys are Unicode; keys of a directory may be any bytes, which Python spells with escapes.
TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
    st.binary(max_size=200).map(lambda data: data.decode("utf-8", "surrogateescape")),
)
IDENTITIES = st.builds(VersionIdentity, TEXT, TEXT, TEXT, st.integers(0, (1 << 64) - 1))


@given(IDENTITIES)
def test_an_identity_comes_back_from_its_bytes(identity: VersionIdentity) -> None:
    decoded = decode_identity(identity.encode())
    assert decoded.digest() == identity.digest()
    assert decoded.size == identity.size
    assert decode_identity(decoded.encode()) == decoded


@given(IDENTITIES, IDENTITIES)
def test_other_identities_have_other_digests(one: VersionIdentity, other: VersionIdentity) -> None:
    assume(one.encode() != other.encode())
    assert one.digest() != other.digest()


def test_where_one_part_ends_and_the_next_begins_matters() -> None:
    parts = [("ab", "c", "d"), ("a", "bc", "d"), ("a", "b", "cd"), ("abcd", "", "")]
    assert len({VersionIdentity(*part, 1).digest() for part in parts}) == 4


@given(TEXT, st.integers(0, 6000), st.integers(0, 2000), st.integers(0, 2000))
def test_the_longest_names_fit_the_header_and_can_be_read(key: str, more: int, store: int, version: int) -> None:
    identity = VersionIdentity("s" * store, key + "k" * more, "v" * version, 7)
    encoded = identity.encode()
    assert len(encoded) <= MAX_IDENTITY_BYTES
    decoded = decode_identity(encoded)
    assert identity.key.encode("utf-8", "surrogateescape").startswith(decoded.key.encode("utf-8", "surrogateescape"))
    assert decoded.encode() == encoded


@given(st.binary(max_size=60))
def test_bytes_that_are_no_identity_are_refused_or_read_as_one(data: bytes) -> None:
    try:
        decoded = decode_identity(data)
    except ValueError:
        return
    assert decoded.encode() == data


@pytest.mark.parametrize("data", [b"", bytes(13), b"\1" + bytes(13), b"\0\0\0\0\0\0" + bytes(8) + b"x"])
def test_lengths_that_do_not_add_up_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="identity"):
        decode_identity(data)
