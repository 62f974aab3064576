"""`linux.netDevices`: interfaces of the host that a container gets, and gives back."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.runc.conftest import Case

pytestmark = [pytest.mark.root, pytest.mark.runtimes("warm")]


def ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def device() -> Iterator[str]:
    """One end of a veth pair, with addresses."""
    name = f"bq{os.getpid() % 100000}n"
    ip("link", "add", name, "type", "veth", "peer", "name", f"{name}p")
    try:
        ip("address", "add", "198.51.100.7/24", "dev", name)
        ip("address", "add", "2001:db8::7/64", "dev", name, "nodad")
        yield name
    finally:
        subprocess.run(["ip", "link", "delete", f"{name}p"], check=False)
    assert not Path(f"/sys/class/net/{name}").exists()


def test_it_is_the_containers(case: Case, device: str) -> None:
    spec = case.configure("sh", "-c", "ip address show dev given; ls /sys/class/net; sleep 1000")
    spec["linux"]["netDevices"] = {device: {"name": "given"}}
    mac = Path(f"/sys/class/net/{device}/address").read_text().strip()
    case.started(spec=spec)
    assert not Path(f"/sys/class/net/{device}").exists()
    out = case.call("exec", case.id, "ip", "address", "show", "dev", "given").check().out
    assert "198.51.100.7/24" in out
    assert "2001:db8::7/64" in out
    assert mac in out
    assert "UP" in out.splitlines()[0]


def test_its_own_name_is_the_default(case: Case, device: str) -> None:
    spec = case.configure("cat", f"/sys/class/net/{device}/ifindex")
    spec["linux"]["netDevices"] = {device: {}}
    assert int(case.run(spec=spec).check().out) > 0


def test_it_comes_back_when_the_container_fails(case: Case, device: str) -> None:
    spec = case.configure("/nosuch")
    spec["linux"]["netDevices"] = {device: {"name": "given"}}
    spec["hooks"] = {"createRuntime": [{"path": "/bin/false"}]}
    assert case.create(spec=spec).code == 1
    out = ip("address", "show", "dev", device)
    assert "198.51.100.7/24" in out


def test_one_that_is_not_there(case: Case, device: str) -> None:
    spec = case.configure("true")
    spec["linux"]["netDevices"] = {device: {"name": "one"}, "bqnosuch": {}}
    result = case.run(spec=spec)
    assert result.code == 1
    assert "linux.netDevices: bqnosuch: no such device" in result.err
    assert Path(f"/sys/class/net/{device}").exists()


def test_it_needs_a_namespace(case: Case, device: str) -> None:
    spec = case.configure("true")
    spec["linux"]["netDevices"] = {device: {}}
    spec["linux"]["namespaces"] = [n for n in spec["linux"]["namespaces"] if n["type"] != "network"]
    spec["mounts"] = [m for m in spec["mounts"] if m["destination"] != "/sys"]
    assert "without a private NET namespace" in case.run(spec=spec).err


@pytest.mark.parametrize("name", ["", "a" * 16, "a/b", "..", "a b"])
def test_names_that_cannot_be(case: Case, device: str, name: str) -> None:
    spec = case.configure("true")
    spec["linux"]["netDevices"] = {device: {"name": name or "."}}
    result = case.run(spec=spec)
    assert result.code == 1
    assert len(result.err.splitlines()) == 1
    assert Path(f"/sys/class/net/{device}").exists()


def test_resctrl_that_is_not_mounted(case: Case) -> None:
    if Path("/sys/fs/resctrl/info").exists():
        pytest.skip("resctrl is mounted")
    spec = case.configure("true")
    spec["linux"]["intelRdt"] = {"closID": "x", "l3CacheSchema": "L3:0=f"}
    result = case.run(spec=spec)
    assert result.code == 1
    assert "resctrl is not mounted" in result.err
