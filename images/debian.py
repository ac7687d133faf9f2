"""The lowest layer: what contents.toml keeps of Debian's packages, and the few files that installing would make."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from images.builder import Builder, quietly
from images.contents import Contents

# Debian 12 has one /usr; older package archives still name these.
_MERGED = ("bin", "lib", "lib64", "sbin")
_DIRECTORIES = (
    "dev",
    "etc",
    "mnt",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
    "usr/bin",
    "usr/lib",
    "usr/lib64",
    "usr/sbin",
    "var/cache",
)
# Everybody may make a directory here: the user of a container is not known beforehand.
_OPEN_TO_ALL = ("tmp", "var/cache")
_FILES = {
    "etc/passwd": "root:x:0:0::/root:/usr/sbin/nologin\nnobody:x:65534:65534::/nonexistent:/usr/sbin/nologin\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nprotocols: files\nservices: files\n",
}
_AUTHORITIES = "etc/ssl/certs/ca-certificates.crt"
_NEEDED = re.compile(r"\(NEEDED\)\s+Shared library: \[(.+)\]")


def build_debian(builder: Builder, contents: Contents, layer: Path) -> None:
    """Fills the empty directory `layer`. The packages' versions are those of the builder's Debian."""
    archives = builder.work / "archives"
    shutil.rmtree(archives, ignore_errors=True)
    archives.mkdir()
    sandbox = ("-o", "APT::Sandbox::User=root")
    builder.run("apt-get", "--quiet", *sandbox, "download", *contents.packages, directory="/build/archives")

    for directory in _DIRECTORIES:
        (layer / directory).mkdir(parents=True, exist_ok=True)
    for name in _MERGED:
        (layer / name).symlink_to(f"usr/{name}")
    for name, keep in contents.packages.items():
        unpacked = builder.work / "unpacked" / name
        shutil.rmtree(unpacked, ignore_errors=True)
        unpacked.mkdir(parents=True)
        # A colon of the version's epoch is written %3a in the name.
        (archive,) = archives.glob(f"{name}_*.deb")
        quietly(["dpkg-deb", "--extract", str(archive), str(unpacked)])
        _keep(unpacked, (*keep, f"usr/share/doc/{name}"), layer)
        _record(name, archive, layer)
        shutil.rmtree(unpacked)
    for pattern in contents.drop:
        _named(layer, pattern)
    remove(layer, contents.drop)
    for path in (layer / "usr/share/doc").glob("*/*"):
        if path.name != "copyright":
            remove(path.parent, [path.name])
    _add_files(layer, contents)


def _keep(unpacked: Path, patterns: Sequence[str], layer: Path) -> None:
    """Copies what the patterns name."""
    for path in (path for pattern in patterns for path in _named(unpacked, pattern)):
        relative = path.relative_to(unpacked)
        target = layer / ("usr" if relative.parts[0] in _MERGED else "") / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, target, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copy2(path, target, follow_symlinks=False)


def _named(root: Path, pattern: str) -> Sequence[Path]:
    """What a pattern of contents.toml names; one that names nothing is a mistake, or was left behind by an update."""
    # A link whose target comes with another package is not seen by glob.
    found = [root / pattern] if (root / pattern).is_symlink() else sorted(root.glob(pattern))
    if not found:
        sys.exit(f"image: contents.toml names {pattern}, and there is no such thing in {root.name}")
    return found


def _record(name: str, archive: Path, layer: Path) -> None:
    """Says which package and version is there, where scanners of images without dpkg look for it."""
    target = layer / "var/lib/dpkg/status.d" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    control = quietly(["dpkg-deb", "--field", str(archive)])
    target.write_text(control.replace("\n", "\nStatus: install ok installed\n", 1))


def _add_files(layer: Path, contents: Contents) -> None:
    for name, text in _FILES.items():
        (layer / name).write_text(text)
    mozilla = layer / "usr/share/ca-certificates"
    bundle = layer / _AUTHORITIES
    bundle.parent.mkdir(parents=True)
    bundle.write_text("".join(path.read_text() for path in sorted(mozilla.rglob("*.crt"))))
    shutil.rmtree(mozilla)
    # fusermount3 does not unmount without it.
    (layer / "etc/mtab").symlink_to("../proc/self/mounts")
    # Where OpenSSL looks when nobody says where.
    (layer / "usr/lib/ssl").mkdir()
    (layer / "usr/lib/ssl/cert.pem").symlink_to(f"/{_AUTHORITIES}")
    (layer / "usr/lib/ssl/certs").symlink_to("/etc/ssl/certs")
    for name in _OPEN_TO_ALL:
        (layer / name).chmod(0o1777)
    for name in contents.setuid:
        # Debian's package sets it when it is installed, too.
        (layer / name).chmod(0o4755)


def remove(root: Path, patterns: Iterable[str]) -> None:
    """Removes what the patterns name below `root`."""
    for pattern in patterns:
        for path in sorted(root.glob(pattern)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.is_symlink() or path.exists():
                path.unlink()


def missing_libraries(builder: Builder, layers: Sequence[Path]) -> set[str]:
    """The shared libraries that a program or library in the layers links to, and that none of them has."""
    elves = [path for layer in layers for path in layer.rglob("*") if _is_elf(path)]
    inside = [f"/{path.relative_to(builder.root)}" for path in elves]
    needed = set(_NEEDED.findall(builder.run("readelf", "--dynamic", "--wide", *inside)))
    present = {path.name for layer in layers for path in layer.rglob("*.so*")}
    return needed - present


def _is_elf(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"
