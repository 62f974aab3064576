"""What newer versions of the API tell, leave out and refuse; older ones go on as they were."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.support.barque import Stack
from tests.support.engine_api import ask

pytestmark = [pytest.mark.root, pytest.mark.peer]

OLD, NEW = "/v1.51", "/v1.55"


@pytest.fixture
def name(barque: Stack) -> Iterator[str]:
    word = f"a{secrets.token_hex(4)}"
    barque.docker("run", "-d", "--name", word, "busybox", "sleep", "600")
    yield word
    barque.docker("rm", "-f", word)


def get(barque: Stack, target: str) -> Any:
    answer = ask(barque.socket, "GET", target)
    assert answer.status == 200, answer.body
    return answer.json()


def test_addresses_are_told_of_each_network(barque: Stack, name: str) -> None:
    before = get(barque, f"{OLD}/containers/{name}/json")["NetworkSettings"]
    now = get(barque, f"{NEW}/containers/{name}/json")["NetworkSettings"]
    assert before["IPAddress"] == now["Networks"]["bridge"]["IPAddress"] != ""
    assert set(now) == {"SandboxID", "SandboxKey", "Ports", "Networks"}


def test_what_an_image_lacks_is_left_out(barque: Stack) -> None:
    before = get(barque, f"{OLD}/images/busybox/json")
    now = get(barque, f"{NEW}/images/busybox/json")
    assert before["Parent"] == before["Author"] == ""
    assert not {"Parent", "DockerVersion", "Author"} & set(now)
    assert all(now["Config"].values())
    assert now["Config"]["Cmd"] == ["sh"]


def test_events_have_one_set_of_names(barque: Stack, name: str) -> None:
    query = f"since=0&until={int(time.time()) + 1}&filters=" + quote(
        json.dumps({"container": [name]})
    )
    for version, old in ((OLD, True), (NEW, False)):
        lines = ask(barque.socket, "GET", f"{version}/events?{query}").body.splitlines()
        events = [json.loads(line) for line in lines]
        assert {"create", "start"} <= {event["Action"] for event in events}
        assert all(("status" in event) == old for event in events)


@pytest.mark.parametrize(
    ("version", "accepted", "kind"),
    [
        (OLD, "application/json-seq", "application/json"),
        ("/v1.52", "application/json-seq", "application/json-seq"),
        ("/v1.52", "text/html, application/x-ndjson;q=1", "application/x-ndjson"),
        ("/v1.52", "application/jsonl", "application/json"),
        (NEW, "application/jsonl", "application/jsonl"),
        (NEW, "*/*", "application/json"),
    ],
)
def test_events_come_as_the_client_takes_them(
    barque: Stack, name: str, version: str, accepted: str, kind: str
) -> None:
    target = f"{version}/events?since=0&until={int(time.time()) + 1}"
    answer = ask(barque.socket, "GET", target, headers={"Accept": accepted})
    assert answer.headers["content-type"] == kind
    lines = [line for line in answer.body.split(b"\n") if line]
    assert lines
    assert all(line.startswith(b"\x1e") == (kind == "application/json-seq") for line in lines)
    assert all("Action" in json.loads(line.removeprefix(b"\x1e")) for line in lines)


def test_what_is_on_the_disk_is_summed_up(barque: Stack, name: str) -> None:
    legacy = {"Images", "Containers", "Volumes", "BuildCache", "LayersSize"}
    before = get(barque, f"{OLD}/system/df")
    both = get(barque, "/v1.52/system/df")
    now = get(barque, f"{NEW}/system/df")
    verbose = get(barque, f"{NEW}/system/df?verbose=1")
    sums = {"ImageUsage", "ContainerUsage", "VolumeUsage", "BuildCacheUsage"}
    assert set(before) == legacy
    assert set(both) == legacy | sums
    assert set(now) == set(verbose) == sums
    assert now["ContainerUsage"]["ActiveCount"] == 1
    assert now["ImageUsage"]["TotalSize"] == before["LayersSize"]
    assert "Items" not in now["ImageUsage"]
    assert len(verbose["ContainerUsage"]["Items"]) == now["ContainerUsage"]["TotalCount"] == 1
    assert set(get(barque, f"{NEW}/system/df?type=image")) == {"ImageUsage"}


def test_a_network_says_what_is_left_of_its_addresses(barque: Stack) -> None:
    network = f"n{secrets.token_hex(4)}"
    subnet = f"10.214.{barque.subnet}.0/24"
    options = ("--subnet", subnet, "--ip-range", f"10.214.{barque.subnet}.128/25")
    barque.docker("network", "create", *options, network)
    try:
        found = get(barque, f"{NEW}/networks/{network}")["Status"]["IPAM"]["Subnets"][subnet]
        barque.docker(
            "run", "-d", "--name", f"{network}c", "--network", network, "busybox", "sleep", "600"
        )
        now = get(barque, f"{NEW}/networks/{network}")["Status"]["IPAM"]["Subnets"][subnet]
        assert found["IPsInUse"] == 3  # its own, the gateway's, the broadcast's
        assert now["IPsInUse"] == 4
        assert now["DynamicIPsAvailable"] == found["DynamicIPsAvailable"] - 1
        assert "Status" not in get(barque, f"{OLD}/networks/{network}")
    finally:
        barque.docker("rm", "-f", f"{network}c", check=False)
        barque.docker("network", "rm", network)


def test_an_address_of_hardware_is_an_endpoints(barque: Stack) -> None:
    body = {"Image": "busybox", "MacAddress": "02:42:ac:11:00:99"}
    refused = ask(barque.socket, "POST", f"{NEW}/containers/create", document=body)
    assert refused.status == 400
    assert "container-wide MAC address no longer supported" in refused.message
    made = ask(barque.socket, "POST", f"{OLD}/containers/create", document=body)
    assert made.status == 201
    barque.docker("rm", made.json()["Id"])


def test_an_empty_list_of_bindings_is_warned_of(barque: Stack) -> None:
    body = {"Image": "busybox", "HostConfig": {"PortBindings": {"80/tcp": []}}}
    for version, count in ((OLD, 0), (NEW, 1)):
        made = ask(barque.socket, "POST", f"{version}/containers/create", document=body).json()
        assert len([w for w in made["Warnings"] if "80/tcp" in w]) == count
        barque.docker("rm", made["Id"])


def test_our_command_reads_the_newest(barque: Stack, name: str) -> None:
    table = barque.cli("system", "df").stdout.decode().splitlines()
    assert [line.split()[0] for line in table] == ["TYPE", "Images", "Containers", "Local", "Build"]
    assert table[2].split()[1:3] == ["1", "1"]
    assert name in barque.cli("system", "df", "-v").stdout.decode()
    format = "{{.ID}} {{.Status}} {{.From}}"
    until = str(int(time.time()) + 1)
    flags = ("--since", "1", "--until", until, "--filter", f"container={name}", "--format", format)
    lines = barque.cli("events", *flags).stdout.decode().splitlines()
    assert any(line.endswith(" start busybox") for line in lines), lines


def test_limits_of_devices_are_changed_and_lifted(barque: Stack) -> None:
    word = f"a{secrets.token_hex(4)}"
    flags = ("--device-read-bps", "/dev/loop0:1mb", "--device-write-iops", "/dev/loop0:100")
    barque.docker("run", "-d", "--name", word, *flags, "busybox", "sleep", "600")

    def update(document: Any) -> Any:
        target = f"{NEW}/containers/{word}/update"
        answer = ask(barque.socket, "POST", target, document=document)
        assert answer.status == 200, answer.body
        host = get(barque, f"{NEW}/containers/{word}/json")["HostConfig"]
        return host["BlkioDeviceReadBps"], host["BlkioDeviceWriteIOps"]

    def kernel(name: str) -> str:
        script = "blkio=$(sed -n 's/.*:blkio://p' /proc/1/cgroup); echo $blkio"
        group = barque.docker("exec", word, "sh", "-c", script).stdout.decode().strip()
        return Path(f"/sys/fs/cgroup/blkio{group}/blkio.throttle.{name}").read_text()

    try:
        assert kernel("read_bps_device").split() == ["7:0", str(1 << 20)]
        more = {"BlkioDeviceReadBps": [{"Path": "/dev/loop0", "Rate": 2048}]}
        reads, writes = update(more)
        assert (reads[0]["Rate"], writes[0]["Rate"]) == (2048, 100)
        assert kernel("read_bps_device").split() == ["7:0", "2048"]
        assert update({"BlkioDeviceReadBps": None})[0][0]["Rate"] == 2048
        assert update({"BlkioDeviceReadBps": []})[0] == []
        assert kernel("read_bps_device").split() == []
        assert kernel("write_iops_device").split() == ["7:0", "100"]
    finally:
        barque.docker("rm", "-f", word)
