"""Words of a Dockerfile's instructions: quotes, escapes, variables. Pure.

Source: Dockerfile reference, "Environment replacement".

    $name  ${name}           its value, "" for one that is not set
    ${name:-word}  ${name-word}    `word` where it is empty or not set; where it is not set
    ${name:+word}  ${name+word}    `word` where it is not empty; where it is set
    ${name:?word}  ${name?word}    an error that says `word` where it is empty or not set; ...
    'as it is'  "with $variables"  \\x for x itself
"""

from __future__ import annotations

from collections.abc import Mapping

from barque import errors

_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_DIGITS = frozenset("0123456789")
_REST = _FIRST | _DIGITS
_SPECIAL = _DIGITS | frozenset("@*#?-$!")  # what a shell has there is not set here
_QUOTES = {"'": "single-quote", '"': "double-quote"}
MAX_DEPTH = 32  # words within words


def split(text: str) -> list[str]:
    """At white space that is not quoted; quotes and escapes stay."""
    words: list[str] = []
    word, quote, escaped = "", "", False
    for char in text:
        if not quote and not escaped and char.isspace():
            words += [word] if word else []
            word = ""
            continue
        word += char
        if escaped:
            escaped = False
        elif char == "\\" and quote != "'":
            escaped = True
        elif char == quote:
            quote = ""
        elif char in _QUOTES and not quote:
            quote = char
    return [*words, word] if word else words


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """What a word means. Raises InvalidArgument."""
    return _Reader(text, variables).read("")


class _Reader:
    def __init__(self, text: str, variables: Mapping[str, str]) -> None:
        self._text, self._variables = text, variables
        self._at = self._depth = 0

    def _next(self) -> str:
        """The next character, "" at the end."""
        char = self._text[self._at : self._at + 1]
        self._at += len(char)
        return char

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def read(self, end: str) -> str:
        """Up to `end`, which is taken; "" is the end of the text."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise errors.InvalidArgument("variables are nested too deeply")
        found: list[str] = []
        while char := self._next():
            if char == end:
                self._depth -= 1
                return "".join(found)
            found.append(self._one(char))
        if end:
            raise errors.InvalidArgument(f"syntax error: missing {end!r}")
        return "".join(found)

    def _one(self, char: str) -> str:
        if char == "'":
            return self._single()
        if char == '"':
            return self._double()
        if char == "$":
            return self._variable()
        return self._next() if char == "\\" else char

    def _single(self) -> str:
        text, found, rest = self._text[self._at :].partition("'")
        if not found:
            raise _unfinished("'")
        self._at = len(self._text) - len(rest)
        return text

    def _double(self) -> str:
        found: list[str] = []
        while char := self._next():
            if char == '"':
                return "".join(found)
            if char == "$":
                found.append(self._variable())
            elif char == "\\":
                following = self._next()
                found.append(following if following in {'"', "$", "\\"} else char + following)
            else:
                found.append(char)
        raise _unfinished('"')

    def _variable(self) -> str:
        if self._peek() == "{":
            self._next()
            return self._braced()
        name = self._name()
        return self._variables.get(name, "") if name else "$"

    def _name(self) -> str:
        if self._peek() in _FIRST:
            start = self._at
            while self._peek() and self._peek() in _REST:
                self._next()
            return self._text[start : self._at]
        return self._next() if self._peek() and self._peek() in _SPECIAL else ""

    def _braced(self) -> str:
        name = self._name()
        if not name:
            raise errors.InvalidArgument("syntax error: bad substitution")
        value = self._variables.get(name)
        char = self._next()
        if char == "}":
            return value or ""
        if char == ":":
            value, char = value or None, self._next()
        if not char:
            raise errors.InvalidArgument("syntax error: missing '}'")
        if char not in {"-", "+", "?"}:
            raise errors.InvalidArgument(f"unsupported modifier ({char}) in substitution")
        word = self.read("}")
        if char == "+":
            return "" if value is None else word
        if char == "?" and value is None:
            raise errors.InvalidArgument(f"{name}: {word or 'not set'}")
        return word if value is None else value


def _unfinished(quote: str) -> errors.InvalidArgument:
    return errors.InvalidArgument(
        f"unexpected end of statement while looking for matching {_QUOTES[quote]}"
    )
