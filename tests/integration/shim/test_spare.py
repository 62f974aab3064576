"""The shim that the zygote has forked before anybody asks for it."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from barque.linux import pages
from tests.support import rootfs
from tests.support.shim import Shims, children, eventually, shims

pytestmark = pytest.mark.root


def name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def spares(it: Shims) -> list[int]:
    """Keepers whose worker waits for a request."""
    (forker,) = children(it.zygote.pid)
    return [pid for pid in children(forker) if "barque-spare" in map(name, children(pid))]


def spare(it: Shims) -> int:
    """There is one, and one only."""
    eventually(lambda: len(spares(it)) == 1, "no spare shim")
    return spares(it)[0]


def test_the_next_shim_is_the_spare_one(ours: Shims) -> None:
    assert children(ours.zygote.pid) == []  # nothing is forked before the first request
    ours.start("one", rootfs.config("true"))
    waiting = spare(ours)
    shim = ours.start("two", rootfs.config("sh", "-c", "exit 3"))
    assert shim.pid == waiting
    assert {name(pid) for pid in (waiting, *children(waiting))} <= {"barque-shim", ""}
    shim.create()
    shim.call("Start")
    assert shim.call("Wait")["exit_status"] == 3
    assert spare(ours) != waiting
    shim.end()


def test_it_has_nothing_of_the_zygotes_but_what_it_waits_at(ours: Shims) -> None:
    ours.start("one", rootfs.config("true"))
    waiting = spare(ours)
    assert os.readlink(f"/proc/{waiting}/exe").startswith("/memfd:")
    found = [os.readlink(fd) for fd in Path(f"/proc/{waiting}/fd").iterdir()]
    assert sum(link.startswith("socket:") for link in found) == 1


def networks(it: Shims) -> set[str]:
    """Of the spare shim: the network namespaces it has descriptors of."""
    return networks_of(*children(spare(it)))


def networks_of(pid: int) -> set[str]:
    found = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.add(os.readlink(fd))
    return {link for link in found if link.startswith("net:")}


def run(it: Shims, identity: str, *, network: bool) -> str:
    """A container's whole life; its network namespace."""
    config = rootfs.config("sleep", "1000")
    kinds = config["linux"]["namespaces"]
    kinds[:] = [kind for kind in kinds if kind["type"] != "network"]
    if network:
        kinds.append({"type": "network"})
    shim = it.start(identity, config)
    pid = shim.create()
    had = os.readlink(f"/proc/{pid}/ns/net")
    assert not networks_of(shim.pid)
    shim.call("Kill", signal=9)
    shim.call("Wait")
    shim.end()
    return had


def test_it_has_a_network_for_whom_the_last_one_wanted_one() -> None:
    with shims() as ours:
        takes_networks_made_ahead(ours)


def takes_networks_made_ahead(ours: Shims) -> None:
    own = os.readlink("/proc/self/ns/net")
    assert run(ours, "one", network=True) != own
    spare(ours)
    second = run(ours, "two", network=True)  # whose shim was made while the first one lived
    (ahead,) = networks(ours)
    assert ahead not in (own, second)
    assert run(ours, "three", network=True) == ahead
    assert networks(ours) not in ({ahead}, set())
    assert run(ours, "four", network=False) == own
    spare(ours)  # made while that one lived: it may have one
    assert run(ours, "five", network=False) == own
    assert not networks(ours)


@pytest.mark.parametrize("which", ["keeper", "worker"])
def test_one_that_is_killed_is_not_missed(ours: Shims, which: str) -> None:
    ours.start("one", rootfs.config("true"))
    waiting = spare(ours)
    os.kill(waiting if which == "keeper" else children(waiting)[0], signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{waiting}").exists(), "it does not end")
    shim = ours.start("two", rootfs.config("true"))
    assert shim.pid != waiting
    shim.create()
    shim.call("Start")
    assert shim.call("Wait")["exit_status"] == 0
    assert spare(ours) != waiting
    shim.end()


@pytest.mark.parametrize("killed", [False, True])
def test_it_ends_with_the_zygote(ours: Shims, killed: bool) -> None:
    shim = ours.start("one", rootfs.config("true"))
    waiting = spare(ours)
    if killed:
        ours.zygote.kill()
    else:
        assert ours.zygote.stdin is not None
        ours.zygote.stdin.close()
    ours.zygote.wait()
    eventually(lambda: not Path(f"/proc/{waiting}").exists(), "a spare shim is left")
    ours.zygote = ours._zygote()
    assert shim.call("Connect")["shim_pid"] == shim.pid


def own_pages(pid: int) -> int:
    """How many pages that may be written to no other process has."""
    found = 0
    with open(f"/proc/{pid}/pagemap", "rb") as pagemap:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            place, letters = line.split()[:2]
            if letters != "rw-p":
                continue
            first, end = (int(text, 16) // pages.SIZE for text in place.split("-"))
            pagemap.seek(first * pages.ENTRY_BYTES)
            entries = memoryview(pagemap.read((end - first) * pages.ENTRY_BYTES)).cast("Q")
            mask = pages.PRESENT | pages.SHARED | pages.ALONE
            found += sum(entry & mask == pages.PRESENT | pages.ALONE for entry in entries)
    return found


@pytest.mark.parametrize("ours", [""], indirect=True, ids=["awake"])
def test_one_has_what_an_earlier_shim_wrote_to(ours: Shims) -> None:
    shim = ours.start("one", rootfs.config("true"))
    (first,) = children(spare(ours))
    alone = own_pages(first)
    shim.create()
    shim.run_to_end()
    ours.start("two", rootfs.config("true"))
    eventually(lambda: own_pages(children(spare(ours))[0]) > alone + 100, "it was made as ever")
