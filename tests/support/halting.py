"""Stops single threads of a process: the Python half of a daemon stands still, its native threads go on.

By ptrace(2), as a debugger does it, so the daemon needs no hook for it. Needs root, or a kernel that lets a user trace
his own processes.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

# <sys/ptrace.h>, <sys/wait.h>
_DETACH, _SEIZE, _INTERRUPT = 17, 0x4206, 0x4207
_WALL = 0x40000000


@contextmanager
def halted(pid: int) -> Iterator[None]:
    """The main thread of the process stands still for as long as the context lasts, wherever it was.

    That thread runs the event loop of a daemon. If it was halted with the interpreter's lock, no Python runs at all.
    The thread of the test that enters must also leave.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    libc.ptrace.restype = ctypes.c_long

    def ask(request: int) -> None:
        if libc.ptrace(request, pid, None, None) != 0:
            pytest.fail(f"ptrace({request:#x}) of process {pid}: {os.strerror(ctypes.get_errno())}")

    ask(_SEIZE)
    try:
        ask(_INTERRUPT)
        os.waitpid(pid, _WALL)
        yield
    finally:
        ask(_DETACH)
