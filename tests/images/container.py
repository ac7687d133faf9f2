"""Runs programs of the unpacked image: in namespaces, on a read-only root, with nothing of the host but /dev/fuse."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NOBODY = 65534

# Pods that pass the strictest checks have a read-only root file system too. `suid` because /tmp may forbid it.
_ENTER = """
set -eu
root=$1 uid=$2 lent=$3; shift 3
mount --bind "$root" "$root"
mount -o remount,bind,ro,suid,dev,exec "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in fuse null zero urandom; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
for directory in run tmp var/cache mnt; do mount -t tmpfs -o mode=1777 tmpfs "$root/$directory"; done
mkdir "$root/mnt/source" "$root/mnt/mounted"
mount --bind "$lent" "$root/mnt/source"
chown "$uid:$uid" "$root/mnt/mounted"
exec chroot --userspec="$uid:$uid" "$root" "$@"
"""


@dataclass(frozen=True, slots=True)
class Container:
    """The image's files at `root`, run with the environment that its configuration says."""

    root: Path
    environment: dict[str, str]

    def run(
        self, *command: str, uid: int, lent: Path, extra: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end, and with it whatever it left running. `lent` is seen at /mnt/source."""
        namespaces = ["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child"]
        outside = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
        entering = ["sh", "-c", _ENTER, "enter", str(self.root), str(uid), str(lent)]
        # The command's variables are set by the command `env` of the host, whose file the image need not have.
        variables = [f"{name}={value}" for name, value in {**self.environment, **(extra or {})}.items()]
        program = self.inside(["/usr/bin/python3.11", "-c", _EXEC, *variables, "--", *command])
        return subprocess.run(
            ["env", "-i", outside, *namespaces, *entering, *program],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command as the image spells it."""
        return list(command)


_EXEC = """
import os, sys
split = sys.argv.index("--")
environment = dict(variable.split("=", 1) for variable in sys.argv[1:split])
command = sys.argv[split + 1:]
os.execvpe(command[0], command, environment)
"""
