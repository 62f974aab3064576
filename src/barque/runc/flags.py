"""The command line as runc reads it.

A table maps each spelling to a flag. `--name value`, `--name=value`, `-name value` and, for
switches, `--name` and `--name=false` are the forms. Flags may come after words (`delete ID -f`) but
where the words are another program's line (`exec`, `ps`); at `--` they end.
"""

from __future__ import annotations

import os

from barque.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SWITCH = "switch"
VALUE = "value"
LIST = "list"
TRUE = ("true", "t", "1", "T", "True", "TRUE")
FALSE = ("false", "f", "0", "F", "False", "FALSE")


class Usage(InvalidArgument):
    """The command line itself is wrong: whoever typed it is shown what it could be."""


class Flag:
    """`names` are all spellings without dashes; the first is the one code asks for."""

    __slots__ = ("kind", "names", "text")

    def __init__(self, names: str, kind: str, text: str) -> None:
        self.names = tuple(names.split(","))
        self.kind = kind
        self.text = text


class Arguments:
    """What a command line says."""

    __slots__ = ("switches", "values", "words")

    def __init__(self) -> None:
        self.switches: set[str] = set()
        self.values: dict[str, list[str]] = {}
        self.words: list[str] = []

    def on(self, name: str) -> bool:
        return name in self.switches

    def get(self, name: str, default: str = "") -> str:
        return self.values.get(name, [default])[-1]

    def path(self, name: str, default: str = "") -> str:
        """That of a file, as the caller's directory makes it: commands leave that directory."""
        given = self.get(name, default)
        return os.path.abspath(given) if given else ""

    def all(self, name: str) -> list[str]:
        return self.values.get(name, [])

    def given(self, name: str) -> bool:
        return name in self.values or name in self.switches

    def number(self, name: str, low: int, high: int, default: int = 0) -> int:
        """A whole number; what is none, or out of range, is an error by the flag's name."""
        return self.numbers(name, low, high)[-1] if name in self.values else default

    def numbers(self, name: str, low: int, high: int) -> list[int]:
        """Those of a flag that may be repeated."""
        return [_number(text, name, low, high) for text in self.all(name)]


def _number(text: str, name: str, low: int, high: int) -> int:
    digits = text[1:] if text[:1] == "-" else text
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 20):
        raise Usage(f'invalid value "{text}" for flag -{name}: parse error')
    if not low <= int(text) <= high:
        raise Usage(f'invalid value "{text}" for flag -{name}: value out of range')
    return int(text)


def parse(arguments: Sequence[str], flags: Sequence[Flag], *, anywhere: bool = False) -> Arguments:
    """Read flags until the first word, or `anywhere`; the words are what is left. After a word,
    what begins as a flag and is none of these is a word."""
    table = {name: flag for flag in flags for name in flag.names}
    result = Arguments()
    index = 0
    while index < len(arguments):
        word = arguments[index]
        if word == "--":
            index += 1
            break
        name, equals, value = word.lstrip("-").partition("=")
        flag = table.get(name) if word.startswith("-") else None
        if flag is None and (result.words or word == "-" or not word.startswith("-")):
            if not anywhere:
                break
            result.words.append(word)
            index += 1
            continue
        index += 1
        if flag is None:
            raise Usage(f"flag provided but not defined: -{name}")
        if flag.kind == SWITCH:
            _switch(result, flag, name, value if equals else "true")
            continue
        if not equals:
            if index == len(arguments):
                raise Usage(f"flag needs an argument: -{name}")
            value = arguments[index]
            index += 1
        result.values.setdefault(flag.names[0], []).append(value)
    result.words += arguments[index:]
    return result


def _switch(result: Arguments, flag: Flag, name: str, value: str) -> None:
    if value in TRUE:
        result.switches.add(flag.names[0])
    elif value in FALSE:
        result.switches.discard(flag.names[0])
    else:
        raise Usage(f'invalid boolean value "{value}" for -{name}: parse error')
