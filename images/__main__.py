"""Builds the image: the builder, the layers, the layout. As root."""

from __future__ import annotations

import argparse
import datetime
import os
import shutil
import sys
import time
from pathlib import Path

from fluidfs.version import VERSION
from images.builder import Builder
from images.contents import DIRECTORY, read_contents
from images.debian import build_debian, missing_libraries
from images.oci import Image, layer_of, write_image
from images.wheels import build_dependencies, build_fluidfs, compile_sources

_WORK = DIRECTORY.parent / "build" / "image"
_OUTPUT = DIRECTORY.parent / "build" / "fluidfs-image.tar"
# The oldest time that a wheel, being a zip, can hold.
_DEFAULT_EPOCH_S = 315532800
_NOBODY = 65534


def main() -> None:
    """Builds, and says what was built."""
    parser = argparse.ArgumentParser(prog="images/build", description=__doc__)
    parser.add_argument("--output", type=Path, default=_OUTPUT, metavar="FILE", help="default: build/fluidfs-image.tar")
    parser.add_argument("--fresh", action="store_true", help="use nothing of an earlier build")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("image: to be run as root: it makes a Debian in a directory, and enters it")
    begun_s = time.monotonic()
    epoch_s = int(os.environ.get("SOURCE_DATE_EPOCH", _DEFAULT_EPOCH_S))

    contents = read_contents()
    builder = Builder(_WORK / "builder")
    _say("a Debian to build in")
    builder.make(contents.builder_packages, fresh=arguments.fresh)
    shutil.rmtree(builder.work / "layers", ignore_errors=True)
    layers = {name: builder.work / "layers" / name for name in ("debian", "dependencies", "fluidfs")}
    for directory in layers.values():
        directory.mkdir(parents=True)
    _say("Debian's packages")
    build_debian(builder, contents, layers["debian"])
    _say("Python packages")
    build_dependencies(builder, contents, layers["dependencies"], epoch_s=epoch_s)
    _say("fluidfs")
    build_fluidfs(builder, contents, layers["fluidfs"], epoch_s=epoch_s)
    for directory in layers.values():
        compile_sources(builder, directory)
    if missing := missing_libraries(builder, list(layers.values())):
        sys.exit(f"image: libraries that something links to are missing: {', '.join(sorted(missing))}")

    _say("the layout")
    built = [
        layer_of(directory, title=f"images/build: {name}", epoch_s=epoch_s, setuid=contents.setuid)
        for name, directory in layers.items()
    ]
    image = _image(architecture=builder.run("dpkg", "--print-architecture").strip())
    digest = write_image(image, built, arguments.output)
    for name, layer in zip(layers, built, strict=True):
        print(f"{name:<14}{_megabytes(len(layer.tar))} {_megabytes(len(layer.blob.data))} compressed")
    total = sum(len(layer.tar) for layer in built)
    print(f"{'image':<14}{_megabytes(total)} {_megabytes(arguments.output.stat().st_size)} compressed")
    print(f"{arguments.output}: {digest} ({time.monotonic() - begun_s:.0f} s)")


def _image(*, architecture: str) -> Image:
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    created = None if epoch is None else datetime.datetime.fromtimestamp(int(epoch), datetime.UTC).isoformat()
    facts = {
        "org.opencontainers.image.title": "fluidfs",
        "org.opencontainers.image.description": "A bucket as a local disk: a FUSE caching client.",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.version": VERSION,
    }
    config: dict[str, object] = {
        "User": f"{_NOBODY}:{_NOBODY}",
        "Env": ["PATH=/usr/local/bin:/usr/bin", "XDG_CACHE_HOME=/var/cache"],
        "Entrypoint": ["/usr/local/bin/fluidfs"],
        "Cmd": ["--help"],
        "WorkingDir": "/",
        "Labels": facts,
    }
    return Image(
        name="fluidfs", tag=VERSION, architecture=architecture, created=created, config=config, annotations=facts
    )


def _say(what: str) -> None:
    print(f"image: {what}", file=sys.stderr, flush=True)


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:6.1f} MB"


if __name__ == "__main__":
    main()
