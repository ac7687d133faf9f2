"""Serves a mount's metrics over HTTP, for a Prometheus that scrapes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import start_http_server

from fluidfs.errors import EnvironmentLacking
from fluidfs.metrics import Metrics


@contextmanager
def serving_metrics(metrics: Metrics, address: str | None) -> Iterator[None]:
    """Serves them over HTTP at `HOST:PORT`, in a thread, while the block runs; None: nowhere.

    Raises EnvironmentLacking when the address cannot be had.
    """
    if address is None:
        yield
        return
    host, _, port = address.rpartition(":")
    try:
        server, thread = start_http_server(int(port), addr=host.strip("[]"), registry=metrics.registry)
    except OSError as error:
        raise EnvironmentLacking(f"metrics cannot be served at {address}: {error.strerror or error}") from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
