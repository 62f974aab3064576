"""`--mount type=image`: an image's files at a place of a container. Docker 28 and later have it."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

import pytest

from tests.support.barque import Stack
from tests.support.our_cli import fails, out

pytestmark = [pytest.mark.root, pytest.mark.peer]


@pytest.fixture(scope="module")
def tools(barque: Stack) -> str:
    """An image of two layers with a tree of its own."""
    image, container = f"i{secrets.token_hex(4)}", f"c{secrets.token_hex(4)}"
    script = (
        "mkdir -p /tree/sub /etc; echo inner > /etc/mark; echo deep > /tree/sub/file; "
        "ln -s /etc /tree/out; rm /bin/false"
    )
    out(barque, "run", "--name", container, "busybox", "sh", "-c", script)
    out(barque, "commit", container, image)
    out(barque, "rm", container)
    return image


def views(barque: Stack, container: str) -> list[Path]:
    found = json.loads(out(barque, "inspect", container))[0]["Id"]
    return list((barque.root / "r" / "subpaths" / found).glob("*"))


def test_an_image_is_seen_whole_and_cannot_be_written(barque: Stack, tools: str) -> None:
    run = ("run", "--rm", "--mount", f"type=image,src={tools},dst=/mnt", "busybox", "sh", "-c")
    look = "cat /mnt/tree/sub/file; test -e /mnt/bin/false || echo hidden; touch /mnt/x 2>&1"
    said = out(barque, *run, f"{look} || true").splitlines()
    assert said[:2] == ["deep", "hidden"]
    assert "Read-only file system" in said[2]


def test_a_container_for_one_run_leaves_no_mount(barque: Stack, tools: str) -> None:
    for part in ("", ",image-subpath=tree"):
        mount = f"type=image,src={tools},dst=/mnt{part}"
        out(barque, "run", "--rm", "--mount", mount, "busybox", "true")
    assert f" {barque.root}/r/subpaths/" not in Path("/proc/self/mountinfo").read_text()


def test_a_part_of_an_image(barque: Stack, tools: str) -> None:
    def part(path: str) -> tuple[str, ...]:
        return ("run", "--rm", "--mount", f"type=image,src={tools},dst=/m,image-subpath={path}")

    assert out(barque, *part("tree/sub"), "busybox", "cat", "/m/file") == "deep"
    assert out(barque, *part("tree/sub/file"), "busybox", "cat", "/m") == "deep"
    # a link in the image leads into the image
    assert out(barque, *part("tree/out"), "busybox", "cat", "/m/mark") == "inner"
    assert "cannot access path none" in fails(barque, *part("none"), "busybox", "true")
    assert "relative path" in fails(barque, *part("../x"), "busybox", "true")


def test_it_outlives_the_daemon_and_its_image_and_leaves_nothing(barque: Stack, tools: str) -> None:
    image, container = f"i{secrets.token_hex(4)}", f"c{secrets.token_hex(4)}"
    out(barque, "tag", tools, image)
    mount = f"type=image,src={image},dst=/mnt"
    out(barque, "run", "-d", "--name", container, "--mount", mount, "busybox", "sleep", "600")
    point = json.loads(out(barque, "inspect", container))[0]["Mounts"][0]
    assert (point["Type"], point["Name"], point["RW"]) == ("image", image, False)
    assert len(views(barque, container)) == 1
    out(barque, "rmi", image)
    barque.kill("barqued")
    barque.start()
    assert out(barque, "exec", container, "cat", "/mnt/tree/sub/file") == "deep"
    out(barque, "restart", "-t", "0", container)
    assert out(barque, "exec", container, "cat", "/mnt/tree/sub/file") == "deep"
    subpaths = barque.root / "r" / "subpaths"
    out(barque, "rm", "-f", container)
    assert not list(subpaths.iterdir())
    assert f" {subpaths}/" not in Path("/proc/self/mountinfo").read_text()


def test_an_image_that_is_not_here_leaves_no_container(barque: Stack) -> None:
    container = f"c{secrets.token_hex(4)}"
    arguments = ("--name", container, "--mount", "type=image,src=no-such-image,dst=/m")
    said = fails(barque, "create", *arguments, "busybox", "true")
    assert "No such image: no-such-image" in said
    assert "Source must not be empty" in fails(
        barque, "create", "--mount", "type=image,dst=/m", "busybox", "true"
    )
    assert container not in out(barque, "ps", "-a", "--format", "{{.Names}}").split()
