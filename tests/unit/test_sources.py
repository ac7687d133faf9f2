"""What people may write as SOURCE."""

from __future__ import annotations

import pytest

from fluidfs.errors import UsageError
from fluidfs.store.source import Source, parse_source


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("s3://bucket", Source("s3", "bucket", "")),
        ("s3://bucket/", Source("s3", "bucket", "")),
        ("s3://bucket/a", Source("s3", "bucket", "a/")),
        ("s3://bucket/a/b/", Source("s3", "bucket", "a/b/")),
        ("s3://my.bucket-1/with space/é", Source("s3", "my.bucket-1", "with space/é/")),
        ("s3://bucket/a%20b", Source("s3", "bucket", "a%20b/")),
        ("s3://bucket/a#b", Source("s3", "bucket", "a#b/")),
        ("file:///data", Source("file", "/data", "")),
        ("file:///data/sets/", Source("file", "/data/sets", "")),
        ("file:///", Source("file", "/", "")),
        ("file://localhost/data", Source("file", "/data", "")),
        ("file:///with%20space", Source("file", "/with space", "")),
    ],
)
def test_a_source_is_understood(text: str, source: Source) -> None:
    assert parse_source(text) == source


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("bucket", "use s3://"),
        ("/data", "did you mean file:///data"),
        ("gs://bucket", "gs:// is not supported"),
        ("http://host/dir", "http:// is not supported"),
        ("s3://", "names no bucket"),
        ("s3:///key", "names no bucket"),
        ("s3://ab", "3 to 63"),
        ("s3://" + "a" * 64, "3 to 63"),
        ("s3://Bucket", "lower-case"),
        ("s3://under_score", "lower-case"),
        ("s3://-dash", "at both ends"),
        ("s3://two..dots", "two dots"),
        ("s3://10.0.0.1", "IP address"),
        ("s3://key:secret@bucket", "credentials come from"),
        ("s3://bucket?versionId=1", "query string"),
        ("s3://bucket/a?x", "query string"),
        ("s3://bucket//a", "empty component"),
        ("s3://bucket/a/../b", "'..'"),
        ("file://data", "three slashes"),
        ("file:///a?b", "query string"),
        ("file:///a%00b", "NUL"),
    ],
)
def test_what_is_no_source_is_refused_with_a_line_that_helps(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=r".+") as caught:
        parse_source(text)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_source_prints_as_it_may_be_typed_again() -> None:
    for text in ("s3://bucket/", "s3://bucket/a/b/", "file:///data"):
        assert str(parse_source(text)) == text


def test_an_access_key_in_a_source_is_not_repeated_with_its_secret() -> None:
    with pytest.raises(UsageError) as caught:
        parse_source("s3://AKIA:verysecret@bucket/p")
    assert "verysecret" not in str(caught.value)
