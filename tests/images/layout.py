"""Reads an OCI image layout back, by the specification and not by the code that wrote it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of the layout by their name in it."""

    files: dict[str, bytes]

    def blob(self, descriptor: dict[str, Any]) -> bytes:
        """What a descriptor names; its digest and size are compared."""
        algorithm, _, digits = descriptor["digest"].partition(":")
        data = self.files[f"blobs/{algorithm}/{digits}"]
        assert algorithm == "sha256"
        assert hashlib.sha256(data).hexdigest() == digits
        assert len(data) == descriptor["size"]
        return data

    def document(self, descriptor: dict[str, Any]) -> dict[str, Any]:
        """A blob that is JSON."""
        document: dict[str, Any] = json.loads(self.blob(descriptor))
        return document

    @property
    def manifest(self) -> dict[str, Any]:
        """That of the only image."""
        (reference,) = json.loads(self.files["index.json"])["manifests"]
        return self.document(reference)

    @property
    def config(self) -> dict[str, Any]:
        """How the image is run, and what its layers are."""
        return self.document(self.manifest["config"])

    def layers(self) -> list[bytes]:
        """The uncompressed layers, the lowest first."""
        return [gzip.decompress(self.blob(descriptor)) for descriptor in self.manifest["layers"]]

    def entries(self) -> list[tarfile.TarInfo]:
        """Every entry of every layer."""
        found = []
        for layer in self.layers():
            with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
                found += archive.getmembers()
        return found

    def unpack(self, root: Path) -> None:
        """As a container runtime would, owners and modes included."""
        for layer in self.layers():
            command = ["tar", "--extract", "--preserve-permissions", "--numeric-owner", f"--directory={root}"]
            subprocess.run(command, input=layer, check=True)


def read_layout(path: Path) -> Layout:
    """Reads the tar of a layout."""
    with tarfile.open(path) as archive:
        files = {entry.name: archive.extractfile(entry) for entry in archive.getmembers()}
        return Layout({name: file.read() for name, file in files.items() if file is not None})
