"""Output of containers and execs as pairs (1 for stdout or 2 for stderr, bytes), and their input.

For programs; the command line pumps the raw streams itself.
"""

from __future__ import annotations

from barque.api.frames import STDERR, STDOUT, FrameReader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from barque.client.connection import Stream

MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
RECEIVE_BYTES = 256 << 10
_SHUT_WR = 1


class Attached:
    """A conversation with a process: iterate over what it writes, `write` what it reads.

    Source: Engine API reference, "Attach to a container". With a terminal all output is on 1.
    """

    def __init__(self, stream: Stream, early: bytes, multiplexed: bool) -> None:
        self._stream, self._early = stream, early
        self._frames = FrameReader() if multiplexed else None

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        return parted(self._pieces(), self._frames)

    def _pieces(self) -> Iterator[bytes]:
        if self._early:
            yield self._early
        self._early = b""
        while piece := self._stream.recv(RECEIVE_BYTES):
            yield piece

    def write(self, data: bytes) -> None:
        """Raises OSError when the process reads no more."""
        self._stream.sendall(data)

    def feed(self, data: bytes) -> None:
        """Write all of `data` and close the input, beside whoever reads the output."""
        import _thread

        _thread.start_new_thread(self._feed, (data,))

    def _feed(self, data: bytes) -> None:
        try:
            self.write(data)
            self.close_input()
        except OSError:
            pass  # the process has ended without reading all of it

    def close_input(self) -> None:
        """The end of what the process reads; its output still comes."""
        self._stream.shutdown(_SHUT_WR)

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> Attached:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Result:
    """How a process ended, and what it wrote."""

    __slots__ = ("exit_code", "stderr", "stdout")

    def __init__(self, exit_code: int, stdout: bytes, stderr: bytes) -> None:
        self.exit_code, self.stdout, self.stderr = exit_code, stdout, stderr

    def __repr__(self) -> str:
        return f"Result(exit_code={self.exit_code}, stdout={self.stdout!r}, stderr={self.stderr!r})"


def parted(pieces: Iterable[bytes], frames: FrameReader | None) -> Iterator[tuple[int, bytes]]:
    """The bytes of a stream by where they were written; None: a terminal's, or undivided."""
    for piece in pieces:
        if frames is None:
            yield STDOUT, piece
        else:
            for stream, payload in frames.feed(piece):
                yield stream, bytes(payload)


def collected(output: Iterable[tuple[int, bytes]]) -> tuple[bytes, bytes]:
    """All of stdout, all of stderr."""
    parts: dict[int, list[bytes]] = {STDOUT: [], STDERR: []}
    for stream, piece in output:
        parts.setdefault(stream, []).append(piece)
    return b"".join(parts[STDOUT]), b"".join(parts[STDERR])
