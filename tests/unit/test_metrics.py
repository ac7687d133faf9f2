"""The table of metrics, what is counted by it, and how it is told."""

from __future__ import annotations

import re
import socket
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

import fluidfs
from fluidfs.control.exporter import serving_metrics
from fluidfs.errors import EnvironmentLacking
from fluidfs.metrics import METRICS, Metrics, reference, value_of

REFERENCE = Path(fluidfs.__file__).parent.parent / "docs" / "reference" / "metrics.md"


def families(text: bytes) -> dict[str, Metric]:
    """By name; without the times at which prometheus_client says that each counter began."""
    found = text_string_to_metric_families(text.decode())
    return {family.name: family for family in found if not family.name.endswith("_created")}


def test_the_registry_has_the_metrics_of_the_table_and_no_others() -> None:
    found = {name: family.type for name, family in families(Metrics().text()).items()}
    assert found == {f"fluidfs_{row.name}": row.kind for row in METRICS}


def test_labels_are_those_of_the_table() -> None:
    metrics = Metrics()
    for row in METRICS:
        if row.kind == "gauge":
            metrics.gauge(row.name, 1, **dict.fromkeys(row.labels, "x"))
    metrics.read_errors.labels(errno="5").inc()
    metrics.observe_get("OK", 10, 0.1)
    metrics.opens.labels(way="relayed").inc()
    metrics.requests.labels(request="read", served_by="native").inc()
    metrics.requests_given_up.labels(why="overdue").inc()
    labels = {
        name: set(family.samples[0].labels)
        for name, family in families(metrics.text()).items()
        if family.type != "histogram"
    }
    assert labels == {f"fluidfs_{row.name}": set(row.labels) for row in METRICS if row.kind != "histogram"}


def test_names_follow_the_rule() -> None:
    names = [row.name for row in METRICS]
    assert len(set(names)) == len(names)
    for row in METRICS:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", row.name)
        assert not row.name.endswith("_total")
        if row.unit in ("bytes", "seconds"):
            assert row.name.endswith(f"_{row.unit}")


def test_the_reference_is_that_of_the_table() -> None:
    """Written anew by: python -c 'from fluidfs.metrics import reference; print(reference(), end="")'."""
    assert REFERENCE.read_text() == reference()


def test_a_counter_with_labels_is_summed_up() -> None:
    metrics = Metrics()
    assert value_of(metrics.fetch_requests) == 0
    metrics.observe_get("OK", 10, 0.1)
    metrics.observe_get("OK", 5, 0.1)
    metrics.observe_get("TIMEOUT", 0, 9)
    assert value_of(metrics.fetch_requests) == 3
    assert value_of(metrics.fetch_bytes) == 15


def test_what_is_told_is_brought_up_to_date_first_whoever_asks() -> None:
    metrics = Metrics()
    asked = []

    def refresh() -> None:
        asked.append(True)
        metrics.gauge("names_known", len(asked))

    metrics.before_export.append(refresh)
    assert b"fluidfs_names_known 1.0" in metrics.text()
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    url = f"http://{address}/metrics"
    with serving_metrics(metrics, address), urllib.request.urlopen(url, timeout=10) as response:
        assert b"fluidfs_names_known 2.0" in response.read()
    # The port is given back.
    with serving_metrics(metrics, address):
        pass


def test_an_address_that_cannot_be_had_is_said_to_be_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(EnvironmentLacking, match=re.escape(address)), serving_metrics(Metrics(), address):
            pass


def test_without_an_address_nothing_is_served() -> None:
    with serving_metrics(Metrics(), None):
        pass
