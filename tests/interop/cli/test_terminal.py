"""The command as the terminal of a container, on a pseudo-terminal, beside the real docker CLI."""

from __future__ import annotations

import os
import signal
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pexpect
import pytest

from tests.interop.cli.conftest import BARQUE, Commands

pytestmark = [pytest.mark.peer, pytest.mark.root]

PROMPT = "# "
LIMIT_S = 20


@pytest.fixture(params=["ours", "theirs"])
def program(request: pytest.FixtureRequest, commands: Commands) -> tuple[str, ...]:
    """Each test runs with both: where the real one fails too, the test is wrong."""
    return BARQUE if request.param == "ours" else commands.docker


class Terminal:
    def __init__(self, program: tuple[str, ...], commands: Commands, *words: str) -> None:
        self.child: Any = pexpect.spawn(
            program[0],
            [*program[1:], *words],
            env=commands.environment,
            dimensions=(24, 100),
            timeout=LIMIT_S,
        )

    def see(self, text: str) -> None:
        self.child.expect_exact(text)

    def type(self, text: str) -> None:
        self.child.send(text)

    def end(self) -> int:
        """The exit code, or the negative signal."""
        self.child.expect(pexpect.EOF)
        self.child.close()
        code = self.child.exitstatus
        return int(code if code is not None else -self.child.signalstatus)

    @property
    def raw(self) -> bool:
        return not termios.tcgetattr(self.child.child_fd)[3] & termios.ICANON


@pytest.fixture
def terminal(program: tuple[str, ...], commands: Commands) -> Iterator[Callable[..., Terminal]]:
    opened = []

    def open_it(*words: str) -> Terminal:
        opened.append(Terminal(program, commands, *words))
        return opened[-1]

    yield open_it
    for one in opened:
        one.child.close(force=True)


def test_a_shell(terminal: Callable[..., Terminal]) -> None:
    shell = terminal("run", "--rm", "-it", "busybox", "sh")
    shell.see(PROMPT)
    assert shell.raw
    shell.type("stty size; tty\r")
    shell.see("24 100")
    shell.see("/dev/pts/0")
    shell.see(PROMPT)
    shell.type("exit 7\r")
    assert shell.end() == 7


def test_ctrl_c_is_the_shells(terminal: Callable[..., Terminal]) -> None:
    shell = terminal("run", "--rm", "-it", "busybox", "sh")
    shell.see(PROMPT)
    shell.type("echo begin; sleep 100\r")
    shell.see("\nbegin")
    shell.type("\x03")
    shell.see(PROMPT)
    shell.type("echo status=$?\r")
    shell.see("status=130")
    shell.type("exit\r")
    assert shell.end() == 0


def test_the_window_changes_its_size(terminal: Callable[..., Terminal]) -> None:
    shell = terminal(
        "run",
        "--rm",
        "-it",
        "busybox",
        "sh",
        "-c",
        "trap 'stty size' WINCH; echo on; while :; do sleep 0.1; done",
    )
    shell.see("on")
    deadline = time.monotonic() + LIMIT_S
    shell.child.setwinsize(40, 132)
    while time.monotonic() < deadline:
        try:
            shell.child.expect_exact("40 132", timeout=1)
            break
        except pexpect.TIMEOUT:  # told before the command listened: only a change is told
            shell.child.setwinsize(41, 132)
            shell.child.setwinsize(40, 132)
    else:
        pytest.fail("the size never came through")
    shell.type("\x1c")
    shell.child.close(force=True)


def test_detach_and_attach_again(
    terminal: Callable[..., Terminal], commands: Commands, name: str
) -> None:
    shell = terminal("run", "-it", "--name", name, "busybox", "sh")
    shell.see(PROMPT)
    shell.type("\x10\x11")
    assert shell.end() == 0
    assert name.encode() in commands.theirs("ps", "--format", "{{.Names}}")[1]
    again = terminal("attach", name)
    again.type("echo $((40 + 2))\r")
    again.see("42")
    again.type("\x10\x11")
    again.see("read escape sequence")
    assert again.end() == 1
    last = terminal("attach", "--detach-keys", "ctrl-x,x", name)
    last.see(PROMPT)
    last.type("\x18x")
    assert last.end() == 1
    over = terminal("attach", name)
    over.type("exit 5\r")
    assert over.end() == 5


def test_exec_in_a_terminal(
    terminal: Callable[..., Terminal], commands: Commands, name: str
) -> None:
    commands.theirs("run", "-d", "--name", name, "busybox", "sleep", "1000")
    shell = terminal("exec", "-it", name, "sh")
    shell.see(PROMPT)
    shell.type("stty size\r")
    shell.see("24 100")
    shell.type("exit 3\r")
    assert shell.end() == 3
    left = terminal("exec", "-it", name, "sh")
    left.see(PROMPT)
    left.type("\x10\x11")
    assert left.end() == 1


def test_start_attached_and_interactive(
    terminal: Callable[..., Terminal], commands: Commands, name: str
) -> None:
    commands.theirs("create", "-it", "--name", name, "busybox", "sh")
    shell = terminal("start", "-ai", name)
    shell.see(PROMPT)
    shell.type("exit 4\r")
    assert shell.end() == 4


def test_ctrl_c_without_a_terminal_is_a_signal(terminal: Callable[..., Terminal]) -> None:
    script = "trap 'echo caught; exit 9' INT; echo on; while :; do sleep 0.1; done"
    run = terminal("run", "--rm", "busybox", "sh", "-c", script)
    run.see("on")
    run.type("\x03")
    run.see("caught")
    assert run.end() == 9


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_signals_are_sent_on(terminal: Callable[..., Terminal], number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo caught; exit 9' {name}; echo on; while :; do sleep 0.1; done"
    run = terminal("run", "--rm", "busybox", "sh", "-c", script)
    run.see("on")
    os.kill(run.child.pid, number)
    run.see("caught")
    assert run.end() == 9


@contextmanager
def mode_kept(terminal: Terminal) -> Iterator[None]:
    """The terminal's settings are the same afterwards."""
    before = termios.tcgetattr(terminal.child.child_fd)
    yield
    assert termios.tcgetattr(terminal.child.child_fd) == before


def test_the_terminal_is_as_it_was(commands: Commands, name: str) -> None:
    """After an exit, a detach, a failure to start, and the end of the container by other hands."""
    shell = Terminal(("/bin/sh",), commands, "-i")
    ours = " ".join(BARQUE)
    try:
        shell.type("PS1='host> '; stty sane\r")
        shell.see("host> ")
        shell.see("host> ")
        for command, typed in (
            (f"{ours} run --rm -it busybox sh", "exit\r"),
            (f"{ours} run --rm -it busybox nosuchprogram", ""),
            (f"{ours} run -it --name {name} busybox sh", "\x10\x11"),
            (f"{ours} exec -it {name} sh", "exit 2\r"),
            (f"{ours} exec -it {name} sh -c 'echo \"# \"; sleep 100' & sleep 2; kill $!; fg", ""),
            (f"{ours} attach {name}", "kill -9 1; exit 3\r"),
        ):
            with mode_kept(shell):
                shell.type(command + "\r")
                if typed:
                    shell.see(PROMPT)
                    shell.type(typed)
                shell.see("host> ")
    finally:
        shell.child.close(force=True)
