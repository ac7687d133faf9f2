"""The parsers that a hostile server reaches first stay within their memory, whatever they are fed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "fluidfs" / "_native"
PARSERS = ("http_response.c", "http_chunked.c", "http_answer.c", "s3_error.c", "source.c")


def test_mangled_answers_are_parsed_within_bounds(tmp_path: Path) -> None:
    program = tmp_path / "mangled_answers"
    flags = "-std=c11 -D_GNU_SOURCE -O1 -g -Wall -Wextra -Werror -fsanitize=address,undefined -fno-sanitize-recover=all"
    subprocess.run(
        [
            os.environ.get("CC", "cc"),
            *flags.split(),
            f"-I{NATIVE}",
            str(ROOT / "tests" / "native" / "mangled_answers.c"),
            *(str(NATIVE / parser) for parser in PARSERS),
            "-o",
            str(program),
        ],
        check=True,
    )
    # A preloaded library, as of a sanitized interpreter, must not meet this program's own.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    run = subprocess.run([program, "200000"], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
