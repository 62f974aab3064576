"""Streams and exit codes of run, attach, start -a and exec, beside the real docker CLI."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from tests.interop.cli.conftest import BARQUE, Commands

pytestmark = [pytest.mark.peer, pytest.mark.root]


def test_both_streams_are_kept_apart(commands: Commands) -> None:
    script = "for n in 1 2 3; do echo out$n; echo err$n >&2; done; exit 4"
    assert commands.ours("run", "--rm", "busybox", "sh", "-c", script) == (
        4,
        b"out1\nout2\nout3\n",
        b"err1\nerr2\nerr3\n",
    )


@pytest.mark.parametrize("code", [0, 1, 42, 125, 126, 127, 137, 255])
def test_the_exit_code_is_the_containers(commands: Commands, code: int) -> None:
    assert commands.ours("run", "--rm", "busybox", "sh", "-c", f"exit {code}")[0] == code


def test_a_killed_container_has_the_signals_code(commands: Commands) -> None:
    script = "kill -9 $$"
    assert (
        commands.ours("run", "--rm", "busybox", "sh", "-c", f"sh -c '{script}'; exit $?")[0] == 137
    )


def test_much_goes_through_stdin(commands: Commands) -> None:
    """20 MB in and back out, then the end of stdin, then the exit code."""
    sent = hashlib.sha256(b"seed").digest() * (20 << 15)
    code, out, err = commands.ours(
        "run", "--rm", "-i", "busybox", "sh", "-c", "cat; exit 6", stdin=sent
    )
    assert (code, err) == (6, b"")
    assert hashlib.sha256(out).digest() == hashlib.sha256(sent).digest()


def test_a_container_that_does_not_read(commands: Commands) -> None:
    sent = b"x" * (4 << 20)
    assert commands.ours("run", "--rm", "-i", "busybox", "echo", "done", stdin=sent)[:2] == (
        0,
        b"done\n",
    )


def test_only_stdin_is_attached(commands: Commands, name: str) -> None:
    script = "cat > /tmp/got; wc -c < /tmp/got"
    done = commands.ours(
        *("run", "--name", name, "-i", "-a", "stdin", "busybox", "sh", "-c", script), stdin=b"12345"
    )
    made = commands.theirs("inspect", "-f", "{{.Id}}", name)[1]
    assert done == (0, made, b"")
    assert commands.theirs("logs", name)[1] == b"5\n"


def test_attach_to_a_terminal_wants_one(commands: Commands, name: str) -> None:
    commands.theirs("run", "-dit", "--name", name, "busybox", "cat")
    code, out, _ = commands.same("attach", name)
    assert (code, out) == (1, b"")


def test_attach_sees_what_comes(commands: Commands, name: str) -> None:
    # No standard input: Debian's dockerd drops output once an attached client half-closes.
    script = "sleep 1; echo got it; sleep 0.3; exit 3"
    commands.theirs("run", "-d", "--name", name, "busybox", "sh", "-c", script)
    assert commands.ours("attach", "--no-stdin", name) == (3, b"got it\n", b"")


def test_start_attached_and_interactive(commands: Commands, name: str) -> None:
    commands.theirs(
        "create", "-i", "--name", name, "busybox", "sh", "-c", "cat; echo e >&2; exit 2"
    )
    assert commands.ours("start", "-ai", name, stdin=b"typed") == (2, b"typed", b"e\n")
    assert commands.ours("start", name) == (0, f"{name}\n".encode(), b"")


def test_exec_takes_stdin_to_its_end(commands: Commands, name: str) -> None:
    commands.theirs("run", "-d", "--name", name, "busybox", "sleep", "1000")
    sent = hashlib.sha256(b"seed").digest() * (4 << 15)
    code, out, err = commands.ours("exec", "-i", name, "sh", "-c", "cat; exit 8", stdin=sent)
    assert (code, out == sent, err) == (8, True, b"")


def test_a_reader_that_leaves_ends_the_command_quietly(commands: Commands) -> None:
    run = subprocess.Popen(
        [*BARQUE, "run", "--rm", "busybox", "yes"],
        env=commands.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert run.stdout is not None
    assert run.stderr is not None
    run.stdout.read(10)
    run.stdout.close()
    assert run.wait(30) == -13
    assert run.stderr.read() == b""
    run.stderr.close()
    for line in commands.theirs(
        "ps", "--filter", "ancestor=busybox", "--format", "{{.ID}} {{.Command}}"
    )[1].splitlines():
        if b"yes" in line:
            commands.theirs("rm", "-f", line.split()[0].decode())


def test_names_of_files_are_bytes(commands: Commands, name: str, tmp_path: Path) -> None:
    """On this machine; the API's paths of containers are text."""
    commands.theirs("create", "--name", name, "busybox")
    file = os.fsdecode(bytes(tmp_path) + b"/f\xff")
    Path(file).write_text("kept")
    back = os.fsdecode(bytes(tmp_path) + b"/b\xfd")
    assert commands.ours("cp", file, f"{name}:/copy")[0] == 0
    assert commands.ours("cp", f"{name}:/copy", back)[0] == 0
    assert Path(back).read_text() == "kept"
    saved = os.fsdecode(bytes(tmp_path) + b"/s\xff")
    commands.same("save", "-o", saved, "busybox")
    commands.same("load", "-q", "-i", saved)
    missing = commands.ours("load", "-i", f"{saved}x")
    assert (missing[0], b"s\xffx" in missing[2]) == (1, True)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_stream_that_is_closed_is_not_the_next_sockets(commands: Commands, closed: str) -> None:
    """Its number would be: what is printed would be sent to the daemon, its answers be input."""
    program = ("sh", "-c", f'"$@" {closed}', "sh", *BARQUE)
    for words in (("ps",), ("run", "--rm", "-i", "busybox", "cat"), ("version",)):
        assert commands.run(program, words)[::2] == (0, b"")
    assert commands.run(program, ("nosuch",))[0] == 1
    assert commands.run(program, ("load",))[0] == 1


def test_a_followed_log_ends_with_its_container(commands: Commands, name: str) -> None:
    script = "for n in 1 2 3; do echo line $n; sleep 0.2; done"
    commands.theirs("run", "-d", "--name", name, "busybox", "sh", "-c", script)
    assert commands.ours("logs", "-f", name) == (0, b"line 1\nline 2\nline 3\n", b"")


def test_output_before_the_end_is_whole(commands: Commands) -> None:
    """The last bytes are not lost to the exit: ten times, because it would be a race."""
    for _ in range(10):
        code, out, _ = commands.ours("run", "--rm", "busybox", "sh", "-c", "seq 1 2000; exit 1")
        assert (code, out.count(b"\n"), out[-5:]) == (1, 2000, b"2000\n")
