"""The control socket between a real server and a real client, and what hostile peers get."""

import contextlib
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import trio

from fluidfs.config import LevelSpec, MountOptions
from fluidfs.control import server as server_module
from fluidfs.control.client import ControlClient
from fluidfs.control.place import Place, make_place
from fluidfs.control.protocol import (
    MAX_REQUEST_BYTES,
    decode_reply,
    decode_request,
    encode_request,
    encode_warm_result,
)
from fluidfs.control.registry import MountRecord, own_record, read_record
from fluidfs.control.server import MAX_CONNECTIONS, serve_control
from fluidfs.errors import AccessDenied, ControlError, FluidfsError, MountpointBusy
from fluidfs.model import WarmProgress, WarmRequest, WarmResult
from tests.unit.small_service import SmallService


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with make_place(str(tmp_path / "run"), uid=os.geteuid()) as place:
        yield place


@pytest.fixture
def record() -> MountRecord:
    options = MountOptions(source="s3://b", mountpoint="/mnt/of/the/test", cache=(LevelSpec("/cache"),))
    return own_record(options, started_s=1.0)


@contextlib.asynccontextmanager
async def serving(service: SmallService, place: Place, record: MountRecord) -> AsyncIterator[ControlClient]:
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_control, service, place=place, record=record))
        yield ControlClient(place, record.mount_id)
        nursery.cancel_scope.cancel()


async def refusal(call: Callable[[], object], kind: type[FluidfsError] = ControlError) -> str:
    with pytest.raises(kind) as caught:
        await trio.to_thread.run_sync(call)
    return str(caught.value)


async def raw_answer(place: Place, record: MountRecord, sent: bytes) -> bytes:
    stream = await trio.open_unix_socket(place.reach(f"{record.mount_id}.sock"))
    async with stream:
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.send_all(sent)
        answer = b""
        with contextlib.suppress(trio.BrokenResourceError):
            async for part in stream:
                answer += part
        return answer


async def test_a_client_is_told_the_status_and_the_metrics(place: Place, record: MountRecord) -> None:
    async with serving(SmallService(), place, record) as client:
        status = await trio.to_thread.run_sync(client.status)
        assert status == {"source": "s3://b", "odd": "ä\udc80"}
        assert await trio.to_thread.run_sync(client.metrics) == "fluidfs_reads_total 1\n"


async def test_a_warm_up_reports_progress_and_every_failure(place: Place, record: MountRecord) -> None:
    service = SmallService(failures=501)
    request = WarmRequest(paths=("a/*.tar", "odd\udc80"), metadata_only=False, parallel=3)
    seen: list[WarmProgress] = []
    async with serving(service, place, record) as client:
        result = await trio.to_thread.run_sync(client.warm, request, seen.append)
    assert service.asked == [request]
    assert seen[-1].bytes_done == 10
    assert (result.objects, result.bytes_fetched, result.bytes_present) == (2, 15, 5)
    assert [path for path, _ in result.failures] == [f"k{number}" for number in range(501)]


async def test_a_client_that_goes_away_ends_its_warm_up(place: Place, record: MountRecord) -> None:
    service = SmallService()
    service.endless = True
    async with serving(service, place, record):
        stream = await trio.open_unix_socket(place.reach(f"{record.mount_id}.sock"))
        await stream.send_all(encode_request(WarmRequest(paths=("",))))
        await stream.receive_some()
        await stream.aclose()
        with trio.fail_after(5):
            await service.warm_cancelled.wait()


async def test_a_stop_is_answered_even_if_it_ends_the_server(place: Place, record: MountRecord) -> None:
    service = SmallService()
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_control, service, place=place, record=record))

        async def stop_and_end(*, lazy: bool, timeout_s: float) -> None:
            service.asked.append((lazy, timeout_s))
            nursery.cancel_scope.cancel()

        service.stop = stop_and_end  # type: ignore[method-assign]
        client = ControlClient(place, record.mount_id)
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(lambda: client.stop(lazy=True, timeout_s=3))
    assert service.asked == [(True, 3.0)]


async def test_errors_keep_their_class_and_their_line(place: Place, record: MountRecord) -> None:
    async with serving(SmallService(fault=MountpointBusy("in use by 12")), place, record) as client:
        assert await refusal(lambda: client.stop(lazy=False, timeout_s=1), MountpointBusy) == "in use by 12"


async def test_an_unforeseen_error_says_nothing_but_where_to_look(
    place: Place, record: MountRecord, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(SmallService(fault=ValueError("inner")), place, record) as client:
        message = await refusal(client.status)
        assert message == "the daemon failed to answer; its log says why"
        assert "inner" in caplog.text
        assert await trio.to_thread.run_sync(client.metrics)


async def test_socket_and_record_are_private_and_go_with_the_server(place: Place, record: MountRecord) -> None:
    async with serving(SmallService(), place, record):
        modes = {name: stat.S_IMODE(os.stat(name, dir_fd=place.fd).st_mode) for name in place.names()}
        assert modes == {f"{record.mount_id}.json": 0o600, f"{record.mount_id}.sock": 0o600}
        assert read_record(place, record.mount_id) == record
    assert place.names() == []


async def test_the_socket_of_a_dead_daemon_is_replaced(place: Place, record: MountRecord) -> None:
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(place.reach(f"{record.mount_id}.sock"))
    async with serving(SmallService(), place, record) as client:
        assert await trio.to_thread.run_sync(client.status)


async def test_a_second_daemon_for_a_mountpoint_is_refused_and_the_first_goes_on(
    place: Place, record: MountRecord
) -> None:
    async with serving(SmallService(), place, record) as client:
        with pytest.raises(MountpointBusy):
            await serve_control(SmallService(), place=place, record=record)
        assert await trio.to_thread.run_sync(client.status)


async def test_a_path_too_long_for_a_socket_address_is_no_matter(tmp_path: Path, record: MountRecord) -> None:
    deep = tmp_path / ("d" * 120)
    with make_place(str(deep), uid=os.geteuid()) as place:
        async with serving(SmallService(), place, record) as client:
            assert await trio.to_thread.run_sync(client.status)


@pytest.mark.parametrize(
    "sent",
    [
        b"\n",
        b"\0\xff\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"[]\n",
        b'"status"\n',
        b"[" * 100_000 + b"\n",
        b'{"v":1}\n',
        b'{"v":1,"op":"format"}\n',
        b'{"v":1,"op":"stop","lazy":1,"timeout_s":1}\n',
        b'{"v":1,"op":"stop","lazy":true,"timeout_s":NaN}\n',
        b'{"v":1,"op":"stop","lazy":true,"timeout_s":-1}\n',
        b'{"v":1,"op":"warm","paths":[1],"metadata_only":false,"parallel":8}\n',
        b'{"v":1,"op":"warm","paths":["a"],"metadata_only":false,"parallel":true}\n',
        b'{"v":1,"op":"warm","paths":["a"],"metadata_only":false,"parallel":1000000000}\n',
        b"x" * (MAX_REQUEST_BYTES + 1),
    ],
)
async def test_garbage_is_answered_with_one_error_and_hurts_nobody(
    sent: bytes, place: Place, record: MountRecord
) -> None:
    service = SmallService()
    async with serving(service, place, record) as client:
        with trio.fail_after(5):
            answer = await raw_answer(place, record, sent)
        # What was never read makes the kernel drop the answer, which is all right for a line a megabyte long.
        assert answer.count(b"\n") == 1 or len(sent) > MAX_REQUEST_BYTES
        assert b'"kind":"error"' in answer or not answer
        assert service.asked == []
        assert await trio.to_thread.run_sync(client.status)


async def test_another_version_is_told_what_to_do(place: Place, record: MountRecord) -> None:
    async with serving(SmallService(), place, record):
        assert b"umount and mount again" in await raw_answer(place, record, b'{"v":99,"op":"status"}\n')


async def test_a_client_that_never_finishes_its_line_is_dropped(
    place: Place, record: MountRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "REQUEST_TIMEOUT_S", 0.05)
    async with serving(SmallService(), place, record):
        with trio.fail_after(5):
            assert b"did not come in time" in await raw_answer(place, record, b'{"v":1,')


async def test_a_client_that_never_reads_is_dropped(
    place: Place, record: MountRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "WRITE_TIMEOUT_S", 0.05)
    service = SmallService(failures=200_000)
    async with serving(service, place, record) as client:
        stream = await trio.open_unix_socket(place.reach(f"{record.mount_id}.sock"))
        async with stream:
            await stream.send_all(encode_request(WarmRequest(paths=("",))))
            with trio.fail_after(5):
                await service.warm_cancelled.wait()
            assert await trio.to_thread.run_sync(client.status)
            await trio.sleep(0.1)
            received = b""
            with contextlib.suppress(trio.BrokenResourceError):
                async for part in stream:
                    received += part
        assert b'"kind":"result"' not in received


async def test_more_connections_than_allowed_are_told_to_come_back(place: Place, record: MountRecord) -> None:
    async with serving(SmallService(), place, record) as client, contextlib.AsyncExitStack() as stack:
        for _ in range(MAX_CONNECTIONS):
            await stack.enter_async_context(await trio.open_unix_socket(place.reach(f"{record.mount_id}.sock")))
        assert "too many connections" in await refusal(client.status)
        await stack.aclose()
        with trio.fail_after(5):
            while True:
                with contextlib.suppress(ControlError):
                    assert await trio.to_thread.run_sync(client.status)
                    break


async def test_another_user_is_refused_whatever_the_file_modes_say(place: Place, record: MountRecord) -> None:
    """Needs root, to become somebody else in a child."""
    assert os.geteuid() == 0, "this test needs root"

    def ask_as_nobody() -> bytes:
        read_fd, write_fd = os.pipe()
        sock = socket.socket(socket.AF_UNIX)
        pid = os.fork()
        if pid == 0:
            try:
                # From inside, so that the modes of the directories above do not matter.
                os.fchdir(place.fd)
                os.setresuid(65534, 65534, 65534)
                sock.connect(f"{record.mount_id}.sock")
                os.write(write_fd, sock.recv(4096))
            except OSError as error:
                os.write(write_fd, str(error).encode())
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        sock.close()
        os.close(write_fd)
        with os.fdopen(read_fd, "rb") as answers:
            return answers.read()

    async with serving(SmallService(), place, record):
        assert b"Permission denied" in await trio.to_thread.run_sync(ask_as_nobody)
        os.fchmod(place.fd, 0o755)
        os.chmod(f"{record.mount_id}.sock", 0o666, dir_fd=place.fd)
        answer = await trio.to_thread.run_sync(ask_as_nobody)
        assert isinstance(decode_reply(answer).error, AccessDenied)  # type: ignore[union-attr]


async def test_a_daemon_that_does_not_answer_is_no_endless_wait(
    place: Place, record: MountRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fluidfs.control.client.ANSWER_TIMEOUT_S", 0.1)
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(place.reach(f"{record.mount_id}.sock"))
        mute.listen()
        assert "did not answer" in await refusal(ControlClient(place, record.mount_id).status)
    assert "no daemon answers" in await refusal(ControlClient(place, record.mount_id).status)


def test_what_is_encoded_is_decoded() -> None:
    request = WarmRequest(paths=("a\n", "ä\udcff"), metadata_only=True, parallel=1)
    line = encode_request(request)
    assert line.count(b"\n") == 1
    assert decode_request(line[:-1]) == request
    (line,) = encode_warm_result(WarmResult(objects=1, bytes_fetched=2, bytes_present=3, failures=()))
    assert decode_reply(line).value == {"objects": 1, "bytes_fetched": 2, "bytes_present": 3}  # type: ignore[union-attr]


def test_a_request_longer_than_the_daemon_reads_is_not_sent() -> None:
    with pytest.raises(ControlError, match="too long"):
        encode_request(WarmRequest(paths=tuple("x" * 100 for _ in range(20_000))))
