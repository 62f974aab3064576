"""Docker's CLI plugins run by both commands: what they are told, and what is told of them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.interop.cli.conftest import BARQUE
from tests.support.docker_peer import real_docker_cli

pytestmark = pytest.mark.peer

DOCKER = (real_docker_cli(),)
BOTH = pytest.mark.parametrize("program", [DOCKER, BARQUE], ids=["docker", "barque"])
GOOD = """#!/bin/sh
if [ "$1" = docker-cli-plugin-metadata ]; then
    echo '{"SchemaVersion":"0.1.0","Vendor":"Me Inc.","Version":"v1","ShortDescription":"%s"}'
    exit 0
fi
echo "$0" "$@"
echo "$DOCKER_HOST"
test -n "$DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND" || exit 9
exit 7
"""
BAD = {
    "docker-plain": "no program",
    "docker-b-c": "#!/bin/sh\necho '{}'\n",
    "docker-empty": "#!/bin/sh\necho '{}'\n",
    "docker-noone": """#!/bin/sh\necho '{"SchemaVersion":"0.1.0"}'\n""",
    "docker-run": GOOD % "Run another way",
    "docker-failing": "#!/bin/sh\nexit 3\n",
}


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    """A directory of settings with plugins, and another with two more of which one is hidden."""
    for directory, name, text in (
        ("cli-plugins", "docker-hello", GOOD % "Say hello"),
        ("extra", "docker-other", GOOD % "Say more"),
        ("extra", "docker-hello", GOOD % "Say hello first"),
    ):
        _write(tmp_path / directory / name, text)
    for name, text in BAD.items():
        _write(tmp_path / "cli-plugins" / name, text)
    (tmp_path / "cli-plugins" / "docker-plain").chmod(0o644)
    (tmp_path / "cli-plugins" / "docker-directory").mkdir()
    (tmp_path / "config.json").write_text(
        json.dumps({"cliPluginsExtraDirs": [str(tmp_path / "extra")]})
    )
    return tmp_path


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def run(program: tuple[str, ...], settings: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": os.environ["PATH"],
        "DOCKER_CONFIG": str(settings),
        "DOCKER_HOST": f"unix://{settings}/nobody.sock",
    }
    return subprocess.run(
        [*program, *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@BOTH
@pytest.mark.parametrize(
    "words",
    [("hello",), ("hello", "-x", "--y=z", "a b"), ("--debug", "hello", "--help"), ("other", "")],
    ids=" ".join,
)
def test_a_plugin_gets_the_whole_command_line(
    program: tuple[str, ...], settings: Path, words: tuple[str, ...]
) -> None:
    done = run(program, settings, *words)
    assert done.returncode == 7, done.stderr
    name = words[0] if words[0] != "--debug" else words[1]
    expected = " ".join((f"{settings}/extra/docker-{name}", *words))
    assert done.stdout.splitlines() == [expected, f"unix://{settings}/nobody.sock"]


@BOTH
def test_help_of_a_plugin_is_its_own(program: tuple[str, ...], settings: Path) -> None:
    assert f"{settings}/extra/docker-hello help hello" in run(
        program, settings, "help", "hello"
    ).stdout.replace("  ", " ")


@BOTH
def test_a_builtin_command_is_no_plugins(program: tuple[str, ...], settings: Path) -> None:
    done = run(program, settings, "run")
    assert "Run another way" not in done.stdout
    assert "requires at least 1 argument" in done.stderr


@BOTH
def test_the_program_lists_its_plugins(program: tuple[str, ...], settings: Path) -> None:
    page = run(program, settings, "--help").stdout
    assert "\n  hello*      Say hello first\n" in page
    assert "\n  other*      Say more\n" in page
    assert "Run another way" not in page
    assert "plain*" not in page


def test_both_tell_the_same_of_each_plugin(settings: Path) -> None:
    theirs, ours = (run(program, settings, "info") for program in (DOCKER, BARQUE))
    assert _plugins(ours.stdout) == _plugins(theirs.stdout) == ["hello", "other"]
    assert _warnings(ours.stderr) == _warnings(theirs.stderr)
    assert len(_warnings(ours.stderr)) == len(BAD)


def _plugins(page: str) -> list[str]:
    lines = page.partition(" Plugins:\n")[2].partition("\n\n")[0].splitlines()
    return [line.split(":")[0].strip() for line in lines if line[2:3].strip()]


def _warnings(told: str) -> list[str]:
    return sorted(line for line in told.replace("?WARN", "?\nWARN").split("\n") if "WARN" in line)


@pytest.mark.parametrize("words", [("compose", "up"), ("buildx", "ls"), ("bake",)], ids=" ".join)
def test_a_missing_plugin_is_named(settings: Path, words: tuple[str, ...]) -> None:
    done = run(BARQUE, settings, *words)
    name = "compose" if words[0] == "compose" else "buildx"
    assert done.returncode == 1
    assert done.stderr == (
        f"barque: 'barque {words[0]}' is done by docker's plugin {name}, which is not installed\n"
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("build", "-t", "x", "."), "buildx build -t x ."),
        (("image", "build", "."), "buildx build ."),
        (("builder", "prune"), "buildx prune"),
        (("bake", "all"), "buildx bake all"),
    ],
)
def test_buildx_does_what_it_does_for_docker(
    settings: Path, words: tuple[str, ...], told: str
) -> None:
    _write(settings / "cli-plugins" / "docker-buildx", GOOD % "Build")
    done = run(BARQUE, settings, *words)
    assert done.stdout.splitlines()[0] == f"{settings}/cli-plugins/docker-buildx {told}"


def test_a_plugin_is_completed_and_one_that_cannot_run_is_told(settings: Path) -> None:
    assert "hello\tSay hello first\n" in run(BARQUE, settings, "__complete", "--", "he").stdout
    done = run(BARQUE, settings, "plain")
    path = settings / "cli-plugins" / "docker-plain"
    assert (done.returncode, done.stderr) == (1, f"barque: fork/exec {path}: permission denied\n")
