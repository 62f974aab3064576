"""Metrics as Prometheus reads them: ours have the names, labels and kinds of containerd's."""

from __future__ import annotations

import re
import socket
import urllib.request
from collections.abc import Iterator

import pytest

from tests.support.node import OURS, RUNC, Node, node, wait_until

pytestmark = [pytest.mark.root, pytest.mark.peer]
# Of containerd's own, what is about Go or about services that we do not have.
THEIRS_ALONE = re.compile(r"(go_|promhttp_|containerd_cri_|process_virtual_memory_max_bytes)")
LABELS = re.compile(r'(\w+)="')


def free_port() -> int:
    """One that the kernel has just given out, and will not again soon."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


@pytest.fixture(scope="module", params=["ours", "real"])
def measured(request: pytest.FixtureRequest) -> Iterator[tuple[Node, str]]:
    for _ in range(5):  # another may take the port before us
        port = free_port()
        text = f'[metrics]\naddress = "127.0.0.1:{port}"\ngrpc_histogram = true\n'
        try:
            with node(request.param, settings=text) as it:
                yield it, f"http://127.0.0.1:{port}/v1/metrics"
                return
        except AssertionError as error:
            if "address already in use" not in str(error).lower():
                raise
    raise AssertionError("no port is free")


def page(url: str) -> dict[str, set[str]]:
    """Names of metrics, each with the names of its labels."""
    found: dict[str, set[str]] = {}
    with urllib.request.urlopen(url, timeout=20) as answer:
        text = answer.read().decode()
    for line in text.splitlines():
        if not line.startswith("#"):
            name = re.match(r"\w+", line)
            assert name is not None
            found.setdefault(name.group(), set()).update(LABELS.findall(line))
    return found


EXPECTED: dict[str, set[str]] = {}


def test_names_are_the_same(measured: tuple[Node, str]) -> None:
    it, url = measured
    it.run("one", "sleep", "1000", runtime=RUNC if it.kind == "real" else OURS, flags=("-d",))
    assert wait_until(lambda: "container_pids_current" in page(url), 20.0)
    found = {name: labels for name, labels in page(url).items() if not THEIRS_ALONE.match(name)}
    it.end("one")
    if not EXPECTED:
        EXPECTED.update(found)
        return
    assert set(EXPECTED) == set(found)
    assert found == EXPECTED


def test_other_pages_are_not_there(measured: tuple[Node, str]) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(measured[1].removesuffix("/v1/metrics") + "/", timeout=20)
