"""The connection that a shim is given with the order to start."""

from __future__ import annotations

import socket
from contextlib import closing
from typing import Any

import pytest

from barque import errors
from tests.support import rootfs
from tests.support.shim import Client, Shim, Shims

pytestmark = pytest.mark.root


def connection() -> tuple[Client, socket.socket]:
    """A client, and the end that is the shim's; that of a shim does not block."""
    ours, others = socket.socketpair()
    others.setblocking(False)
    return Client("", ours), others


def spec_of(it: Shims, identity: str, *, group: str = "") -> dict[str, Any]:
    spec = rootfs.config("sh", "-c", "exit 4")
    spec["linux"]["cgroupsPath"] = f"/{it.root.name}/{identity}"
    if group:
        spec["annotations"] = {"io.containerd.runc.v2.group": group}
    return spec


@pytest.mark.parametrize("ahead", [False, True])
def test_what_is_asked_before_the_shim_is_there_waits_for_it(ours: Shims, ahead: bool) -> None:
    if ahead:
        ours.start("before", rootfs.config("true"))
    bundle = rootfs.write_bundle(ours.root / "one", spec_of(ours, "one"))
    client, others = connection()
    with closing(client):
        created = client.send("Create", id="one", bundle=str(bundle), options=ours.options())
        with others:
            answer = ours.invoke(bundle, "one", "start", b"", others.fileno())
        assert answer["taken"]
        shim = Shim(ours, "one", bundle, answer["stdout"])
        ours.started.append(shim)
        assert client.answer(created, "Create")["pid"] > 1
        client.call("Start", id="one")
        assert shim.call("Wait")["exit_status"] == 4  # by a connection like any other
        assert client.call("Delete", id="one")["exit_status"] == 4
    shim.shutdown()


def test_the_shim_of_its_group_has_connections_already(ours: Shims) -> None:
    first = ours.start("one", spec_of(ours, "one", group="pod"))
    first.create()
    bundle = rootfs.write_bundle(ours.root / "two", spec_of(ours, "two", group="pod"))
    client, others = connection()
    with closing(client):
        asked = client.send("Connect", id="two")
        with others:
            answer = ours.invoke(bundle, "two", "start", b"", others.fileno())
        assert (answer["code"], answer["taken"]) == (0, False)
        with pytest.raises(ConnectionError):
            client.answer(asked, "Connect")
    second = Shim(ours, "two", bundle, answer["stdout"])
    ours.started.append(second)
    second.create()
    second.call("Delete")
    first.end()


def test_of_a_start_that_fails_it_is_closed(ours: Shims) -> None:
    bundle = rootfs.write_bundle(ours.root / "one", spec_of(ours, "one"))
    client, others = connection()
    with closing(client):
        asked = client.send("Connect", id="one")
        with others:
            answer = ours.invoke(bundle, "../one", "start", b"", others.fileno())
        assert (answer["code"], answer["taken"]) == (1, False)
        with pytest.raises(ConnectionError):
            client.answer(asked, "Connect")


def test_a_task_that_cannot_be_made_leaves_the_shim(ours: Shims) -> None:
    spec = spec_of(ours, "one")
    spec["process"]["args"] = ["/no/such/program"]
    bundle = rootfs.write_bundle(ours.root / "one", spec)
    client, others = connection()
    with closing(client):
        created = client.send("Create", id="one", bundle=str(bundle), options=ours.options())
        with others:
            answer = ours.invoke(bundle, "one", "start", b"", others.fileno())
        shim = Shim(ours, "one", bundle, answer["stdout"])
        ours.started.append(shim)
        with pytest.raises(errors.BarqueError, match="OCI runtime create failed"):
            client.answer(created, "Create")
    shim.shutdown()
