"""Log files: the drivers `json-file` and `local`, rotated and packed, here and in dockerd."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.barque import Stack
from tests.support.docker_peer import Peer, docker_peer
from tests.support.engine_api import ask

pytestmark = [pytest.mark.root, pytest.mark.peer]
SCRIPT = (
    "echo one; echo; echo two >&2; head -c 40000 /dev/zero | tr '\\0' x; echo; "
    "printf 'a\\xffb\\n'; i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done; printf end"
)
LINES = b"".join(b"line %d\n" % number for number in range(500))
STDOUT = b"one\n\n" + b"x" * 40000 + b"\na\xffb\n" + LINES + b"end"
# dockerd 20.10 forgets the newline of a line that was cut into parts; later ones do not.
OLD_STDOUT = STDOUT.replace(b"x\n", b"x")


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    with docker_peer() as made:
        yield made


def run(server: Stack | Peer, name: str, *options: str, script: str = SCRIPT) -> None:
    server.docker("rm", "-f", name, check=False)
    flags = [word for option in options for word in ("--log-opt", option)]
    server.docker(
        "run", "-d", "--name", name, "--network", "none", "--log-driver", name,
        *flags, "busybox", "sh", "-c", script,
    )  # fmt: skip
    server.docker("wait", name)


def directory(server: Stack | Peer, name: str) -> Path:
    """Where a container's logs are."""
    identity = server.docker("inspect", "-f", "{{.Id}}", name).stdout.decode().strip()
    data = "d" if isinstance(server, Stack) else "data"
    return server.root / data / "containers" / identity


@pytest.fixture(params=["ours", "dockerd"])
def server(request: pytest.FixtureRequest) -> Stack | Peer:
    name = "barque" if request.param == "ours" else "peer"
    found: Stack | Peer = request.getfixturevalue(name)
    return found


def frames(raw: bytes) -> list[tuple[int, bytes]]:
    """(stream, payload) of each frame."""
    found = []
    while raw:
        stream, size = raw[0], int.from_bytes(raw[4:8], "big")
        found.append((stream, raw[8 : 8 + size]))
        raw = raw[8 + size :]
    return found


@pytest.mark.parametrize("driver", ["json-file", "local"])
def test_each_line_is_a_frame(server: Stack | Peer, driver: str) -> None:
    """Clients count on it: the SDK's `logs(stream=True)` gives them, testcontainers counts them."""
    run(server, driver, script="echo one; echo two; echo three >&2; printf end")
    answer = ask(server.socket, "GET", f"/v1.41/containers/{driver}/logs?stdout=1&stderr=1")
    told = sorted(frames(answer.body), key=lambda frame: frame[0])  # the streams race
    assert told == [(1, b"one\n"), (1, b"two\n"), (1, b"end"), (2, b"three\n")]


def test_commands_that_copy_get_fewer_frames(barque: Stack) -> None:
    """docker's command puts one frame after the other into its output, with a write for each."""
    run(barque, "json-file", script="seq 1000; sleep 0.2; echo three >&2; sleep 0.2; printf end")
    path = "/v1.41/containers/json-file/logs?stdout=1&stderr=1"
    answer = ask(
        barque.socket, "GET", path, headers={"User-Agent": "Docker-Client/20.10.24 (linux)"}
    )
    numbers = b"".join(b"%d\n" % number for number in range(1, 1001))
    assert frames(answer.body) == [(1, numbers), (2, b"three\n"), (1, b"end")]


def test_the_local_driver(server: Stack | Peer) -> None:
    run(server, "local")
    done = server.docker("logs", "local")
    assert done.stdout in (STDOUT, OLD_STDOUT if isinstance(server, Peer) else STDOUT)
    assert done.stderr == b"two\n"
    assert server.docker("inspect", "-f", "{{.LogPath}}", "local").stdout == b"\n"


def test_the_end_of_a_local_log(server: Stack | Peer) -> None:
    run(server, "local", script="echo one; echo two; echo three; printf end")
    assert server.docker("logs", "--tail", "2", "local").stdout == b"three\nend"
    stamped = server.docker("logs", "-t", "--tail", "1", "local").stdout
    assert stamped.endswith(b"Z end")
    assert os.listdir(directory(server, "local") / "local-logs") == ["container.log"]


@pytest.mark.parametrize("driver", ["local", "json-file"])
def test_rotated_and_packed(server: Stack | Peer, driver: str) -> None:
    script = (
        "i=0; while [ $i -lt 20 ]; do " + "echo line $i; " * 20 + "i=$((i+1)); usleep 50000; done"
    )
    run(server, driver, "max-size=4k", "max-file=3", "compress=true", script=script)
    logs = directory(server, driver)
    names = sorted(os.listdir(logs / "local-logs" if driver == "local" else logs))
    packed = [name for name in names if name.endswith(".gz")]
    assert [name[-5:] for name in packed] == [".1.gz", ".2.gz"]
    lines = server.docker("logs", driver).stdout.split(b"\n")
    wanted = [b"line %d" % (number // 20) for number in range(400)] + [b""]
    assert lines == wanted[-len(lines) :]
    assert len(lines) > 50
    assert server.docker("logs", "--tail", "60", driver).stdout.split(b"\n") == wanted[-61:]


def test_each_reads_the_others_file(barque: Stack, peer: Peer) -> None:
    run(barque, "local")
    run(peer, "local", script="true")
    ours = directory(barque, "local") / "local-logs" / "container.log"
    theirs = directory(peer, "local") / "local-logs" / "container.log"
    shutil.copyfile(ours, theirs)
    done = peer.docker("logs", "local")
    assert done.stdout in (STDOUT, OLD_STDOUT)
    assert done.stderr == b"two\n"
    run(peer, "local")
    shutil.copyfile(directory(peer, "local") / "local-logs" / "container.log", ours)
    done = barque.docker("logs", "local")
    assert (done.stdout, done.stderr) == (STDOUT, b"two\n")


@pytest.mark.parametrize(
    ("driver", "options"),
    [
        ("local", ["max-file=1"]),
        ("local", ["compress=maybe"]),
        ("local", ["nonsense=1"]),
        ("json-file", ["compress=true"]),
        ("json-file", ["compress=true", "max-size=1k"]),
        ("json-file", ["compress=no"]),
    ],
)
def test_refused_options(server: Stack | Peer, driver: str, options: list[str]) -> None:
    flags = [word for option in options for word in ("--log-opt", option)]
    argv = ["run", "--rm", "--network", "none", "--log-driver", driver, *flags, "busybox", "true"]
    done = server.docker(*argv, check=False)
    assert done.returncode != 0
    text = done.stderr.decode()
    said = ("compress", "unknown log opt 'nonsense' for", "strconv.ParseBool")
    assert any(words in text for words in said)


def test_followed_across_rotations(barque: Stack) -> None:
    """Every line once, though the file under the reader is renamed, packed and removed."""
    step = "echo line $i; i=$((i+1)); [ $((i % 200)) = 0 ] && sleep 0.1"
    script = f"i=0; while [ $i -lt 3000 ]; do {step}; done; sleep 1"
    flags = ["--log-opt", "max-size=16k", "--log-opt", "max-file=50"]
    barque.docker("rm", "-f", "local", check=False)
    barque.docker(
        "create", "--name", "local", "--log-driver", "local", *flags, "busybox", "sh", "-c", script
    )
    barque.docker("start", "local")
    seen = barque.docker("logs", "-f", "local").stdout
    assert seen == b"".join(b"line %d\n" % number for number in range(3000))
    deadline = time.monotonic() + 30
    logs = directory(barque, "local") / "local-logs"
    while any("~" in name for name in os.listdir(logs)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len([name for name in os.listdir(logs) if name.endswith(".gz")]) > 3


@pytest.mark.parametrize("driver", ["json-file", "local"])
def test_a_log_that_does_not_hold_back(server: Stack | Peer, driver: str) -> None:
    """What the log keeps up with is all there, in order, when `wait` returns."""
    name = f"free-{driver}"
    flags = ["--log-driver", driver, "--log-opt", "mode=non-blocking"]
    script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; printf rest; exit 5"
    server.docker("rm", "-f", name, check=False)
    server.docker(
        "run", "-d", "--name", name, "--network", "none", *flags,
        "--log-opt", "max-buffer-size=4m", "busybox", "sh", "-c", script,
    )  # fmt: skip
    assert server.docker("wait", name).stdout == b"5\n"
    seen = server.docker("logs", name).stdout
    assert seen == b"".join(b"line %d\n" % number for number in range(3000)) + b"rest"
    server.docker("rm", "-f", name)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["mode=sometimes"], "logging mode not supported: sometimes"),
        (["max-buffer-size=1m"], "max-buffer-size option is only supported with 'mode=non-block"),
        (["mode=blocking", "max-buffer-size=1m"], "max-buffer-size option is only supported with"),
        (["mode=non-blocking", "max-buffer-size=much"], "size: 'much'"),
    ],
)
def test_refused_modes(server: Stack | Peer, options: list[str], words: str) -> None:
    flags = [word for option in options for word in ("--log-opt", option)]
    argv = ["run", "--rm", "--network", "none", *flags, "busybox", "true"]
    done = server.docker(*argv, check=False)
    assert done.returncode != 0
    assert words in done.stderr.decode()


def test_modes_that_are_taken(server: Stack | Peer) -> None:
    for option in ("mode=blocking", "mode=non-blocking"):
        argv = ["run", "--rm", "--network", "none", "--log-opt", option, "busybox", "echo", "on"]
        assert server.docker(*argv).stdout == b"on\n"


TAGS = (
    *("{{.Name}}", "{{ .Name }}/{{.ImageName}}", "plain", "{{.Name | upper}}", "{{.Command}}"),
    *("{{.ContainerName}}", '{{index .ContainerLabels "shown"}}', "{{.ContainerEntrypoint}}"),
    *("{{(.ExtraAttributes nil).shown}}", '{{index .ContainerLabels "none"}}', "{{.Name|lower}}"),
    "{{(.ExtraAttributes nil).KEPT}} and {{.ContainerImageName}}",
)


def told(server: Stack | Peer, tag: str) -> bytes:
    name = f"Tagged-{'ours' if isinstance(server, Stack) else 'dockerd'}"
    options = ("--log-opt", f"tag={tag}", "--log-opt", "labels=shown", "--log-opt", "env=KEPT")
    server.docker(
        *("run", "--name", name, "--network", "none", "--log-driver", "json-file", *options),
        *("--label", "shown=yes", "-e", "KEPT=1", "busybox", "echo", "text"),
    )
    try:
        seen = server.docker("logs", "--details", name).stdout
    finally:
        server.docker("rm", "-f", name)
    return seen.replace(name.encode(), b"N").replace(name.upper().encode(), b"U").replace(
        name.lower().encode(), b"L"
    )  # fmt: skip


@pytest.mark.parametrize("tag", TAGS)
def test_tags_are_docker_s(barque: Stack, peer: Peer, tag: str) -> None:
    assert told(barque, tag) == told(peer, tag)


@pytest.mark.parametrize("tag", ["{{.Nonsense}}", "{{if .Name}}x{{end}}", "{{.Name"])
def test_tags_that_cannot_be(barque: Stack, tag: str) -> None:
    argv = ["run", "--rm", "--network", "none", "--log-opt", f"tag={tag}", "busybox", "true"]
    done = barque.docker(*argv, check=False)
    assert done.returncode == 125
    assert b"log tag" in done.stderr
