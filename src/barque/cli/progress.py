"""Progress of pull, load and import: redrawn in place on a terminal, plain lines elsewhere.

Source: Engine API reference, "Create an image": documents with `id`, `status`, `progressDetail`
(current, total), `stream`, `error`, `aux`. One line belongs to each id; a document without an
id, or without progress, ends the block of lines that may be redrawn.
"""

from __future__ import annotations

from barque import errors
from barque.cli import terminal, units

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

BAR_CELLS = 50
WIDE_COLUMNS = 110  # a narrower terminal has no room for the bar
FALLBACK_COLUMNS = 200


def show(
    documents: Iterable[dict[str, Any]], fd: int, aux: Callable[[Any], None] | None = None
) -> None:
    """Print all of them on `fd` (-1: nowhere). Raises BarqueError for a failure among them."""
    screen = _Screen(fd) if fd >= 0 and terminal.is_terminal(fd) else None
    for document in documents:
        if "error" in document:
            raise errors.BarqueError(_failure(document))
        if "aux" in document:
            if aux is not None:
                aux(document["aux"])
        elif screen is not None:
            screen.put(document)
        elif fd >= 0:
            terminal.write(fd, _plain(document).encode())


def _failure(document: dict[str, Any]) -> str:
    detail = document.get("errorDetail") or {}
    return str(detail.get("message") or document["error"])


def _plain(document: dict[str, Any]) -> str:
    """A line where nothing is redrawn: steps, not bytes."""
    if "stream" in document:
        return str(document["stream"])
    detail = document.get("progressDetail") or {}
    if detail.get("current") or detail.get("total"):
        return ""
    return _prefix(document) + f"{document.get('status', '')}\n"


def _prefix(document: dict[str, Any]) -> str:
    return f"{document['id']}: " if document.get("id") else ""


def bar(detail: dict[str, Any], columns: int) -> str:
    """ "[=====>     ]  1.2MB/3.4MB" of `progressDetail`; "" for nothing yet."""
    current, total = int(detail.get("current") or 0), int(detail.get("total") or 0)
    unit = detail.get("units", "")
    if current <= 0 and total <= 0:
        return ""
    if total <= 0:
        return f"{current} {unit}" if unit else f"{units.size(current, 4):>8}"
    done = min(BAR_CELLS, current * 100 // total // 2)
    box = f"[{'=' * done}>{' ' * (BAR_CELLS - done)}] " if columns > WIDE_COLUMNS else ""
    if detail.get("hidecounts"):
        return box
    if unit:
        return box + (f"{current} {unit}" if current > total else f"{current}/{total} {unit}")
    counts = f"{units.size(current, 4):>8}"
    return box + (counts if current > total else f"{counts}/{units.size(total, 4)}")


class _Screen:
    """The lines of a terminal that belong to ids, the newest block of them."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lines: dict[str, int] = {}
        self._columns = terminal.size(fd)[1] or FALLBACK_COLUMNS

    def put(self, document: dict[str, Any]) -> None:
        name = str(document.get("id") or "")
        detail = document.get("progressDetail")
        if not name or detail is None:
            self._lines.clear()
            terminal.write(self._fd, self._text(document, {}, "\n").encode())
            return
        fresh = name not in self._lines
        line = self._lines.setdefault(name, len(self._lines))
        up = len(self._lines) - line
        text = "\n" if fresh else ""
        text += f"\x1b[{up}A\x1b[2K\r" + self._text(document, detail, "\r") + f"\x1b[{up}B"
        terminal.write(self._fd, text.encode())

    def _text(self, document: dict[str, Any], detail: dict[str, Any], end: str) -> str:
        if "stream" in document:
            return str(document["stream"])
        drawn = bar(detail, self._columns)
        status = str(document.get("status", ""))
        return _prefix(document) + status + (f" {drawn}" if drawn else "") + end
