"""What is known of a file that is written, for who reads it meanwhile. For any thread."""

from __future__ import annotations

import threading

from barque.errors import Unavailable


class Growth:
    """`size` bytes are there; with a `digest` it is whole, and verified."""

    def __init__(self, size: int) -> None:
        self._changed = threading.Condition()
        self._given_up = False
        self.size = size
        self.digest = ""

    def grew(self, size: int) -> None:
        with self._changed:
            self.size = size
            self._changed.notify_all()

    def complete(self, digest: str) -> None:
        with self._changed:
            self.digest = digest
            self._changed.notify_all()

    def give_up(self) -> None:
        """Nobody writes it any more; one that is complete stays so."""
        with self._changed:
            self._given_up = not self.digest
            self._changed.notify_all()

    def wake(self) -> None:
        """Who waits looks whether it was cancelled."""
        with self._changed:
            self._changed.notify_all()

    def beyond(self, at: int, cancelled: threading.Event) -> int:
        """How many bytes follow the first `at`, 0 at the end; waits for either.

        Raises Unavailable where neither comes.
        """
        with self._changed:
            while not (self.size > at or self.digest or self._given_up or cancelled.is_set()):
                self._changed.wait()
            if cancelled.is_set():
                raise Unavailable("reading what is written was cancelled")
            if self._given_up:
                raise Unavailable("what is read was given up by who wrote it")
            return self.size - at
