"""containerd's filter language: what every List and Subscribe takes.

Source: containerd, filters package.

    filter    := selector *("," selector)              all of them; a list of filters: any of them
    selector  := path [operator value]                 without operator: the field is there
    operator  := "==" | "!=" | "~="                    ~= searches a regular expression
    path      := field *("." field)                    field: a name, or quoted
    value     := quoted | anything up to a comma or white space
    quoted    := with ", or with / or | (no escapes within) after an operator

`labels."io.x/y"==z,name~=/^a/`. An object is read through a lookup: path -> text, None for absent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from barque.errors import InvalidArgument

FILTER_LENGTH_MAX = 16384

Path = tuple[str, ...]
Lookup = Callable[[Path], str | None]
Matcher = Callable[[Lookup], bool]

_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_]*|_[A-Za-z0-9_]+")
_VALUE = re.compile(r"[^\s,]+")
_OPERATOR = re.compile(r"==|!=|~=")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'"}


@dataclass(frozen=True, slots=True)
class Selector:
    path: Path
    operator: str = ""
    value: str = ""
    pattern: re.Pattern[str] | None = None

    def accepts(self, lookup: Lookup) -> bool:
        found = lookup(self.path)
        match self.operator:
            case "==":
                return found is not None and found == self.value
            case "!=":
                return (found or "") != self.value
            case "~=":
                assert self.pattern is not None
                return found is not None and self.pattern.search(found) is not None
        return found is not None


Filter = tuple[Selector, ...]


def parse(text: str) -> Filter:
    """One filter. Raises InvalidArgument that shows where it is wrong."""
    if len(text) > FILTER_LENGTH_MAX:
        raise InvalidArgument(f"filter longer than {FILTER_LENGTH_MAX} characters")
    return _Parser(text).filter() if text.strip() else ()


def parse_all(texts: Sequence[str]) -> tuple[Filter, ...]:
    return tuple(parse(text) for text in texts)


def any_of(filters: Iterable[Filter]) -> Matcher:
    """Accepts what any of `filters` accepts; with no filters, everything."""
    wanted = tuple(filters)
    if not wanted:
        return lambda lookup: True
    return lambda lookup: any(all(selector.accepts(lookup) for selector in one) for one in wanted)


def values_of(filters: Sequence[Filter], path: Path) -> list[str] | None:
    """The values that `path` must have to pass, if every filter says `path==...`; else None.

    Lets a store answer by a point query where reading all would do the same slower.
    """
    values = []
    for one in filters:
        exact = [s.value for s in one if s.operator == "==" and s.path == path]
        if not exact:
            return None
        values.append(exact[0])
    return list(dict.fromkeys(values)) or None


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def filter(self) -> Filter:
        selectors = [self._selector()]
        while self._take(","):
            selectors.append(self._selector())
        if self._at != len(self._text):
            raise self._error("unexpected text")
        return tuple(selectors)

    def _selector(self) -> Selector:
        self._skip_space()
        path = [self._field()]
        while self._take("."):
            path.append(self._field())
        self._skip_space()
        found = _OPERATOR.match(self._text, self._at)
        if not found:
            if self._at < len(self._text) and self._text[self._at] != ",":
                raise self._error("expected an operator: ==, != or ~=")
            return Selector(tuple(path))
        self._at = found.end()
        self._skip_space()
        operator, value = found.group(), self._value()
        self._skip_space()
        return Selector(tuple(path), operator, value, self._pattern(operator, value))

    def _pattern(self, operator: str, value: str) -> re.Pattern[str] | None:
        if operator != "~=":
            return None
        try:
            return re.compile(value)
        except re.error as error:
            raise self._error(f"bad regular expression: {error}") from error

    def _field(self) -> str:
        if self._text.startswith('"', self._at):
            return self._quoted('"')
        return self._match(_FIELD, "expected a field name")

    def _value(self) -> str:
        first = self._text[self._at : self._at + 1]
        if first and first in '"/|':
            return self._quoted(first)
        return self._match(_VALUE, "expected a value")

    def _quoted(self, mark: str) -> str:
        out: list[str] = []
        at = self._at + 1
        while at < len(self._text):
            character = self._text[at]
            if character == mark:
                self._at = at + 1
                return "".join(out)
            if character == "\\" and at + 1 < len(self._text):
                at += 1
                following = self._text[at]
                if mark == '"':
                    character = _ESCAPES.get(following, "\\" + following)
                else:
                    character = following if following == mark else "\\" + following
            out.append(character)
            at += 1
        raise self._error("quotation without end")

    def _match(self, pattern: re.Pattern[str], problem: str) -> str:
        found = pattern.match(self._text, self._at)
        if not found:
            raise self._error(problem)
        self._at = found.end()
        return found.group()

    def _take(self, character: str) -> bool:
        if self._text.startswith(character, self._at):
            self._at += 1
            return True
        return False

    def _skip_space(self) -> None:
        while self._at < len(self._text) and self._text[self._at].isspace():
            self._at += 1

    def _error(self, problem: str) -> InvalidArgument:
        text = f"{self._text[: self._at]} >|{self._text[self._at :]}|<"
        return InvalidArgument(f"filters: parse error: [{text}]: {problem}: invalid argument")
