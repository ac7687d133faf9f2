"""The command line: help, errors and exit statuses, without a mount."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fluidfs.cli import app, main, mount_helper
from fluidfs.cli.parsing import Parser
from fluidfs.cli.settings import read_config
from fluidfs.cli.terminal import shown
from fluidfs.errors import BucketNotFound, EnvironmentLacking, UsageError
from fluidfs.version import VERSION

COMMANDS = (
    *("mount", "umount", "status", "warm", "doctor", "demo", "completion"),
    *("cache", "cache ls", "cache verify", "cache evict", "cache gc"),
)

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("FLUIDFS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("FLUIDFS_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def failure(capsys: Captured, *argv: str) -> tuple[int, str]:
    """The exit status of a command that says one line to stderr and nothing to stdout."""
    status = main(argv)
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert line.startswith("fluidfs: ")
    return status, line.removeprefix("fluidfs: ")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_says_what_then_examples_then_options_then_exit_statuses(command: str, capsys: Captured) -> None:
    assert main([*command.split(), "--help"]) == 0
    text = capsys.readouterr().out
    heads = re.findall(r"^(\S[^:\n]*):$", text, re.MULTILINE)
    assert text.startswith(f"Usage: fluidfs {command}".strip())
    assert heads[0] == "Examples"
    assert heads[-1] == "Exit status"
    assert "General" in heads
    summary = text.split("\n\n")[1]
    assert summary.replace("…", "").strip().endswith(".")
    examples = text.split("Examples:")[1].split("\n\n")[0]
    assert f"fluidfs {command}".strip() in examples
    assert "  2 " in text.split("Exit status:")[1]
    assert max(map(len, text.splitlines())) <= 110


def test_the_version_is_a_fact(capsys: Captured) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fluidfs {VERSION}\n"


def test_nothing_typed_shows_the_help_as_wrong_usage(capsys: Captured) -> None:
    assert main([]) == 2
    assert "Examples:" in capsys.readouterr().err


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from fluidfs.cli import main; main(['mount', '--help'])\n"
        "heavy = {'trio', 'boto3', 'botocore', 'pyfuse3', 'yaml', 'prometheus_client', 'asyncio', 'numpy'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == "[]\n"


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["mnt"], "invalid choice: 'mnt'"),
        (["mount"], "`fluidfs mount --help`"),
        (["mount", "s3://bucket", "/mnt", "--block-sise", "1M"], "--block-sise"),
        (["mount", "s3://bucket", "/mnt", "--block", "1M"], "--block"),
        (["mount", "s3://bucket", "/mnt", "--block-size", "3M"], "--block-size: '3M'"),
        (["mount", "s3://bucket", "/mnt", "-o", "gibberish"], "-o gibberish"),
        (["mount", "bucket", "/mnt"], "'bucket' is not a source"),
        (["mount", "s3://bucket", "/mnt", "--config", "/no/such.yaml"], "/no/such.yaml"),
        (["umount", "/mnt", "--timeout", "soon"], "--timeout: 'soon'"),
        (["warm"], "nothing to warm"),
        (["warm", "/x", "--parallel", "0"], "--parallel: '0'"),
        (["warm", "--file-list", "/no/such"], "/no/such"),
        (["cache", "evict"], "one of --all"),
        (["cache", "evict", "--all", "--to", "1G"], "one of --all"),
        (["cache", "evict", "--to", "much"], "--to: 'much'"),
        (["cache", "ls", "--cache", "/a:lots"], "--cache: '/a:lots'"),
        (["demo", "--size", "big"], "--size: 'big'"),
        (["completion", "tcsh"], "tcsh"),
        (["status", "--metrics"], "MOUNTPOINT"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(argv: list[str], words: str, capsys: Captured) -> None:
    status, line = failure(capsys, *argv)
    assert status == 2
    assert words in line


def test_a_bad_variable_is_named(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUIDFS_BLOCK_SIZE", "3M")
    status, line = failure(capsys, "mount", "s3://bucket", "/mnt")
    assert (status, line) == (2, "environment FLUIDFS_BLOCK_SIZE: '3M' is not a power of two from 256K to 64M")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "does not exist: mkdir -p"),
        (lambda path: path.touch(), "is not a directory"),
    ],
)
def test_a_mountpoint_that_is_none_is_refused_before_anything_starts(
    make: "type[object]", words: str, capsys: Captured, tmp_path: Path
) -> None:
    make(tmp_path / "mnt")  # type: ignore[call-arg]
    status, line = failure(capsys, "mount", "s3://bucket", str(tmp_path / "mnt"))
    assert status == 1
    assert words in line


def test_a_directory_that_has_a_mount_is_refused(capsys: Captured) -> None:
    status, line = failure(capsys, "mount", "s3://bucket", "/proc")
    assert status == 1
    assert "(proc) mounted on it already" in line


def test_no_mounts_is_an_empty_list(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fluidfs.control.lookup.mount_table", list)
    assert main(["status"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "nothing is mounted\n")
    assert main(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize("command", [["status"], ["umount"], ["warm"]])
def test_a_path_in_no_mount_is_told_so(command: list[str], capsys: Captured, tmp_path: Path) -> None:
    status, line = failure(capsys, *command, str(tmp_path))
    assert status == 1
    assert str(tmp_path) in line
    assert "`fluidfs status` lists them" in line


class Raising:
    """A command that does nothing but raise."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def add(self, commands: object) -> None:
        parser = commands.add(  # type: ignore[attr-defined]
            "raise", usage="", summary="", brief="", examples=(), run=self.run
        )
        parser.add_argument("--debug", action="store_true")

    def run(self, args: object, terminal: object) -> int:
        raise self.error


def run_raising(error: BaseException, monkeypatch: pytest.MonkeyPatch, *argv: str) -> int:
    monkeypatch.setattr(app, "_COMMANDS", (Raising(error),))
    return main(["raise", *argv])


def test_errors_end_with_the_status_of_the_table(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_raising(BucketNotFound("no bucket\n'x\x1b[31m'"), monkeypatch) == 1
    assert capsys.readouterr().err == "fluidfs: no bucket 'x\\x1b[31m'\n"
    assert run_raising(UsageError("no"), monkeypatch) == 2
    assert run_raising(EnvironmentLacking("no"), monkeypatch) == 4
    assert run_raising(KeyboardInterrupt(), monkeypatch) == 130


def test_what_a_nursery_wrapped_ends_as_what_it_is(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_raising(ExceptionGroup("", [ExceptionGroup("", [UsageError("no")])]), monkeypatch) == 2
    assert capsys.readouterr().err == "fluidfs: no\n"
    assert run_raising(BaseExceptionGroup("", [UsageError("no"), KeyboardInterrupt()]), monkeypatch) == 130
    assert run_raising(ExceptionGroup("two", [UsageError("no"), ValueError()]), monkeypatch) == 1


def test_a_surprise_is_one_line_with_a_hint_and_with_debug_a_traceback(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_raising(ZeroDivisionError("of all things"), monkeypatch) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fluidfs: ZeroDivisionError: of all things")
    assert "--debug" in line
    assert run_raising(ZeroDivisionError("of all things"), monkeypatch, "--debug") == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_surprise(tmp_path: Path) -> None:
    command = f"{sys.executable} -m fluidfs --help | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in done.stderr


def test_a_configuration_file_is_read_as_text(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("file-mode: 0640\nanonymous: no\ncache:\n  - /a:10G\n  - /b\nregion: eu-west-1 # here\n")
    assert read_config(str(path)) == {
        "file-mode": "0640",
        "anonymous": "no",
        "cache": ["/a:10G", "/b"],
        "region": "eu-west-1",
    }
    path.write_text("")
    assert read_config(str(path)) == {}


@pytest.mark.parametrize(
    "content", ["- a\n", "text\n", "a: [\n", "a: !!python/object/apply:os.system [true]\nb\n", "\x00"]
)
def test_a_file_that_is_no_mapping_is_refused_with_its_name(content: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(content)
    with pytest.raises(UsageError) as caught:
        read_config(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_configuration_file_is_found_by_flag_option_and_environment(
    capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("block-size: 3M\n")
    for argv in (["--config", str(path)], ["-o", f"config={path}"]):
        assert failure(capsys, "mount", "s3://bucket", "/mnt", *argv)[1].startswith(f"{path}: block-size")
    monkeypatch.setenv("FLUIDFS_CONFIG", str(path))
    assert failure(capsys, "mount", "s3://bucket", "/mnt")[1].startswith(f"{path}: block-size")


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["s3://bucket"], 1),
        (["s3://bucket", "{mnt}", "-o", "gibberish"], 1),
        (["s3://bucket", "{mnt}", "-f", "-o", "rw,dev,suid,noauto,user,_netdev,x-systemd.automount,region=x"], 0),
        (["s3://bucket", "{mnt}", "-sfnv", "-t", "fluidfs", "-o", "gibberish"], 0),
        (["bucket", "{mnt}", "-f"], 1),
        (["s3://bucket", "{mnt}/missing", "-f"], 32),
        (["--help"], 0),
    ],
)
def test_the_mount_helper_has_the_statuses_of_mount(
    argv: list[str], status: int, capsys: Captured, tmp_path: Path
) -> None:
    (tmp_path / "mnt").mkdir()
    assert mount_helper.main([word.format(mnt=tmp_path / "mnt") for word in argv]) == status
    said = capsys.readouterr()
    assert all(line.startswith("mount.fluidfs: ") for line in said.err.splitlines())
    assert len(said.err.splitlines()) == (1 if status else 0)


def test_the_completion_for_bash_parses_and_completes(capsys: Captured, tmp_path: Path) -> None:
    assert main(["completion", "bash"]) == 0
    script = tmp_path / "c.bash"
    script.write_text(capsys.readouterr().out)
    assert subprocess.run(["bash", "-n", script]).returncode == 0

    def completed(*typed: str) -> set[str]:
        program = f"""
            source {script}
            COMP_WORDS=("$@"); COMP_CWORD=$(($#-1))
            _fluidfs 2>/dev/null
            printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        done = subprocess.run(["bash", "-c", program, "bash", *typed], capture_output=True, text=True)
        return set(done.stdout.split())

    assert {"mount", "umount", "cache", "--version"} <= completed("fluidfs", "")
    assert completed("fluidfs", "um") == {"umount"}
    assert {"ls", "verify", "evict", "gc"} <= completed("fluidfs", "cache", "")
    assert completed("fluidfs", "mount", "--bl") == {"--block-size"}
    assert completed("fluidfs", "cache", "evict", "--ma") == {"--match"}
    assert completed("fluidfs", "mount", "--cache", "") == set()


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_other_completions_know_every_command_and_flag(shell: str, capsys: Captured) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("umount", "verify", "block-size", "metadata-only", "file-list"):
        assert word in script


def test_what_is_printed_has_no_control_characters() -> None:
    assert shown("ä b") == "ä b"
    assert shown("a\n\x1b[2J\udc80") == "a\\n\\x1b[2J\\udc80"


def test_every_flag_of_every_command_has_a_help_text() -> None:
    def flags(parser: Parser) -> list[str | None]:
        found: list[str | None] = []
        for action in parser._actions:
            found.append(action.help)
            if isinstance(action.choices, dict):
                for child in action.choices.values():
                    found += flags(child)
        return found

    assert all(flags(app.build_parser()))
