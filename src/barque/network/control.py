"""The control socket of a small program of ours: requests and answers are lines of JSON.

One answer for each request, in their order. Descriptors go along by SCM_RIGHTS where the program
takes them.
"""

from __future__ import annotations

import _socket
import json
import os
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from barque.network.readiness import Watch

    # A line, and the descriptors that came and may be taken from the list; the answer, and the
    # descriptor that goes with it, -1 for none.
    Perform = Callable[[bytes, list[int]], tuple[dict[str, Any], int]]

PART_BYTES: Final = 1 << 16
FD_BYTES: Final = 4


class Control:
    """Whoever has connected to the socket that listens at `listening`."""

    def __init__(
        self, watch: Watch, listening: _socket.socket, perform: Perform, longest: int
    ) -> None:
        """`longest`: bytes of a request; who sends a longer one is let go."""
        self._watch = watch
        self._listening = listening
        self._listening.setblocking(False)
        self._perform = perform
        self._longest = longest
        self._opened: dict[int, tuple[_socket.socket, bytes]] = {}  # and what is no line yet
        self.served = False  # whether a daemon has come yet
        watch.add(listening.fileno(), select.EPOLLIN, self._accept)

    def __len__(self) -> int:
        return len(self._opened)

    def _accept(self, _events: int) -> None:
        try:
            fd, _ = self._listening._accept()  # type: ignore[attr-defined]
        except OSError:
            return
        opened = _socket.socket(fileno=fd)
        opened.setblocking(True)
        self.served = True
        self._opened[fd] = (opened, b"")
        self._watch.add(fd, select.EPOLLIN, lambda _events: self._requests(fd))

    def _requests(self, fd: int) -> None:
        opened, before = self._opened[fd]
        came: list[int] = []
        try:
            part, ancillary, _, _ = opened.recvmsg(PART_BYTES, _socket.CMSG_SPACE(FD_BYTES))
            for _, _, data in ancillary:
                came += memoryview(data).cast("i")
            *lines, rest = (before + part).split(b"\n")
            if not part or len(rest) > self._longest:
                raise ConnectionResetError
            for line in lines:
                _answer(opened, *self._perform(line, came))
        except OSError:
            self._watch.remove(fd)
            del self._opened[fd]
            opened.close()
            return
        finally:
            for left in came:
                os.close(left)
        self._opened[fd] = (opened, rest)


def _answer(opened: _socket.socket, answer: dict[str, Any], given: int) -> None:
    line = json.dumps(answer).encode() + b"\n"
    ancillary = []
    if given >= 0:
        rights = given.to_bytes(FD_BYTES, sys.byteorder)
        ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)]
    sent = opened.sendmsg([line], ancillary)
    opened.sendall(line[sent:])
