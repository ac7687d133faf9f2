"""The root file system that everything is compiled in: the image's own Debian, with compilers, thrown away after.

It makes the result independent of the machine: libraries and Python that wheels are compiled with are those that the
image has.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

SUITE = "bookworm"

_CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
# How this machine's apt reaches its mirror, and no more of its settings.
_APT_SETTING = re.compile(r"^Acquire::(http|https|Retries|Check-Valid-Until|Check-Date)\b.* \"[^\"]+\";$")
_PASSED_ON = re.compile(
    r"^(PIP_(INDEX_URL|EXTRA_INDEX_URL|TRUSTED_HOST|DEFAULT_TIMEOUT)|(https?|no)_proxy)$", re.IGNORECASE
)


class Builder:
    """A Debian at `root`, in which commands are run as root. `work` in it is the same directory on both sides."""

    __slots__ = ("root",)

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def work(self) -> Path:
        """Seen from inside it is /build."""
        return self.root / "build"

    def make(self, packages: Sequence[str], *, fresh: bool) -> None:
        """Makes it with `packages`, or brings the one that is there up to date."""
        stamp = self.root / "packages"
        wanted = "\n".join((SUITE, *packages, ""))
        if not fresh and stamp.exists() and stamp.read_text() == wanted:
            self._refresh()
            return
        if self.root.exists():
            shutil.rmtree(self.root)
        self.root.parent.mkdir(parents=True, exist_ok=True)
        settings = subprocess.run(
            ["apt-config", "dump"], capture_output=True, text=True, check=True
        ).stdout.splitlines()
        options = [f"--aptopt={line}" for line in settings if _APT_SETTING.match(line)]
        command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=apt", f"--include={','.join(packages)}"]
        # Without a mirror it takes Debian's own, with security updates.
        quietly([*command, *options, SUITE, str(self.root)])
        self.work.mkdir()
        self._refresh()
        stamp.write_text(wanted)

    def run(self, *command: str, environment: Mapping[str, str] | None = None, directory: str = "/") -> str:
        """Runs a command inside, in mount and process namespaces of its own. Returns what it printed."""
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", f"--root={self.root}", "--mount-proc"]
        passed_on = {name: value for name, value in os.environ.items() if _PASSED_ON.match(name)}
        variables = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
            "PIP_CERT": f"/{_CERTIFICATES}",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_ROOT_USER_ACTION": "ignore",
            **passed_on,
            **(environment or {}),
        }
        return quietly([*namespaces, f"--wd={directory}", *command], environment=variables)

    def _refresh(self) -> None:
        self._lend()
        self.run("apt-get", "--quiet", "--quiet", "update")
        self.run("apt-get", "--quiet", "--quiet", "--yes", "upgrade")

    def _lend(self) -> None:
        """Gives it this machine's way to the network: names, authorities, where pip looks. None of it gets further."""
        for name in ("etc/resolv.conf", "etc/hosts", "etc/pip.conf", _CERTIFICATES):
            source = Path("/") / name
            if source.exists():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, self.root / name)


def quietly(command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> str:
    """Runs a command and returns its output. One that fails ends this program, after what it said."""
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        sys.exit(f"image: {command[0]} is missing: apt-get install mmdebstrap util-linux")
    if done.returncode != 0:
        sys.stderr.write(done.stdout[-4000:] + done.stderr[-4000:])
        sys.exit(f"image: failed with status {done.returncode}: {' '.join(command)}")
    return done.stdout
