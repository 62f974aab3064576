"""The key sequence that detaches a terminal from a container. No I/O.

docker's rule: keys separated by commas, each one character, `DEL`, or `ctrl-` and one of
a-z @ [ \\ ] ^ _;
default ctrl-p,ctrl-q. A beginning that turns out not to be the sequence is passed on whole.
"""

from __future__ import annotations

from typing import NamedTuple

from barque import errors

DEFAULT_KEYS = "ctrl-p,ctrl-q"
_CONTROL = "@abcdefghijklmnopqrstuvwxyz[\\]^_"


class Fed(NamedTuple):
    data: bytes
    """To pass on."""
    detached: bool


def parse_keys(text: str) -> bytes:
    """The sequence as bytes. Raises InvalidArgument."""
    result = bytearray()
    for key in (text or DEFAULT_KEYS).split(","):
        control = key.removeprefix("ctrl-")
        if len(key) == 1 and key.isascii():
            result += key.encode()
        elif control != key and len(control) == 1 and control in _CONTROL:
            result.append(_CONTROL.index(control))
        elif key == "DEL":
            result.append(127)
        else:
            raise errors.InvalidArgument(f"Invalid detach keys ({text[:100]}) provided")
    return bytes(result)


class DetachParser:
    """Feed it what the user types; it gives back what the process shall see."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = 0

    def feed(self, data: bytes) -> Fed:
        """After `detached` nothing of the rest is for the process."""
        if not self._held and self._keys[:1] not in data:
            return Fed(data, False)
        out = bytearray()
        for byte in data:
            while self._held and byte != self._keys[self._held]:
                self._fall_back(out)
            if byte == self._keys[self._held]:
                self._held += 1
                if self._held == len(self._keys):
                    return Fed(bytes(out), True)
            else:
                out.append(byte)
        return Fed(bytes(out), False)

    def _fall_back(self, out: bytearray) -> None:
        """The held beginning is not the sequence: keep the longest end of it that still may be."""
        held = self._keys[: self._held]
        for length in range(self._held - 1, -1, -1):
            if held.endswith(self._keys[:length]):
                out += held[: self._held - length]
                self._held = length
                return
