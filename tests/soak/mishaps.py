"""What may befall a mount, its cache, its store and its machine, each with its cure."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fluidfs.cache.maintenance import evict
from fluidfs.config import LevelSpec
from fluidfs.demo.seaweed import SeaweedServer
from fluidfs.demo.traces import daemons_of, is_mounted, process_state
from tests.support.aborting import abort
from tests.support.accidents import ANY_TIME, COMPARED, Accident
from tests.support.compared import Readers
from tests.support.killing import kill_under, kill_while_mounting
from tests.support.mounts import Mount, wait_until
from tests.support.proxy import CountingProxy, Fault

# A daemon that was told to end has five seconds for what is under way, and some to close.
_END_S = 20.0


@dataclass(slots=True)
class Mishaps:
    """Happen to `readers.mount` one by one, as `rng` has it; after each the mount is there and the store answers."""

    readers: Readers
    cache: Path
    server: SeaweedServer
    proxy: CountingProxy
    scratch: Path
    rng: random.Random
    history: list[str] = field(default_factory=list)

    @property
    def mount(self) -> Mount:
        return self.readers.mount

    def next(self) -> str:
        """Has one happen, and returns its name when it is over; a daemon that nobody ended must still be there."""
        all_of_them: tuple[Callable[[], None], ...] = (
            self.daemon_killed,
            self.daemon_killed_and_cache_damaged,
            self.daemon_killed_while_mounting,
            self.daemon_stopped_for_a_while,
            self.daemon_told_to_end,
            self.unmounted_by_force,
            self.unmounted_lazily,
            self.connection_aborted,
            self.cache_damaged,
            self.cache_evicted,
            self.store_refuses_for_a_while,
            self.store_breaks_connections,
            self.store_stops_for_a_while,
            self.store_restarted,
            self.kernel_drops_what_it_cached,
        )
        mishap = self.rng.choice(all_of_them)
        self.history.append(mishap.__name__)
        mishap()
        self.must_live()
        return self.history[-1]

    def must_live(self) -> None:
        """Fails the test when the daemon ended by itself."""
        ended = [pid for pid in self.mount.daemons if process_state(pid) in ("", "Z", "X")]
        assert not ended, "the daemon ended though nobody told it to"

    def counts(self) -> Counter[str]:
        """How often each mishap happened."""
        return Counter(name.partition(":")[0] for name in self.history)

    def daemon_killed(self) -> None:
        kill_under(self.readers)
        self.mount.start()

    def daemon_killed_and_cache_damaged(self) -> None:
        """Even what would be found out only by comparing: a new daemon compares what it did not see written."""
        kill_under(self.readers)
        self._damage(*ANY_TIME, *COMPARED)
        self.mount.start()

    def daemon_killed_while_mounting(self) -> None:
        kill_under(self.readers)
        kill_while_mounting(self.mount, self.rng.uniform(0.2, 1.5))
        self.mount.start()

    def daemon_stopped_for_a_while(self) -> None:
        (daemon,) = self.mount.daemons
        os.kill(daemon, signal.SIGSTOP)
        time.sleep(self.rng.uniform(0.1, 5.0))
        os.kill(daemon, signal.SIGCONT)

    def daemon_told_to_end(self) -> None:
        for pid in self.mount.daemons:
            os.kill(pid, signal.SIGTERM)
        self._mount_anew()

    def unmounted_by_force(self) -> None:
        subprocess.run(["umount", "-f", self.mount.path], stderr=subprocess.DEVNULL)
        self._mount_anew()

    def unmounted_lazily(self) -> None:
        subprocess.run(["umount", "-l", self.mount.path], check=True)
        self._mount_anew()

    def connection_aborted(self) -> None:
        abort(self.mount.path, self.scratch)
        self._mount_anew()

    def cache_damaged(self) -> None:
        self._damage(*ANY_TIME)

    def cache_evicted(self) -> None:
        evict(LevelSpec(str(self.cache), None, "MEM"), everything=True)

    def store_refuses_for_a_while(self) -> None:
        """At times every request, at times some of them."""
        share, rng = self.rng.choice((0.3, 1.0)), self.rng
        self.proxy.inject(Fault(status=rng.choice((500, 503))), when=lambda request: rng.random() < share)
        time.sleep(self.rng.uniform(0.5, 6.0))
        self.proxy.heal()

    def store_breaks_connections(self) -> None:
        for _ in range(10):
            self.proxy.break_connections()
            time.sleep(self.rng.uniform(0.0, 0.2))

    def store_stops_for_a_while(self) -> None:
        self.server.pause()
        time.sleep(self.rng.uniform(0.5, 12.0))
        self.server.resume()

    def store_restarted(self) -> None:
        self.server.kill()
        self.server.start()

    def kernel_drops_what_it_cached(self) -> None:
        Path("/proc/sys/vm/drop_caches").write_text("3")

    def _damage(self, *accidents: Accident) -> None:
        accident = self.rng.choice(accidents)
        self.history[-1] += f": {accident.__name__}"
        accident(self.cache)

    def _mount_anew(self) -> None:
        path = self.mount.path
        wait_until(lambda: not is_mounted(path), what="it is unmounted", timeout_s=_END_S)
        wait_until(lambda: not daemons_of(path), what="the daemon has ended", timeout_s=_END_S)
        self.mount.start()
