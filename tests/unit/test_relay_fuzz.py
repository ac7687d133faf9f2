"""The relay stays right whatever the kernel's side, pyfuse3 and Python send it, and whatever memory and disks do.

The programs are C, of tests/native, with the relay's sources compiled in: once with AddressSanitizer and
UndefinedBehaviorSanitizer, once with ThreadSanitizer. FLUIDFS_FUZZ_EXECUTIONS says how much is fed in; without it, so
much that it takes less than half a minute. FLUIDFS_FUZZ_SEED is where the sequence begins.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "fluidfs" / "_native"
PROGRAMS = ROOT / "tests" / "native"
RELAY = ("relay_*.c", "parking*.c", "handles.c", "fuse_init.c", "read_window.c")
BELOW = ("name_*.c", "listing.c", "content.c", "content_read.c", "slab.c", "object_*.c", "map_guard.c")
AROUND = ("relay_faults.c", "relay_rig.c", "relay_world.c", "relay_kernel*.c")
# Calls that the programs let fail, or take for themselves: relay_faults.h.
WRAPPED = ("malloc", "calloc", "realloc", "aligned_alloc", "preadv2", "write", "pthread_create", "ioctl")
FLAGS = "-std=c11 -D_GNU_SOURCE -pthread -O1 -g -fno-omit-frame-pointer -Wall -Wextra -Wshadow -Werror"

EXECUTIONS = int(os.environ.get("FLUIDFS_FUZZ_EXECUTIONS", "100000"))
SEED = int(os.environ.get("FLUIDFS_FUZZ_SEED", "1"))
# Processes at once; each has some threads, which mostly wait for each other.
AT_ONCE = 2

# Those of tests/native/relay_cases.h, and what each shows.
CASES = {
    "start_fails": "a relay that cannot start leaves the device to its caller",
    "end_is_told": "the end of the connection is told, though asks are drained after it",
    "notice_is_held_up": "a notification that the kernel holds up does not hold up the end",
    "disk_hangs": "a disk that hangs keeps a thread, but not the mount",
    "workers_take_no_signals": "workers take no signals of the process",
    "facts_while_stopping": "facts may be asked for while it is stopped",
    "retried_while_asked": "a request tried again while it is asked about is asked about once",
    "wrong_kind": "an answer to another question is an error",
    "wrong_errno": "an error that the kernel would not take becomes EIO",
    "old_kernels": "kernels that are too old are refused, and a mount is agreed on once",
    "pair_ends": "what pyfuse3 had is answered when it ends",
    "pair_says_nothing": "what pyfuse3 does not answer in time is given up",
    "pair_guesses": "pyfuse3 answers only what was passed on to it",
    "detached_while_opened": "what Python just brought is not detached before it is opened",
    "rewound": "what the kernel kept of two listings is not kept on",
    "not_passed_through": "a file that cannot be registered is read through the relay",
    "given_up": "a request that waits too long is given up",
    "killed": "a request is given up for its requester's death, but not for a signal",
    "answers_are_lost": "what the kernel never got is neither counted nor open",
}


def environment() -> dict[str, str]:
    # A preloaded library, as of a sanitized interpreter, must not meet the program's own.
    kept = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    # SIGBUS is the map guard's, which the cache's files need.
    asan = "detect_leaks=1:handle_sigbus=0:detect_stack_use_after_return=1"
    tsan = "halt_on_error=1:second_deadlock_stack=1:handle_sigbus=0"
    return {**kept, "ASAN_OPTIONS": asan, "TSAN_OPTIONS": tsan, "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1"}


@dataclass(frozen=True, slots=True)
class Built:
    """Programs with one sanitizer; `speed` is how fast they are beside the others."""

    directory: Path
    speed: float

    def run(self, program: str, directory: Path, *arguments: str) -> str:
        """What it prints; the test fails when it does. The directory is made anew."""
        directory.mkdir()
        command = [str(self.directory / program), str(directory), *arguments]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, errors="replace")
        assert done.returncode == 0, done.stderr[-10000:]
        return done.stdout

    def run_at_once(self, directory: Path, mode: str, executions: int) -> int:
        """Runs the fuzzer in several processes; how many executions there were."""
        each = max(1, int(executions * self.speed) // AT_ONCE)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            # So far apart that no two come to the same seed.
            seeds = [str(SEED + (number << 32)) for number in range(AT_ONCE)]
            runs = [pool.submit(self.run, "fuzz_relay", directory / seed, mode, str(each), seed) for seed in seeds]
            printed = [run.result() for run in runs]
        print(*printed, sep="", end="")
        return sum(int(line.split()[1]) for line in printed)


def sources(directory: Path, patterns: Sequence[str]) -> list[Path]:
    return sorted(path for pattern in patterns for path in directory.glob(pattern))


def build(directory: Path, sanitizer: str) -> None:
    flags = [*FLAGS.split(), f"-fsanitize={sanitizer}", f"-I{NATIVE}", f"-I{PROGRAMS}"]
    if sanitizer != "thread":
        flags.append("-fno-sanitize-recover=all")
    wraps = "-Wl," + ",".join(f"--wrap={name}" for name in WRAPPED)
    compiler = os.environ.get("CC", "cc")

    def compile_one(source: Path) -> str:
        made = directory / f"{source.parent.name}_{source.stem}.o"
        subprocess.run([compiler, *flags, "-c", str(source), "-o", str(made)], check=True)
        return str(made)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        shared = list(
            pool.map(compile_one, sources(NATIVE, (*RELAY, *BELOW)) + sources(PROGRAMS, AROUND)),
        )
        for program, patterns in (("fuzz_relay", ("fuzz_*.c",)), ("relay_cases", ("relay_case*.c",))):
            own = list(pool.map(compile_one, sources(PROGRAMS, patterns)))
            linked = [compiler, *flags, *shared, *own, wraps, "-o", str(directory / program)]
            subprocess.run(linked, check=True)


@pytest.fixture(scope="module", params=["address,undefined", "thread"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Built:
    directory = tmp_path_factory.mktemp("relay")
    build(directory, request.param)
    return Built(directory, speed=0.4 if request.param == "thread" else 1.0)


@pytest.mark.parametrize("case", CASES, ids=CASES.values())
def test_it_holds_that(built: Built, tmp_path: Path, case: str) -> None:
    built.run("relay_cases", tmp_path / "files", case)


def test_sane_clients_at_once_get_what_the_files_hold_and_leave_nothing_behind(built: Built, tmp_path: Path) -> None:
    assert built.run_at_once(tmp_path, "clients", EXECUTIONS // 4) >= int(EXECUTIONS // 4 * built.speed) - AT_ONCE


def test_malformed_messages_from_all_sides_break_nothing(built: Built, tmp_path: Path) -> None:
    assert built.run_at_once(tmp_path, "fuzz", EXECUTIONS) >= int(EXECUTIONS * built.speed) - AT_ONCE
