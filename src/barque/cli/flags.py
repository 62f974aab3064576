"""GNU-style flags as Docker's commands take them, from a table of rows.

A row is `(long, short, kind, description)` or, with a default that the help page shows,
`(long, short, kind, description, default)`. Syntax: `--flag value`, `--flag=value`, `-f value`,
`-fvalue`, `-f=value`, clusters of booleans (`-it`), `--` ends the flags; where `interspersed` is
false, so does the first argument.
"""

from __future__ import annotations

from barque import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Row = tuple[str, str, str, str] | tuple[str, str, str, str, str]

HELP: Row = ("help", "", "bool", "Print usage")
HIDDEN = ""  # the description of a row that the help page leaves out
LISTS = frozenset(
    (
        *("list", "map", "ulimit", "mount", "network", "filter", "gpu-request"),
        *("stringSlice", "stringToString"),
    )
)
SEPARATED = ("stringSlice", "stringToString")
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")


class UsageError(errors.InvalidArgument):
    """The command line is not one; the message is followed by the command's usage."""


class Options:
    """What was given. Asking for a name that is not in the table is a bug."""

    __slots__ = ("_rows", "_values")

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = {row[0]: row for row in rows}
        self._values: dict[str, Any] = {}

    def __contains__(self, name: str) -> bool:
        """Whether it was given at all."""
        assert name in self._rows, name
        return name in self._values

    def given(self) -> list[str]:
        return list(self._values)

    def flag(self, name: str, default: bool = False) -> bool:
        return bool(self._values.get(name, default)) if name in self else default

    def text(self, name: str, default: str = "") -> str:
        return str(self._values[name]) if name in self else default

    def number(self, name: str, default: int = 0) -> int:
        return int(self._values[name]) if name in self else default

    def all(self, name: str) -> list[str]:
        return list(self._values[name]) if name in self else []

    def invalid(self, name: str, value: str, reason: object) -> UsageError:
        """The error of a value that its flag does not take."""
        row = self._rows[name]
        shown = f"-{row[1]}, --{name}" if row[1] else f"--{name}"
        return UsageError(f'invalid argument "{value}" for "{shown}" flag: {reason}')

    def set(self, row: Row, text: str) -> None:
        """Raises UsageError for a value that the kind does not allow."""
        name, kind = row[0], row[2]
        if kind in LISTS:
            values = text.split(",") if kind in SEPARATED else [text]
            if kind == "stringToString" and (bad := [word for word in values if "=" not in word]):
                raise self.invalid(name, text, f"{bad[0]} must be formatted as key=value")
            self._values.setdefault(name, []).extend(values)
            return
        try:
            self._values[name] = parse_value(kind, text)
        except (errors.InvalidArgument, ValueError) as error:
            raise self.invalid(name, text, error) from None


def parse_value(kind: str, text: str) -> Any:
    """One value. Raises InvalidArgument with the reason, in the words of Go's library."""
    if kind == "string":
        return text
    if kind == "bool":
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        raise errors.InvalidArgument(f'strconv.ParseBool: parsing "{text}": invalid syntax')
    from barque.cli import values

    return values.PARSERS[kind](text)


class _Parser:
    def __init__(self, rows: Sequence[Row], arguments: list[str], interspersed: bool) -> None:
        self.options = Options([*rows, HELP])
        self._long: dict[str, Row] = {row[0]: row for row in rows}
        self._long["help"] = HELP
        self._short: dict[str, Row] = {row[1]: row for row in rows if row[1]}
        self._left = arguments[::-1]
        self._interspersed = interspersed
        self.positional: list[str] = []

    def run(self) -> None:
        while self._left:
            word = self._left.pop()
            if word == "--":
                self.positional += self._left[::-1]
                return
            if word[:2] == "--":
                self._take_long(word)
            elif word[:1] == "-" and word != "-":
                self._take_cluster(word)
            else:
                self.positional.append(word)
                if not self._interspersed:
                    self.positional += self._left[::-1]
                    return

    def _take_long(self, word: str) -> None:
        name, equals, value = word[2:].partition("=")
        if not name or name[0] in "-=":
            raise UsageError(f"bad flag syntax: {word}")
        row = self._long.get(name)
        if row is None:
            raise UsageError(f"unknown flag: --{name}")
        if not equals:
            value = "true" if row[2] == "bool" else self._next(f"flag needs an argument: {word}")
        self.options.set(row, value)

    def _take_cluster(self, word: str) -> None:
        letters = word[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            row = self._short.get(letter)
            if row is None and letter == "h" and "h" not in self._short:
                row = HELP
            if row is None:
                raise UsageError(f"unknown shorthand flag: '{letter}' in {word}")
            if letters[:1] == "=":
                value, letters = letters[1:], ""
            elif row[2] == "bool":
                value = "true"
            elif letters:
                value, letters = letters, ""
            else:
                value = self._next(f"flag needs an argument: '{letter}' in {word}")
            self.options.set(row, value)

    def _next(self, missing: str) -> str:
        if not self._left:
            raise UsageError(missing)
        return self._left.pop()


def parse(
    rows: Sequence[Row], arguments: list[str], *, interspersed: bool = True
) -> tuple[Options, list[str]]:
    """The options and what is left. Raises UsageError."""
    parser = _Parser(rows, arguments, interspersed)
    parser.run()
    return parser.options, parser.positional
