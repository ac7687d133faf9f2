"""The upper layers: the locked Python packages, and fluidfs itself."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from images.builder import Builder
from images.contents import DIRECTORY, Contents
from images.debian import remove

PYTHON = "/usr/bin/python3.11"
# Where Debian's Python looks for what Debian did not install.
HOME = "usr/local/lib/python3.11/dist-packages"

_CHECKOUT = DIRECTORY.parent
_SOURCES = ("LICENSE", "README.md", "fluidfs", "pyproject.toml", "setup.py")
_BUILT = shutil.ignore_patterns("__pycache__", "*.so", "*.o")
# Those that come as source and are compiled here; of all others a wheel must exist.
_COMPILED = ("pyfuse3",)
# -P: nothing in the current directory is imported. -s: nor in somebody's home.
_COMMAND = f"""#!{PYTHON} -sP
import sys

from fluidfs.cli import main

sys.exit(main())
"""


def build_dependencies(builder: Builder, contents: Contents, layer: Path, *, epoch_s: int) -> None:
    """Fills `layer` with the packages of requirements.lock. Wheels made from the same locks are used again."""
    locks = [DIRECTORY / name for name in ("build-requirements.lock", "requirements.lock")]
    for lock in locks:
        shutil.copyfile(lock, builder.work / lock.name)
    wheels = builder.work / "wheels"
    stamp = builder.work / "wheels-made-from"
    # Packages of the builder are in it, as an update of a library might change what is compiled against it.
    state = [builder.run("dpkg-query", "--show"), str(epoch_s), *(lock.read_text() for lock in locks)]
    wanted = hashlib.sha256("\0".join(state).encode()).hexdigest()
    if not (stamp.exists() and stamp.read_text() == wanted):
        shutil.rmtree(wheels, ignore_errors=True)
        builder.run(PYTHON, "-m", "venv", "--clear", "/build/venv")
        locked = ("--require-hashes", "--no-deps")
        _pip(builder, "install", *locked, "--only-binary=:all:", "--requirement=/build/build-requirements.lock")
        kinds = ("--only-binary=:all:", *(f"--no-binary={name}" for name in _COMPILED))
        wheel = ("wheel", *locked, *kinds, "--no-build-isolation", "--no-cache-dir", "--wheel-dir=/build/wheels")
        _pip(builder, *wheel, "--requirement=/build/requirements.lock", epoch_s=epoch_s)
        stamp.write_text(wanted)
    _install(builder, contents, layer, sorted(wheels.glob("*.whl")), strip=_COMPILED)


def build_fluidfs(builder: Builder, contents: Contents, layer: Path, *, epoch_s: int) -> None:
    """Fills `layer` with this checkout as it is, and its command."""
    source, wheels = builder.work / "source", builder.work / "own-wheel"
    for directory in (source, wheels):
        shutil.rmtree(directory, ignore_errors=True)
    source.mkdir()
    for name in _SOURCES:
        if (_CHECKOUT / name).is_dir():
            shutil.copytree(_CHECKOUT / name, source / name, ignore=_BUILT)
        else:
            shutil.copyfile(_CHECKOUT / name, source / name)
    offline = ("--no-index", "--no-deps", "--no-build-isolation", "--no-cache-dir")
    _pip(builder, "wheel", *offline, "--wheel-dir=/build/own-wheel", "/build/source", epoch_s=epoch_s)
    _install(builder, contents, layer, sorted(wheels.glob("*.whl")), strip=("fluidfs",))
    command = layer / "usr/local/bin/fluidfs"
    command.parent.mkdir(parents=True)
    command.write_text(_COMMAND)
    command.chmod(0o755)


def compile_sources(builder: Builder, layer: Path) -> None:
    """Adds the compiled form of every module: without it each start would compile all anew, a second of CPU.

    It is marked as never to be compared with its source: times differ in an image, and nothing in it changes.
    """
    inside = f"/{layer.relative_to(builder.root)}"
    paths = ("-s", inside, "-p", "/")
    arguments = ("-q", "--invalidation-mode=unchecked-hash", *paths, inside)
    builder.run(PYTHON, "-m", "compileall", *arguments, environment={"PYTHONHASHSEED": "0"})


def _pip(builder: Builder, *arguments: str, epoch_s: int = 0) -> None:
    environment = {"SOURCE_DATE_EPOCH": str(epoch_s), "PYTHONHASHSEED": "0"}
    # The compiler of the virtual environment's Cython is in its bin.
    environment["PATH"] = "/build/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    builder.run("/build/venv/bin/python", "-m", "pip", "--quiet", *arguments, environment=environment)


def _install(
    builder: Builder, contents: Contents, layer: Path, wheels: Sequence[Path], *, strip: Iterable[str]
) -> None:
    home = layer / HOME
    home.mkdir(parents=True)
    inside = [f"/{path.relative_to(builder.root)}" for path in (home, *wheels)]
    _pip(builder, "install", "--no-index", "--no-deps", "--no-compile", f"--target={inside[0]}", *inside[1:])
    remove(home, contents.drop_python)
    _trim_botocore(home / "botocore" / "data", contents.botocore_keep)
    for name in strip:
        for path in sorted((home / name).rglob("*.so")):
            builder.run("strip", "--strip-unneeded", f"/{path.relative_to(builder.root)}")


def _trim_botocore(data: Path, keep: Sequence[str]) -> None:
    if data.is_dir():
        kept = {path for pattern in keep for path in data.glob(pattern)}
        remove(data, sorted(path.name for path in data.iterdir() if path not in kept))
