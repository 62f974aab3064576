"""Which descriptor is whose: the loop of a small program of ours."""

from __future__ import annotations

import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Final

MAX_EVENTS: Final = 256


class Watch:
    """Handlers of descriptors, called when these are ready."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}

    def add(self, fd: int, events: int, handler: Callable[[int], None]) -> None:
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def modify(self, fd: int, events: int) -> None:
        if fd in self._handlers:
            self._epoll.modify(fd, events)

    def remove(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def wait(self, timeout: float) -> None:
        """Call the handlers of what is ready; one that another handler removed is not called."""
        for fd, events in self._epoll.poll(timeout, MAX_EVENTS):
            handler = self._handlers.get(fd)
            if handler is not None:
                handler(events)
