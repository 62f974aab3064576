"""`--mount type=image`: an image's files at a place of a container. Docker 28 and later have it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.barque import Stack, stack

pytestmark = [pytest.mark.root, pytest.mark.peer]


@pytest.fixture(scope="module")
def engine() -> Iterator[Stack]:
    with stack() as made:
        yield made


def out(engine: Stack, *arguments: str) -> str:
    done = engine.cli(*arguments, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def fails(engine: Stack, *arguments: str) -> str:
    done = engine.cli(*arguments, check=False)
    assert done.returncode != 0
    return done.stderr.decode()


@pytest.fixture(scope="module")
def tools(engine: Stack) -> str:
    """An image of two layers with a tree of its own."""
    image, container = f"i{secrets.token_hex(4)}", f"c{secrets.token_hex(4)}"
    script = (
        "mkdir -p /tree/sub /etc; echo inner > /etc/mark; echo deep > /tree/sub/file; "
        "ln -s /etc /tree/out; rm /bin/false"
    )
    out(engine, "run", "--name", container, "busybox", "sh", "-c", script)
    out(engine, "commit", container, image)
    out(engine, "rm", container)
    return image


def views(engine: Stack, container: str) -> list[Path]:
    found = json.loads(out(engine, "inspect", container))[0]["Id"]
    return list((engine.root / "r" / "subpaths" / found).glob("*"))


def test_an_image_is_seen_whole_and_cannot_be_written(engine: Stack, tools: str) -> None:
    run = ("run", "--rm", "--mount", f"type=image,src={tools},dst=/mnt", "busybox", "sh", "-c")
    look = "cat /mnt/tree/sub/file; test -e /mnt/bin/false || echo hidden; touch /mnt/x 2>&1"
    said = out(engine, *run, f"{look} || true").splitlines()
    assert said[:2] == ["deep", "hidden"]
    assert "Read-only file system" in said[2]


def test_a_part_of_an_image(engine: Stack, tools: str) -> None:
    def part(path: str) -> tuple[str, ...]:
        return ("run", "--rm", "--mount", f"type=image,src={tools},dst=/m,image-subpath={path}")

    assert out(engine, *part("tree/sub"), "busybox", "cat", "/m/file") == "deep"
    assert out(engine, *part("tree/sub/file"), "busybox", "cat", "/m") == "deep"
    # a link in the image leads into the image
    assert out(engine, *part("tree/out"), "busybox", "cat", "/m/mark") == "inner"
    assert "cannot access path none" in fails(engine, *part("none"), "busybox", "true")
    assert "relative path" in fails(engine, *part("../x"), "busybox", "true")


def test_it_outlives_the_daemon_and_its_image_and_leaves_nothing(engine: Stack, tools: str) -> None:
    image, container = f"i{secrets.token_hex(4)}", f"c{secrets.token_hex(4)}"
    out(engine, "tag", tools, image)
    mount = f"type=image,src={image},dst=/mnt"
    out(engine, "run", "-d", "--name", container, "--mount", mount, "busybox", "sleep", "600")
    point = json.loads(out(engine, "inspect", container))[0]["Mounts"][0]
    assert (point["Type"], point["Name"], point["RW"]) == ("image", image, False)
    assert len(views(engine, container)) == 1
    out(engine, "rmi", image)
    engine.kill("barqued")
    engine.start()
    assert out(engine, "exec", container, "cat", "/mnt/tree/sub/file") == "deep"
    out(engine, "restart", "-t", "0", container)
    assert out(engine, "exec", container, "cat", "/mnt/tree/sub/file") == "deep"
    subpaths = engine.root / "r" / "subpaths"
    out(engine, "rm", "-f", container)
    assert not list(subpaths.iterdir())
    assert f" {subpaths}/" not in Path("/proc/self/mountinfo").read_text()


def test_an_image_that_is_not_here_leaves_no_container(engine: Stack) -> None:
    container = f"c{secrets.token_hex(4)}"
    arguments = ("--name", container, "--mount", "type=image,src=no-such-image,dst=/m")
    said = fails(engine, "create", *arguments, "busybox", "true")
    assert "No such image: no-such-image" in said
    assert "Source must not be empty" in fails(
        engine, "create", "--mount", "type=image,dst=/m", "busybox", "true"
    )
    assert container not in out(engine, "ps", "-a", "--format", "{{.Names}}").split()
