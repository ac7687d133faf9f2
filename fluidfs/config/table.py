"""The table of mount options, from which flags, `-o` names, environment variables and keys of the configuration file
come.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fluidfs.config import parsers
from fluidfs.config.values import FUSE_FEATURES

STORE = "Object store"
NAMES = "Names and permissions"
CACHE = "Cache"
FETCHING = "Fetching"
RUNNING = "Daemon and logs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One row: how an option is called and read, and which field of MountOptions it fills.

    `value` is what stands for the value in help texts; None makes the option a switch. A `path` is made absolute.
    `s3_only` options mean nothing to other sources.
    """

    name: str
    field: str
    group: str
    help: str
    parse: Callable[[str], Any]
    value: str | None
    default: str = ""
    repeatable: bool = False
    path: bool = False
    s3_only: bool = False
    letter: str = ""

    @property
    def flag(self) -> str:
        """The long flag."""
        return f"--{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"FLUIDFS_{self.name.upper().replace('-', '_')}"


def _switch(name: str, group: str, help: str, *, field: str = "", s3_only: bool = False, letter: str = "") -> Option:
    field = field or name.replace("-", "_")
    return Option(
        name=name, field=field, group=group, help=help, parse=parsers.switch, value=None, s3_only=s3_only, letter=letter
    )


def _store(
    name: str, value: str, parse: Callable[[str], Any], help: str, *, field: str = "", path: bool = False
) -> Option:
    field = field or name.replace("-", "_")
    return Option(name=name, field=field, group=STORE, help=help, parse=parse, value=value, path=path, s3_only=True)


OPTIONS: tuple[Option, ...] = (
    _store("endpoint-url", "URL", parsers.endpoint, "the S3 service (default: the AWS endpoint of the region)"),
    _store("region", "NAME", parsers.plain, "region of the bucket (default: as boto3 finds it)"),
    _store("profile", "NAME", parsers.plain, "profile of ~/.aws/config and ~/.aws/credentials"),
    _switch(
        "anonymous", STORE, "send unsigned requests; credentials otherwise come from where boto3 looks", s3_only=True
    ),
    _switch("path-style", STORE, "address the bucket as HOST/BUCKET", s3_only=True),
    _switch("virtual-style", STORE, "address the bucket as BUCKET.HOST", s3_only=True),
    _store("ca-bundle", "FILE", parsers.plain, "certificates to trust, PEM (default: the system's)", path=True),
    _store("proxy", "URL", parsers.proxy, "HTTP proxy for all requests, http://HOST:PORT"),
    _store(
        "sse-c",
        "FILE",
        parsers.plain,
        "the 32-byte key that the objects are encrypted with",
        field="sse_c_key_file",
        path=True,
    ),
    _switch("request-payer", STORE, "pay for requests to a requester-pays bucket", s3_only=True),
    _switch("read-only", NAMES, "refuse writes; always so in this version"),
    _switch("allow-other", NAMES, "let other users in (needs user_allow_other in /etc/fuse.conf)"),
    Option(
        name="uid",
        field="uid",
        group=NAMES,
        value="N",
        parse=parsers.identity,
        default="yours",
        help="owner of all files",
    ),
    Option(
        name="gid",
        field="gid",
        group=NAMES,
        value="N",
        parse=parsers.identity,
        default="yours",
        help="group of all files",
    ),
    Option(
        name="file-mode",
        field="file_mode",
        group=NAMES,
        value="OCTAL",
        parse=parsers.mode,
        default="0444",
        help="mode of files",
    ),
    Option(
        name="dir-mode",
        field="dir_mode",
        group=NAMES,
        value="OCTAL",
        parse=parsers.mode,
        default="0555",
        help="mode of directories",
    ),
    Option(
        name="metadata-ttl",
        field="metadata_ttl_s",
        group=NAMES,
        value="TIME",
        parse=parsers.duration,
        default="60s",
        help="how long names, sizes and missing names are believed without asking the store",
    ),
    Option(
        name="cache",
        field="cache",
        group=CACHE,
        value="PATH[:QUOTA[:MEM|SSD|HDD]]",
        parse=parsers.level,
        default="$XDG_CACHE_HOME/fluidfs, 10 % of its disk",
        repeatable=True,
        path=True,
        help="a directory to cache in; repeat for more levels, the fastest first",
    ),
    Option(
        name="block-size",
        field="block_size",
        group=CACHE,
        value="SIZE",
        parse=parsers.block_size,
        default="4M",
        help="unit of caching and of checksums, a power of two",
    ),
    Option(
        name="verify",
        field="verify",
        group=CACHE,
        value="WHEN",
        parse=parsers.words("first", "always", "never"),
        default="first",
        help="when cached blocks are checked against their checksum: first (use after a start), always, never",
    ),
    Option(
        name="memory",
        field="memory_bytes",
        group=FETCHING,
        value="SIZE",
        parse=parsers.memory,
        default="128M",
        help="bytes in flight from the store, all files together",
    ),
    Option(
        name="streams",
        field="streams",
        group=FETCHING,
        value="N",
        parse=parsers.streams,
        default="adaptive",
        help="connections to the store",
    ),
    Option(
        name="readahead",
        field="readahead_bytes",
        group=FETCHING,
        value="SIZE",
        parse=parsers.size,
        default="64M, at most half of --memory",
        help="how far a sequential reader may be fetched ahead of; 0 fetches what is read",
    ),
    _switch("foreground", RUNNING, "stay in the foreground; Ctrl-C unmounts", letter="f"),
    Option(
        name="log-level",
        field="log_level",
        group=RUNNING,
        value="LEVEL",
        parse=parsers.words("debug", "info", "warning", "error"),
        default="info",
        help="debug, info, warning or error",
    ),
    _switch("log-json", RUNNING, "one JSON object a line instead of key=value"),
    Option(
        name="log-file",
        field="log_file",
        group=RUNNING,
        value="FILE",
        parse=parsers.plain,
        default="beside the control socket; stderr with --foreground",
        path=True,
        help="where the log goes",
    ),
    Option(
        name="metrics",
        field="metrics",
        group=RUNNING,
        value="ADDR:PORT",
        parse=parsers.address,
        help="serve Prometheus metrics over HTTP",
    ),
    Option(
        name="fuse-disable",
        field="fuse_disable",
        group=RUNNING,
        value="FEATURE,…",
        parse=parsers.word_set(*FUSE_FEATURES),
        help=f"do without these, as on an older kernel: {', '.join(FUSE_FEATURES)}; relay is all that is native",
    ),
)

BY_NAME: dict[str, Option] = {option.name: option for option in OPTIONS}
