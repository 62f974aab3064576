"""Commands on images beside the real docker CLI on one real dockerd; logins and their helpers."""

from __future__ import annotations

import json
import os
import secrets
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.interop.cli.conftest import Commands
from tests.support.docker_peer import Peer
from tests.support.our_registry import OurRegistry, our_registry

pytestmark = [pytest.mark.root, pytest.mark.peer, pytest.mark.timeout(180)]

NOWHERE = f"sha256:{'0' * 64}"
HELPER = """#!/bin/sh
# Keeps what it is given in files of its directory.
dir=${0%/*}
case $1 in
store) cat >"$dir/kept" ;;
get) read server
     cat "$dir/kept" 2>/dev/null && exit
     echo "credentials not found in native keychain"; exit 1 ;;
erase) rm -f "$dir/kept" ;;
esac
"""


@pytest.fixture
def commands(peer: Peer, tmp_path: Path) -> Commands:
    return Commands(peer.host, tmp_path, peer.cli)


@pytest.fixture
def container(commands: Commands) -> Iterator[str]:
    name = f"c{secrets.token_hex(4)}"
    code, _, err = commands.theirs(
        "create", "--net=none", "--name", name, "busybox", "sh", "-c", "true"
    )
    assert code == 0, err
    yield name
    commands.theirs("rm", "-f", name)


@pytest.fixture(scope="module")
def registry(peer: Peer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OurRegistry]:
    """With one user, where dockerd is."""
    users = tmp_path_factory.mktemp("users") / "htpasswd"
    hashed = "$2y$05$T5ezY14PQxOKBDTlfR8I6uMV0wu4j3RohiO7EEvO8cvGlqVoyTFPq"
    users.write_text(f"someone:{hashed}\n")
    with our_registry("--htpasswd", str(users), netns=peer.netns) as running:
        yield running


@pytest.mark.parametrize(
    "words",
    [
        ("history", "busybox"),
        ("history", "--no-trunc", "busybox"),
        ("history", "-q", "busybox"),
        ("history", "-H=false", "busybox"),
        ("history", "--format", "{{.ID}}|{{.CreatedBy}}|{{.Size}}|{{.Comment}}", "busybox"),
        ("history", "nothere"),
        ("image", "prune", "-f", "--filter", "label=never"),
        ("save", "nothere"),
        ("save", "-o", "/nonsense/dir/file", "busybox"),
        ("export", "nothere"),
        ("export", "-o", "/nonsense/dir/file", "x"),
        ("commit", "nothere"),
        ("push", "nothere"),
        ("push", "-a", "nothere:1"),
        ("push", "Bad:1"),
        ("push", f"busybox@{NOWHERE}"),
        ("pull", "-q", "-a", "busybox:1"),
        ("pull", "busybox@sha256:1"),
        ("rmi", "nothere", "Bad", "busybox:not"),
        ("rmi", "-f", "nothere", "alsonot"),
        ("rmi", "-f", "nothere", "Bad"),
        ("save", "busybox", "nothere"),
        ("save", "--platform", "linux/amd64", "busybox"),
        ("load", "-i", "/nonsense"),
        ("load", "-i", "/etc/hostname"),
        ("load", "--platform", "linux/amd64", "-i", "/etc/hostname"),
        ("import", "/nonsense"),
        ("import", "/dev/null", "Bad:1"),
        ("import", "-c", "RUN x", "/dev/null"),
        ("import", "http://127.0.0.1:1/x.tar"),
        ("history", "--platform", "linux/arm64", "busybox"),
        ("image", "rm", "--platform", "linux/arm64", "busybox"),
        ("image", "inspect", "--platform", "linux/arm64", "busybox"),
        ("image", "inspect", "busybox", "nothere"),
        ("image", "prune", "-a", "-f", "--filter", "until=nonsense"),
        ("images", "--filter", "before=nothere"),
        ("images", "--filter", "reference=[a"),
        ("images", "--format", "{{.Repository}} {{.Tag}} {{.ID}} {{.Digest}}"),
        ("search", "--limit", "1000", "x"),
        ("search", "--filter", "stars=x", "x"),
        ("tag", "busybox", f"x@{NOWHERE}"),
        ("tag", "busybox", "a:b:c"),
        ("commit", "-c", "RUN x", "nothere"),
        ("manifest", "push", "nothere"),
        ("manifest", "annotate", "a", "b"),
        ("manifest", "rm", "nothere"),
        ("logout", "registry.test"),
        ("logout",),
        ("login", "-u", "me"),
        ("login", "-u", "me", "--password-stdin", "-p", "x"),
        ("login", "--password-stdin"),
    ],
)
def test_the_same(commands: Commands, words: tuple[str, ...]) -> None:
    commands.same(*words)


def test_save_and_export_to_files(commands: Commands, container: str, tmp_path: Path) -> None:
    for words in (("save", "busybox"), ("export", container)):
        path = tmp_path / f"{words[0]}.tar"
        code, out, err = commands.ours(words[0], "-o", str(path), words[1])
        assert (code, out, err) == (0, b"", b"")
        with tarfile.open(path) as archive:
            assert archive.getnames()
        assert [one.name for one in tmp_path.iterdir() if ".part" in one.name] == []
        piped = commands.ours(*words)
        assert len(piped[1]) == path.stat().st_size


def test_commit(commands: Commands, container: str) -> None:
    name = f"made{secrets.token_hex(4)}"
    code, out, err = commands.ours("commit", "-m", "why", "-a", "me", container, f"{name}:1")
    assert code == 0, err
    template = "{{.Id}} {{.Comment}} {{.Author}}"
    found = commands.theirs("image", "inspect", "-f", template, f"{name}:1")
    assert found[1].split() == [out.strip(), b"why", b"me"]
    commands.theirs("rmi", f"{name}:1")


def test_login_push_pull_logout(commands: Commands, registry: OurRegistry, tmp_path: Path) -> None:
    name = f"{registry.address}/mine/busybox:1"
    commands.theirs("tag", "busybox", name)
    code, _, err = commands.ours("push", name)
    assert code == 1
    assert b"no basic auth credentials" in err
    wrong = commands.ours(
        "login", "-u", "someone", "--password-stdin", registry.address, stdin=b"wrong\n"
    )
    assert wrong[0] == 1
    assert b"unauthorized" in wrong[2].lower()
    right = commands.ours(
        "login", "-u", "someone", "--password-stdin", registry.address, stdin=b"secret\n"
    )
    assert (right[0], right[1]) == (0, b"Login Succeeded\n")
    kept = json.loads((tmp_path / "config.json").read_bytes())
    assert list(kept["auths"]) == [registry.address]
    assert (tmp_path / "config.json").stat().st_mode & 0o777 == 0o600
    again = commands.ours("login", registry.address)
    assert again[1].splitlines()[-1] == b"Login Succeeded"
    assert commands.ours("push", name)[0] == 0
    assert commands.theirs("push", name)[0] == 0  # the real one reads what we keep
    quiet = commands.ours("push", "-q", name)
    assert (quiet[0], quiet[1]) == (0, f"{name}\n".encode())
    assert commands.ours("pull", name)[0] == 0
    assert commands.ours("logout", registry.address)[0] == 0
    assert json.loads((tmp_path / "config.json").read_bytes())["auths"] == {}
    assert commands.ours("pull", name)[0] == 1
    commands.theirs("rmi", name)


def test_all_tags_quietly_and_by_platform(commands: Commands, registry: OurRegistry) -> None:
    name = f"{registry.address}/all/tags"
    login = ("login", "-u", "someone", "--password-stdin", registry.address)
    assert commands.theirs(*login, stdin=b"secret")[0] == 0
    for tag in "ab":
        commands.theirs("tag", "busybox", f"{name}:{tag}")
    commands.same("push", "-a", "-q", name)
    for words in (
        *(("-a", name), ("-a", "-q", name), ("-q", f"{name}:a")),
        *(("--platform", "linux/amd64", f"{name}:a"), ("-q", "-a", "--platform", "linux", name)),
        *(("-q", "--platform", "linux/arm64", f"{name}:a"), ("-a", f"{name}:a"), (f"{name}:c",)),
    ):
        commands.same("pull", *words)
    commands.theirs("rmi", f"{name}:a", f"{name}:b")
    commands.theirs("logout", registry.address)


@pytest.mark.parametrize(
    ("words", "trust"),
    [
        (("trust", "sign", "busybox:1"), ""),
        (("pull", "busybox"), "1"),
        (("push", "busybox"), "yes"),
        (("run", "busybox"), "true"),
        (("create", "--disable-content-trust=false", "busybox"), "0"),
    ],
)
def test_content_trust_is_left_out(commands: Commands, words: tuple[str, ...], trust: str) -> None:
    """Nobody may think that something was verified."""
    commands.environment["DOCKER_CONTENT_TRUST"] = trust
    code, out, err = commands.ours(*words)
    assert code
    assert not out
    assert b"content trust is left out: verify signatures with cosign or notation" in err
    commands.environment["DOCKER_CONTENT_TRUST"] = "1"
    done = commands.ours("create", "--disable-content-trust", "--net=none", "busybox", "true")
    assert done[0] == 0
    commands.theirs("rm", done[1].decode().strip())


def test_many_names_removed_of_which_some_are_none(commands: Commands) -> None:
    """What can be removed is, in the order of the words; the rest is told at the end."""

    def removed(run: Callable[..., tuple[int, bytes, bytes]]) -> tuple[int, bytes, bytes]:
        for tag in "ab":
            commands.theirs("tag", "busybox", f"many:{tag}")
        return run("rmi", "many:b", "nothere", "many:a", "many:c")

    found = removed(commands.ours)
    assert found == removed(commands.theirs)
    assert found[:2] == (1, b"Untagged: many:b\nUntagged: many:a\n")


@pytest.mark.parametrize("setting", ["credsStore", "credHelpers"])
@pytest.mark.parametrize("whose", ["ours", "theirs"])
def test_a_credential_helper(
    commands: Commands, registry: OurRegistry, tmp_path: Path, whose: str, setting: str
) -> None:
    bin = tmp_path / "bin"
    bin.mkdir()
    program = bin / "docker-credential-kept"
    program.write_text(HELPER)
    program.chmod(0o755)
    commands.environment["PATH"] = f"{bin}:{os.environ['PATH']}"
    named = "kept" if setting == "credsStore" else {registry.address: "kept"}
    (tmp_path / "config.json").write_text(json.dumps({setting: named}))
    login = ("login", "-u", "someone", "--password-stdin", registry.address)
    done = (commands.ours if whose == "ours" else commands.theirs)(*login, stdin=b"secret")
    assert done[0] == 0, done
    document = json.loads((bin / "kept").read_bytes())
    assert document == {"ServerURL": registry.address, "Username": "someone", "Secret": "secret"}
    assert "secret" not in (tmp_path / "config.json").read_text()
    name = f"{registry.address}/helped/busybox:1"
    commands.theirs("tag", "busybox", name)
    assert commands.ours("push", name)[0] == 0
    assert commands.ours("logout", registry.address)[0] == 0
    assert not (bin / "kept").exists()
    assert commands.ours("push", name)[0] == 1
    commands.theirs("rmi", name)
