"""`prune --dry-run` on a real dockerd: what it tells is what the prune then removes."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.interop.cli.conftest import Commands

pytestmark = [pytest.mark.peer, pytest.mark.root]


@pytest.fixture
def label(commands: Commands) -> Iterator[str]:
    """A label of one ended and one running container, a network, two volumes and two images."""
    word = f"d{secrets.token_hex(4)}"
    marked = ("--label", f"mark={word}")

    def docker(*words: str, stdin: bytes = b"") -> str:
        code, out, err = commands.theirs(*words, stdin=stdin)
        assert code == 0, err
        return out.decode().strip()

    change = f"LABEL mark={word}"
    commit = ("import", "-c", change, "-c", 'CMD ["sh"]', "-")
    empty = bytes(10240)
    docker(*commit, f"{word}:kept", stdin=empty)
    docker(*commit[:2], change, "-c", "ENV A=b", "-", stdin=empty)
    docker("network", "create", *marked, word)
    docker("volume", "create", *marked, word)
    docker("run", "--name", f"{word}-ended", *marked, "busybox", "sh", "-c", "echo 12345 >/new")
    docker("run", "-d", "--name", f"{word}-runs", *marked, "busybox", "sleep", "600")
    yield word
    for words in (
        ("rm", "-f", "-v", f"{word}-ended", f"{word}-runs"),
        ("network", "rm", word),
        ("volume", "rm", "-f", word),
        ("image", "prune", "-af", "--filter", f"label=mark={word}"),
    ):
        commands.theirs(*words)


def told(commands: Commands, *words: str) -> list[str]:
    code, out, err = commands.ours(*words)
    assert code == 0, err
    return out.decode().splitlines()


def ids(commands: Commands, *words: str) -> set[str]:
    return set(commands.theirs(*words)[1].decode().split())


def test_all_that_would_go_is_told_and_nothing_goes(commands: Commands, label: str) -> None:
    chosen = ("--filter", f"label=mark={label}")
    before = ids(commands, "ps", "-aq", "--no-trunc", *chosen)
    ended = ids(commands, "ps", "-aq", "--no-trunc", "--filter", f"name={label}-ended")
    lines = told(commands, "system", "prune", "--dry-run", "--all", *chosen)
    assert [line for line in lines if line.startswith("Would")] == [
        "Would delete Containers:",
        "Would delete Networks:",
        "Would delete Images:",
    ]
    assert {*ended, label, f"{label}:kept"} <= set(lines)
    assert not (before - ended) & set(lines)
    assert lines[-1].startswith("Total reclaimable space: ")
    assert ids(commands, "ps", "-aq", "--no-trunc", *chosen) == before
    assert ids(commands, "network", "ls", "-q", *chosen)


def test_it_tells_what_the_prune_removes(commands: Commands, label: str) -> None:
    chosen = ("--filter", f"label=mark={label}")
    for kind, flags in (
        ("container", ()),
        ("network", ()),
        ("volume", ()),  # dockerd 20.10 prunes those with names too, and knows no --all
        ("image", ("--all",)),
    ):
        dry = told(commands, kind, "prune", "--dry-run", *flags, *chosen)
        code, out, _ = commands.theirs(kind, "prune", "--force", *flags, *chosen)
        assert code == 0
        names = {line.removeprefix("untagged: ") for line in out.decode().splitlines()}
        would = {line for line in dry if line and not line.startswith(("Would", "Total"))}
        if kind == "image":
            assert f"{label}:kept" in would & names
        else:
            assert would == {line for line in names if line and ":" not in line}


def test_times_and_other_labels_are_heeded(commands: Commands, label: str) -> None:
    mine = ("--filter", f"label=mark={label}")
    for more in (("--filter", "until=24h"), ("--filter", f"label!=mark={label}")):
        lines = told(commands, "container", "prune", "--dry-run", *mine, *more)
        assert lines == ["Total reclaimable space: 0B"]
    code, _, err = commands.ours("container", "prune", "--dry-run", "--filter", "x=y")
    assert code == 1
    assert b"invalid filter 'x'" in err


@pytest.mark.parametrize("words", ["container", "image", "image -a", "network", "volume"])
def test_who_says_no_has_been_asked_in_dockers_words(commands: Commands, words: str) -> None:
    kind, *options = words.split()
    line = (kind, "prune", *options)
    assert commands.ours(*line, stdin=b"n\n") == commands.theirs(*line, stdin=b"n\n")


def test_an_older_daemon_is_not_asked_for_all(commands: Commands) -> None:
    for more in ((), ("--dry-run",)):
        code, out, err = commands.ours("volume", "prune", "--all", *more)
        assert (code, out) == (1, b"")
        assert b'"--all" requires API version 1.42, but the Docker daemon API version is' in err
