"""JSON for people and pipes: compact as Go's encoder writes it, and indented token by token."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

INDENT = "    "
_OPENING, _CLOSING = "{[", "}]"


def compact(value: Any) -> str:
    """One line; texts as they are, not in ASCII."""
    from _json import encode_basestring

    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        text: str = encode_basestring(value)
        return text
    if isinstance(value, dict):
        pairs = (f"{compact(key)}:{compact(item)}" for key, item in value.items())
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(compact, value)) + "]"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e21 else repr(value)
    return str(value)


def escaped(text: str) -> str:
    """Safe within HTML, as Go's encoder writes documents of its own making."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def indented(text: str, prefix: str = "") -> str:
    """`text`, a valid document, with one item a line; numbers and texts stay as they are."""
    out: list[str] = []
    depth = 0
    at, size = 0, len(text)
    while at < size:
        character = text[at]
        if character == '"':
            end = _text_end(text, at)
            out.append(text[at:end])
            at = end
            continue
        at += 1
        if character in " \t\r\n":
            continue
        if character in _OPENING:
            at = _skip_space(text, at)
            if text[at : at + 1] and text[at] in _CLOSING:
                out.append(character + text[at])
                at += 1
                continue
            depth += 1
            out.append(character + "\n" + prefix + INDENT * depth)
        elif character in _CLOSING:
            depth -= 1
            out.append("\n" + prefix + INDENT * depth + character)
        elif character == ",":
            out.append(",\n" + prefix + INDENT * depth)
        else:
            out.append(": " if character == ":" else character)
    return "".join(out)


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _text_end(text: str, at: int) -> int:
    """Behind the closing quote of the text that begins at `at`."""
    end = text.find('"', at + 1)
    while end > 0:
        backslashes = 0
        while text[end - 1 - backslashes] == "\\":
            backslashes += 1
        if backslashes % 2 == 0:
            return end + 1
        end = text.find('"', end + 1)
    return len(text)
