"""Prometheus text, and what is put into it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty

from barque.containerd.client.channel import Channel
from barque.containerd.grpc import AtOnce, Call, Server, Service
from barque.containerd.metrics import process, tasks
from barque.containerd.metrics.calls import Calls
from barque.containerd.metrics.server import MetricsServer
from barque.containerd.metrics.text import GAUGE, Family, Sample, render
from barque.containerd.proto import content_pb2, version_pb2
from barque.containerd.proto.cgroups_v1_pb2 import Metrics as Version1
from barque.containerd.proto.cgroups_v2_pb2 import Metrics as Version2
from barque.errors import Conflict, NotFound


def test_labels_and_numbers() -> None:
    samples = (Sample({"a": 'x"\\\n'}, 3), Sample({}, 0.5), Sample({}, float(1 << 60)))
    assert render([Family("f", GAUGE, "Help.", samples)]) == (
        '# HELP f Help.\n# TYPE f gauge\nf{a="x\\"\\\\\\n"} 3\nf 0.5\nf 1152921504606846976\n'
    )


def told(message: Version1 | Version2) -> AnyMessage:
    return AnyMessage(type_url=message.DESCRIPTOR.full_name, value=message.SerializeToString())


def test_tasks_of_both_versions_and_neither() -> None:
    one, two = Version1(), Version2()
    one.memory.usage.max = 7
    one.cpu.usage.per_cpu.extend([5, 6])
    two.memory.usage = 9
    two.memory_events.oom = 2
    two.io.usage.add(major=8, minor=1, rbytes=3)
    text = render(
        tasks.families(
            [
                ({"container_id": "a"}, told(one)),
                ({"container_id": "b"}, told(two)),
                ({"container_id": "c"}, AnyMessage(type_url="other", value=b"1")),
                ({"container_id": "d"}, AnyMessage(type_url=told(one).type_url, value=b"\xff")),
            ]
        )
    )
    for line in (
        'container_memory_usage_max_bytes{container_id="a"} 7',
        'container_per_cpu_nanoseconds{container_id="a",cpu="1"} 6',
        'container_memory_usage_bytes{container_id="b"} 9',
        'container_memory_oom_total{container_id="b"} 2',
        'container_io_rbytes_bytes{container_id="b",major="8",minor="1"} 3',
    ):
        assert line in text.splitlines()
    assert '"c"' not in text
    assert '"d"' not in text


def test_this_process() -> None:
    found = {family.name: next(iter(family.samples)).value for family in process.families()}
    assert found["process_open_fds"] >= 3
    assert found["process_resident_memory_bytes"] > 1 << 20
    assert found["process_start_time_seconds"] > 1_600_000_000


class Something:
    async def version(self, call: Call, request: Empty) -> version_pb2.VersionResponse:
        return version_pb2.VersionResponse(version="1")

    async def delete(self, call: Call, request: content_pb2.DeleteContentRequest) -> Empty:
        raise NotFound("nothing is there")

    async def write(
        self, call: Call, requests: AsyncIterator[Any]
    ) -> AsyncIterator[content_pb2.WriteContentResponse]:
        async for _ in requests:
            yield content_pb2.WriteContentResponse()


def test_calls_are_counted(tmp_path: Path) -> None:
    async def main() -> str:
        calls, it = Calls(histogram=True), Something()
        services = [
            Service(
                version_pb2.DESCRIPTOR.services_by_name["Version"], {"Version": AtOnce(it.version)}
            ),
            Service(
                content_pb2.DESCRIPTOR.services_by_name["Content"],
                {"Delete": it.delete, "Write": it.write},
            ),
        ]
        server = Server(services, calls.watch)
        await server.start(str(tmp_path / "s"))
        channel = Channel(str(tmp_path / "s"), "default")
        for _ in range(3):
            await channel.unary(services[0].name, "Version", Empty(), version_pb2.VersionResponse)
        request = content_pb2.DeleteContentRequest()
        with pytest.raises(NotFound):
            await channel.unary(services[1].name, "Delete", request, Empty)
        channel.close()
        await server.stop()
        return render(calls.families())

    lines = asyncio.run(main()).splitlines()
    version = (
        'grpc_method="Version",grpc_service="containerd.services.version.v1.Version",'
        'grpc_type="unary"'
    )
    content = 'grpc_method="Delete",grpc_service="containerd.services.content.v1.Content"'
    for line in (
        f"grpc_server_started_total{{{version}}} 3",
        f"grpc_server_msg_received_total{{{version}}} 3",
        f"grpc_server_msg_sent_total{{{version}}} 3",
        f'grpc_server_handled_total{{grpc_code="OK",{version}}} 3',
        f'grpc_server_handled_total{{grpc_code="NotFound",{content},grpc_type="unary"}} 1',
        f'grpc_server_handling_seconds_bucket{{{version},le="+Inf"}} 3',
        f"grpc_server_handling_seconds_count{{{version}}} 3",
    ):
        assert line in lines


def ask(request: bytes, *, fails: bool = False) -> bytes:
    async def page() -> str:
        if fails:
            raise RuntimeError("no")
        return "m 1\n"

    async def main() -> bytes:
        server = MetricsServer(page)
        await server.start("127.0.0.1:0")
        other = MetricsServer(page)
        with pytest.raises(Conflict, match="metrics address"):
            await other.start(f"127.0.0.1:{server.port}")
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        await server.close()
        return answer

    return asyncio.run(main())


@pytest.mark.parametrize(
    ("request_line", "status", "body"),
    [
        ("GET /v1/metrics HTTP/1.1", b"200", b"m 1\n"),
        ("GET /v1/metrics?x=y HTTP/1.0", b"200", b"m 1\n"),
        ("HEAD /v1/metrics HTTP/1.1", b"200", b""),
        ("GET / HTTP/1.1", b"404", b"404 page not found\n"),
        ("POST /v1/metrics HTTP/1.1", b"405", b"only GET and HEAD\n"),
        ("nonsense", b"400", b"malformed request\n"),
    ],
)
def test_requests(request_line: str, status: bytes, body: bytes) -> None:
    head, _, found = ask(f"{request_line}\r\nHost: x\r\n\r\n".encode()).partition(b"\r\n\r\n")
    assert head.split()[1] == status
    assert found == body


def test_a_page_that_fails_and_a_head_without_end() -> None:
    assert ask(b"GET /v1/metrics HTTP/1.1\r\n\r\n", fails=True).split()[1] == b"500"
    assert ask(b"GET " + b"x" * (1 << 16)) == b""
