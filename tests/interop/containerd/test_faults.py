"""A kernel call of containerd fails, whichever: the client is told, and the state is the old one.

strace makes a call fail that writes: as a disk does that is full or broken, and a machine that is
out of memory or descriptors.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.faults import failing
from tests.support.node import IMAGE, OURS, Node, node, wait_until

pytestmark = [pytest.mark.root, pytest.mark.peer]

SETTLED_S = 30.0
TRIES = 20  # what the server does in the background may meet the fault instead
OTHER = "example.com/other:1"
BUNDLES = "state/io.containerd.runtime.v2.task/default"
LOG = "root/meta.db-wal"
LISTS = (
    ("namespaces", "ls", "-q"),
    ("images", "ls", "-q"),
    ("content", "ls", "-q"),
    ("containers", "ls", "-q"),
    ("snapshots", "ls"),
    ("tasks", "ls", "-q"),
)
Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def it() -> Iterator[Node]:
    with node() as made:
        made.ctr("images", "tag", IMAGE, OTHER)
        made.ctr("images", "rm", "--sync", OTHER)  # with it goes what the import has left
        yield made


def state(it: Node) -> dict[str, list[str]]:
    """What containerd knows of, and the bundles on its disk."""
    found = {" ".join(words): sorted(it.ctr(*words).stdout.splitlines()) for words in LISTS}
    bundles = (it.root / BUNDLES).glob("*")
    found["bundles"] = sorted(path.name for path in bundles if not path.name.startswith("."))
    return found


@contextmanager
def unchanged(it: Node) -> Iterator[None]:
    before = state(it)
    yield
    assert wait_until(lambda: state(it) == before, SETTLED_S), (before, state(it))


def refused(it: Node, fault: str, path: str, ask: Callable[[], Done]) -> Done:
    """The answer of a client that meets the fault."""
    for _ in range(TRIES):
        with failing(it.server_pid, fault, it.root / path if path else None):
            done = ask()
        if done.returncode:
            assert done.stderr.strip()
            assert "Traceback" not in done.stderr
            return done
        forget(it)
    raise AssertionError("the fault was never met")


def run(it: Node) -> Done:
    return it.run("one", "true", runtime=OURS, flags=("--rm",))


def forget(it: Node) -> None:
    """What a client leaves that could not clean up after itself, and what one made."""
    for words in (
        ("containers", "rm", "one"),
        ("snapshots", "rm", "one"),
        ("images", "rm", "--sync", OTHER),
        ("namespaces", "rm", "two"),
    ):
        it.ctr(*words, check=False)


@pytest.mark.parametrize(
    ("fault", "path", "words"),
    [
        ("pwrite64:error=EIO:when=1", LOG, ("namespaces", "create", "two")),
        ("pwrite64:error=ENOSPC:when=3", LOG, ("images", "tag", IMAGE, OTHER)),
        ("pwrite64:error=EIO:when=4", LOG, ("snapshots", "prepare", "one")),
        ("mkdir:error=ENOMEM:when=1", "", ("snapshots", "prepare", "one")),
        ("mkdir:error=ENOSPC:when=2", "", ("snapshots", "prepare", "one")),
        ("openat:error=EMFILE:when=1", "", ("containers", "create", IMAGE, "one")),
    ],
)
def test_what_cannot_be_written_is_not_there(
    it: Node, fault: str, path: str, words: tuple[str, ...]
) -> None:
    with unchanged(it):
        with unchanged(it):
            refused(it, fault, path, lambda: it.ctr(*words, check=False))
        it.ctr(*words)  # and now it can
        forget(it)


@pytest.mark.parametrize(
    ("fault", "path"),
    [
        *(("mkdir:error=ENOMEM", f"{BUNDLES}/one{name}") for name in ("", "/rootfs", "/work")),
        ("write:error=ENOSPC", f"{BUNDLES}/one/config.json"),
        ("write:error=ENOSPC:when=1", f"{BUNDLES}/one/.shim.json"),
        ("write:error=ENOSPC:when=2", f"{BUNDLES}/one/.shim.json"),
        ("rename:error=EIO:when=1", f"{BUNDLES}/one/.shim.json"),
        ("rename:error=EIO:when=2", f"{BUNDLES}/one/.shim.json"),
        ("socket:error=EMFILE:when=1", ""),
        ("socketpair:error=EMFILE:when=1", ""),
        ("connect:error=ENOMEM:when=1", ""),
    ],
)
def test_a_start_that_fails_leaves_nothing(it: Node, fault: str, path: str) -> None:
    """Neither a bundle nor a shim: who leaves a node counts processes, mounts and cgroups."""
    with unchanged(it):
        refused(it, fault, path, lambda: run(it))
        forget(it)
        assert run(it).returncode == 0


def test_a_bundle_that_could_not_be_removed_is_removed_later(it: Node) -> None:
    """Its id is free all the same."""
    with unchanged(it):
        with failing(it.server_pid, "rename:error=EIO", it.root / BUNDLES / "one"):
            assert run(it).returncode == 0  # it ran; only our files were not removed
        assert (it.root / BUNDLES / "one").is_dir()
        assert run(it).returncode == 0


@pytest.mark.parametrize("fault", ["fdatasync:error=EIO:when=1", "openat:error=EMFILE"])
def test_a_log_that_cannot_be_synced_once(it: Node, fault: str) -> None:
    """Its content is moved and synced elsewhere; and no descriptor is needed to sync it."""
    with unchanged(it):
        with failing(it.server_pid, fault, it.root / LOG):
            it.ctr("images", "tag", IMAGE, OTHER)
        forget(it)


def test_a_disk_that_takes_no_sync(it: Node) -> None:
    with unchanged(it):
        fault = "fdatasync,fsync:error=EIO"
        done = refused(it, fault, "", lambda: it.ctr("images", "tag", IMAGE, OTHER, check=False))
        assert re.search("i/o error", done.stderr, re.IGNORECASE)
        forget(it)  # it may be there: what the client was told is that nobody knows
        it.ctr("images", "tag", IMAGE, OTHER)
        forget(it)


@pytest.mark.parametrize(
    ("fault", "path"),
    [
        ("pwrite64:error=ENOSPC:when=1", ""),
        ("fsync:error=EIO:when=1", ""),
        ("rename:error=EIO:when=1", ""),
        ("openat:error=EMFILE:when=1", ""),
        ("pwrite64:error=EIO:when=2", LOG),
    ],
)
def test_content_that_cannot_be_written(it: Node, tmp_path: Path, fault: str, path: str) -> None:
    """No blob of it is there, and the next try goes through."""
    digests: list[str] = []

    def ingest() -> Done:
        data = tmp_path / "data"
        data.write_text(f"{fault} {len(digests)}" * 1000)
        digests.append("sha256:" + hashlib.sha256(data.read_bytes()).hexdigest())
        command = ["ctr", "--address", it.address, "content", "ingest", f"ref{len(digests)}"]
        with data.open() as source:
            return subprocess.run(command, stdin=source, capture_output=True, text=True, timeout=60)

    done = refused(it, fault, path, ingest)
    assert done.returncode
    assert digests[-1] not in it.ctr("content", "ls", "-q").stdout
    assert ingest().returncode == 0
    it.ctr("content", "rm", *digests, check=False)
