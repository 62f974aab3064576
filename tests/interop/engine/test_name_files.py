"""hosts and resolv.conf of a container that joins and leaves networks: ours and dockerd's."""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.peer]


def read(engine: Any, container: str, path: str) -> str:
    return str(engine.docker("exec", container, "cat", path).stdout.decode())


def address(engine: Any, container: str, network: str) -> str:
    form = f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}'
    return str(engine.docker("inspect", "-f", form, container).stdout.decode().strip())


def test_they_follow_the_networks(engine: Any) -> None:
    name, network = f"c{secrets.token_hex(4)}", f"n{secrets.token_hex(4)}"
    with ExitStack() as undo:
        engine.docker("network", "create", network)
        undo.callback(engine.docker, "network", "rm", network)
        engine.docker("run", "-d", "--name", name, "-h", "me", "busybox", "sleep", "1000")
        undo.callback(engine.docker, "rm", "-f", name)
        engine.docker("exec", name, "sh", "-c", "echo 192.0.2.1 mine >> /etc/hosts")
        assert "127.0.0.11" not in read(engine, name, "/etc/resolv.conf")
        engine.docker("network", "connect", network, name)
        given = address(engine, name, network)
        hosts = read(engine, name, "/etc/hosts")
        assert f"{given}\tme\n" in hosts
        assert "192.0.2.1 mine\n" in hosts
        assert "nameserver 127.0.0.11\n" in read(engine, name, "/etc/resolv.conf")
        engine.docker("network", "disconnect", network, name)
        hosts = read(engine, name, "/etc/hosts")
        assert given not in hosts
        assert "192.0.2.1 mine\n" in hosts
