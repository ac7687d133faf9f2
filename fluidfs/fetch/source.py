"""Where missing bytes come from. One link today, the store; the next link goes before it, here and nowhere else."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import TypeVar

import trio

from fluidfs._native.engine import Completion, Endpoint, Engine
from fluidfs._native.sink import Sink
from fluidfs.cache.identity import VersionIdentity
from fluidfs.errors import AccessDenied, FluidfsError, SlowDown, StoreError, StoreUnavailable, UsageError
from fluidfs.fetch.outcome import error_of
from fluidfs.fetch.pump import Pump
from fluidfs.fetch.turns import Turn
from fluidfs.metrics import Metrics
from fluidfs.model import Extent
from fluidfs.store.base import FileTransport, HttpTransport, Store
from fluidfs.store.retry import delays

log = logging.getLogger(__name__)

AnySink = TypeVar("AnySink", bound=Sink)

# Pauses add up to 9 s in the mean and 18 s at most: a server that restarts is waited for. No try begins after
# GIVE_UP_AFTER_S, so a server that takes connections and says nothing costs a reader that and one stall.
ATTEMPTS = 10
BASE_DELAY_S = 0.1
MAX_DELAY_S = 4.0
GIVE_UP_AFTER_S = 30.0
CONNECT_TIMEOUT_S = 5.0
# No byte for so long is a stall. Stores answer within a second; ten spares those that are waking up.
STALL_TIMEOUT_S = 10.0
# Credentials are asked for again so often; botocore refreshes those that expire 15 minutes ahead by itself.
REFRESH_S = 60.0
# What a store says of credentials that were good until now; a suspended machine wakes up with such.
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"})


def endpoint_of(store: Store, engine: Engine) -> Endpoint:
    """The engine's endpoint for a store's transport. Raises UsageError for settings that cannot be used."""
    try:
        return _endpoint_of(store, engine)
    except (OSError, ValueError) as error:
        raise UsageError(f"the source cannot be read: {error}") from error


def _endpoint_of(store: Store, engine: Engine) -> Endpoint:
    match store.transport:
        case HttpTransport() as http:
            return engine.http_endpoint(
                host=http.host,
                port=http.port,
                tls=http.tls,
                host_header=http.host_header,
                ca_file=http.ca_file,
                region=http.region,
                headers=http.headers,
                proxy=http.proxy,
                connect_timeout_s=CONNECT_TIMEOUT_S,
                stall_timeout_s=STALL_TIMEOUT_S,
            )
        case FileTransport() as file:
            return engine.file_endpoint(root=file.root)


class StoreSource:
    """Ranges of objects, straight from the store, with retries.

    Belongs to one trio run; `run` refreshes credentials and must be running.
    """

    def __init__(
        self,
        store: Store,
        pump: Pump,
        endpoint: Endpoint,
        metrics: Metrics,
        *,
        rng: random.Random | None = None,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._store = store
        self._pump = pump
        self._endpoint = endpoint
        self._metrics = metrics
        self._rng = rng or random.Random()
        self._clock = clock
        self._limiter = trio.CapacityLimiter(1)

    async def run(self) -> None:
        """Keeps the endpoint's credentials fresh, until cancelled."""
        while True:
            await trio.sleep(REFRESH_S)
            try:
                await self.refresh_credentials()
            except FluidfsError as error:
                # The old ones may be good still; when they are not, readers are told.
                log.warning("credentials not refreshed", extra={"reason": error})

    async def refresh_credentials(self) -> None:
        """Gives the endpoint the store's credentials of this moment. Raises StoreError."""
        found = await trio.to_thread.run_sync(self._store.credentials, limiter=self._limiter)
        if found is not None:
            self._endpoint.set_credentials(found.access_key, found.secret_key, found.token)

    async def fetch(
        self,
        identity: VersionIdentity,
        extent: Extent,
        make_sink: Callable[[], AnySink],
        *,
        turn: Turn,
        on_progress: Callable[[], None] = lambda: None,
        resume_bytes: int = 0,
    ) -> AnySink:
        """Brings `extent` into a sink and returns the sink that took the last of it.

        A try that failed is followed by another with a new sink, from the byte reached where the sinks keep what they
        got (`resume_bytes`, the multiple to resume at; 0: from the start). Raises ObjectChanged, AccessDenied,
        StoreUnavailable after the last try, CacheError when a sink failed.
        """
        pauses = delays(ATTEMPTS, base_s=BASE_DELAY_S, cap_s=MAX_DELAY_S, rng=self._rng)
        give_up_at = self._clock() + GIVE_UP_AFTER_S
        refreshed = False
        while True:
            sink = make_sink()
            completion = await self._get(identity, extent, sink, turn, on_progress)
            error = error_of(completion, identity.key)
            if error is None:
                return sink
            if isinstance(error, AccessDenied) and completion.code in _EXPIRED and not refreshed:
                refreshed = True
                await self.refresh_credentials()
                pause = 0.0
            elif isinstance(error, StoreUnavailable):
                pause = self._pause(error, completion, next(pauses, None), give_up_at)
            else:
                raise error
            self._metrics.retries.inc()
            log.info("get tried again", extra={"key": identity.key, "offset": extent.offset, "reason": error})
            await trio.sleep(pause)
            if resume_bytes:
                # Never all of it: what ended with an error has to end well once.
                kept = min(completion.bytes_done, extent.length - 1) // resume_bytes * resume_bytes
                extent = Extent(extent.offset + kept, extent.length - kept)

    async def _get(
        self, identity: VersionIdentity, extent: Extent, sink: Sink, turn: Turn, on_progress: Callable[[], None]
    ) -> Completion:
        """One try, counted."""
        began = self._clock()
        try:
            completion = await self._pump.get(
                self._endpoint,
                target=self._store.target(identity.key),
                extent=extent,
                size=identity.size,
                version=identity.version,
                sink=sink,
                urgent=turn.urgent,
                on_progress=on_progress,
            )
        except ValueError as error:
            raise StoreError(f"{identity.key!r} cannot be asked for: {error}") from error
        self._metrics.observe_get(completion.status.name, completion.bytes_done, self._clock() - began)
        return completion

    def _pause(self, error: StoreUnavailable, completion: Completion, pause: float | None, give_up_at: float) -> float:
        """How long to wait before the next try, in seconds; raises `error` when there is none."""
        if pause is None:
            raise error
        if isinstance(error, SlowDown):
            pause = max(pause, min(completion.retry_after_s or BASE_DELAY_S, MAX_DELAY_S))
        if self._clock() + pause >= give_up_at:
            raise error
        return pause
