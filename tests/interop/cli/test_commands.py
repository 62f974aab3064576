"""Every command that asks the engine, on engines of others: docs/commands.md is made of this.

What docker's own command cannot do there either is refused alike, and told in the table.
"""

from __future__ import annotations

import json
import secrets
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.interop.cli.conftest import PODMAN_IMAGE, PODMAN_RUN, Commands
from tests.support.docker_peer import Peer

pytestmark = [pytest.mark.peer, pytest.mark.root]
LINES = (Path(__file__).parent / "commands.txt").read_text().splitlines()
CASES = dict(line.split(": ", 1) for line in LINES if not line.startswith("#"))


class Engine(NamedTuple):
    """An engine of somebody else, and what the lines need of it."""

    name: str
    commands: Commands
    words: dict[str, str]


@pytest.fixture(scope="module", params=["dockerd", "podman"])
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    if request.param == "podman":
        commands: Commands = request.getfixturevalue("podman")
        image, run = PODMAN_IMAGE, PODMAN_RUN
    else:
        peer: Peer = request.getfixturevalue("peer")
        commands = Commands(peer.host, tmp_path_factory.mktemp("config"), peer.cli)
        image, run = "busybox", PODMAN_RUN
    word = f"e{secrets.token_hex(4)}"
    words = {"c": word, "n": f"{word}n", "i": image, "run": shlex.join(run)}
    for name, flags in ((words["c"], run), (words["n"], run[2:])):
        made = commands.theirs("run", "-d", "--name", name, *flags, image, "sleep", "1000")
        assert made[0] == 0, made
    yield Engine(request.param, commands, words)
    commands.theirs("rm", "-f", words["c"], words["n"])


@pytest.mark.parametrize("command", CASES)
def test_a_command(engine: Engine, command: str, tmp_path: Path) -> None:
    word = f"w{secrets.token_hex(4)}"
    line = CASES[command].format(**engine.words, w=word, d=tmp_path)
    try:
        for part in line.split("; "):
            done = engine.commands.ours(*shlex.split(part), stdin=b"typed\n")
            if f"!{engine.name}" not in command:
                assert done[0] == 0, (part, done)
            else:
                assert done[0] != 0
                assert done == engine.commands.theirs(*shlex.split(part)), part
    finally:
        engine.commands.theirs("rm", "-f", "-v", word)


def test_since_0_is_the_beginning_of_time(commands: Commands) -> None:
    code, out, _ = commands.same("events", "--since", "0", "--until", str(time.time()))
    assert (code, bool(out)) == (0, True)


@pytest.mark.parametrize("format", ["{{nosuch .}}", "{{.NoSuch}}", "{{.ID"])
def test_a_format_of_events_is_checked_first(commands: Commands, format: str) -> None:
    flags = ("--since", "0", "--until", str(time.time()), "--format", format)
    assert commands.same("events", *flags)[:2] == (64, b"")


@pytest.mark.parametrize(
    ("create", "list_all", "remove"),
    [
        ("volume create {}", "volume ls -q", "volume rm"),
        ("network create --config-only {}", "network ls --format {{{{.Name}}}}", "network rm"),
        ("context create {} --docker host=tcp://x", "context ls -q", "context rm"),
    ],
)
def test_names_are_in_the_order_of_their_numbers(
    commands: Commands, create: str, list_all: str, remove: str
) -> None:
    names = ("9a", "10a", "ab9", "ab10", "ab010", "ab09", "ab9.5", "ab9-x", "aB9", "ab", "010a")
    try:
        for name in names:
            assert commands.theirs(*create.format(name).split())[0] == 0
        listed = commands.same(*list_all.format().split())[1].decode().split()
        assert set(names) <= set(listed)
    finally:
        commands.theirs(*remove.split(), *names)


@pytest.mark.parametrize(
    ("command", "setting"),
    [
        ("images", "imagesFormat"),
        ("ps", "psFormat"),
        ("network ls", "networksFormat"),
        ("volume ls", "volumesFormat"),
    ],
)
def test_only_ids_are_no_format_of_the_settings(
    commands: Commands, tmp_path: Path, command: str, setting: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({setting: "{{.ID}} and more"}))
    commands.same(*command.split(), "-q")


@pytest.mark.parametrize(
    "line",
    [
        "inspect -f {{{{.ID}}}} {name}",
        "inspect -f {{{{.HostConfig.CPUShares}}}},{{{{.HostConfig.NanoCPUs}}}} {name}",
        "inspect -f {{{{.HostConfig.DNS}}}} {name}",
        "inspect -f {{{{.State.PID}}}} {name}",
        "image inspect -f {{{{.ID}}}} busybox",
        "image inspect -f {{{{.OS}}}} busybox",
        "network inspect -f {{{{.ID}}}} bridge",
        "network inspect -f {{{{.NoSuch}}}} bridge",
        "inspect -f {{{{.ID}}}} {name}x",
        "volume inspect -f {{{{.Name}}}} {name}",
    ],
)
def test_names_of_parts_in_templates(commands: Commands, name: str, line: str) -> None:
    """Of Go's types as well as the API's own; and what is not found is an empty line."""
    commands.theirs("create", "--name", name, "--cpus", "0.5", "--dns", "192.0.2.1", "busybox")
    commands.same(*line.format(name=name).split())


def test_a_blank_name_of_an_image(commands: Commands) -> None:
    assert commands.same("rmi", " ")[0] == 1


@pytest.mark.parametrize(
    "flags",
    [
        "--mac-address 12:34:56:78:9a:bc",
        "--network host --mac-address 12:34:56:78:9a:bc",
        "--dns 127.0.0.1 --dns 192.0.2.1",
        "--dns ::1",
        "-v /tmp:/tmp -v /tmp:/tmp",
        "-d --attach stdout",
    ],
)
def test_what_a_daemon_of_an_older_version_makes_of_flags(
    commands: Commands, name: str, flags: str
) -> None:
    """Its API has a container's address elsewhere; what is told before is told alike."""
    told = []
    for run in (commands.ours, commands.theirs):
        code, _, error = run("run", "--name", name, *flags.split(), "busybox", "ip", "link")
        shown = commands.theirs(
            "inspect", "-f", "{{.Config.MacAddress}}{{.HostConfig.Binds}}", name
        )
        told.append((code, error.replace(name.encode(), b"NAME"), shown[:2]))
        commands.theirs("rm", "-f", name)
    assert told[0] == told[1]
