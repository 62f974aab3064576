"""From the text of one action of a template to its tokens."""

from __future__ import annotations

from barque import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SPACE = " \t\r\n"
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "'": "'", "0": "\0", "a": "\a"}


class TemplateError(errors.InvalidArgument):
    """The template cannot be read; the message has Go's words."""


def unreadable(line: int, text: str) -> TemplateError:
    return TemplateError(f"template: :{line}: {text}")


class Token:
    __slots__ = ("at", "kind", "text", "value")

    def __init__(self, kind: str, text: str, at: int, value: Any = None) -> None:
        self.kind, self.text, self.at, self.value = kind, text, at, value


class Lexer:
    """Splits one action, what is between {{ and }}, into tokens."""

    def __init__(self, source: str, start: int) -> None:
        self._source, self._at = source, start
        self.tokens: list[Token] = []
        self.trims_after = False

    def run(self) -> int:
        """Fills `tokens`; returns where the action has ended."""
        source = self._source
        while True:
            while self._at < len(source) and source[self._at] in SPACE:
                self._at += 1
            if source.startswith("}}", self._at):
                return self._at + 2
            if source.startswith("-}}", self._at) and source[self._at - 1] in SPACE:
                self.trims_after = True
                return self._at + 3
            if self._at >= len(source):
                raise unreadable(self._line(), "unclosed action")
            self._token()

    def _line(self) -> int:
        return self._source.count("\n", 0, self._at) + 1

    def _token(self) -> None:
        start, character = self._at, self._source[self._at]
        if character in "\"`'":
            self._quoted(character)
        elif character in "().|,=":
            if character == "." and self._word_from(start + 1) > start + 1:
                self._add("field", start, self._word_from(start + 1))
            else:
                self._add(character, start, start + 1)
        elif self._source.startswith(":=", start):
            self._add(":=", start, start + 2)
        elif character.isdigit() or character in "+-":
            self._number()
        elif character == "$":
            self._add("variable", start, self._word_from(start + 1))
        elif self._word_from(start) > start:
            self._add("word", start, self._word_from(start))
        else:
            raise unreadable(
                self._line(), f"unexpected bad character U+{ord(character):04X} in command"
            )

    def _word_from(self, at: int) -> int:
        while at < len(self._source) and (self._source[at].isalnum() or self._source[at] == "_"):
            at += 1
        return at

    def _add(self, kind: str, start: int, end: int, value: Any = None) -> None:
        self.tokens.append(Token(kind, self._source[start:end], start, value))
        self._at = end

    def _quoted(self, quote: str) -> None:
        start, at, text = self._at, self._at + 1, []
        while at < len(self._source) and self._source[at] != quote:
            if self._source[at] == "\\" and quote != "`":
                at += 1
                text.append(_ESCAPES.get(self._source[at : at + 1], self._source[at : at + 1]))
            else:
                text.append(self._source[at])
            at += 1
        if at >= len(self._source):
            kind = "raw quoted string" if quote == "`" else "quoted string"
            raise unreadable(self._line(), f"unterminated {kind}")
        value: Any = "".join(text)
        self._add("constant", start, at + 1, ord(value) if quote == "'" and value else value)

    def _number(self) -> None:
        start = self._at
        end = start + 1
        while end < len(self._source) and (
            self._source[end].isalnum() or self._source[end] in "._"
        ):
            end += 1
        text = self._source[start:end]
        try:
            value: Any = int(text, 0)
        except ValueError:
            try:
                value = float(text)
            except ValueError:
                raise unreadable(self._line(), f'bad number syntax: "{text}"') from None
        self._add("constant", start, end, value)
