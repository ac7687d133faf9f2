"""The rounds of a warm run: each step for all its rows in turn, so that what is compared is measured within seconds."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.clients.base import BenchError, MountedClient
from benchmarks.clients.fluidfs import Fluidfs, Requests, difference, requests_of
from benchmarks.metric import Results
from benchmarks.processes import wait_until_idle
from benchmarks.reading import drop_caches
from benchmarks.warm.points import JUDGED
from benchmarks.warm.steps import Step, repeated

# A measurement that took longer, and on which no point depends, is not repeated.
SLOW_S = 4.0
# Clients hear of every name that the kernel forgets; that is over before the next is measured.
FORGET_TIMEOUT_S = 5.0

# What may go wrong with one client, or one step of it, and stops nothing else.
FAULTS = (BenchError, OSError, ValueError, subprocess.SubprocessError)


class Rounds:
    """Measures mounted, filled clients. `broken` has the reasons of those that cannot be measured.

    `results` has the figures by client and round. Of our mounts `data_planes` has what each said last of its own, and
    `requests` what it was asked by the kernel in each round, of those that count it.
    """

    def __init__(self, clients: Sequence[MountedClient], broken: Mapping[str, str]) -> None:
        self.results: dict[str, list[Results]] = {client.name: [] for client in clients}
        self.data_planes: dict[str, dict[str, Any]] = {}
        self.requests: dict[str, list[Requests]] = {}
        self._clients = clients
        self._broken = broken
        self._seconds: dict[tuple[str, str], float] = {}

    def measure(self, plan: Iterable[Step], *, count_requests: bool) -> None:
        """One round."""
        number = min(len(rounds) for rounds in self.results.values())
        for rounds in self.results.values():
            rounds.append({})
        counted = [client for client in self._clients if isinstance(client, Fluidfs)] if count_requests else []
        before = {client.name: self._requests_of(client) for client in counted}
        for step in plan:
            self._step(step, number)
        for client in counted:
            self._count(client, before[client.name], self._requests_of(client))

    def _step(self, step: Step, number: int) -> None:
        rows = [client for client in self._clients if client.name in step.rows]
        # Neighbours stay neighbours; whoever comes first in one round comes last in the next.
        turn = number % max(len(rows), 1)
        rows = [*rows[turn:], *rows[:turn]][:: 1 if number % 2 == 0 else -1]
        if step.empties == "names":
            drop_caches(names=True)
            pids = [pid for client in self._clients for pid in client.processes()]
            wait_until_idle(pids, timeout_s=FORGET_TIMEOUT_S)
        for client in rows:
            results = self.results[client.name][-1]
            if client.name in self._broken:
                results.update(dict.fromkeys(step.keys, self._broken[client.name]))
            elif not self._is_done(step, client, number):
                try:
                    results.update(self._measure(step, client))
                except FAULTS as error:
                    results.update(dict.fromkeys(step.keys, f"{type(error).__name__}: {error}"))

    def _measure(self, step: Step, client: MountedClient) -> Results:
        if step.empties == "pages":
            drop_caches()
        started = time.monotonic()
        first = step.measure(client)
        seconds = time.monotonic() - started
        self._seconds[client.name, step.keys[0]] = seconds
        return repeated(step, client, seconds_of_first=seconds, first=first)

    def _is_done(self, step: Step, client: MountedClient, number: int) -> bool:
        slow = self._seconds.get((client.name, step.keys[0]), 0.0) > SLOW_S
        return slow and number > 0 and not any((key, client.name) in JUDGED for key in step.keys)

    def _requests_of(self, client: Fluidfs) -> Requests | str:
        if client.name in self._broken:
            return self._broken[client.name]
        try:
            self.data_planes[client.name] = client.data_plane()
            return requests_of(self.data_planes[client.name])
        except FAULTS as error:
            return f"{type(error).__name__}: {error}"

    def _count(self, client: Fluidfs, before: Requests | str, after: Requests | str) -> None:
        results = self.results[client.name][-1]
        if isinstance(before, str) or isinstance(after, str):
            results["python_reads"] = before if isinstance(before, str) else str(after)
            return
        counts = difference(before, after)
        self.requests.setdefault(client.name, []).append(counts)
        _, python = counts.get("READ", (0, 0))
        results["python_reads"] = float(python)
