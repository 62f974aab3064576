"""The loop between standard streams and a connection, on real pipes in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barque import errors
from barque.api.frames import STDERR, STDOUT, frame
from barque.cli.conversation import Escape, detach_sequence

SOURCE = Path(__file__).resolve().parents[3] / "src"
TALK = """
import _socket, sys
sys.path.insert(0, sys.argv[1])
from barque.cli.conversation import Conversation
stream = _socket.socket(fileno=int(sys.argv[2]))
done = Conversation(stream, b"", tty=sys.argv[3] == "tty", stdin=sys.argv[4] == "stdin").run()
sys.exit(3 if done else 0)
"""


class Talk:
    """A conversation in a child; `far` is the daemon's end of the connection."""

    def __init__(self, *, tty: bool = False, stdin: bool = False) -> None:
        self.far, near = socket.socketpair()
        self.far.settimeout(30)
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", "-c", TALK, str(SOURCE), str(near.fileno())),
                *("tty" if tty else "frames", "stdin" if stdin else "nothing"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[near.fileno()],
        )
        near.close()

    def ended(self) -> tuple[bytes, bytes]:
        out, err = self.process.communicate(timeout=20)
        self.far.close()
        assert self.process.returncode == 0, err
        return out, err


def test_frames_go_to_their_streams() -> None:
    talk = Talk()
    talk.far.sendall(frame(STDOUT, b"out") + frame(STDERR, b"err") + frame(STDOUT, b"put"))
    talk.far.shutdown(socket.SHUT_WR)
    assert talk.ended() == (b"output", b"err")


def test_a_terminal_has_no_frames() -> None:
    talk = Talk(tty=True)
    talk.far.sendall(b"\x01\0\0\0raw")
    talk.far.shutdown(socket.SHUT_WR)
    assert talk.ended() == (b"\x01\0\0\0raw", b"")


def test_the_end_of_stdin_is_half_a_close() -> None:
    talk = Talk(stdin=True)
    assert talk.process.stdin is not None
    talk.process.stdin.write(b"question")
    talk.process.stdin.close()
    talk.process.stdin = None
    heard = b""
    while piece := talk.far.recv(100):
        heard += piece
    assert heard == b"question"
    talk.far.sendall(frame(STDOUT, b"answer"))
    talk.far.shutdown(socket.SHUT_WR)
    assert talk.ended()[0] == b"answer"


@pytest.mark.parametrize("tty", [False, True])
def test_much_goes_both_ways_at_once(tty: bool) -> None:
    """An echo of 4 MB: more than all buffers on the way hold, so neither side may wait."""
    talk = Talk(tty=tty, stdin=True)
    sent = os.urandom(1 << 16) * 64

    def echo() -> None:
        while piece := talk.far.recv(1 << 16):
            talk.far.sendall(piece if tty else frame(STDOUT, piece))
        talk.far.shutdown(socket.SHUT_WR)

    far = threading.Thread(target=echo)
    far.start()
    out, _ = talk.process.communicate(sent, timeout=60)
    far.join()
    talk.far.close()
    assert out == sent


def test_a_reader_that_has_gone_ends_it() -> None:
    talk = Talk()
    assert talk.process.stdout is not None
    talk.process.stdout.close()
    talk.far.sendall(frame(STDOUT, b"x" * 100))
    assert talk.process.wait(30) == -13
    talk.far.close()
    assert talk.process.stderr is not None
    assert talk.process.stderr.read() == b""
    talk.process.stderr.close()
    assert talk.process.stdin is not None
    talk.process.stdin.close()


def test_a_daemon_that_has_gone_ends_it() -> None:
    talk = Talk(stdin=True)
    talk.far.close()
    talk.process.stdin, pipe = None, talk.process.stdin
    assert talk.ended() == (b"", b"")
    assert pipe is not None
    pipe.close()


@given(st.binary(max_size=12), st.integers(1, 3))
def test_what_is_typed_goes_through(typed: bytes, size: int) -> None:
    keys = b"\x10\x11"
    escape = Escape(keys)
    passed = b"".join(escape.feed(typed[at : at + size]) for at in range(0, len(typed), size))
    before, found, _ = typed.partition(keys)
    held = before.endswith(keys[:1]) and not found
    assert escape.found == bool(found)
    assert passed == (before[:-1] if held else before)


@given(st.text("ab", max_size=10))
def test_a_sequence_that_repeats_its_beginning(typed: str) -> None:
    escape = Escape(b"aab")
    escape.feed(typed.encode())
    if "aab" in typed and "aaab" not in typed:
        assert escape.found


def test_names_of_keys() -> None:
    assert detach_sequence("") == b"\x10\x11"
    assert detach_sequence("ctrl-a,x,ctrl-[") == b"\x01x\x1b"
    with pytest.raises(errors.InvalidArgument):
        detach_sequence("ctrl-p,nonsense")
