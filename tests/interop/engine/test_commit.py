"""commit and export by the real docker CLI, on our daemon and on Debian's dockerd."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.barque import Stack
from tests.support.docker_peer import Peer, docker_peer

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(180)]

Daemon = Stack | Peer
CHANGES = (
    "echo hello >/etc/new; rm /bin/yes; mkdir -p /a/b; ln -s /etc/new /a/link; echo x >/etc/passwd"
)


@pytest.fixture(scope="module", params=["ours", "docker"])
def daemon(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    if request.param == "ours":
        yield request.getfixturevalue("barque")
        return
    with docker_peer() as peer:
        yield peer


@pytest.fixture
def container(daemon: Daemon) -> Iterator[str]:
    name = f"c{uuid.uuid4().hex[:8]}"
    daemon.docker(
        *("run", "--net=none", "--name", name, "-e", "FROM=container", "-w", "/tmp"),
        *("--label", "one=1", "busybox", "sh", "-c", CHANGES),
    )
    yield name
    daemon.docker("rm", "-f", name)


@pytest.fixture
def committed(daemon: Daemon) -> Iterator[str]:
    name = f"made{uuid.uuid4().hex[:8]}:1"
    yield name
    daemon.docker("rmi", "-f", name, check=False)


def out(daemon: Daemon, *arguments: str) -> str:
    return daemon.docker(*arguments).stdout.decode().strip()


def inspected(daemon: Daemon, image: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(daemon.docker("image", "inspect", image).stdout)[0]
    return found


def test_a_commit_runs(daemon: Daemon, container: str, committed: str) -> None:
    id = out(daemon, "commit", "-a", "me <me@x>", "-m", "what I did", container, committed)
    found = inspected(daemon, committed)
    assert found["Id"] == id
    assert (found["Author"], found["Comment"]) == ("me <me@x>", "what I did")
    assert "FROM=container" in found["Config"]["Env"]
    assert found["Config"]["WorkingDir"] == "/tmp"
    assert found["Config"]["Labels"]["one"] == "1"
    script = "cat /etc/new /a/link; test -e /bin/yes || echo gone; cat /etc/passwd; pwd"
    ran = out(daemon, "run", "--rm", "--net=none", committed, "sh", "-c", script)
    assert ran.split() == ["hello", "hello", "gone", "x", "/tmp"]
    assert len(found["RootFS"]["Layers"]) == 2


def top_layer(daemon: Daemon, image: str) -> dict[str, int]:
    """The modes of what is in it, by name."""
    data = io.BytesIO(daemon.docker("save", image).stdout)
    with tarfile.open(fileobj=data) as saved:
        manifest = saved.extractfile("manifest.json")
        assert manifest is not None
        layer = saved.extractfile(json.load(manifest)[0]["Layers"][-1])
        with tarfile.open(fileobj=layer) as archive:
            return {one.name: one.mode & 0o7777 for one in archive}


@pytest.mark.parametrize("mode", ["755", "700"])
def test_a_layer_has_what_the_container_changed(daemon: Daemon, committed: str, mode: str) -> None:
    """Not what was made in it to mount on: a directory is in it for its own sake."""
    name = f"c{uuid.uuid4().hex[:8]}"
    script = f"echo x >/root/x; rm /bin/yes; chmod {mode} /etc; ls -l /etc >/root/etc"
    daemon.docker("run", "--net=none", "--name", name, "busybox", "sh", "-c", script)
    try:
        daemon.docker("commit", name, committed)
        wanted = {"bin", "bin/.wh.yes", "root", "root/x", "root/etc"}
        found = top_layer(daemon, committed)
        assert set(found) - {"etc"} == wanted
        assert found.get("etc", 0o755) == int(mode, 8)
    finally:
        daemon.docker("rm", "-f", name)


def test_a_commit_of_no_change_adds_no_layer(daemon: Daemon, committed: str) -> None:
    name = f"c{uuid.uuid4().hex[:8]}"
    flags = ("--net=none", "--name", name, "-v", "/tmp", "busybox")
    daemon.docker("run", *flags, "true")
    try:
        daemon.docker("commit", "-m", "nothing", "-c", "LABEL new=1", name, committed)
        before, after = inspected(daemon, "busybox"), inspected(daemon, committed)
        assert after["RootFS"]["Layers"] == before["RootFS"]["Layers"]
        steps = out(daemon, "history", "--format", "{{.Size}} {{.Comment}}", committed)
        assert steps.splitlines()[0] == "0B nothing"
        assert out(daemon, "run", "--rm", "--net=none", committed, "echo", "runs") == "runs"
    finally:
        daemon.docker("rm", "-f", name)


def test_changes_lie_over_the_container(daemon: Daemon, container: str, committed: str) -> None:
    flags = []
    for change in (
        *('CMD ["echo", "changed"]', "ENV FROM=image ALSO=this", "LABEL two=2", "EXPOSE 80"),
        *("USER 1000", "WORKDIR sub", "VOLUME /data"),
        "HEALTHCHECK --interval=5s --retries=2 CMD true",
    ):
        flags += ["-c", change]
    daemon.docker("commit", *flags, container, committed)
    config = inspected(daemon, committed)["Config"]
    assert config["Cmd"] == ["echo", "changed"]
    assert {"FROM=image", "ALSO=this"} <= set(config["Env"])
    assert {"one": "1", "two": "2"}.items() <= config["Labels"].items()
    assert "80/tcp" in config["ExposedPorts"]
    assert (config["User"], config["WorkingDir"]) == ("1000", "/tmp/sub")
    assert "/data" in config["Volumes"]
    assert config["Healthcheck"]["Test"] == ["CMD-SHELL", "true"]
    assert config["Healthcheck"]["Interval"] == 5_000_000_000
    assert config["Healthcheck"]["Retries"] == 2


def test_a_running_container_is_paused_meanwhile(daemon: Daemon, committed: str) -> None:
    name = f"r{uuid.uuid4().hex[:8]}"
    daemon.docker("run", "-d", "--net=none", "--name", name, "busybox", "sleep", "1000")
    try:
        before = out(daemon, "info", "-f", "{{.SystemTime}}")
        daemon.docker("commit", name, committed)
        after = out(daemon, "info", "-f", "{{.SystemTime}}")
        actions = out(
            daemon,
            *("events", "--since", before, "--until", after, "--filter", f"container={name}"),
            *("--format", "{{.Action}}"),
        ).split()
        assert sorted(actions) == ["commit", "pause", "unpause"]
        assert actions[0] == "pause"
        assert out(daemon, "inspect", "-f", "{{.State.Status}}", name) == "running"
    finally:
        daemon.docker("rm", "-f", name)


def test_a_commit_of_a_commit_is_dangling(daemon: Daemon, container: str) -> None:
    first = out(daemon, "commit", container)
    assert inspected(daemon, first)["RepoTags"] == []
    other = out(daemon, "create", "--net=none", first, "true")
    second = out(daemon, "commit", other)
    assert len(inspected(daemon, second)["RootFS"]["Layers"]) >= 2
    daemon.docker("rm", other)
    daemon.docker("rmi", second)
    daemon.docker("rmi", first, check=False)  # dockerd removes it with its child


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("commit", "nothere"), "No such container: nothere"),
        (("export", "nothere"), "No such container: nothere"),
        (("commit", "-c", "NONSENSE x", "{}"), "nonsense is not a valid change command"),
        (("commit", "-c", "RUN true", "{}"), "run is not a valid change command"),
    ],
)
def test_what_cannot_be(
    daemon: Daemon, container: str, arguments: tuple[str, ...], text: str
) -> None:
    done = daemon.docker(*(word.replace("{}", container) for word in arguments), check=False)
    assert done.returncode != 0
    assert text.lower() in done.stderr.decode().lower()


def test_export_is_the_whole_tree(daemon: Daemon, container: str, tmp_path: Path) -> None:
    path = tmp_path / "out.tar"
    daemon.docker("export", "-o", str(path), container)
    listed = subprocess.run(["tar", "-tf", str(path)], capture_output=True, text=True, check=True)
    names = listed.stdout.split("\n")
    assert {"etc/new", "a/", "a/b/", "a/link", "bin/busybox"} <= set(names)
    assert "bin/yes" not in names
    with tarfile.open(path) as archive:
        content = archive.extractfile("etc/new")
        assert content is not None
        assert content.read() == b"hello\n"
        assert archive.getmember("a/link").linkname == "/etc/new"


def test_export_leaves_volumes_out(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "host").write_text("host")
    name = f"v{uuid.uuid4().hex[:8]}"
    daemon.docker(
        *("run", "-d", "--net=none", "--name", name, "-v", f"{tmp_path}:/mounted"),
        *("busybox", "sleep", "1000"),
    )
    try:
        data = daemon.docker("export", name).stdout
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            names = archive.getnames()
        assert "mounted" in names
        assert not any(one.startswith(("mounted/", "proc/", "sys/")) for one in names)
    finally:
        daemon.docker("rm", "-f", name)


def test_export_and_import_again(daemon: Daemon, container: str, committed: str) -> None:
    data = daemon.docker("export", container).stdout
    daemon.docker("import", "-", committed, stdin=data)
    ran = out(daemon, "run", "--rm", "--net=none", committed, "/bin/cat", "/etc/new")
    assert ran == "hello"
