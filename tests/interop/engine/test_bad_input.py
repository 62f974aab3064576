"""Bad input and full disks: one clear line, the right code, nothing left behind."""

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from barque import program
from tests.support.barque import Stack, stack
from tests.support.registry_peer import registry_peer

AROUND = ("See '", "Run '", "Usage:", "Unable to find image", "Error: failed to start")
pytestmark = [pytest.mark.root, pytest.mark.peer]


@pytest.fixture
def cramped() -> Iterator[Stack]:
    """A stack whose data root is a tmpfs of 24 MB."""
    with stack(data_size="24m") as made:
        yield made


def state(barque: Stack) -> tuple[bytes, bytes, list[str]]:
    """What a user sees: containers, images, and the network's leftovers."""
    containers = barque.docker("ps", "-aq").stdout
    return containers, barque.docker("images", "-aq").stdout, barque.leftover_sandboxes()


def one_line(done: subprocess.CompletedProcess[bytes]) -> str:
    """The error of our command: one line, beside what docker's CLI says around it."""
    lines = [line for line in done.stderr.decode().splitlines() if line.strip()]
    assert lines, done
    assert all("Traceback" not in line for line in lines)
    assert len([line for line in lines if not line.startswith(AROUND)]) == 1, lines
    return next(line for line in lines if not line.startswith(AROUND))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run", "nosuchimage:tag"], 125, "nosuchimage"),
        (["run", "--memory", "lots", "busybox"], 125, "invalid"),
        (["run", "--memory", "1k", "busybox"], 125, "Minimum memory limit allowed is 6MB"),
        (["run", "--rm", "busybox", "nosuch"], 127, "executable file not found"),
        (["run", "--rm", "busybox", "/etc/group"], 126, "permission denied"),
        (["run", "--nosuchflag", "busybox"], 125, "unknown flag: --nosuchflag"),
        (["run", "-p", "99999:80", "busybox"], 125, "99999"),
        (["run", "--mount", "type=bind,src=/no/such,dst=/x", "busybox"], 125, "does not exist"),
        (["run", "-v", "relative:/x:nonsense", "busybox"], 125, "mode"),
        (["run", "-e", "", "busybox"], 125, "invalid environment variable"),
        (["run", "--rm", "-u", "4294967296", "busybox"], 125, "uid"),
        (["run", "--name", "bad/name", "busybox"], 125, "Invalid container name"),
        (["run", "Upper/Case:x"], 125, "lowercase"),
        (["start", "nosuch"], 1, "No such container: nosuch"),
        (["exec", "nosuch", "true"], 1, "No such container: nosuch"),
        (["inspect", "nosuch"], 1, "No such object: nosuch"),
        (["rmi", "nosuch"], 1, "No such image: nosuch"),
        (["pull", "127.0.0.1:1/x"], 1, "connection refused"),
        (["load", "-i", "/no/such/file"], 1, "no such file or directory"),
        (["nosuchcommand"], 1, "nosuchcommand"),
    ],
    ids=str,
)
def test_one_clear_line(barque: Stack, arguments: list[str], code: int, said: str) -> None:
    before = state(barque)
    done = barque.cli(*arguments, check=False)
    assert said in one_line(done)
    assert done.returncode == code
    assert state(barque) == before


def test_a_port_that_another_program_has(barque: Stack) -> None:
    import socket

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        before = state(barque)
        done = barque.cli(
            "run", "--rm", "-p", f"127.0.0.1:{port}:80", "busybox", "true", check=False
        )
        assert done.returncode == 125
        assert "address already in use" in one_line(done)
        assert state(barque) == before


def test_no_daemon(tmp_path: Path) -> None:
    done = subprocess.run(
        program.command("barque", "-H", f"unix://{tmp_path}/none.sock", "ps"),
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 1
    assert "Is the docker daemon running?" in one_line(done)


def _archive(layer: bytes, config: object) -> bytes:
    """A docker-archive with one layer and this config."""
    out = io.BytesIO()
    manifest = [{"Config": "config.json", "RepoTags": ["bad:1"], "Layers": ["layer.tar"]}]
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, data in (
            ("config.json", json.dumps(config).encode()),
            ("layer.tar", layer),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


@pytest.mark.parametrize(
    "archive",
    [
        b"",
        b"not a tar at all" * 100,
        _archive(
            b"garbage" * 1000, {"rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]}}
        ),
        _archive(b"", []),
        _archive(b"", {"rootfs": {"type": "layers", "diff_ids": []}}),
    ],
    ids=["empty", "no tar", "wrong digest", "config is a list", "no diff ids"],
)
def test_archives_that_are_no_images(barque: Stack, archive: bytes) -> None:
    before = state(barque)
    done = barque.cli("load", stdin=archive, check=False)
    assert done.returncode == 1
    one_line(done)
    assert state(barque) == before


def test_a_corrupt_layer_in_a_registry(barque: Stack, tmp_path: Path) -> None:
    with registry_peer() as registry:
        name = f"{registry.address}/box:1"
        barque.docker("tag", "busybox", name)
        barque.docker("push", name)
        barque.docker("rmi", name)
        blobs = registry.root / "docker/registry/v2/blobs/sha256"
        largest = max(blobs.glob("*/*/data"), key=lambda path: path.stat().st_size)
        raw = bytearray(largest.read_bytes())
        raw[len(raw) // 2] ^= 0xFF
        largest.write_bytes(raw)
        with stack(busybox=False) as fresh:
            before = state(fresh)
            done = fresh.cli("pull", name, check=False)
            assert done.returncode == 1
            lines = done.stderr.decode().strip().splitlines()
            assert "Traceback" not in done.stderr.decode()
            assert any(word in lines[-1] for word in ("digest", "verif", "layer", "gzip")), lines
            assert state(fresh) == before


def test_a_full_disk(cramped: Stack) -> None:
    before = state(cramped)
    rootfs = io.BytesIO()
    with tarfile.open(fileobj=rootfs, mode="w") as archive:
        entry = tarfile.TarInfo("big")
        entry.size = 40 << 20
        archive.addfile(entry, io.BytesIO(b"\0" * entry.size))
    done = cramped.cli("import", "-", "big", stdin=rootfs.getvalue(), check=False)
    assert done.returncode == 1
    assert "no space left on device" in one_line(done).lower()
    assert state(cramped) == before
    fill = "dd if=/dev/zero of=/f bs=1M 2>&1; rm /f; echo done"
    done = cramped.cli("run", "--rm", "busybox", "sh", "-c", fill)
    assert b"No space left on device" in done.stdout
    assert done.stdout.endswith(b"done\n")
    assert cramped.cli("run", "--rm", "busybox", "echo", "fine").stdout == b"fine\n"
