"""The driver journald and a real journald: the fields are those that Debian's dockerd sends."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.barque import Stack, stack
from tests.support.docker_peer import Peer, docker_peer
from tests.support.journal import Journal, journal
from tests.support.runtimes import wait_for

pytestmark = [pytest.mark.root, pytest.mark.peer]
LONG = 40_000
SCRIPT = (
    f"echo one; echo; echo bad >&2; sleep 0.2; yes | tr -d '\\n' | head -c {LONG}; echo; echo end"
)
# What only newer versions of dockerd send, and what each line has of its own.
NEWER = ("CONTAINER_LOG_EPOCH", "CONTAINER_LOG_ORDINAL", "SYSLOG_TIMESTAMP")
OWN = ("CONTAINER_ID", "CONTAINER_ID_FULL")
PIECES = ("CONTAINER_PARTIAL_ID", "CONTAINER_PARTIAL_ORDINAL", "CONTAINER_PARTIAL_LAST")


@pytest.fixture(scope="module")
def real_journal() -> Iterator[Journal]:
    with journal() as made:
        yield made


@pytest.fixture(scope="module")
def barque(real_journal: Journal) -> Iterator[Stack]:
    with ExitStack() as undo:
        made = real_journal.inside(undo.enter_context, stack())
        yield made
        real_journal.inside(undo.close)


@pytest.fixture(scope="module")
def peer(real_journal: Journal) -> Iterator[Peer]:
    with ExitStack() as undo:
        made = real_journal.inside(undo.enter_context, docker_peer())
        yield made
        real_journal.inside(undo.close)


def run(daemon: Stack | Peer, journal: Journal, name: str, *flags: str) -> list[dict[str, Any]]:
    """A container's entries in the journal, without what the journal adds."""
    more = ("--network", "none", "--label", "shown.so=yes", "-e", "kept=1", *flags)
    daemon.docker(
        "run", "--name", name, "--log-driver", "journald", *more, "busybox", "sh", "-c", SCRIPT
    )
    wait_for(lambda: "end" in [entry["MESSAGE"] for entry in journal.entries(name)])
    found = journal.entries(name)
    return [{k: v for k, v in entry.items() if not k.startswith("_")} for entry in found]


def test_the_fields_are_docker_s(barque: Stack, peer: Peer, real_journal: Journal) -> None:
    flags = (
        "--log-opt",
        "tag=t/{{.Name}}",
        "--log-opt",
        "labels=shown.so",
        "--log-opt",
        "env=kept",
    )
    told = []
    for daemon in (barque, peer):
        name = "ours" if daemon is barque else "theirs"
        entries = run(daemon, real_journal, name, *flags)
        identifier = daemon.docker("inspect", "--format", "{{.Id}}", name).stdout.decode().strip()
        for entry in entries:
            assert entry.pop("CONTAINER_ID_FULL") == identifier
            assert entry.pop("CONTAINER_ID") == identifier[:12]
            assert entry.pop("CONTAINER_NAME") == name
            for tag in ("CONTAINER_TAG", "SYSLOG_IDENTIFIER"):
                assert entry.pop(tag) == f"t/{name}"
            for field in (*NEWER, *PIECES):
                entry.pop(field, None)
        told.append(sorted(entries, key=lambda entry: (entry["PRIORITY"], entry["MESSAGE"])))
        daemon.docker("rm", name)
    assert told[0] == told[1]
    assert {"SHOWN_SO": "yes", "KEPT": "1", "IMAGE_NAME": "busybox"}.items() <= told[0][0].items()


def test_a_long_line_is_told_in_pieces(barque: Stack, real_journal: Journal) -> None:
    entries = run(barque, real_journal, "long")
    pieces = [entry for entry in entries if "CONTAINER_PARTIAL_ID" in entry]
    assert len("".join(piece["MESSAGE"] for piece in pieces)) == LONG
    assert len({piece["CONTAINER_PARTIAL_ID"] for piece in pieces}) == 1
    ordinals = [int(piece["CONTAINER_PARTIAL_ORDINAL"]) for piece in pieces]
    assert ordinals == list(range(1, len(pieces) + 1))
    last = [piece["CONTAINER_PARTIAL_LAST"] for piece in pieces]
    assert last == ["false"] * (len(pieces) - 1) + ["true"]
    open_ends = [piece.get("CONTAINER_PARTIAL_MESSAGE") for piece in pieces]
    assert open_ends == ["true"] * (len(pieces) - 1) + [None]
    assert [int(entry["CONTAINER_LOG_ORDINAL"]) for entry in entries] == list(
        range(1, len(entries) + 1)
    )
    assert len({entry["CONTAINER_LOG_EPOCH"] for entry in entries}) == 1
    moments = [entry["SYSLOG_TIMESTAMP"] for entry in entries]
    assert all(moment.endswith("Z") and moment[10] == "T" for moment in moments)
    barque.docker("rm", "long")


def test_it_is_read_back(barque: Stack, real_journal: Journal) -> None:
    """`logs` of a container whose lines are in the journal: the bytes that it wrote."""
    run(barque, real_journal, "read")
    done = barque.docker("logs", "read")
    long = ("y" * LONG).encode()
    assert done.stdout == b"one\n\n" + long + b"\nend\n"
    assert done.stderr == b"bad\n"
    assert barque.docker("logs", "--tail", "1", "read").stdout == b"end\n"
    barque.docker("rm", "read")
