"""Doing one thing to each of several objects: all at once, told in their order."""

from __future__ import annotations

from barque import errors
from barque.cli import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from barque.client.client import Reply

AT_ONCE = 50  # requests under way at the same time


def each(
    names: list[str],
    send: Callable[[str], Callable[[], Reply]],
    forgiven: tuple[type[errors.BarqueError], ...] = (),
) -> int:
    """`send` starts a request and returns how to wait for it. Prints each name that went well.

    Failures are told; those that are not `forgiven` make the exit code 1.
    """
    failed = 0
    for start in range(0, len(names), AT_ONCE):
        batch = [(name, _sent(send, name)) for name in names[start : start + AT_ONCE]]
        for name, finish in batch:
            try:
                finish().read()
                terminal.out(f"{name}\n")
            except errors.BarqueError as error:
                terminal.err(f"{error}\n")
                if not isinstance(error, forgiven):
                    failed = 1
    return failed


def _sent(send: Callable[[str], Callable[[], Reply]], name: str) -> Callable[[], Reply]:
    try:
        return send(name)
    except errors.BarqueError as error:
        failure = error

    def fail() -> Reply:
        raise failure

    return fail
