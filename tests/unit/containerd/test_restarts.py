"""Which containers the restart monitor starts again."""

from __future__ import annotations

import pytest

from barque.containerd.proto.containers_pb2 import Container
from barque.containerd.restarts import PREFIX, has_terminal, is_due, output_of


def labelled(**labels: str) -> Container:
    found = {PREFIX + name.replace("_", "-"): value for name, value in labels.items()}
    return Container(id="one", labels=found)


@pytest.mark.parametrize(
    ("labels", "exit_status", "due"),
    [
        ({}, 0, True),
        ({"policy": "always"}, 1, True),
        ({"policy": "always", "explicitly_stopped": "true"}, 0, True),
        ({"policy": "unless-stopped"}, 0, True),
        ({"policy": "unless-stopped", "explicitly_stopped": "false"}, 0, True),
        ({"policy": "unless-stopped", "explicitly_stopped": "true"}, 1, False),
        ({"policy": "on-failure"}, 0, False),
        ({"policy": "on-failure", "count": "1000"}, 1, True),
        ({"policy": "on-failure:2"}, 1, True),
        ({"policy": "on-failure:2", "count": "1"}, 1, True),
        ({"policy": "on-failure:2", "count": "2"}, 1, False),
        ({"policy": "on-failure:2", "count": "many"}, 1, True),
        ({"policy": "no"}, 1, False),
        ({"policy": "sometimes"}, 1, False),
    ],
)
def test_policies(labels: dict[str, str], exit_status: int, due: bool) -> None:
    assert is_due(labelled(**labels), exit_status) is due


@pytest.mark.parametrize(
    ("labels", "address"),
    [
        ({}, ""),
        ({"logpath": "/var/log/one"}, "file:///var/log/one"),
        ({"loguri": "binary:///bin/log", "logpath": "/x"}, "binary:///bin/log"),
    ],
)
def test_where_output_goes(labels: dict[str, str], address: str) -> None:
    assert output_of(labelled(**labels)) == address


@pytest.mark.parametrize(
    ("spec", "terminal"),
    [
        (b"", False),
        (b"[]", False),
        (b"{}", False),
        (b'{"process": 1}', False),
        (b'{"process": {"terminal": false}}', False),
        (b'{"process": {"terminal": true}}', True),
    ],
)
def test_terminals(spec: bytes, terminal: bool) -> None:
    container = Container(id="one")
    container.spec.value = spec
    assert has_terminal(container) is terminal
