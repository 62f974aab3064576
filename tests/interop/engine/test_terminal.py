"""Real terminals: both command lines in a pty, on our daemon."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pexpect
import pytest

from barque import program
from tests.support.barque import Stack
from tests.support.docker_peer import real_docker_cli

pytestmark = [pytest.mark.root, pytest.mark.peer]
WAIT_S = 20
PROMPT = r"/ # "


@pytest.fixture(params=["docker", "barque"])
def command(request: pytest.FixtureRequest) -> list[str]:
    return [real_docker_cli()] if request.param == "docker" else program.command("barque")


@contextmanager
def terminal(
    barque: Stack, command: list[str], *arguments: str, size: tuple[int, int] = (24, 80)
) -> Iterator["pexpect.spawn[str]"]:
    """A command in a pty of `size` (rows, columns); killed when the block ends."""
    child = pexpect.spawn(
        command[0],
        [*command[1:], *arguments],
        env={**os.environ, "DOCKER_HOST": barque.host, "TERM": "xterm"},
        timeout=WAIT_S,
        dimensions=size,
        encoding="utf-8",
    )
    try:
        yield child
    finally:
        child.close(force=True)


def ended(child: "pexpect.spawn[str]") -> int:
    child.expect(pexpect.EOF)
    child.wait()
    return child.exitstatus if child.exitstatus is not None else -1


def test_a_shell_with_window_size_and_exit_code(barque: Stack, command: list[str]) -> None:
    with terminal(barque, command, "run", "-it", "--rm", "busybox", "sh", size=(33, 101)) as child:
        child.expect(PROMPT)
        child.sendline("stty size")
        child.expect("33 101")
        child.expect(PROMPT)
        child.setwinsize(44, 120)
        child.sendline("sleep 0.5; stty size")
        child.expect("44 120")
        child.expect(PROMPT)
        child.sendline("tty; exit 9")
        child.expect("/dev/pts/0|/dev/console")
        assert ended(child) == 9


def test_interrupt_reaches_the_process(barque: Stack, command: list[str]) -> None:
    with terminal(barque, command, "run", "-it", "--rm", "busybox", "sh") as child:
        child.expect(PROMPT)
        child.sendline("sh -c 'echo ready; sleep 100'")
        child.expect("ready\r\n")
        child.sendintr()
        child.expect(PROMPT)
        child.sendline("echo code $?")
        child.expect("code 130")
        child.expect(PROMPT)
        child.sendeof()
        ended(child)


def test_detach_and_attach(barque: Stack, command: list[str]) -> None:
    name = "detached"
    try:
        with terminal(barque, command, "run", "-it", "--name", name, "busybox", "sh") as child:
            child.expect(PROMPT)
            child.send("\x10\x11")  # ctrl-p ctrl-q
            assert ended(child) == 0
        running = barque.docker("inspect", "-f", "{{.State.Running}}", name).stdout
        assert running == b"true\n"
        with terminal(barque, command, "attach", name) as child:
            child.sendline("echo back")
            child.expect("back\r\n")
            child.expect(PROMPT)
            child.sendline("exit 4")
            assert ended(child) == 4
    finally:
        barque.docker("rm", "-f", name, check=False)


def test_exec_in_a_terminal(barque: Stack, command: list[str]) -> None:
    name = "host-of-exec"
    barque.docker("run", "-d", "--name", name, "busybox", "sleep", "100")
    try:
        with terminal(barque, command, "exec", "-it", name, "sh", size=(20, 70)) as child:
            child.expect(PROMPT)
            child.sendline("stty size")
            child.expect("20 70")
            child.sendline("exit 6")
            assert ended(child) == 6
    finally:
        barque.docker("rm", "-f", name)


def test_logs_follow_until_interrupted(barque: Stack, command: list[str]) -> None:
    name = "talker"
    script = "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.1; done"
    barque.docker("run", "-d", "--name", name, "busybox", "sh", "-c", script)
    try:
        with terminal(barque, command, "logs", "-f", name) as child:
            child.expect(r"line 1\r\n")
            child.expect(r"line 5\r\n")
            child.sendintr()
            child.expect(pexpect.EOF)
    finally:
        barque.docker("rm", "-f", name)


def test_the_terminal_is_as_it_was(barque: Stack) -> None:
    """Our command leaves the caller's terminal as it found it, also when the container fails."""
    ours = " ".join(program.command("barque"))
    with terminal(barque, ["/bin/sh"]) as shell:
        shell.expect(r"[#$] ")
        shell.sendline("stty -g | sed s/^/before:/")
        shell.expect(r"before:([0-9a-f:]+)")
        match = shell.match
        assert isinstance(match, re.Match)
        shell.expect(r"[#$] ")
        shell.sendline(f"{ours} run -it --rm busybox nosuch; {ours} run -it --rm busybox true")
        shell.expect(r"not found")
        shell.expect(r"[#$] ")
        shell.sendline("stty -g | sed s/^/after:/")
        shell.expect(r"after:([0-9a-f:]+)")
        after = shell.match
        assert isinstance(after, re.Match)
        assert after[1] == match[1]
