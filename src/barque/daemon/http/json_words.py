"""What Go's decoder says of a text that is no JSON: clients and people know its words. Pure.

Source: Go's documentation of encoding/json, SyntaxError; held beside dockerd in tests.
"""

from __future__ import annotations

VALUE, FIRST_VALUE, KEY, FIRST_KEY, COLON, AFTER = range(6)
_SPACE = b" \t\r\n"
_DIGITS = b"0123456789"
_ESCAPED = b'bfnrt\\/"'
_HEXADECIMAL = b"0123456789abcdefABCDEF"
_LITERALS = {word[0]: word for word in (b"true", b"false", b"null")}
_NAMED = {"'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\a": "\\a", "\b": "\\b",
          "\f": "\\f", "\v": "\\v", "\\": "\\\\"}  # fmt: skip


class _Wrong(Exception):
    """Its text is Go's."""


def fault(raw: bytes) -> str:
    """What is wrong with the first value in `raw`; "" where its syntax is right."""
    try:
        _scan(raw)
    except _Wrong as error:
        return str(error)
    except IndexError:
        return "unexpected EOF"
    return ""


def ends(raw: bytes) -> int:
    """Where the first value ends, in a text without a `fault`."""
    return _scan(raw)


def _scan(raw: bytes) -> int:
    """Behind the first value. Raises IndexError where the text ends before it."""
    open_ones = bytearray()
    state, at = VALUE, 0
    while state != AFTER or open_ones:
        while raw[at] in _SPACE:
            at += 1
        state, at = _step(raw, at, state, open_ones)
    return at


def _step(raw: bytes, at: int, state: int, open_ones: bytearray) -> tuple[int, int]:
    """One token at `at`: what may follow, and where. `open_ones` are the brackets to be closed."""
    char = raw[at]
    if state == AFTER:
        if char == open_ones[-1]:
            open_ones.pop()
            return AFTER, at + 1
        in_object = open_ones[-1] == ord("}")
        if char != ord(","):
            behind = "object key:value pair" if in_object else "array element"
            raise _invalid(char, f"after {behind}")
        return KEY if in_object else VALUE, at + 1
    if state == COLON:
        if char != ord(":"):
            raise _invalid(char, "after object key")
        return VALUE, at + 1
    if (state, char) in ((FIRST_KEY, ord("}")), (FIRST_VALUE, ord("]"))):
        open_ones.pop()
        return AFTER, at + 1
    if state in (KEY, FIRST_KEY):
        if char != ord('"'):
            raise _invalid(char, "looking for beginning of object key string")
        return COLON, _string(raw, at + 1)
    if char in b"{[":
        open_ones.append(char + 2)  # the code of its closing one
        return FIRST_KEY if char == ord("{") else FIRST_VALUE, at + 1
    return AFTER, _plain(raw, at)


def _plain(raw: bytes, at: int) -> int:
    """A string, number or word at `at`; where it ends."""
    char = raw[at]
    if char == ord('"'):
        return _string(raw, at + 1)
    if char in _DIGITS or char == ord("-"):
        return _number(raw, at)
    word = _LITERALS.get(char)
    if word is None:
        raise _invalid(char, "looking for beginning of value")
    for offset, expected in enumerate(word):
        if raw[at + offset] != expected:
            context = f"in literal {word.decode()} (expecting {chr(expected)!r})"
            raise _invalid(raw[at + offset], context)
    return at + len(word)


def _string(raw: bytes, at: int) -> int:
    while raw[at] != ord('"'):
        char = raw[at]
        if char < ord(" "):
            raise _invalid(char, "in string literal")
        if char == ord("\\"):
            at = _escape(raw, at + 1)
        else:
            at += 1
    return at + 1


def _escape(raw: bytes, at: int) -> int:
    if raw[at] in _ESCAPED:
        return at + 1
    if raw[at] != ord("u"):
        raise _invalid(raw[at], "in string escape code")
    for digit in range(at + 1, at + 5):
        if raw[digit] not in _HEXADECIMAL:
            raise _invalid(raw[digit], "in \\u hexadecimal character escape")
    return at + 5


def _number(raw: bytes, at: int) -> int:
    at += raw[at] == ord("-")
    at = at + 1 if raw[at] == ord("0") else _digits(raw, at, "in numeric literal")
    if raw[at : at + 1] == b".":
        at = _digits(raw, at + 1, "after decimal point in numeric literal")
    if raw[at : at + 1] in (b"e", b"E"):
        at += 1 + (raw[at + 1] in b"+-")
        at = _digits(raw, at, "in exponent of numeric literal")
    return at


def _digits(raw: bytes, at: int, context: str) -> int:
    """At least one."""
    if raw[at] not in _DIGITS:
        raise _invalid(raw[at], context)
    while raw[at : at + 1] and raw[at] in _DIGITS:
        at += 1
    return at


def _invalid(byte: int, context: str) -> _Wrong:
    char = chr(byte)
    shown = _NAMED.get(char, char)
    if shown == char and not char.isprintable():
        shown = f"\\x{byte:02x}" if byte < 0x80 else f"\\u{byte:04x}"
    return _Wrong(f"invalid character '{shown}' {context}")
