"""The real data of the demonstration, and its way into a bucket.

Three kinds, as people have them: many small files (the Python standard library), one large file that does not
compress, and a model's weights written by the safetensors library.
"""

from __future__ import annotations

import hashlib
import os
import random
import sysconfig
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from boto3.s3.transfer import TransferConfig

from fluidfs.errors import EnvironmentLacking

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CHUNK_BYTES = 8 * 1024 * 1024
# boto3 works under the GIL; more threads than this did not make the upload faster.
UPLOADERS = 4
# Sixteen layers of this shape in float32 are 64 MiB.
WEIGHT_LAYERS = 16
WEIGHT_SHAPE = (1024, 1024)


class Kind(StrEnum):
    """What a file of the data set stands for."""

    SMALL = "small files"
    LARGE = "one large file"
    WEIGHTS = "model weights"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file on this machine, the key that it gets in the bucket, and the SHA-256 of its content."""

    kind: Kind
    key: str
    path: Path
    size_bytes: int
    sha256: str


def prepare(directory: Path, *, large_bytes: int) -> tuple[SourceFile, ...]:
    """Writes the generated files below `directory` and returns them together with the standard library's."""
    large = directory / "large.bin"
    weights = directory / "weights.safetensors"
    write_incompressible(large, size_bytes=large_bytes)
    write_weights(weights)
    root = Path(sysconfig.get_path("stdlib"))
    small = (_described(Kind.SMALL, f"python/{path.relative_to(root)}", path) for path in standard_library(root))
    return (
        _described(Kind.LARGE, "large/large.bin", large),
        _described(Kind.WEIGHTS, "weights/weights.safetensors", weights),
        *small,
    )


def standard_library(root: Path) -> Iterator[Path]:
    """The files of the Python standard library at `root`, without what was installed or compiled into it."""
    for folder, names, files in os.walk(root):
        names[:] = sorted(name for name in names if name not in {"site-packages", "dist-packages", "__pycache__"})
        for name in sorted(files):
            path = Path(folder, name)
            # Debian links a file of the administrator's into the tree, which may be missing or unreadable.
            if path.is_file() and os.access(path, os.R_OK):
                yield path


def write_incompressible(path: Path, *, size_bytes: int, seed: int = 1) -> None:
    """Fills `path` with bytes that are the same for every run and that no server can compress."""
    source = random.Random(seed)
    with path.open("wb") as file:
        for start in range(0, size_bytes, CHUNK_BYTES):
            file.write(source.randbytes(min(CHUNK_BYTES, size_bytes - start)))


def write_weights(path: Path) -> None:
    """Writes a safetensors file of `WEIGHT_LAYERS` float32 matrices; EnvironmentLacking without the library."""
    try:
        import numpy
        from safetensors.numpy import save_file
    except ImportError as error:
        raise EnvironmentLacking("the safetensors library is not installed: pip install 'fluidfs[demo]'") from error
    generator = numpy.random.default_rng(1)
    layers = {
        f"layer.{number}.weight": generator.standard_normal(WEIGHT_SHAPE, dtype=numpy.float32)
        for number in range(WEIGHT_LAYERS)
    }
    save_file(layers, path)


def upload(client: S3Client, bucket: str, files: Sequence[SourceFile]) -> None:
    """Puts all files into `bucket`, large ones in parallel parts. Raises what boto3 raises."""
    transfer = TransferConfig(multipart_threshold=2 * CHUNK_BYTES, multipart_chunksize=CHUNK_BYTES)
    with ThreadPoolExecutor(UPLOADERS) as pool:
        uploads = [pool.submit(client.upload_file, str(file.path), bucket, file.key, Config=transfer) for file in files]
        for upload in uploads:
            upload.result()


def _described(kind: Kind, key: str, path: Path) -> SourceFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return SourceFile(kind, key, path, os.fstat(file.fileno()).st_size, digest.hexdigest())
