"""The TAB key: the shells themselves, with our script loaded, on a daemon of ours."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from barque import program
from tests.support.barque import Stack, stack

pytestmark = [pytest.mark.root, pytest.mark.peer]


@pytest.fixture(scope="module")
def engine() -> Iterator[Stack]:
    with stack() as started:
        started.cli("run", "-d", "--name", "wharf-runs", "busybox", "sleep", "1000")
        started.cli("create", "--name", "wharf-waits", "busybox", "true")
        started.cli("volume", "create", "wharf-volume")
        yield started


@pytest.fixture(scope="module")
def environment(engine: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """`barque` on the PATH, which tells what would run, and a directory with one file."""
    root = tmp_path_factory.mktemp("shell")
    (root / "bin").mkdir()
    (root / "home").mkdir()
    (root / "here").mkdir()
    (root / "here" / "wharf-file").touch()
    script = root / "bin" / "barque"
    words = " ".join(f"'{word}'" for word in program.command("barque"))
    script.write_text(
        '#!/bin/sh\ncase "$1" in\n'
        f'__complete|completion) exec {words} "$@" ;;\n'
        '*) echo "ran [$*]" ;;\nesac\n'
    )
    script.chmod(0o755)
    return {
        "PATH": f"{root}/bin:/usr/bin:/bin",
        "HOME": f"{root}/home",
        "PWD": f"{root}/here",
        "DOCKER_HOST": engine.host,
        "TERM": "dumb",
        "LANG": "C.UTF-8",
    }


def asked(environment: dict[str, str], *words: str) -> set[str]:
    """What `__complete` offers, without the descriptions."""
    done = subprocess.run(
        program.command("barque", "__complete", "--", *words),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    *lines, last = done.stdout.splitlines()
    assert last in (":files", ":nothing")
    return {line.partition("\t")[0] for line in lines} | {last}


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("re", {"registry", "rename", "restart", ":nothing"}),
        ("cont", {"container", "context", ":nothing"}),
        ("container re", {"rename", "restart", "remove", ":nothing"}),
        ("start ", {"wharf-waits", ":nothing"}),
        ("stop ", {"wharf-runs", ":nothing"}),
        ("rm ", {"wharf-runs", "wharf-waits", ":nothing"}),
        ("rm -f wharf-runs ", {"wharf-waits", ":nothing"}),
        ("container exec -it wh", {"wharf-runs", ":nothing"}),
        ("exec wharf-runs ", {":files"}),
        ("exec wharf-runs ls --", {":files"}),
        ("run bus", {"busybox", "busybox:latest", ":nothing"}),
        ("run --network ho", {"host", ":nothing"}),
        ("run --network=x --hostn", {"--hostname", ":nothing"}),
        ("run --restart ", {"no", "always", "on-failure", "unless-stopped", ":nothing"}),
        ("run --env-file ", {":files"}),
        ("volume rm ", {"wharf-volume", ":nothing"}),
        ("network connect bri", {"bridge", ":nothing"}),
        ("network connect bridge wharf-w", {"wharf-waits", ":nothing"}),
        ("--log-level d", {"debug", ":nothing"}),
        ("context use ", {"default", ":nothing"}),
        ("load -i ", {":files"}),
        ("nosuch ", {":nothing"}),
        ("container nosuch ", {":nothing"}),
        ("rename wharf-runs wh", {":files"}),
        ("-H unix:///nobody rm ", {":nothing"}),
    ],
)
def test_what_is_offered(environment: dict[str, str], line: str, offered: set[str]) -> None:
    assert asked(environment, *line.split(" ")) == offered


def test_every_word_is_completed_without_a_traceback(environment: dict[str, str]) -> None:
    for line in ("", "-", "--", "--host", "run -", "run --", "run -e", "=", "exec -", "x y z "):
        asked(environment, *line.split(" "))


@pytest.fixture
def shell(
    request: pytest.FixtureRequest, environment: dict[str, str]
) -> Iterator["pexpect.spawn[str]"]:
    """An interactive shell that has loaded our script."""
    name: str = request.param
    argv, load, prompt = SHELLS[name]
    child = pexpect.spawn(
        argv[0],
        argv[1:],
        env={**environment, "TERM": "vt100", "PS1": "ready> "},
        cwd=environment["PWD"],
        timeout=30,
        encoding="utf-8",
        dimensions=(40, 200),
    )
    try:
        child.sendline(prompt)
        child.sendline(load)
        child.sendline("echo loa''ded")
        child.expect("loaded")
        yield child
    finally:
        child.close(force=True)


SHELLS = {
    "bash": (
        ["/bin/bash", "--norc", "--noprofile", "-i"],
        "source <(barque completion bash)",
        "bind 'set bell-style none'",
    ),
    "zsh": (
        ["/usr/bin/zsh", "-f", "-i"],
        "autoload -Uz compinit && compinit -u -D && source <(barque completion zsh)",
        "PROMPT='ready> '",
    ),
    "fish": (
        ["/usr/bin/fish", "--no-config", "--private", "-i"],
        "barque completion fish | source",
        "true",
    ),
}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"], indirect=True)
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("start whar", "start wharf-waits"),
        ("volume ins", "volume inspect"),
        ("run --hostn", "run --hostname"),
        ("load -i wharf-", "load -i wharf-file"),
    ],
)
def test_the_tab_key(shell: "pexpect.spawn[str]", typed: str, completed: str) -> None:
    shell.send(f"barque {typed}\t")
    shell.send("\r")
    shell.expect(r"ran \[(.*?) ?\]")
    assert shell.match.group(1) == completed


def test_bash_splits_where_the_command_does_not(environment: dict[str, str]) -> None:
    """COMP_WORDS has `=` and `:` as words of their own; the candidates are what follows them."""
    script = (
        "source <(barque completion bash); COMP_LINE='barque run busybox:la'; "
        "COMP_POINT=${#COMP_LINE}; COMP_WORDS=(barque run busybox : la); COMP_CWORD=4; "
        "_barque; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(
        ["/bin/bash", "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["latest"]


def test_an_unknown_shell(environment: dict[str, str]) -> None:
    done = subprocess.run(
        program.command("barque", "completion", "csh"),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "shell 'csh': one of bash, zsh, fish is known\n"


def test_the_scripts_parse(environment: dict[str, str], tmp_path: Path) -> None:
    for name, argv in (("bash", ["bash", "-n"]), ("zsh", ["zsh", "-n"]), ("fish", ["fish", "-n"])):
        text = subprocess.run(
            program.command("barque", "completion", name), capture_output=True, check=True
        ).stdout
        path = tmp_path / name
        path.write_bytes(text)
        subprocess.run([*argv, os.fspath(path)], env=environment, check=True)
