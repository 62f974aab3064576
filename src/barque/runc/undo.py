"""Steps to take back when a later one fails: each is registered before the next step begins."""

from __future__ import annotations

from barque.errors import BarqueError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any


class Undo:
    """As contextlib.ExitStack, which costs more to import than a container's directory to make.

    On an exception the steps run last first; one that fails does not stop the others, and is told
    as a note of the exception. After `keep` nothing is undone.
    """

    __slots__ = ("steps",)

    def __init__(self) -> None:
        self.steps: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def add(self, step: Callable[..., Any], *arguments: Any) -> None:
        self.steps.append((step, arguments))

    def keep(self) -> None:
        self.steps.clear()

    def hand_on(self) -> Undo:
        """The steps, for another block: this one undoes nothing."""
        other = Undo()
        other.steps, self.steps = self.steps, []
        return other

    def __enter__(self) -> Undo:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while self.steps:
            step, arguments = self.steps.pop()
            try:
                step(*arguments)
            except (OSError, BarqueError) as failure:
                if error is not None:
                    error.add_note(f"undoing: {failure}")
