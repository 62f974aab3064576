"""Each answer of the API has the published shape: every field known, every value of its kind."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.barque import Stack, stack
from tests.support.engine_answers import ANSWERS, faults, fields
from tests.support.engine_api import ask
from tests.support.our_registry import our_registry

pytestmark = pytest.mark.root

# What is told of a storage that is not the classic one's either: the place, and the fields there.
OLDER = {
    "GET /containers/{id}/json": "GraphDriver MacAddress",
    "GET /networks": "Containers",
}
RUN = (
    *("run", "-d", "--name", "shape", "-p", "80", "-v", "/data", "--tmpfs", "/t", "-m", "64m"),
    *("--health-cmd", "true", "--health-interval", "1h", "--label", "a=b", "--init", "-e", "A=b"),
    *("--ulimit", "nofile=10:20", "--restart", "on-failure:3", "--sysctl", "net.core.somaxconn=9"),
    *("--device", "/dev/null:/dev/zero2", "--device-read-bps", "/dev/loop0:1mb", "--expose", "9"),
    *("--mount", "type=volume,source=shaped,target=/m", "--dns", "10.9.9.9", "--add-host", "a:b"),
    *("--stop-timeout", "3", "--cap-add", "net_admin", "--log-opt", "max-size=1m", "--cpus", "1"),
)
ADD_HOST = RUN.index("a:b")


@pytest.fixture(scope="module")
def answers() -> Iterator[dict[str, Any]]:
    """One daemon, driven through each operation that answers with a document."""
    with our_registry() as registry, stack() as barque:
        found = dict(_drive(barque, registry.address))
        yield found


def _drive(barque: Stack, registry: str) -> Iterator[tuple[str, Any]]:
    def get(target: str) -> Any:
        return _json(ask(barque.socket, "GET", target))

    def post(target: str, document: Any = None) -> Any:
        return _json(ask(barque.socket, "POST", target, document=document))

    name = f"{registry}/shape:1"
    barque.docker("tag", "busybox", name)
    barque.docker("push", name)
    barque.docker("volume", "create", "--label", "a=b", "shaped")
    run = list(RUN)
    run[ADD_HOST] = "a:10.1.1.1"
    barque.docker(*run, "busybox", "sh", "-c", "echo hello; exec sleep 1000")
    barque.docker("exec", "shape", "touch", "/new")
    yield "GET /containers/json", get("/containers/json?size=1")
    yield "GET /containers/{id}/json", get("/containers/shape/json?size=1")
    yield "GET /containers/{id}/top", get("/containers/shape/top")
    yield "GET /containers/{id}/changes", get("/containers/shape/changes")
    yield "GET /containers/{id}/stats", get("/containers/shape/stats?stream=0")
    yield "POST /containers/{id}/update", post("/containers/shape/update", {"CpuShares": 512})
    made = post("/containers/shape/exec", {"Cmd": ["true"], "AttachStdout": True})
    yield "POST /containers/{id}/exec", made
    yield "GET /exec/{id}/json", get(f"/exec/{made['Id']}/json")
    yield "POST /commit", post("/commit?container=shape&repo=shape", {"Cmd": ["true"]})
    yield "GET /images/json", get("/images/json?digests=1")
    yield "GET /images/{name}/json", get(f"/images/{name}/json")
    yield "GET /images/{name}/history", get("/images/shape/history")
    yield "GET /distribution/{name}/json", get(f"/distribution/{name}/json")
    yield "GET /info", get("/info")
    yield "GET /version", get("/version")
    yield "GET /system/df", get("/system/df?verbose=1")
    yield "GET /volumes", get("/volumes")
    yield "GET /volumes/{name}", get("/volumes/shaped")
    yield "POST /volumes/create", post("/volumes/create", {"Name": "second", "Labels": {"a": "b"}})
    network = {"Name": "shape", "Options": {"com.docker.network.bridge.enable_icc": "false"}}
    yield "POST /networks/create", post("/networks/create", network)
    barque.docker("network", "connect", "--alias", "other", "shape", "shape")
    yield "GET /networks", get("/networks")
    yield "GET /networks/{id}", get("/networks/shape?verbose=1")
    created = post("/containers/create?name=second", {"Image": "busybox", "Cmd": ["false"]})
    yield "POST /containers/create", created
    post("/containers/second/start")
    yield "POST /containers/{id}/wait", post("/containers/second/wait")
    yield "POST /containers/prune", post("/containers/prune")
    barque.docker("rm", "-f", "-v", "shape")
    yield "DELETE /images/{name}", _json(ask(barque.socket, "DELETE", "/images/shape"))
    barque.docker("rmi", name)
    yield "POST /images/prune", post('/images/prune?filters={"dangling":["false"]}')
    yield "POST /volumes/prune", post('/volumes/prune?filters={"all":["1"]}')
    yield "POST /networks/prune", post("/networks/prune")
    yield "POST /build/prune", post("/build/prune")
    yield "POST /auth", post("/auth", {"username": "u", "password": "p", "serveraddress": registry})
    lines = ask(barque.socket, "GET", f"/events?since=0&until={int(time.time())}").body.splitlines()
    yield "GET /events", [json.loads(line) for line in lines]


def _json(answer: Any) -> Any:
    assert answer.status < 300, answer.body
    return json.loads(answer.body) if answer.body else None


# What answers with no document, with an empty one, or asks a server that is not here.
APART = {
    *("GET /_ping", "HEAD /_ping", "GET /containers/{id}/logs", "GET /images/{name}/get"),
    *("GET /images/get", "GET /images/search", "GET /plugins"),
}


@pytest.mark.parametrize("operation", sorted(set(ANSWERS) - APART))
def test_an_answer_has_its_published_shape(answers: dict[str, Any], operation: str) -> None:
    found = answers[operation]
    shape = [ANSWERS[operation]] if operation == "GET /events" else ANSWERS[operation]
    assert found, "an empty answer shows nothing"
    older = tuple(f": there is no {name}" for name in OLDER.get(operation, "").split())
    wrong = [fault for fault in faults(shape, found) if not fault.endswith(older)]
    assert wrong == []


@pytest.mark.parametrize(
    ("operation", "path", "type", "absent"),
    [
        ("GET /containers/{id}/json", "HostConfig", "HostConfig", "Annotations StorageOpt"),
        ("GET /containers/{id}/json", "State", "ContainerState", ""),
        ("GET /info", "", "SystemInfo", "NRI"),
    ],
)
def test_no_published_field_is_left_out(
    answers: dict[str, Any], operation: str, path: str, type: str, absent: str
) -> None:
    found = answers[operation][path] if path else answers[operation]
    assert set(fields(f"@{type}")) - set(found) - set(absent.split()) == set()


def test_the_check_finds_faults() -> None:
    wrong = {"Id": 1, "Warnings": [True], "More": 0}
    assert sorted(faults("@ContainerCreateResponse", wrong)) == [
        "answer.Id: 1 is no string",
        "answer.Warnings[0]: True is no string",
        "answer: there is no More",
    ]
    assert list(faults("@ContainerCreateResponse", {"Id": "a"})) == ["answer: Warnings is missing"]
