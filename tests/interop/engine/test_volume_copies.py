"""Snapshots, clones, backups and restores of volumes, by our own command on the whole stack."""

from __future__ import annotations

import io
import json
import os
import secrets
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from barque import program
from tests.support.barque import Stack, stack
from tests.support.engine_api import ask

pytestmark = pytest.mark.root
TREE = (
    "mkdir -p /v/sub; echo one > /v/sub/file; ln /v/sub/file /v/again; ln -s sub /v/link; "
    "mkfifo /v/fifo; chown 12:34 /v/sub; chmod 4711 /v/again; chmod 1777 /v; "
    "truncate -s 64M /v/sparse"
)
LIST = "cd /v; find . | sort | xargs stat -c '%n %F %a %u %g %h %s'; cat sub/file"


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


def filled(engine: Stack) -> str:
    volume = f"v{secrets.token_hex(4)}"
    out(engine, "volume", "create", volume)
    inside(engine, volume, TREE)
    return volume


def inside(engine: Stack, volume: str, script: str) -> str:
    return out(engine, "run", "--rm", "-v", f"{volume}:/v", "busybox", "sh", "-c", script)


def volumes_root(engine: Stack) -> Path:
    return engine.root / "d" / "volumes"


def test_a_clone_is_whole_and_goes_its_own_way(engine: Stack) -> None:
    volume = filled(engine)
    copy = f"{volume}-copy"
    assert out(engine, "volume", "clone", "--label", "a=b", volume, copy) == copy
    assert inside(engine, copy, LIST) == inside(engine, volume, LIST)
    blocks = (volumes_root(engine) / copy / "_data" / "sparse").stat().st_blocks
    assert blocks * 512 < 1 << 20  # holes stay holes
    inside(engine, copy, "echo two > /v/sub/file")
    assert inside(engine, volume, "cat /v/sub/file") == "one"
    assert json.loads(out(engine, "volume", "inspect", copy))[0]["Labels"] == {"a": "b"}
    assert "volume name must be unique" in fails(engine, "volume", "clone", volume, copy)
    assert "no such volume" in fails(engine, "volume", "clone", "not-there", f"{copy}2")
    assert "invalid characters" in fails(engine, "volume", "clone", volume, "../out")
    out(engine, "volume", "rm", volume, copy)


def test_a_snapshot_cannot_be_written_and_brings_the_volume_back(engine: Stack) -> None:
    volume = filled(engine)
    before = inside(engine, volume, LIST)
    snapshot = out(engine, "volume", "snapshot", volume)
    assert snapshot.startswith(f"{volume}-")
    label = f"label=barque.volume.snapshot-of={volume}"
    assert out(engine, "volume", "ls", "-q", "--filter", label) == snapshot
    tried = inside(engine, snapshot, "touch /v/x 2>/dev/null || echo refused")
    assert tried == "refused"
    point = volumes_root(engine) / snapshot / "_data"
    assert f" {point} " not in Path("/proc/self/mountinfo").read_text()
    inside(engine, volume, "rm -rf /v/sub /v/link; echo new > /v/new")
    assert out(engine, "volume", "restore", "--from", snapshot, volume) == volume
    assert inside(engine, volume, LIST) == before == inside(engine, snapshot, LIST)
    assert "it is a snapshot" in fails(engine, "volume", "restore", "--from", volume, snapshot)
    assert "its own source" in fails(engine, "volume", "restore", "--from", volume, volume)
    out(engine, "volume", "rm", snapshot, volume)
    assert not list(volumes_root(engine).glob(".removed-*"))


def test_a_backup_is_a_tar_and_comes_back_on_another_name(engine: Stack, tmp_path: Path) -> None:
    volume = filled(engine)
    archive = tmp_path / "volume.tar"
    out(engine, "volume", "backup", "-o", str(archive), volume)
    with tarfile.open(archive) as found:
        assert found.getmember("./sub").uid == 12
        assert found.getmember("./again").linkname or found.getmember("./sub/file").linkname
    os.setxattr(volumes_root(engine) / volume / "_data" / "sub" / "file", "user.kept", b"yes")
    os.setxattr(volumes_root(engine) / volume / "_data" / "sub", "user.kept", b"too")
    out(engine, "volume", "backup", "-o", str(archive), volume)
    other = f"{volume}-back"
    assert out(engine, "volume", "restore", "-i", str(archive), other) == other
    assert inside(engine, other, LIST) == inside(engine, volume, LIST)
    data = volumes_root(engine) / other / "_data"
    assert os.getxattr(data / "sub" / "file", "user.kept") == b"yes"
    assert os.getxattr(data / "sub", "user.kept") == b"too"
    packed = tmp_path / "volume.tar.gz"
    packed.write_bytes(subprocess.run(["gzip", "-c", archive], capture_output=True).stdout)
    inside(engine, other, "echo more > /v/more")
    out(engine, "volume", "restore", "-i", str(packed), other)
    assert inside(engine, other, "ls /v/more 2>/dev/null || echo gone") == "gone"
    out(engine, "volume", "rm", volume, other)


def test_what_runs_with_a_volume_is_paused_for_a_copy_and_keeps_a_restore_off(
    engine: Stack,
) -> None:
    volume, container = filled(engine), f"c{secrets.token_hex(4)}"
    out(engine, "run", "-d", "--name", container, "-v", f"{volume}:/v", "busybox", "sleep", "600")
    since = str(time.time())
    out(engine, "volume", "clone", volume, f"{volume}-1")
    out(engine, "volume", "clone", "--pause=false", volume, f"{volume}-2")
    seen = out(
        engine,
        *("events", "--since", since, "--until", str(time.time() + 0.01)),
        *("--filter", f"container={container}", "--format", "{{.Action}}"),
    )
    assert seen.split() == ["pause", "unpause"]
    refused = fails(engine, "volume", "restore", "--from", f"{volume}-1", volume)
    assert "volume is mounted" in refused
    out(engine, "rm", "-f", container)
    out(engine, "volume", "restore", "--from", f"{volume}-1", volume)
    out(engine, "volume", "rm", volume, f"{volume}-1", f"{volume}-2")


def test_a_mounted_volume_can_be_cloned_but_not_restored(engine: Stack) -> None:
    volume = f"v{secrets.token_hex(4)}"
    options = ("--opt", "type=tmpfs", "--opt", "device=tmpfs")
    out(engine, "volume", "create", *options, volume)
    out(engine, "volume", "clone", volume, f"{volume}-copy")
    point = volumes_root(engine) / volume / "_data"
    assert f" {point} " not in Path("/proc/self/mountinfo").read_text()
    refused = fails(engine, "volume", "restore", "--from", f"{volume}-copy", volume)
    assert "cannot be exchanged" in refused
    out(engine, "volume", "rm", volume, f"{volume}-copy")


def hostile(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        first = tarfile.TarInfo("out")
        first.type, first.linkname = tarfile.SYMTYPE, "/tmp"
        archive.addfile(first)
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, link
        archive.addfile(entry)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["../bq-escape", "/tmp/bq-escape", "out/bq-escape"])
def test_an_archive_writes_nowhere_but_in_the_volume(engine: Stack, name: str) -> None:
    volume = f"v{secrets.token_hex(4)}"
    answer = ask(engine.socket, "PUT", f"/volumes/{volume}/archive", hostile(name))
    assert not Path("/tmp/bq-escape").exists()
    assert not (volumes_root(engine) / "bq-escape").exists()
    if answer.status == 200:
        out(engine, "volume", "rm", volume)
    assert not list(volumes_root(engine).glob(".removed-*"))


def test_an_archive_that_is_none_changes_nothing(engine: Stack) -> None:
    volume = filled(engine)
    before = inside(engine, volume, LIST)
    for body in (b"no tar at all" * 100, hostile("ok")[:700]):
        answer = ask(engine.socket, "PUT", f"/volumes/{volume}/archive", body)
        assert answer.status in {400, 500}, answer.body
        assert answer.message
    assert inside(engine, volume, LIST) == before
    out(engine, "volume", "rm", volume)


@pytest.mark.parametrize("wait_s", [0.2, 0.5])
def test_a_copy_that_a_crash_breaks_off_is_not_there(engine: Stack, wait_s: float) -> None:
    volume = filled(engine)
    inside(engine, volume, "for i in $(seq 1 400); do echo $i > /v/$i; done")
    copy = f"{volume}-copy"
    argv = program.command("barque", "-H", engine.host, "volume", "clone", volume, copy)
    asking = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(wait_s)
    engine.kill("barqued")
    asking.communicate()
    engine.start()
    names = out(engine, "volume", "ls", "-q").split()
    assert volume in names
    if copy in names:
        assert inside(engine, copy, LIST) == inside(engine, volume, LIST)
        out(engine, "volume", "rm", copy)
    assert sorted(p.name for p in volumes_root(engine).iterdir()) == sorted(
        name for name in names if name != copy
    )
    out(engine, "volume", "rm", volume)
