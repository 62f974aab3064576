"""Snapshots, clones, backups and restores of volumes, by our own command on the whole stack."""

from __future__ import annotations

import io
import json
import os
import secrets
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from barque import program
from tests.support.barque import Stack
from tests.support.engine_api import ask
from tests.support.our_cli import fails, out

pytestmark = pytest.mark.root
TREE = (
    "mkdir -p /v/sub; echo one > /v/sub/file; ln /v/sub/file /v/again; ln -s sub /v/link; "
    "mkfifo /v/fifo; chown 12:34 /v/sub; chmod 4711 /v/again; chmod 1777 /v; "
    "truncate -s 64M /v/sparse"
)
LIST = "cd /v; find . | sort | xargs stat -c '%n %F %a %u %g %h %s'; cat sub/file"


def filled(barque: Stack) -> str:
    volume = f"v{secrets.token_hex(4)}"
    out(barque, "volume", "create", volume)
    inside(barque, volume, TREE)
    return volume


def inside(barque: Stack, volume: str, script: str) -> str:
    return out(barque, "run", "--rm", "-v", f"{volume}:/v", "busybox", "sh", "-c", script)


def volumes_root(barque: Stack) -> Path:
    return barque.root / "d" / "volumes"


def test_a_clone_is_whole_and_goes_its_own_way(barque: Stack) -> None:
    volume = filled(barque)
    copy = f"{volume}-copy"
    assert out(barque, "volume", "clone", "--label", "a=b", volume, copy) == copy
    assert inside(barque, copy, LIST) == inside(barque, volume, LIST)
    blocks = (volumes_root(barque) / copy / "_data" / "sparse").stat().st_blocks
    assert blocks * 512 < 1 << 20  # holes stay holes
    inside(barque, copy, "echo two > /v/sub/file")
    assert inside(barque, volume, "cat /v/sub/file") == "one"
    assert json.loads(out(barque, "volume", "inspect", copy))[0]["Labels"] == {"a": "b"}
    assert "volume name must be unique" in fails(barque, "volume", "clone", volume, copy)
    assert "no such volume" in fails(barque, "volume", "clone", "not-there", f"{copy}2")
    assert "invalid characters" in fails(barque, "volume", "clone", volume, "../out")
    out(barque, "volume", "rm", volume, copy)


def test_a_snapshot_cannot_be_written_and_brings_the_volume_back(barque: Stack) -> None:
    volume = filled(barque)
    before = inside(barque, volume, LIST)
    snapshot = out(barque, "volume", "snapshot", volume)
    assert snapshot.startswith(f"{volume}-")
    label = f"label=barque.volume.snapshot-of={volume}"
    assert out(barque, "volume", "ls", "-q", "--filter", label) == snapshot
    tried = inside(barque, snapshot, "touch /v/x 2>/dev/null || echo refused")
    assert tried == "refused"
    point = volumes_root(barque) / snapshot / "_data"
    assert f" {point} " not in Path("/proc/self/mountinfo").read_text()
    inside(barque, volume, "rm -rf /v/sub /v/link; echo new > /v/new")
    assert out(barque, "volume", "restore", "--from", snapshot, volume) == volume
    assert inside(barque, volume, LIST) == before == inside(barque, snapshot, LIST)
    assert "it is a snapshot" in fails(barque, "volume", "restore", "--from", volume, snapshot)
    assert "its own source" in fails(barque, "volume", "restore", "--from", volume, volume)
    out(barque, "volume", "rm", snapshot, volume)
    assert not list(volumes_root(barque).glob(".removed-*"))


def test_a_backup_is_a_tar_and_comes_back_on_another_name(barque: Stack, tmp_path: Path) -> None:
    volume = filled(barque)
    archive = tmp_path / "volume.tar"
    out(barque, "volume", "backup", "-o", str(archive), volume)
    with tarfile.open(archive) as found:
        assert found.getmember("./sub").uid == 12
        assert found.getmember("./again").linkname or found.getmember("./sub/file").linkname
    os.setxattr(volumes_root(barque) / volume / "_data" / "sub" / "file", "user.kept", b"yes")
    os.setxattr(volumes_root(barque) / volume / "_data" / "sub", "user.kept", b"too")
    out(barque, "volume", "backup", "-o", str(archive), volume)
    other = f"{volume}-back"
    assert out(barque, "volume", "restore", "-i", str(archive), other) == other
    assert inside(barque, other, LIST) == inside(barque, volume, LIST)
    data = volumes_root(barque) / other / "_data"
    assert os.getxattr(data / "sub" / "file", "user.kept") == b"yes"
    assert os.getxattr(data / "sub", "user.kept") == b"too"
    packed = tmp_path / "volume.tar.gz"
    packed.write_bytes(subprocess.run(["gzip", "-c", archive], capture_output=True).stdout)
    inside(barque, other, "echo more > /v/more")
    out(barque, "volume", "restore", "-i", str(packed), other)
    assert inside(barque, other, "ls /v/more 2>/dev/null || echo gone") == "gone"
    out(barque, "volume", "rm", volume, other)


def test_what_runs_with_a_volume_is_paused_for_a_copy_and_keeps_a_restore_off(
    barque: Stack,
) -> None:
    volume, container = filled(barque), f"c{secrets.token_hex(4)}"
    out(barque, "run", "-d", "--name", container, "-v", f"{volume}:/v", "busybox", "sleep", "600")
    since = str(time.time())
    out(barque, "volume", "clone", volume, f"{volume}-1")
    out(barque, "volume", "clone", "--pause=false", volume, f"{volume}-2")
    seen = out(
        barque,
        *("events", "--since", since, "--until", str(time.time() + 0.01)),
        *("--filter", f"container={container}", "--format", "{{.Action}}"),
    )
    assert seen.split() == ["pause", "unpause"]
    refused = fails(barque, "volume", "restore", "--from", f"{volume}-1", volume)
    assert "volume is mounted" in refused
    out(barque, "rm", "-f", container)
    out(barque, "volume", "restore", "--from", f"{volume}-1", volume)
    out(barque, "volume", "rm", volume, f"{volume}-1", f"{volume}-2")


def test_a_mounted_volume_can_be_cloned_but_not_restored(barque: Stack) -> None:
    volume = f"v{secrets.token_hex(4)}"
    options = ("--opt", "type=tmpfs", "--opt", "device=tmpfs")
    out(barque, "volume", "create", *options, volume)
    out(barque, "volume", "clone", volume, f"{volume}-copy")
    point = volumes_root(barque) / volume / "_data"
    assert f" {point} " not in Path("/proc/self/mountinfo").read_text()
    refused = fails(barque, "volume", "restore", "--from", f"{volume}-copy", volume)
    assert "cannot be exchanged" in refused
    out(barque, "volume", "rm", volume, f"{volume}-copy")


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
def test_an_archive_writes_nowhere_but_in_the_volume(barque: Stack, name: str) -> None:
    volume = f"v{secrets.token_hex(4)}"
    answer = ask(barque.socket, "PUT", f"/volumes/{volume}/archive", hostile(name))
    assert not Path("/tmp/bq-escape").exists()
    assert not (volumes_root(barque) / "bq-escape").exists()
    if answer.status == 200:
        out(barque, "volume", "rm", volume)
    assert not list(volumes_root(barque).glob(".removed-*"))


def test_an_archive_that_is_none_changes_nothing(barque: Stack) -> None:
    volume = filled(barque)
    before = inside(barque, volume, LIST)
    for body in (b"no tar at all" * 100, hostile("ok")[:700]):
        answer = ask(barque.socket, "PUT", f"/volumes/{volume}/archive", body)
        assert answer.status in {400, 500}, answer.body
        assert answer.message
    assert inside(barque, volume, LIST) == before
    out(barque, "volume", "rm", volume)


@pytest.mark.parametrize("wait_s", [0.2, 0.5])
def test_a_copy_that_a_crash_breaks_off_is_not_there(barque: Stack, wait_s: float) -> None:
    volume = filled(barque)
    inside(barque, volume, "for i in $(seq 1 400); do echo $i > /v/$i; done")
    copy = f"{volume}-copy"
    argv = program.command("barque", "-H", barque.host, "volume", "clone", volume, copy)
    asking = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(wait_s)
    barque.kill("barqued")
    asking.communicate()
    barque.start()
    names = out(barque, "volume", "ls", "-q").split()
    assert volume in names
    if copy in names:
        assert inside(barque, copy, LIST) == inside(barque, volume, LIST)
        out(barque, "volume", "rm", copy)
    assert sorted(p.name for p in volumes_root(barque).iterdir()) == sorted(
        name for name in names if name != copy
    )
    out(barque, "volume", "rm", volume)
