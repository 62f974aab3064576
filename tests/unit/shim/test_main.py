from __future__ import annotations

import pytest

from barque.errors import InvalidArgument
from barque.shim import info, paths
from barque.shim.binary import answer
from barque.shim.main import Invocation, main
from barque.shim.wire import decode


def test_flags_as_containerd_gives_them() -> None:
    words = ["-namespace", "moby", "--address=/run/c.sock", "-publish-binary", "/bin/c", "-id", "x"]
    invocation = Invocation([*words, "-debug", "start"])
    assert (invocation.namespace, invocation.id, invocation.address, invocation.action) == (
        "moby",
        "x",
        "/run/c.sock",
        "start",
    )
    assert "debug" in invocation.switches


@pytest.mark.parametrize(
    "words",
    [["-nope"], ["-id"], ["-debug=7"], ["-namespace", "a/b", "start"], ["-id", "", "start"]],
)
def test_bad_flags(words: list[str]) -> None:
    with pytest.raises(InvalidArgument):
        _ = (lambda it: (it.namespace, it.id))(Invocation(words))


def test_failures_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-nope"]) == 1
    assert capsys.readouterr().err == (
        "containerd-shim-barque-v2: flag provided but not defined: -nope\n"
    )
    assert main(["dance"]) == 1
    assert "unknown command 'dance'" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["-v", "--v", "-version", "--version"])
def test_version(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    assert main([flag]) == 0
    assert capsys.readouterr().out.startswith("containerd-shim-barque-v2:\n  Version:")


def test_info() -> None:
    values = decode(info.INFO, info.describe())
    assert values["name"] == "io.containerd.barque.v2"
    assert values["version"]["version"]


def test_the_answer_of_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MAX_SHIM_VERSION", raising=False)
    assert answer("/s/x") == "unix:///s/x"
    monkeypatch.setenv("MAX_SHIM_VERSION", "3")
    assert answer("/s/x") == '{"version":2,"address":"unix:///s/x","protocol":"ttrpc"}'


def test_paths_of_sockets_are_short() -> None:
    assert paths.sockets("/run/containerd/containerd.sock") == "/run/containerd/s"
    assert paths.sockets("unix:///run/containerd/containerd.sock") == "/run/containerd/s"
    assert paths.sockets(f"/{'x' * 90}/c.sock") == "/run/barque/s"
    assert len(paths.socket("/run/containerd/s", ".pty")) < paths.SOCKET_PATH_BYTES_MAX
    assert paths.runtime_root("/run/c/c.sock", "moby", "") == "/run/c/runc/moby"
    assert paths.runtime_root("/run/c/c.sock", "moby", "/r") == "/r/moby"


@pytest.mark.parametrize("value", ["", ".", "..", "-x", "a/b", "a\n", "x" * 300, "é"])
def test_ids_that_are_no_names(value: str) -> None:
    with pytest.raises(InvalidArgument):
        paths.check_id("id", value)
