"""Lists, filters, histories and prunes of the same images, here and at Docker's own daemon."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from barque.oci import digest as digests
from tests.support.barque import Stack, stack
from tests.support.docker_peer import Peer, docker_peer
from tests.support.images import tar

pytestmark = [pytest.mark.root, pytest.mark.peer]

Engine = Stack | Peer
ROW = "{{.Repository}}|{{.Tag}}|{{.ID}}"


def image(
    name: str, year: int, labels: dict[str, str], *steps: str
) -> tuple[dict[str, Any], bytes]:
    """An entry of manifest.json and the config it names: a step `+x` adds a layer, `x` none."""
    layers = [tar((f"{name}-{step[1:]}", step.encode())) for step in steps if step[0] == "+"]
    created = f"{year}-01-02T03:04:05.678Z"
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": created,
        "author": "someone",
        "config": {"Labels": labels, "Cmd": ["x"], "Env": ["A=b"]},
        "rootfs": {"type": "layers", "diff_ids": [digests.sha256(layer) for layer in layers]},
        "history": [
            {
                "created": created,
                "created_by": step,
                "comment": f"of {name}",
                **({} if step[0] == "+" else {"empty_layer": True}),
            }
            for step in steps
        ],
    }
    members = [(f"{name}{number}.tar", layer) for number, layer in enumerate(layers)]
    raw = json.dumps(config).encode()
    tags = [] if name.startswith("none") else [f"{name}:1", f"{name}:2"]
    entry = {"Config": f"{name}.json", "RepoTags": tags, "Layers": [one for one, _ in members]}
    return {"entry": entry, "members": [(f"{name}.json", raw), *members]}, raw


def archive() -> bytes:
    found = [
        image("first", 2001, {"kind": "a"}, "+base", "env", "+more")[0],
        image("second", 2010, {"kind": "b", "keep": "1"}, "+base")[0],
        image("none-third", 2020, {"kind": "a"}, "+base", "cmd")[0],
        image("none-fourth", 2021, {"keep": "1"}, "+base")[0],
    ]
    members = [member for one in found for member in one["members"]]
    manifest = json.dumps([one["entry"] for one in found]).encode()
    return tar(*members, ("manifest.json", manifest))


@pytest.fixture(scope="module")
def engines() -> Iterator[tuple[Engine, Engine]]:
    with ExitStack() as both:
        found: tuple[Engine, Engine] = (
            both.enter_context(stack(busybox=False)),
            both.enter_context(docker_peer()),
        )
        for id in found[1].docker("images", "-aq").stdout.split():
            found[1].docker("rmi", "-f", id.decode())
        for engine in found:
            engine.docker("load", stdin=archive())
        yield found


def same(engines: tuple[Engine, Engine], *words: str) -> list[str]:
    """The lines that both print, sorted."""
    ours, theirs = (engine.docker(*words, check=False) for engine in engines)
    assert ours.returncode == theirs.returncode
    assert ours.stderr.lower() == theirs.stderr.lower()  # Docker's later words are in lower case
    found = sorted(ours.stdout.decode().splitlines())
    assert found == sorted(theirs.stdout.decode().splitlines())
    return found


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ((), 6),
        (("-a",), 6),
        (("--filter", "dangling=true"), 2),
        (("--filter", "dangling=false"), 4),
        (("--filter", "label=kind"), 5),
        (("--filter", "label=kind=a"), 3),
        (("--filter", "label=kind=a", "--filter", "label=keep"), 0),
        (("--filter", "before=second:1"), 2),
        (("--filter", "since=second:2"), 2),
        (("--filter", "reference=fir*"), 2),
        (("--filter", "reference=*:2"), 2),
        (("--filter", "reference=nothing"), 0),
        (("first",), 2),
        (("second:2",), 1),
        (("--filter", "since=nothing"), 0),
        (("--filter", "dangling=maybe"), 0),
    ],
)
def test_lists(engines: tuple[Engine, Engine], words: tuple[str, ...], count: int) -> None:
    assert len(same(engines, "images", "--no-trunc", "--format", ROW, *words)) == count


@pytest.mark.parametrize("name", ["first:1", "second:2"])
def test_histories(engines: tuple[Engine, Engine], name: str) -> None:
    format = "{{.ID}}|{{.CreatedBy}}|{{.CreatedAt}}|{{.Comment}}"
    assert same(engines, "history", "--no-trunc", "--format", format, name)


@pytest.mark.parametrize("name", ["first:1", "second:2"])
def test_inspected(engines: tuple[Engine, Engine], name: str) -> None:
    for field in ("Id", "RepoTags", "Created", "Author", "Architecture", "Os", "RootFS", "Comment"):
        same(engines, "image", "inspect", "--format", f"{{{{json .{field}}}}}", name)
    for field in ("Labels", "Cmd", "Env"):
        same(engines, "image", "inspect", "--format", f"{{{{json .Config.{field}}}}}", name)


def test_prunes(engines: tuple[Engine, Engine]) -> None:
    """What is left after each is the same."""

    def left() -> list[str]:
        return same(engines, "images", "-a", "--no-trunc", "--format", ROW)

    def prune(*words: str) -> int:
        before = len(left())
        for engine in engines:
            engine.docker("image", "prune", "-f", *words)
        return before - len(left())

    for engine in engines:
        engine.docker("create", "--name", "pruned-user", "--net=none", "second:1")
        engine.docker("rmi", "second:2")  # of several names Docker keeps one, whichever it is
    try:
        assert prune("--filter", "until=2019-01-01T00:00:00Z") == 0
        assert prune("--filter", "label!=keep", "--filter", "until=2020-06-01T00:00:00Z") == 1
        assert prune("--filter", "label=nothing") == 0
        assert prune() == 1
        assert prune("-a", "--filter", "label=kind=b") == 0  # a container was made from it
        assert prune("-a", "--filter", "label!=keep") == 2
    finally:
        for engine in engines:
            engine.docker("rm", "pruned-user")
    assert prune("-a") == 1
    assert left() == []
