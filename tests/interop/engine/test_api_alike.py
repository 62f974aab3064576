"""What programs ask of the API beside the command: the same answers as from dockerd."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.engine_api import Answer, ask

pytestmark = [pytest.mark.root, pytest.mark.peer]
LIMIT_S = 60.0
SLEEP = ("busybox", "sleep", "600")


@pytest.fixture
def name(engine: Any) -> Iterator[str]:
    word = f"q{secrets.token_hex(4)}"
    yield word
    engine.docker("rm", "-f", word, check=False)


@pytest.fixture
def running(engine: Any, name: str) -> str:
    engine.docker("run", "-d", "--name", name, "--network", "none", *SLEEP)
    return name


def request(engine: Any, line: str, document: Any = None, version: str = "1.41") -> Answer:
    method, target = line.split(" ", 1)
    return ask(engine.socket, method, f"/v{version}{target}", document=document)


def host_config(engine: Any, name: str) -> Any:
    return request(engine, f"GET /containers/{name}/json").json()["HostConfig"]


def pids_max(engine: Any, name: str) -> str:
    look = "cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max"
    done = engine.docker("exec", name, "sh", "-c", look)
    return str(done.stdout.decode().strip())


@pytest.mark.parametrize("limit", [0, -1, -2])
def test_a_limit_of_processes_is_taken_away(engine: Any, name: str, limit: int) -> None:
    engine.docker("run", "-d", "--name", name, "--pids-limit", "32", *SLEEP)
    assert request(engine, f"POST /containers/{name}/update", {"PidsLimit": limit}).status == 200
    assert host_config(engine, name)["PidsLimit"] == 0
    assert pids_max(engine, name) == "max"
    engine.docker("restart", "-t", "0", name)
    assert pids_max(engine, name) == "max"


def test_old_clients_know_no_limit_of_processes(engine: Any, name: str) -> None:
    engine.docker("run", "-d", "--name", name, "--pids-limit", "32", *SLEEP)
    done = request(engine, f"POST /containers/{name}/update", {"pidslimit": 16}, version="1.39")
    assert done.status == 200
    assert (host_config(engine, name)["PidsLimit"], pids_max(engine, name)) == (32, "32")


@pytest.mark.parametrize(
    ("version", "given", "expected"),
    [
        ("1.39", {}, "private"),
        ("1.39", {"HostConfig": None}, "private"),
        ("1.39", {"HostConfig": {}}, "shareable"),
        ("1.39", {"hostConfig": {"ipcMode": ""}}, "shareable"),
        ("1.39", {"HostConfig": {"IpcMode": "none"}}, "none"),
        ("1.40", {"HostConfig": {}}, "private"),
    ],
)
def test_containers_of_old_clients_can_be_joined(
    engine: Any, name: str, version: str, given: dict[str, Any], expected: str
) -> None:
    document = {"Image": "busybox", "Cmd": ["true"], **given}
    made = request(engine, f"POST /containers/create?name={name}", document, version=version)
    assert made.status == 201
    assert host_config(engine, name)["IpcMode"] == expected


def test_the_shared_memory_of_the_machine(engine: Any) -> None:
    """With the machine's IPC namespace comes its /dev/shm: programs find each other there."""
    word = f"q{secrets.token_hex(4)}"
    script = f"echo it >/dev/shm/{word}; grep -c ' /dev/mqueue mqueue ' /proc/mounts"
    try:
        done = engine.docker("run", "--rm", "--ipc", "host", "busybox", "sh", "-c", script)
        assert done.stdout.decode().strip() == "1"
        assert Path("/dev/shm", word).read_text() == "it\n"
    finally:
        Path("/dev/shm", word).unlink(missing_ok=True)


def test_the_size_of_no_terminal(engine: Any, running: str) -> None:
    assert request(engine, f"POST /containers/{running}/resize?h=10&w=10").status == 200


@pytest.mark.parametrize("path", ["/etc/passwd/", "/etc/passwd/x", "/etc/passwd/."])
def test_what_is_no_directory_holds_nothing(engine: Any, running: str, path: str) -> None:
    """dockerd says so with 500, and names a path of the machine."""
    answer = request(engine, f"GET /containers/{running}/archive?path={path}")
    assert answer.status in {400, 500}
    assert answer.message.endswith(f"{path}: not a directory")


@pytest.mark.parametrize("path", ["/etc/passwd/", "/etc/passwd"])
def test_nothing_is_unpacked_into_what_is_no_directory(
    engine: Any, running: str, path: str
) -> None:
    answer = request(engine, f"PUT /containers/{running}/archive?path={path}")
    assert answer.status in {400, 500}
    assert answer.message == "extraction point is not a directory"


@pytest.mark.parametrize("query", ["repo=sha256&tag=x", "repo=library/sha256", "repo=sha256:x"])
def test_an_image_is_not_called_as_digests_are(engine: Any, running: str, query: str) -> None:
    for line in (f"POST /images/busybox/tag?{query}", f"POST /commit?container={running}&{query}"):
        answer = request(engine, line, {})
        words = "refusing to create an ambiguous tag using digest algorithm as name"
        assert (answer.status, answer.message) == (400, words)


@pytest.mark.parametrize(
    ("platform", "words"),
    [
        ("foobar", '"foobar": unknown operating system or architecture: invalid argument'),
        ("a/b/c/d", '"a/b/c/d": cannot parse platform specifier: invalid argument'),
    ],
)
def test_a_platform_that_is_none(engine: Any, platform: str, words: str) -> None:
    made = request(engine, f"POST /containers/create?platform={platform}", {"Image": "busybox"})
    assert (made.status, made.message) == (400, words)
    pulled = request(engine, f"POST /images/create?fromImage=busybox&platform={platform}")
    assert (pulled.status, pulled.message) == (400, words)


@pytest.mark.parametrize("platform", ["linux", "amd64", "linux/x86_64", "x86_64", "Linux/AMD64"])
def test_a_platform_by_its_other_names(engine: Any, name: str, platform: str) -> None:
    assert os.uname().machine == "x86_64"
    line = f"POST /containers/create?name={name}&platform={platform}"
    assert request(engine, line, {"Image": "busybox"}).status == 201


def test_the_body_is_read_before_the_exec_is_sought(engine: Any) -> None:
    answer = request(engine, "POST /exec/nosuch/start")
    assert answer.status == 400
    assert "got EOF while reading request body" in answer.message


def root_of(engine: Any) -> str:
    return str(json.loads(engine.docker("info", "-f", "json").stdout)["DockerRootDir"])


def binds(source: str, propagation: str) -> Iterator[dict[str, Any]]:
    mode = f":{propagation}" if propagation else ""
    yield {"Binds": [f"{source}:/held{mode}"]}
    options = {"Propagation": propagation} if propagation else {}
    mount = {"Type": "bind", "Source": source, "Target": "/held", "BindOptions": options}
    yield {"Mounts": [mount]}


@pytest.mark.parametrize(("asked", "got"), [("", "rslave"), ("rslave",) * 2, ("rshared",) * 2])
def test_a_bind_of_the_daemons_root_lets_go(engine: Any, name: str, asked: str, got: str) -> None:
    """What the daemon unmounts there would stay mounted in the container, and busy."""
    root = root_of(engine)
    for host in (*binds(root, asked), *binds(f"{root}/containers", asked)):
        document = {"Image": "busybox", "HostConfig": host}
        assert request(engine, f"POST /containers/create?name={name}", document).status == 201
        (point,) = request(engine, f"GET /containers/{name}/json").json()["Mounts"]
        assert point["Propagation"] == got
        engine.docker("rm", name)


@pytest.mark.parametrize("asked", ["private", "rprivate", "slave", "shared"])
def test_a_bind_of_the_daemons_root_that_would_hold_on_is_refused(
    engine: Any, name: str, asked: str
) -> None:
    root = root_of(engine)
    for host in (*binds(root, asked), *binds(f"{root}/containers", asked)):
        document = {"Image": "busybox", "HostConfig": host}
        answer = request(engine, f"POST /containers/create?name={name}", document)
        assert answer.status == 400
        assert 'must use either propagation mode "rslave" or "rshared"' in answer.message


def log_of_health(engine: Any, name: str) -> Any:
    return request(engine, f"GET /containers/{name}/json").json()["State"]["Health"]["Log"]


def test_a_check_of_health_that_takes_too_long(engine: Any, name: str) -> None:
    flags = ("--health-cmd", "sleep 60", "--health-interval", "500ms", "--health-timeout", "500ms")
    engine.docker("run", "-d", "--name", name, *flags, "--health-retries", "1", *SLEEP)
    deadline = time.monotonic() + LIMIT_S
    while not (log := log_of_health(engine, name)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert log[0]["ExitCode"] == -1
    assert log[0]["Output"].startswith("Health check exceeded timeout (500ms)")


def test_a_new_container_has_written_nothing(engine: Any, name: str) -> None:
    """Directories and empty files that it is started with are nobody's bytes."""
    engine.docker("run", "-d", "--name", name, "-v", "/made/below", *SLEEP)
    line = f'GET /containers/json?all=1&size=1&filters={{"name":["{name}"]}}'
    (before,) = request(engine, line).json()
    assert before.get("SizeRw", 0) == 0
    script = (
        "echo 12345 >/a; ln /a /b; ln -s a /link; mkdir /d; dd if=/dev/zero of=/d/c bs=5k count=1"
    )
    engine.docker("exec", name, "sh", "-c", script)
    (after,) = request(engine, line).json()
    assert after["SizeRw"] == 6 + 5120 + 1
    engine.docker("stop", "-t", "0", name)
    (ended,) = request(engine, line).json()
    assert ended["SizeRw"] == after["SizeRw"]
    image = request(engine, "GET /images/busybox/json").json()["Size"]
    assert ended["SizeRootFs"] == ended["SizeRw"] + image
