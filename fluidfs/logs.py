"""The log: one line an event, key=value or JSON, and never a secret.

    log = logging.getLogger(__name__)
    log.warning("level failed", extra={"path": path, "errno": 5})

prints `2026-01-31T12:00:00.123Z WARNING fluidfs.cache "level failed" path=/ssd/cache errno=5`. The message is a
constant that can be searched for; what varies goes in `extra`.
"""

from __future__ import annotations

import json
import logging
import re
import time
from typing import TextIO

# These libraries put signed headers and presigned URLs into their debug lines, and nothing of use to our reader.
_LOUD_LIBRARIES = ("boto3", "botocore", "urllib3", "s3transfer")

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SECRET_NAME = re.compile(
    r"secret|token|passw|authorization|credential|signature|sse_?c|customer[-_]?key", re.IGNORECASE
)
_HIDDEN = "***"

# What a secret looks like inside a longer text: a presigned URL's query, a header, a URL's user part, a key of ~/.aws.
_SECRET_TEXT = (
    re.compile(r"(?i)((?:x-amz-(?:signature|credential|security-token)|awsaccesskeyid|signature)=)[^&\s\"']+"),
    re.compile(
        r"(?i)((?:authorization|x-amz-security-token|x-amz-server-side-encryption-customer-key)\"?'?\s*[:=]\s*)[^\r\n]+"
    ),
    re.compile(r"(?i)((?:aws_secret_access_key|aws_session_token|secret_key|password)\"?'?\s*[:=]\s*)\S+"),
    re.compile(r"(?i)(https?://)[^/\s:@]+:[^/\s@]+@"),
)
_PLAIN = re.compile(r"[\w./:@%+,\-\[\]]+")


def configure(*, level: str, as_json: bool, stream: TextIO) -> None:
    """Sends the records of fluidfs and of its libraries to `stream`, in place of whatever handled them before.

    `level` is debug, info, warning or error. Warnings of Python itself are logged too.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if as_json else KeyValueLines())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _LOUD_LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)


def without_secrets(text: str) -> str:
    """`text` with what looks like a credential or a signature replaced by `***`."""
    for pattern in _SECRET_TEXT:
        text = pattern.sub(lambda match: f"{match[1]}{_HIDDEN}", text)
    return text


class KeyValueLines(logging.Formatter):
    """`TIME LEVEL LOGGER "message" key=value …`; values are quoted as JSON where they are not plain words."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, whatever the message and the values hold."""
        message = without_secrets(record.getMessage())
        words = [_time(record), record.levelname, record.name, _quoted(message, always=" " in message)]
        words += (f"{name}={_quoted(value)}" for name, value in _values(self, record).items())
        return " ".join(words)


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and the record's own keys."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of ASCII."""
        head = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": without_secrets(record.getMessage()),
        }
        # An `extra` of the same name must not take the place of what the line is known by.
        return json.dumps(head | {name: value for name, value in _values(self, record).items() if name not in head})


def _values(formatter: logging.Formatter, record: logging.LogRecord) -> dict[str, str | int | float | bool | None]:
    """What `extra` brought, and the traceback, secrets taken out."""
    values: dict[str, str | int | float | bool | None] = {}
    for name, value in vars(record).items():
        if name in _STANDARD or name.startswith("_"):
            continue
        if _SECRET_NAME.search(name):
            values[name] = _HIDDEN
        elif value is None or isinstance(value, int | float):
            values[name] = value
        else:
            values[name] = without_secrets(str(value))
    if record.exc_info:
        values["traceback"] = without_secrets(formatter.formatException(record.exc_info))
    return values


def _time(record: logging.LogRecord) -> str:
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03}Z"


def _quoted(value: object, *, always: bool = False) -> str:
    text = json.dumps(value) if value is None or isinstance(value, bool) else str(value)
    return text if not always and _PLAIN.fullmatch(text) else json.dumps(text)
