"""Handlers of a service: those that wait, those that are run at once, and those that fail."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from barque.containerd.client.channel import Channel
from barque.containerd.grpc import (
    KEPT_BYTES,
    KEPT_MOST,
    AtOnce,
    Call,
    Handler,
    Kept,
    Server,
    Service,
)
from barque.containerd.proto import content_pb2 as api
from barque.errors import BarqueError, NotFound

LARGE = 3 << 20  # more than the windows that a client opens at first
CONTENT = api.DESCRIPTOR.services_by_name["Content"]
Ask = Callable[[Channel], Awaitable[object]]


async def status(call: Call, request: api.StatusRequest) -> api.StatusResponse:
    """The ref says what becomes of the call."""
    if request.ref == "missing":
        raise NotFound("nothing is there")
    if request.ref == "broken":
        raise ZeroDivisionError("a fault of ours")
    answer = api.StatusResponse()
    answer.status.ref = call.namespace + request.ref * (LARGE if request.ref == "x" else 1)
    return answer


async def status_that_waits(call: Call, request: api.StatusRequest) -> api.StatusResponse:
    await asyncio.sleep(0)
    return await status(call, request)


def read(
    call: Call, request: api.ReadContentRequest
) -> api.ReadContentResponse | AsyncIterator[api.ReadContentResponse]:
    if request.digest == "missing":
        raise NotFound("no such content")
    if request.digest == "one":
        return api.ReadContentResponse(data=b"one")
    return pieces(request.digest)


async def pieces(digest: str) -> AsyncIterator[api.ReadContentResponse]:
    for number in range(3):
        yield api.ReadContentResponse(offset=number, data=digest.encode())


def serving(path: Path, handlers: dict[str, Handler], ask: Ask) -> object:
    async def main() -> object:
        server = Server([Service(CONTENT, handlers)])
        await server.start(str(path / "s"))
        channel = Channel(str(path / "s"), "here/")
        try:
            return await ask(channel)
        finally:
            channel.close()
            await server.stop()

    return asyncio.run(main())


def told(ref: str) -> Ask:
    async def ask(channel: Channel) -> str:
        request = api.StatusRequest(ref=ref)
        answer = await channel.unary(CONTENT.full_name, "Status", request, api.StatusResponse)
        return answer.status.ref

    return ask


@pytest.mark.parametrize("handler", [AtOnce(status), status, status_that_waits])
def test_unary_calls(tmp_path: Path, handler: Handler) -> None:
    handlers: dict[str, Handler] = {"Status": handler}
    assert serving(tmp_path, handlers, told("a")) == "here/a"
    assert serving(tmp_path, handlers, told("x")) == "here/" + "x" * LARGE
    with pytest.raises(NotFound, match="nothing is there"):
        serving(tmp_path, handlers, told("missing"))
    with pytest.raises(BarqueError, match="a fault of ours"):
        serving(tmp_path, handlers, told("broken"))


def test_many_calls_at_once(tmp_path: Path) -> None:
    async def ask(channel: Channel) -> list[object]:
        return await asyncio.gather(*(told(str(number))(channel) for number in range(500)))

    for handler in (AtOnce(status), status_that_waits):
        found = serving(tmp_path, {"Status": handler}, ask)
        assert found == [f"here/{number}" for number in range(500)]


def test_a_handler_that_waits_must_not_say_that_it_does_not(tmp_path: Path) -> None:
    handlers: dict[str, Handler] = {"Status": AtOnce(status_that_waits)}
    with pytest.raises(BarqueError, match="did wait"):
        serving(tmp_path, handlers, told("a"))


def read_all(digest: str) -> Ask:
    async def ask(channel: Channel) -> list[bytes]:
        request = api.ReadContentRequest(digest=digest)
        async with channel.replies(
            CONTENT.full_name, "Read", request, api.ReadContentResponse
        ) as replies:
            return [reply.data async for reply in replies]

    return ask


@pytest.mark.parametrize(("digest", "expected"), [("one", [b"one"]), ("x", [b"x"] * 3)])
def test_streams_of_replies(tmp_path: Path, digest: str, expected: list[bytes]) -> None:
    assert serving(tmp_path, {"Read": read}, read_all(digest)) == expected


def test_a_stream_that_fails_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such content"):
        serving(tmp_path, {"Read": read}, read_all("missing"))


class Counted:
    """A handler that says how often it was called; what it is asked for, it gives."""

    def __init__(self) -> None:
        self.calls = self.version = 0

    def read(
        self, call: Call, request: api.ReadContentRequest
    ) -> api.ReadContentResponse | AsyncIterator[api.ReadContentResponse]:
        self.calls += 1
        if request.digest == "missing":
            raise NotFound("no such content")
        if request.digest == "stream":
            return pieces("x")
        size = request.size or 1
        return api.ReadContentResponse(data=f"{call.namespace}{request.digest}".encode() * size)


async def read_each(channel: Channel, *digests: str, size: int = 0) -> list[bytes]:
    found = []
    for digest in digests:
        request = api.ReadContentRequest(digest=digest, size=size)
        async with channel.replies(
            CONTENT.full_name, "Read", request, api.ReadContentResponse
        ) as replies:
            found.append(b"".join([reply.data async for reply in replies]))
    return found


def kept(path: Path, counted: Counted, ask: Ask) -> None:
    serving(path, {"Read": Kept(counted.read, lambda: counted.version)}, ask)


def test_an_answer_is_kept_until_the_version_is_another(tmp_path: Path) -> None:
    counted = Counted()

    async def ask(channel: Channel) -> None:
        expected = [b"here/a", b"here/b", b"here/a", b"here/a"]
        assert await read_each(channel, "a", "b", "a", "a") == expected
        assert counted.calls == 2
        counted.version += 1
        assert await read_each(channel, "a", "a") == [b"here/a"] * 2
        assert counted.calls == 3
        other = Channel(str(tmp_path / "s"), "there/")
        try:
            assert await read_each(other, "a") == [b"there/a"]
        finally:
            other.close()

    kept(tmp_path, counted, ask)


def test_only_small_messages_are_kept_and_not_many(tmp_path: Path) -> None:
    counted = Counted()

    async def ask(channel: Channel) -> None:
        with pytest.raises(NotFound, match="no such content"):
            await read_each(channel, "missing")
        with pytest.raises(NotFound, match="no such content"):
            await read_each(channel, "missing")
        assert await read_each(channel, "stream", "stream") == [b"xxx"] * 2
        large = await read_each(channel, "a", "a", size=KEPT_BYTES)
        assert [len(data) for data in large] == [len(b"here/a") * KEPT_BYTES] * 2
        assert counted.calls == 6
        names = [str(number) for number in range(2 * KEPT_MOST)]
        for _ in range(2):
            assert await read_each(channel, *names) == [f"here/{name}".encode() for name in names]
        assert counted.calls == 6 + 4 * KEPT_MOST  # the first are forgotten when they come again

    kept(tmp_path, counted, ask)
