"""A mountpoint has one daemon at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fluidfs.control.claim import claimed
from fluidfs.control.place import make_place
from fluidfs.errors import MountpointBusy

_HOLDER = """
import os, sys, time
from fluidfs.control.claim import claimed
from fluidfs.control.place import make_place
with make_place(sys.argv[1], uid=os.geteuid()) as place, claimed(place, "/m"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_claim_on_a_mountpoint_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    with make_place(str(tmp_path / "run"), uid=os.geteuid()) as place:
        with claimed(place, "/m"):
            with pytest.raises(MountpointBusy), claimed(place, "/m"):
                pass
            with claimed(place, "/other"):
                pass
        with claimed(place, "/m"):
            pass
        assert place.names() == []


def test_the_dead_hold_no_claim(tmp_path: Path) -> None:
    directory = str(tmp_path / "run")
    with subprocess.Popen([sys.executable, "-c", _HOLDER, directory], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with make_place(directory, uid=os.geteuid()) as place:
            with pytest.raises(MountpointBusy), claimed(place, "/m"):
                pass
            holder.send_signal(signal.SIGKILL)
            holder.wait()
            with claimed(place, "/m"):
                pass
