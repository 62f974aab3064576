"""One line on its way out, and what all lines of a container have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

ERROR, INFO = 3, 6  # severities of RFC 5424, section 6.2.1


class Source(NamedTuple):
    """The container that the lines come from; `attributes` are the labels and variables chosen."""

    id: str
    name: str
    image_id: str
    image_name: str
    command: str
    created: str
    tag: str
    hostname: str  # of the machine
    attributes: Mapping[str, str]


class Piece(NamedTuple):
    """One of the pieces of a line that is too long for one message; `ordinal` counts from 1."""

    id: str
    ordinal: int
    last: bool


class Message(NamedTuple):
    """`text` is without the line's end. `piece`: it is a part of a line."""

    text: str
    stream: str
    time_ns: int
    piece: Piece | None = None

    @property
    def severity(self) -> int:
        return ERROR if self.stream == "stderr" else INFO
