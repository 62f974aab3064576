"""Volumes as the real docker CLI makes and uses them; Debian's dockerd does the same."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import pytest

from tests.support.barque import Stack
from tests.support.docker_cli import fails, out

pytestmark = [pytest.mark.root, pytest.mark.peer]


def name() -> str:
    return f"v{secrets.token_hex(4)}"


def test_a_tmpfs_volume_is_mounted_while_it_is_used(engine: Any) -> None:
    volume, first = name(), name()
    options = ("--opt", "type=tmpfs", "--opt", "device=tmpfs", "--opt", "o=size=3m,uid=1000")
    out(engine, "volume", "create", *options, volume)
    out(engine, "run", "-d", "--name", first, "-v", f"{volume}:/data", "busybox", "sleep", "600")
    out(engine, "exec", first, "sh", "-c", "echo shared > /data/file")
    run = ("run", "--rm", "-v", f"{volume}:/data", "busybox", "sh", "-c")
    look = "cat /data/file; stat -c %u /data; grep -c 'tmpfs /data ' /proc/mounts"
    assert out(engine, *run, look).split() == ["shared", "1000", "1"]
    out(engine, "rm", "-f", first)
    assert out(engine, *run, "ls /data") == ""  # the last one gone, so is what was in memory
    point = json.loads(out(engine, "volume", "inspect", volume))[0]["Mountpoint"]
    assert f" {point} " not in Path("/proc/self/mountinfo").read_text()
    out(engine, "volume", "rm", volume)


def test_a_bound_directory_as_a_volume(engine: Any, tmp_path: Path) -> None:
    volume = name()
    (tmp_path / "file").write_text("of the host\n")
    options = ("--opt", "type=none", "--opt", f"device={tmp_path}", "--opt", "o=bind,ro")
    out(engine, "volume", "create", *options, volume)
    run = ("run", "--rm", "-v", f"{volume}:/data", "busybox", "sh", "-c")
    assert out(engine, *run, "cat /data/file; touch /data/x 2>/dev/null || echo read-only") == (
        "of the host\nread-only"
    )
    out(engine, "volume", "rm", volume)
    assert (tmp_path / "file").exists()  # what a volume leads to is never removed


def test_a_mount_that_fails_says_why_and_leaves_nothing(engine: Any) -> None:
    volume, container = name(), name()
    options = ("--opt", "type=none", "--opt", "device=/no/such/place", "--opt", "o=bind")
    out(engine, "volume", "create", *options, volume)
    error = fails(engine, "run", "--name", container, "-v", f"{volume}:/d", "busybox", "true")
    assert "failed to mount local volume" in error
    assert "no such file or directory" in error
    engine.docker("rm", "-f", container, check=False)
    out(engine, "volume", "rm", volume)


def test_wrong_options_are_refused(engine: Any) -> None:
    assert 'invalid option: "colour"' in fails(engine, "volume", "create", "-o", "colour=red")
    error = fails(engine, "volume", "create", "-o", "type=tmpfs")
    assert 'missing required option: "device"' in error


def test_a_volume_that_is_there_stays_as_it_is(engine: Any) -> None:
    volume = out(engine, "volume", "create", "--label", "a=b", name())
    again = ("-o", "type=tmpfs", "-o", "device=tmpfs", "--label", "c=d", volume)
    assert out(engine, "volume", "create", *again) == volume
    kept = out(engine, "volume", "inspect", "-f", "{{.Options}} {{.Labels}}", volume)
    assert kept == "map[] map[a:b]"
    out(engine, "volume", "rm", volume)


def test_a_mount_may_describe_its_volume(engine: Any) -> None:
    volume = name()
    described = (
        f"type=volume,src={volume},dst=/data,volume-label=kind=test,"
        'volume-driver=local,volume-opt=type=tmpfs,volume-opt=device=tmpfs,"volume-opt=o=size=2m"'
    )
    out(engine, "run", "--rm", "--mount", described, "busybox", "true")
    found = json.loads(out(engine, "volume", "inspect", volume))[0]
    assert found["Labels"] == {"kind": "test"}
    assert found["Options"] == {"type": "tmpfs", "device": "tmpfs", "o": "size=2m"}
    out(engine, "volume", "rm", volume)


def test_a_part_of_a_volume(barque: Stack) -> None:
    volume, container = name(), name()
    out(barque, "volume", "create", volume)
    fill = "mkdir -p /v/a/b; echo deep > /v/a/b/file; ln -s /etc /v/out; ln -s a/b /v/in"
    out(barque, "run", "--rm", "-v", f"{volume}:/v", "busybox", "sh", "-c", fill)

    def part(path: str) -> str:
        return f"type=volume,src={volume},dst=/part,volume-subpath={path}"

    run = ("run", "--rm", "--mount")
    assert out(barque, *run, part("a/b"), "busybox", "cat", "/part/file") == "deep"
    assert out(barque, *run, part("in"), "busybox", "cat", "/part/file") == "deep"
    assert out(barque, *run, part("a/b/file"), "busybox", "cat", "/part") == "deep"
    # a link of the volume's leads nowhere but inside the volume
    assert "cannot access path out" in fails(barque, *run, part("out"), "busybox", "true")
    assert "cannot access path none" in fails(barque, *run, part("none"), "busybox", "true")
    assert "invalid" in fails(barque, *run, part("../x"), "busybox", "true")
    arguments = ("-d", "--name", container, "--mount", part("a"), "busybox", "sleep", "600")
    out(barque, "run", *arguments)
    barque.kill("barqued")
    barque.start()
    assert out(barque, "exec", container, "cat", "/part/b/file") == "deep"
    assert list((barque.root / "r" / "subpaths").iterdir())
    out(barque, "rm", "-f", container)
    assert not list((barque.root / "r" / "subpaths").iterdir())
    out(barque, "volume", "rm", volume)


def test_mounts_of_a_dead_daemon_are_taken_up(barque: Stack) -> None:
    volume, container = name(), name()
    options = ("--opt", "type=tmpfs", "--opt", "device=tmpfs")
    out(barque, "volume", "create", *options, volume)
    run = ("run", "-d", "--name", container, "-v", f"{volume}:/data", "busybox")
    out(barque, *run, "sleep", "600")
    out(barque, "exec", container, "sh", "-c", "echo kept > /data/file")
    barque.kill("barqued")
    barque.start()
    again = ("run", "--rm", "-v", f"{volume}:/data", "busybox", "cat", "/data/file")
    assert out(barque, *again) == "kept"
    barque.kill("barqued")
    barque.kill("containerd-shim-barque-v2")
    barque.start()
    out(barque, "rm", "-f", container)
    point = json.loads(out(barque, "volume", "inspect", volume))[0]["Mountpoint"]
    assert f" {point} " not in Path("/proc/self/mountinfo").read_text()
    out(barque, "volume", "rm", volume)


def test_what_prune_takes(barque: Stack) -> None:
    """Since API 1.42, which Debian's dockerd has not: unnamed ones alone, unless all are meant."""
    named, labelled, container = name(), name(), name()
    out(barque, "volume", "create", named)
    out(barque, "volume", "create", "--label", "keep", labelled)
    out(barque, "create", "--name", container, "-v", "/scratch", "-v", "/more", "busybox")
    unnamed = set(out(barque, "volume", "ls", "-q").split()) - {named, labelled}
    assert len(unnamed) == 2
    out(barque, "volume", "prune", "-f")
    assert set(out(barque, "volume", "ls", "-q").split()) == {named, labelled, *unnamed}
    out(barque, "rm", container)
    shown = out(barque, "volume", "prune", "-f")
    assert all(volume in shown for volume in unnamed)
    assert set(out(barque, "volume", "ls", "-q").split()) == {named, labelled}
    out(barque, "volume", "prune", "-af", "--filter", "label!=keep")
    assert out(barque, "volume", "ls", "-q") == labelled
    out(barque, "volume", "prune", "-af")
    assert out(barque, "volume", "ls", "-q") == ""


def test_what_volumes_take_on_the_disk(barque: Stack) -> None:
    volume, container = name(), name()
    fill = "dd if=/dev/zero of=/v/file bs=1024 count=3000 2>/dev/null"
    out(barque, "run", "--name", container, "-v", f"{volume}:/v", "busybox", "sh", "-c", fill)
    lines = out(barque, "system", "df", "-v").splitlines()
    (found,) = [line.split() for line in lines if line.startswith(volume)]
    assert (found[1], found[2][-2:]) == ("1", "MB")
    assert 3.0 <= float(found[2][:-2]) <= 3.2
    out(barque, "rm", container)
    (summary,) = [
        line.split() for line in out(barque, "system", "df").splitlines() if "Local Vol" in line
    ]
    assert summary[2:4] == ["1", "0"]  # there, and in use
    out(barque, "volume", "rm", volume)
