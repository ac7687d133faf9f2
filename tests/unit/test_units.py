"""Sizes and durations: what people may write, and that what we write reads back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluidfs.errors import UsageError
from fluidfs.units import exact_duration, exact_size, format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("4096", 4096),
        ("512B", 512),
        ("64M", 64 << 20),
        ("64m", 64 << 20),
        ("64MB", 64 << 20),
        ("1Gi", 1 << 30),
        ("1.5GiB", 3 << 29),
        (" 2 TiB ", 2 << 40),
        (".5K", 512),
        ("1e", 1 << 60),
    ],
)
def test_a_plain_suffix_counts_in_1024s(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "M", "-1M", "1X", "1 000", "1Mi B", "0x10", "1iB", "٣M", "nan", "1e3", "9E"])
def test_a_size_that_cannot_be_meant_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_size(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "duration_s"),
    [
        ("0", 0),
        ("90", 90),
        ("1.5", 1.5),
        ("90s", 90),
        ("5m", 300),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("1d", 86400),
        ("1.5h", 5400),
        ("1m500ms", 60.5),
    ],
)
def test_a_duration_may_have_several_units(text: str, duration_s: float) -> None:
    assert parse_duration(text) == duration_s


@pytest.mark.parametrize("text", ["", "s", "-5s", "30m1h", "5 m", "1y", "inf", "99999999d", "١s"])
def test_a_duration_that_cannot_be_meant_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_duration(text)
    assert repr(text) in str(caught.value)


@given(st.integers(min_value=0, max_value=2**63 - 1))
def test_an_exact_size_reads_back_as_itself(size_bytes: int) -> None:
    assert parse_size(exact_size(size_bytes)) == size_bytes


@given(st.integers(min_value=0, max_value=2**62))
def test_a_size_for_readers_is_short_and_within_one_percent(size_bytes: int) -> None:
    text = format_size(size_bytes)
    assert len(text) <= 7
    assert abs(parse_size(text) - size_bytes) <= size_bytes / 100


@given(st.integers(min_value=0, max_value=10**12))
def test_an_exact_duration_reads_back_as_itself(duration_ms: int) -> None:
    assert parse_duration(exact_duration(duration_ms / 1000)) == duration_ms / 1000


@pytest.mark.parametrize(
    ("duration_s", "text"),
    [
        (0, "0ms"),
        (0.0004, "0.4ms"),
        (0.25, "250ms"),
        (1.23, "1.2s"),
        (42, "42s"),
        (125, "2m05s"),
        (7380, "2h03m"),
        (300_000, "3d11h"),
    ],
)
def test_a_duration_for_readers_has_its_two_largest_units(duration_s: float, text: str) -> None:
    assert format_duration(duration_s) == text
