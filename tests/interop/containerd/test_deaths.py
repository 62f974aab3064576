"""kill -9 of containerd, the zygote or a shim in the midst of a deed: nothing half done is left.

BARQUE_CRASH_ROUNDS is how often for each deed, BARQUE_CRASH_SEED when and whom.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import signal
import tarfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from barque.errors import BarqueError, NotFound
from tests.support import rootfs
from tests.support.node import IMAGE, Node, alive, image_archive, node, wait_until
from tests.support.pods import NAMESPACE, Pods, run

pytestmark = [pytest.mark.root, pytest.mark.peer]
ROUNDS = int(os.environ.get("BARQUE_CRASH_ROUNDS", "5"))
SEED = int(os.environ.get("BARQUE_CRASH_SEED", "20261121"))
CLIENT_LIMIT_S = 60
STATES = (None, "CREATED", "RUNNING", "STOPPED", "PAUSED")  # ctr pauses what it checkpoints
KEPT = "kept"


@pytest.fixture(scope="module")
def it() -> Iterator[Node]:
    with node() as made:
        rootfs.build(made.root / "rootfs")
        made.ctr("images", "tag", IMAGE, image("other"))
        made.ctr("images", "rm", "--sync", image("other"))  # with what the import has left
        yield made


@pytest.fixture
def kept(it: Node) -> Iterator[int]:
    """The first process of a task that nobody strikes."""
    sleeps(it, KEPT)
    yield it.pid(KEPT)
    it.end(KEPT)


class Deed(NamedTuple):
    """What is done with `id`, before and in the midst of which somebody dies; then its undoing."""

    within_s: float
    do: Callable[[Node, str], object]
    undo: Callable[[Node, str], object]
    prepare: Callable[[Node, str], object] = lambda it, id: None


def sleeps(it: Node, id: str) -> None:
    done = it.run(id, "sleep", "1000", flags=("-d",))
    assert done.returncode == 0, f"{done.stderr}\n{it.log[-2000:]}"


def image(id: str) -> str:
    return f"example.com/{id}:latest"


def written(it: Node, id: str) -> None:
    """The archive of an image, with a layer that takes a while."""
    buffer = io.BytesIO()
    data = random.Random(id).randbytes(4 << 20)
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        entry = tarfile.TarInfo("data")
        entry.size = len(data)
        layer.addfile(entry, io.BytesIO(data))
    (it.root / f"{id}.tar").write_bytes(image_archive(buffer.getvalue(), image(id)))


def imported(it: Node, id: str) -> None:
    it.ctr("images", "import", str(it.root / f"{id}.tar"), check=False)


def removed(it: Node, id: str) -> None:
    """Once more and whole, if it is not there; then without a trace."""
    it.ctr("images", "import", str(it.root / f"{id}.tar"))
    it.ctr("images", "check", f"name=={image(id)}")
    it.ctr("images", "rm", "--sync", image(id))
    (it.root / f"{id}.tar").unlink()


def executed(it: Node, id: str) -> None:
    words = ("task", "exec", "--exec-id", id, KEPT, "sh", "-c", "exit 3")
    done = it.ctr(*words, check=False)
    assert done.returncode == 3 or done.stderr, done


def pod_made(it: Node, id: str, sandboxer: str) -> None:
    with suppress(BarqueError):  # the death's doing
        run(it, lambda client: client.made(id), sandboxer)


def pod_ended(it: Node, id: str, sandboxer: str) -> None:
    with suppress(BarqueError):
        run(it, lambda client: client.gone(id), sandboxer)


def pod_gone(it: Node, id: str, sandboxer: str) -> None:
    async def end(client: Pods) -> None:
        with suppress(NotFound):
            await client.gone(id)
        assert not (await client.store("List")).list

    run(it, end, sandboxer)


def deeds_of_pods(sandboxer: str) -> dict[str, Deed]:
    made, ended, gone = (partial(do, sandboxer=sandboxer) for do in (pod_made, pod_ended, pod_gone))
    return {
        f"a pod of {sandboxer}": Deed(0.09, made, gone),
        f"the end of a pod of {sandboxer}": Deed(0.05, ended, gone, made),
    }


DEEDS = {
    "a start": Deed(0.09, lambda it, id: it.run(id, "sleep", "9", flags=("-d",)), Node.end),
    "a stop": Deed(0.09, Node.end, Node.end, sleeps),
    "a run to the end": Deed(0.09, lambda it, id: it.run(id, "true"), Node.end),
    "an exec": Deed(0.09, executed, lambda it, id: None),
    "a checkpoint": Deed(
        0.15, lambda it, id: it.ctr("task", "checkpoint", id, check=False), Node.end, sleeps
    ),
    "an import": Deed(0.5, imported, removed, written),
    **deeds_of_pods("podsandbox"),
    **deeds_of_pods("shim"),
}


@pytest.mark.timeout(120 + 15 * ROUNDS)
@pytest.mark.parametrize("what", DEEDS)
def test_whoever_dies_in_the_midst_of(it: Node, kept: int, what: str) -> None:
    dice, deed = random.Random(f"{SEED} {what}"), DEEDS[what]
    before = stored(it)
    for number in range(ROUNDS):
        id = f"t{number}"
        deed.prepare(it, id)
        victim = dice.choice(["containerd", "zygote", "shim"])
        interrupted(it, deed, id, victim, dice.uniform(0.001, deed.within_s))
        if it.process is None:
            it.start()
        assert alive(kept), f"killed with {victim}"
        assert it.tasks().get(id) in STATES
        deed.undo(it, id)
        assert left_of(it, id) == [], f"after {victim} died"
    assert it.tasks() == {KEPT: "RUNNING"}
    assert it.pid(KEPT) == kept
    for lease in it.ctr("leases", "ls", "-q").stdout.split():  # of clients that were killed
        it.ctr("leases", "rm", "--sync", lease)
    assert wait_until(lambda: stored(it) == before), stored(it) ^ before
    assert not [name for kind, name in before if kind == "content" and not whole(it, name)]


def interrupted(it: Node, deed: Deed, id: str, victim: str, after_s: float) -> None:
    failures: list[BaseException] = []

    def do() -> None:
        try:
            deed.do(it, id)
        except BaseException as error:
            failures.append(error)

    client = threading.Thread(target=do, daemon=True)
    client.start()
    client.join(after_s)
    strike(it, victim, id)
    if victim == "containerd":
        it.start()
    client.join(CLIENT_LIMIT_S)
    assert not client.is_alive(), "a client waits for ever"
    assert not failures, failures


def strike(it: Node, victim: str, id: str) -> None:
    """Kill `victim`; of a task that is not there yet, or no more, there is no shim to be found."""
    if victim == "containerd":
        it.crash()
    elif victim == "zygote":
        for pid in it.children():
            os.kill(pid, signal.SIGKILL)
    else:
        for path in (it.root / "state").glob(f"*/*/{id}/shim.pid"):
            with suppress(OSError, ValueError):
                shim = int(path.read_text())
                if Path(f"/proc/{shim}/comm").read_text() == "barque-shim\n":
                    os.kill(shim, signal.SIGKILL)


def left_of(it: Node, id: str) -> list[str]:
    """What tells of it: tasks, bundles, mounts."""
    found = [str(path) for path in (it.root / "state").glob(f"*/*/{id}")]
    found += [path for path in rootfs.mounts_below(it.root) if f"/{id}/" in path]
    return found + [name for name in it.tasks() if name == id]


def stored(it: Node) -> set[tuple[str, str]]:
    """What the stores have: kind and name."""
    listed = {
        "content": it.ctr("content", "ls", "-q").stdout,
        "snapshot": "\n".join(it.ctr("snapshots", "ls").stdout.splitlines()[1:]),
        "pod": it.ctr("-n", NAMESPACE, "task", "ls", "-q").stdout,
    }
    found = {(kind, line.split()[0]) for kind in listed for line in listed[kind].splitlines()}
    left = (it.root / "root/checkpoints").glob("*/*")
    return found | {("checkpoint", path.name) for path in left}


def whole(it: Node, digest: str) -> bool:
    algorithm, _, digits = digest.partition(":")
    data = (it.root / "root/content/blobs" / algorithm / digits).read_bytes()
    return hashlib.sha256(data).hexdigest() == digits
