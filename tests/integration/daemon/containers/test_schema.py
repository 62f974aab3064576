"""What the API answers, against the published schema of the Engine API (skipped without it)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.support.barque import Stack

SCHEMA = Path(__file__).parents[5] / "shared/schemas/engine-api/v1.55.yaml"
pytestmark = [
    pytest.mark.root,
    pytest.mark.peer,
    pytest.mark.skipif(not SCHEMA.exists(), reason="the published schema is not here"),
]

OLDER = {  # fields that older versions of the API have
    "GraphDriver", "MacAddress", "Bridge", "SandboxKey", "HairpinMode", "LinkLocalIPv6Address",
    "LinkLocalIPv6PrefixLen", "SecondaryIPAddresses", "SecondaryIPv6Addresses", "EndpointID",
    "Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPAddress", "IPPrefixLen",
    "IPv6Gateway", "NetworkID",
}  # fmt: skip


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(SCHEMA.read_text())
    return {"definitions": loaded["definitions"]}


def without_nulls(value: Any) -> Any:
    """Go writes null for what is empty, whatever the schema says."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def properties(schema: dict[str, Any], name: str) -> set[str]:
    found: set[str] = set()
    definition = schema["definitions"][name]
    for part in definition.get("allOf", [definition]):
        if "$ref" in part:
            found |= properties(schema, part["$ref"].rpartition("/")[2])
        found |= set(part.get("properties", {}))
    return found


def conforms(schema: dict[str, Any], name: str, document: dict[str, Any]) -> None:
    rule = {"$ref": f"#/definitions/{name}", **schema}
    jsonschema.validate(without_nulls(document), rule)
    unknown = set(document) - properties(schema, name) - OLDER
    assert not unknown, f"{name} has no {unknown}"


@pytest.fixture
def running(barque: Stack) -> Any:
    barque.docker(
        "run", "-d", "--name", "shape", "-p", "80", "-v", "/data", "--tmpfs", "/t", "-m", "64m",
        "--health-cmd", "true", "--health-interval", "50ms", "--label", "a=b", "--init",
        "--ulimit", "nofile=10:20", "--restart", "on-failure:3", "busybox", "sleep", "1000",
    )  # fmt: skip
    yield
    barque.docker("rm", "-f", "-v", "shape")


def test_inspect(barque: Stack, schema: dict[str, Any], running: None) -> None:
    document = json.loads(barque.docker("inspect", "shape").stdout)[0]
    conforms(schema, "ContainerInspectResponse", document)
    for key, name in (
        ("State", "ContainerState"),
        ("HostConfig", "HostConfig"),
        ("Config", "ContainerConfig"),
        ("NetworkSettings", "NetworkSettings"),
    ):
        conforms(schema, name, document[key])
    for endpoint in document["NetworkSettings"]["Networks"].values():
        conforms(schema, "EndpointSettings", endpoint)
    assert document["Mounts"]
    for mount in document["Mounts"]:
        conforms(schema, "MountPoint", mount)
    missing = properties(schema, "HostConfig") - set(document["HostConfig"])
    assert missing <= {"Annotations", "StorageOpt", "Sysctls", "Mounts"}


def _get(barque: Stack, path: str) -> Any:
    import http.client
    import socket

    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(str(barque.socket))

    connection = Connection("d", timeout=30)
    connection.request("GET", path)
    return json.loads(connection.getresponse().read())


def test_list(barque: Stack, schema: dict[str, Any], running: None) -> None:
    (summary,) = _get(barque, "/containers/json")
    conforms(schema, "ContainerSummary", summary)
    for port in summary["Ports"]:
        conforms(schema, "PortSummary", port)


def test_top_and_stats(barque: Stack, schema: dict[str, Any], running: None) -> None:
    conforms(schema, "ContainerTopResponse", _get(barque, "/containers/shape/top"))
    stats = _get(barque, "/containers/shape/stats?stream=0&one-shot=1")
    conforms(schema, "ContainerStatsResponse", stats)
    conforms(schema, "ContainerMemoryStats", stats["memory_stats"])
    conforms(schema, "ContainerCPUStats", stats["cpu_stats"])
    for counters in stats["networks"].values():
        conforms(schema, "ContainerNetworkStats", counters)
