"""Images beside Debian's dockerd: pull, push, save, load, import, export, commit, lists.

Each daemon has a docker-registry of its own, the same program with the same content, for each is in
its own network namespace. What is written is on the disk before the next one begins.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

from bench.engine import Client, client
from bench.measure import Figure, interleaved, processes_naming
from tests.support.barque import Stack, stack
from tests.support.docker_peer import Peer, docker_peer
from tests.support.registry_peer import RegistryPeer, registry_peer

LAYERS, LAYER_BYTES = 8, 38 << 20
FILE_BYTES = 256 << 10
SMALL_FILES = 20_000
IMAGES = 1000
ROUNDS = 3
Daemon = Stack | Peer
LIMIT_S = 600


def layer(number: int) -> bytes:
    """A tar of files, each half noise and half text."""
    buffer = io.BytesIO()
    text = (b"%08d the quick brown fox jumps over the lazy dog\n" % number) * 4000
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for index in range(LAYER_BYTES // FILE_BYTES):
            entry = tarfile.TarInfo(f"layer{number}/file{index}")
            entry.size = FILE_BYTES
            half = FILE_BYTES // 2
            archive.addfile(entry, io.BytesIO(os.urandom(half) + text[:half]))
    return buffer.getvalue()


def many_files() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for index in range(SMALL_FILES):
            entry = tarfile.TarInfo(f"d{index % 200}/f{index}")
            entry.size = 600
            archive.addfile(entry, io.BytesIO(b"%0600d" % index))
    return buffer.getvalue()


def layout(path: Path, layers: list[bytes]) -> None:
    """An image of `layers` as a docker-archive."""
    from barque.oci.digest import sha256

    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [sha256(data) for data in layers]},
    }
    raw = json.dumps(config).encode()
    names = [f"{sha256(data)[7:]}.tar" for data in layers]
    manifest = [{"Config": "config.json", "RepoTags": ["big:1"], "Layers": names}]
    with tarfile.open(path, "w") as archive:
        files = [*zip(names, layers, strict=True), ("config.json", raw)]
        for name, data in (*files, ("manifest.json", json.dumps(manifest).encode())):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def copied(archive: Path, registry: RegistryPeer, netns: str) -> None:
    inside = ["nsenter", f"--net=/run/netns/{netns}"] if netns else []
    subprocess.run(
        [
            *(*inside, "skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false"),
            *(f"docker-archive:{archive}", f"docker://{registry.address}/big:1"),
        ],
        check=True,
        capture_output=True,
    )


class Turns:
    """One figure: a call for each daemon, in turns, with what undoes it and is not counted."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}

    def time(self, name: str, call: Callable[[], object]) -> None:
        os.sync()
        before = time.perf_counter()
        call()
        self.times.setdefault(name, []).append((time.perf_counter() - before) * 1000)

    def figure(self, what: str, bound: float) -> Figure:
        ours, peer = median(self.times["ours"]), median(self.times["peer"])
        return Figure(what, ours, peer, "ms", bound)


def _docker(daemon: Daemon, *arguments: str, stdin: bytes = b"") -> bytes:
    done: bytes = daemon.docker(*arguments, stdin=stdin, timeout_s=LIMIT_S).stdout
    return done


def high_water_mb(text: str) -> float:
    """The largest resident set that any process whose command line has `text` ever had."""
    found = [0]
    for pid in processes_naming(text):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                found.append(int(line.split()[1]))
    return max(found) / 1024


def _registries(daemons: dict[str, Daemon], addresses: dict[str, RegistryPeer]) -> Iterator[Figure]:
    pulls, pushes, again = Turns(), Turns(), {}
    for turn in range(ROUNDS):
        for name, daemon in daemons.items():
            image = f"{addresses[name].address}/big:1"
            pulls.time(name, partial(_docker, daemon, "pull", "-q", image))
            target = f"{addresses[f'{name}-empty'].address}/pushed{turn}:1"
            _docker(daemon, "tag", image, target)
            shutil.rmtree(addresses[f"{name}-empty"].root / "docker", ignore_errors=True)
            pushes.time(name, partial(_docker, daemon, "push", "-q", target))
            _docker(daemon, "rmi", "-f", target)
            if turn < ROUNDS - 1:
                _docker(daemon, "rmi", "-f", image)
    yield pulls.figure(f"pull of {LAYERS} layers, {LAYERS * LAYER_BYTES >> 20} MB", 0.7)
    yield pushes.figure("push of the same", 0.5)
    for name, daemon in daemons.items():
        image = f"{addresses[name].address}/big:1"
        again[name] = partial(_docker, daemon, "pull", "-q", image)
    found = interleaved(again, 9)
    yield Figure("pull of what is here", found["ours"], found["peer"], "ms", 1.0)


def _archives(daemons: dict[str, Daemon], names: dict[str, str], scratch: Path) -> Iterator[Figure]:
    saves, loads = Turns(), Turns()
    for _ in range(ROUNDS):
        for name, daemon in daemons.items():
            path = scratch / f"{name}.tar"
            saves.time(name, partial(_docker, daemon, "save", "-o", str(path), names[name]))
            _docker(daemon, "rmi", "-f", names[name])
            loads.time(name, partial(_docker, daemon, "load", "-q", "-i", str(path)))
    yield saves.figure("save", 0.8)
    yield loads.figure("load", 0.8)


def _containers(daemons: dict[str, Daemon], scratch: Path) -> Iterator[Figure]:
    big = scratch / "import.tar"
    big.write_bytes(layer(100))
    imports, exports, commits = Turns(), Turns(), Turns()
    for daemon in daemons.values():
        script = (
            "for i in $(seq 1000); do echo $i >/f$i; done; dd if=/dev/zero of=/z bs=1M count=64"
        )
        _docker(daemon, "run", "--net=none", "--name", "changed", "busybox", "sh", "-c", script)
    for turn in range(ROUNDS):
        for name, daemon in daemons.items():
            imports.time(name, partial(_docker, daemon, "import", str(big), "imported:1"))
            _docker(daemon, "rmi", "-f", "imported:1")
            path = str(scratch / f"{name}.export")
            exports.time(name, partial(_docker, daemon, "export", "-o", path, "changed"))
            tag = f"committed:{turn}"
            commits.time(name, partial(_docker, daemon, "commit", "changed", tag))
            _docker(daemon, "rmi", "-f", tag)
    for daemon in daemons.values():
        _docker(daemon, "rm", "-f", "changed")
    yield imports.figure("import", 0.8)
    yield exports.figure("export", 0.8)
    yield commits.figure("commit", 0.8)


def _extraction(daemons: dict[str, Daemon], scratch: Path) -> Iterator[Figure]:
    """The whole import against GNU tar alone, which keeps no second copy and hashes nothing."""
    path = scratch / "many.tar"
    path.write_bytes(many_files())
    turns = Turns()

    def untar() -> None:
        (scratch / "many").mkdir()
        subprocess.run(["tar", "-xf", str(path), "-C", str(scratch / "many")], check=True)
        os.sync()

    for _ in range(ROUNDS):
        turns.time("ours", partial(_docker, daemons["ours"], "import", str(path), "many:1"))
        turns.time("docker", partial(_docker, daemons["peer"], "import", str(path), "many:1"))
        turns.time("peer", untar)
        shutil.rmtree(scratch / "many")
        for daemon in daemons.values():
            _docker(daemon, "rmi", "-f", "many:1")
    yield turns.figure(f"import of {SMALL_FILES} files beside GNU tar", 1.3)
    ours, docker = median(turns.times["ours"]), median(turns.times["docker"])
    yield Figure("the same beside dockerd", ours, docker, "ms", 0.8)


def _lists(daemons: dict[str, Daemon]) -> Iterator[Figure]:
    def fill(connection: Client) -> None:
        for number in range(IMAGES):
            connection.ask("POST", f"/images/busybox:latest/tag?repo=listed{number}&tag=1")

    calls = {}
    for name, daemon in daemons.items():
        with client(daemon) as connection:
            fill(connection)
        calls[name] = partial(_docker, daemon, "images")
    found = interleaved(calls, 7)
    yield Figure(f"images with {IMAGES} names", found["ours"], found["peer"], "ms", 1.0)


def figures() -> Iterator[Figure]:
    scratch = Path(tempfile.mkdtemp(prefix="bq-", dir="/var/tmp"))
    try:
        big = scratch / "big.tar"
        layout(big, [layer(number) for number in range(LAYERS)])
        with stack() as barque, docker_peer() as peer:
            yield from _with(barque, peer, big, scratch)
    finally:
        shutil.rmtree(scratch)


def _with(barque: Stack, peer: Peer, big: Path, scratch: Path) -> Iterator[Figure]:
    daemons: dict[str, Daemon] = {"ours": barque, "peer": peer}
    ns = peer.netns
    with (
        registry_peer() as ours,
        registry_peer(netns=ns) as theirs,
        registry_peer() as empty,
        registry_peer(netns=ns) as their_empty,
    ):
        copied(big, ours, "")
        copied(big, theirs, ns)
        addresses = {
            "ours": ours,
            "peer": theirs,
            "ours-empty": empty,
            "peer-empty": their_empty,
        }
        yield from _registries(daemons, addresses)
        names = {"ours": f"{ours.address}/big:1", "peer": f"{theirs.address}/big:1"}
        yield from _archives(daemons, names, scratch)
    memory = high_water_mb(str(barque.root)), high_water_mb(f"{peer.root}/")
    yield Figure("largest memory of a daemon (100 MB)", *memory, "MB")
    yield from _containers(daemons, scratch)
    yield from _extraction(daemons, scratch)
    yield from _lists(daemons)
