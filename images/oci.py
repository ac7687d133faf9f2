"""Writes an OCI image layout as one tar, the same bytes for the same contents."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_CONFIG = "application/vnd.oci.image.config.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes and their name."""

    media_type: str
    data: bytes

    @property
    def digest(self) -> str:
        """`sha256:` and 64 digits."""
        return f"sha256:{hashlib.sha256(self.data).hexdigest()}"

    def descriptor(self, **more: object) -> dict[str, object]:
        """How one document refers to another."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.data), **more}


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What the layers do not say. `created` is RFC 3339, or None to leave it out."""

    name: str
    tag: str
    architecture: str
    created: str | None
    config: Mapping[str, object]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Layer:
    """A directory as a layer: `title` is said in the image's history, `tar` are its uncompressed bytes."""

    title: str
    tar: bytes
    blob: Blob


def layer_of(directory: Path, *, title: str, epoch_s: int, setuid: Sequence[str]) -> Layer:
    """Everything belongs to root and is from `epoch_s`; rights beyond the caller's have only the paths in `setuid`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(directory.rglob("*"), key=lambda path: path.relative_to(directory).as_posix()):
            name = path.relative_to(directory).as_posix()
            entry = archive.gettarinfo(path, arcname=name)
            if entry.islnk():
                # Hard links of the building machine's file system mean nothing here.
                entry.type, entry.linkname, entry.size = tarfile.REGTYPE, "", path.stat().st_size
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mtime = epoch_s
            entry.mode = _mode(entry, privileged=name in setuid)
            if entry.isreg():
                with path.open("rb") as file:
                    archive.addfile(entry, file)
            else:
                archive.addfile(entry)
    data = buffer.getvalue()
    return Layer(title, data, Blob(_LAYER, gzip.compress(data, compresslevel=6, mtime=0)))


def _mode(entry: tarfile.TarInfo, *, privileged: bool) -> int:
    """As git has it: executable or not, whatever the building machine's umask; a sticky directory stays one."""
    if entry.issym():
        return 0o777
    if entry.isdir():
        return 0o1777 if entry.mode & 0o1000 else 0o755
    return 0o4755 if privileged else 0o755 if entry.mode & 0o100 else 0o644


def write_image(image: Image, layers: Sequence[Layer], output: Path) -> str:
    """Writes the layout to `output`, which is either whole or as it was. Returns the digest of the manifest."""
    created = {} if image.created is None else {"created": image.created}
    config = _json_blob(
        _CONFIG,
        {
            **created,
            "architecture": image.architecture,
            "os": "linux",
            "config": dict(image.config),
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(layer.tar).hexdigest()}" for layer in layers],
            },
            "history": [{**created, "created_by": layer.title} for layer in layers],
        },
    )
    manifest = _json_blob(
        _MANIFEST,
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": config.descriptor(),
            "layers": [layer.blob.descriptor() for layer in layers],
            "annotations": dict(image.annotations),
        },
    )
    reference = manifest.descriptor(
        platform={"architecture": image.architecture, "os": "linux"},
        annotations={
            "io.containerd.image.name": f"{image.name}:{image.tag}",
            "org.opencontainers.image.ref.name": image.tag,
        },
    )
    index = _json_blob(_INDEX, {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [reference]})
    blobs = {
        blob.digest.removeprefix("sha256:"): blob.data for blob in (config, manifest, *(layer.blob for layer in layers))
    }
    files = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": index.data,
        **{f"blobs/sha256/{name}": blobs[name] for name in sorted(blobs)},
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_name(f".{output.name}.unfinished")
    with tarfile.open(unfinished, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    unfinished.replace(output)
    return manifest.digest


def _json_blob(media_type: str, document: Mapping[str, object]) -> Blob:
    return Blob(media_type, json.dumps(document, sort_keys=True, separators=(",", ":")).encode())
