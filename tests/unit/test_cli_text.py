"""Texts for people: status, progress, warm-up targets."""

import io
from pathlib import Path
from typing import Any

import pytest

from fluidfs.cli.progress import ProgressBar, describe
from fluidfs.cli.status_text import status_lines
from fluidfs.control.registry import KnownMount
from fluidfs.control.warming import split_uri, warm_targets
from fluidfs.errors import MountError

STATUS: dict[str, Any] = {
    "state": "live",
    "source": "s3://bucket/p",
    "mountpoint": "/mnt/d",
    "pid": 12,
    "version": "0.1.0",
    "uptime_s": 7380.0,
    "read_only": True,
    "data_plane": {
        "mode": "native",
        "why": "no permission",
        "requests": {"native": {"READ": 12000, "OPEN": 30}, "python": {"READ": 4}},
        "opens": 30,
        "passthrough_opens": 20,
        "open_files": 2,
        "waiting": 1,
        "watchdog": {"given_up": 0, "interrupted": 3},
    },
    "cache": [
        {"path": "/m", "medium": "MEM", "used_bytes": 1 << 20, "quota_bytes": 1 << 30, "state": "ok", "why": None},
        {"path": "/d", "medium": "SSD", "used_bytes": 0, "quota_bytes": 0, "state": "out of use", "why": "disk full"},
    ],
    "reads": {"count": 12034, "bytes": 3 << 30, "hit_ratio": 0.931},
    "fetch": {
        "requests": 310,
        "bytes": 1 << 30,
        "retries": 1,
        "errors": 0,
        "in_flight": 2,
        "throughput_bytes_per_s": 2 << 20,
    },
    "integrity": {"bad_blocks": 0},
    "names": {"known": 1234, "hidden": {"a dot": 3}, "hidden_sample": [{"key": "a/./\n", "reason": "a dot"}]},
    "memory": {"anon_bytes": 1 << 20, "shmem_bytes": 0},
}


def test_a_status_is_read_at_a_glance() -> None:
    assert list(status_lines(STATUS)) == [
        "/mnt/d  ←  s3://bucket/p",
        "  state       live, for 2h03m, read-only, pid 12, fluidfs 0.1.0",
        "  data plane  native (no permission)",
        "              12,030 requests answered natively, 4 by Python; 1 waiting",
        "              30 opens, 20 of them passthrough; 2 files open",
        "              given up by the watchdog: 0 overdue, 3 of killed processes",
        "  cache       MEM /m  1.00MiB of 1.00GiB (0.1 %)  ok",
        "              SSD /d  0B of 0B  out of use: disk full",
        "  reads       12,034, 3.00GiB, 93.1 % from the cache",
        "  store       310 requests, 1.00GiB at 2.00MiB/s; 2 in flight, 1 retries, 0 errors",
        "  integrity   0 bad blocks found",
        "  names       1,234 known, 3 keys cannot be shown",
        "              3: a dot",
        "                for example a/./\\n",
        "  memory      1.00MiB anonymous, 0B shared",
    ]


def test_a_data_plane_that_counts_nothing_is_one_line() -> None:
    lines = list(status_lines({**STATUS, "data_plane": {"mode": "relayed", "why": "--fuse-disable relay"}}))
    assert lines[2] == "  data plane  relayed (--fuse-disable relay)"
    assert lines[3].startswith("  cache")


def test_a_watchdog_that_did_nothing_is_not_mentioned() -> None:
    plane = {**STATUS["data_plane"], "watchdog": {"given_up": 0, "interrupted": 0}}
    assert not any("watchdog" in line for line in status_lines({**STATUS, "data_plane": plane}))


def test_what_a_daemon_does_not_say_is_a_dash() -> None:
    lines = list(status_lines({"state": "live", "mountpoint": "/mnt/d"}))
    assert lines[0] == "/mnt/d  ←  –"
    assert "  data plane  –" in lines
    assert "  reads       –, –, – from the cache" in lines


@pytest.mark.parametrize("nonsense", [None, 1, "x", [], {}, [1], {"a": None}, True])
def test_no_answer_of_a_daemon_breaks_the_text(nonsense: object) -> None:
    for key in STATUS:
        list(status_lines({**STATUS, key: nonsense}))
    for part, fields in STATUS.items():
        if isinstance(fields, dict):
            for field in fields:
                list(status_lines({**STATUS, part: {**fields, field: nonsense}}))


def test_a_dead_mount_comes_with_advice() -> None:
    lines = list(status_lines({"state": "dead", "source": "s3://b", "mountpoint": "/m", "advice": "mount it again"}))
    assert lines == ["/m  ←  s3://b", "  state       dead", "              mount it again"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_appears_after_a_second_on_a_terminal_and_wipes_itself() -> None:
    now_s = 0.0
    stream = Terminal()
    with ProgressBar("warming", stream=stream, clock=lambda: now_s) as bar:
        bar.update(1, 10)
        assert stream.getvalue() == ""
        now_s = 1.0
        bar.update(5 << 20, 10 << 20)
        assert "50%" in stream.getvalue()
        drawn = stream.getvalue()
        bar.update(6 << 20, 10 << 20)
        assert stream.getvalue() == drawn
    assert stream.getvalue().endswith("\r\x1b[K")


def test_no_bar_is_drawn_where_nobody_looks() -> None:
    now_s = 0.0
    stream = io.StringIO()
    with ProgressBar("warming", stream=stream, clock=lambda: now_s) as bar:
        now_s = 5.0
        bar.update(1, 10)
    assert stream.getvalue() == ""


def test_a_bar_says_share_rate_and_time_left() -> None:
    text = describe("warming", 1 << 30, 2 << 30, elapsed_s=4.0, note="3 of 9 objects")
    assert text == "warming  [##########----------]  50%  1.00GiB of 2.00GiB  256MiB/s  4.0s left  3 of 9 objects"
    assert describe("warming", 1 << 20, None, elapsed_s=1.0) == "warming  1.00MiB  1.00MiB/s"
    assert "100%" in describe("warming", 11, 10, elapsed_s=1.0)


@pytest.mark.parametrize(
    ("uri", "source", "path"),
    [
        ("s3://b", "s3://b", ""),
        ("s3://b/", "s3://b/", ""),
        ("s3://b/p/", "s3://b/p/", ""),
        ("s3://b/p", "s3://b/", "p"),
        ("s3://b/p/q.tar", "s3://b/p/", "q.tar"),
        ("s3://b/p/*.tar", "s3://b/p/", "*.tar"),
        ("s3://b/p*/q/r?.tar", "s3://b/", "p*/q/r?.tar"),
        ("file:///no/such/a%20b", "file:///no/such/", "a b"),
        ("file:///no/such/*.bin", "file:///no/such/", "*.bin"),
    ],
)
def test_a_uri_is_a_source_and_what_is_wanted_of_it(uri: str, source: str, path: str) -> None:
    assert split_uri(uri) == (source, path)


def test_a_directory_is_the_source_that_it_would_be_mounted_as(tmp_path: Path) -> None:
    assert split_uri(f"file://{tmp_path}") == (f"file://{tmp_path}", "")


def test_paths_go_together_by_mount_and_by_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mounts = [known("/mnt/a"), known("/mnt/a/b"), known(str(tmp_path / "real"))]
    monkeypatch.setattr("fluidfs.control.warming.known_mounts", lambda environment, uid: mounts)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    paths = ["/mnt/a/x", "s3://c/y", "/mnt/a/b/*.tar", "/mnt/a", "s3://c/z", f"{tmp_path}/link/d/*"]
    targets = warm_targets(paths, environment={}, uid=0)
    assert [(target.mount and target.mount.mountpoint, target.source, target.paths) for target in targets] == [
        ("/mnt/a", "s3://b", ("x", "")),
        ("/mnt/a/b", "s3://b", ("*.tar",)),
        (str(tmp_path / "real"), "s3://b", ("d/*",)),
        (None, "s3://c/", ("y", "z")),
    ]
    with pytest.raises(MountError, match="/etc is in no mount"):
        warm_targets(["/etc"], environment={}, uid=0)


def known(mountpoint: str) -> KnownMount:
    return KnownMount(
        state="live", mountpoint=mountpoint, source="s3://b", mounted=True, record=None, place=None, user_id=0
    )
