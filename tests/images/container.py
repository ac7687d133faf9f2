"""Runs programs of the unpacked image: in namespaces, on a read-only root, with nothing of the host but /dev/fuse."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

NOBODY = 65534

# Pods that pass the strictest checks have a read-only root file system too. `suid` because /tmp may forbid it.
# The first process of the namespace is the command: when it ends, what it started and mounted ends too.
_ENTER = """
set -eu
root=$1 uid=$2 lent=$3
shift 3
mount --bind "$root" "$root"
mount -o remount,bind,ro,suid,dev,exec "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in fuse null zero urandom; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
for directory in run tmp var/cache mnt; do
    mount -t tmpfs -o mode=1777 tmpfs "$root/$directory"
done
mkdir "$root/mnt/source" "$root/mnt/mounted"
mount --bind "$lent" "$root/mnt/source"
chown "$uid:$uid" "$root/mnt/mounted"
exec env -i "$@"
"""


@dataclass(frozen=True, slots=True)
class Container:
    """The image's files at `root`, run with the environment that its configuration says."""

    root: Path
    environment: dict[str, str]

    def run(
        self, *command: str, uid: int, lent: Path, extra: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end, in text. `lent` is what it sees at /mnt/source; it may mount at /mnt/mounted."""
        namespaces = ["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child"]
        variables = [f"{name}={value}" for name, value in {**self.environment, **(extra or {})}.items()]
        change_root = ["/usr/sbin/chroot", f"--userspec={uid}:{uid}", "--groups=", str(self.root)]
        entering = ["sh", "-c", _ENTER, "enter", str(self.root), str(uid), str(lent), *variables, *change_root]
        return subprocess.run(
            [*namespaces, *entering, *command],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
