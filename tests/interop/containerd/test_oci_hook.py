"""`containerd oci-hook`, ours and the real one: a hook's words filled in from the state."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from barque import program

pytestmark = pytest.mark.peer
COMMANDS = {"ours": program.command("barque-containerd"), "real": ["/usr/bin/containerd"]}


@pytest.fixture(params=COMMANDS)
def hook(request: pytest.FixtureRequest) -> list[str]:
    return [*COMMANDS[request.param], "oci-hook", "--"]


def filled(hook: list[str], bundle: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`words`, as a program of the hook gets them."""
    state = {
        "ociVersion": "1.0.2",
        "id": "one",
        "status": "creating",
        "pid": 42,
        "bundle": str(bundle),
        "annotations": {"a.b/c": "x y"},
    }
    return subprocess.run(
        [*hook, *words],
        input=json.dumps(state),
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/bin", "WHO": "is {{id}}"},
    )


@pytest.mark.parametrize("root", ["rootfs", "/some/root"])
def test_words_and_environment(hook: list[str], tmp_path: Path, root: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"root": {"path": root}}))
    script = 'for one in "$@" "$WHO"; do echo "$one"; done'
    words = ["{{id}}/{{ pid }}", '{{annotation "a.b/c"}}', '-{{annotation "d"}}-', "{{status}}"]
    done = filled(hook, tmp_path, "/bin/sh", "-c", script, "sh", *words, "{{bundle}} {{rootfs}}")
    assert done.stdout.splitlines() == [
        *("one/42", "x y", "--", "creating", f"{tmp_path} {tmp_path / root}"),
        "is one",
    ]


@pytest.mark.parametrize("word", ["{{nothing}}", "{{id"])
def test_words_that_cannot_be_filled(hook: list[str], tmp_path: Path, word: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    done = filled(hook, tmp_path, "/bin/echo", word)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_a_program_that_is_not_there(hook: list[str], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    done = filled(hook, tmp_path, str(tmp_path / "nothing"))
    assert done.returncode == 1
    assert "no such file" in done.stderr.lower()
