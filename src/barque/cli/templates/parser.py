"""From the tokens of a template to the nodes that run."""

from __future__ import annotations

from barque.cli.templates.functions import FUNCTIONS
from barque.cli.templates.lexer import SPACE, Lexer, unreadable
from barque.cli.templates.nodes import (
    Break,
    Continue,
    Field,
    Place,
    State,
    branch,
    call,
    declare,
    emit,
    leave,
    loop,
    method,
    print_value,
    refused,
    run,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.templates.lexer import Token
    from barque.cli.templates.nodes import Expression, Node

_REFUSED = ("define", "template", "block")


class Template:
    def __init__(self, nodes: list[Node]) -> None:
        self._nodes = nodes

    def run(self, data: Any) -> str:
        """Raises ExecutionError."""
        state = State(data)
        run(self._nodes, state, data)
        return "".join(state.out)


def parse(text: str) -> Template:
    """Raises TemplateError."""
    parser = _Parser(text)
    nodes, end = parser.block(())
    assert not end
    return Template(nodes)


class _Parser:
    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
        self._tokens: list[Token] = []
        self._next = 0
        self._loops = 0
        self._known = ["$"]  # variables in sight

    def block(self, ends: tuple[str, ...]) -> tuple[list[Node], str]:
        """Nodes up to one of `ends`, and which it was; its tokens are the current ones."""
        nodes: list[Node] = []
        known = len(self._known)
        while True:
            text, more = self._text()
            if text:
                nodes.append(emit(text))
            if not more:
                if ends:
                    raise unreadable(self._line(), "unexpected EOF")
                return nodes, ""
            word = self._peek_word()
            if word in ("end", "else"):
                if word not in ends:
                    raise unreadable(self._line(), "unexpected {{" + word + "}}")
                del self._known[known:]
                self._next += 1
                return nodes, word
            if self._tokens:
                nodes.append(self._action(word))

    def _text(self) -> tuple[str, bool]:
        """The text up to the next action, whose tokens become the current ones."""
        start = self._at
        opening = self._source.find("{{", start)
        if opening < 0:
            self._at = len(self._source)
            return self._source[start:], False
        text = self._source[start:opening]
        inner = opening + 2
        if self._source.startswith("-", inner) and self._source[inner + 1 : inner + 2] in SPACE:
            text = text.rstrip(SPACE)
            inner += 1
        stripped = self._source[inner:].lstrip(SPACE)
        if stripped.startswith("/*"):
            self._comment(len(self._source) - len(stripped))
            return text, True
        lexer = Lexer(self._source, inner)
        self._at = lexer.run()
        if not lexer.tokens:
            raise unreadable(self._line(), "missing value for command")
        self._tokens, self._next = lexer.tokens, 0
        if lexer.trims_after:
            self._trim()
        return text, True

    def _comment(self, at: int) -> None:
        end = self._source.find("*/", at + 2)
        rest = self._source[end + 2 :].lstrip(SPACE) if end >= 0 else ""
        if not rest.startswith(("}}", "-}}")):
            raise unreadable(self._line(), "unclosed comment")
        self._at = len(self._source) - len(rest) + rest.index("}}") + 2
        self._tokens, self._next = [], 0
        if rest.startswith("-"):
            self._trim()

    def _trim(self) -> None:
        while self._at < len(self._source) and self._source[self._at] in SPACE:
            self._at += 1

    def _line(self) -> int:
        return self._source.count("\n", 0, self._at) + 1

    def _peek(self) -> Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _peek_word(self) -> str:
        token = self._peek()
        return token.text if token is not None and token.kind == "word" else ""

    def _action(self, word: str) -> Node:
        if word in _REFUSED:
            raise unreadable(self._line(), f"{{{{{word}}}}} is not there yet")
        if word in ("if", "with"):
            self._next += 1
            return self._branch(word)
        if word == "range":
            self._next += 1
            return self._range()
        if word in ("break", "continue"):
            if not self._loops:
                raise unreadable(self._line(), f"{{{{{word}}}}} outside {{{{range}}}}")
            return leave(Break if word == "break" else Continue)
        declared = self._declaration()
        pipeline = self._pipeline("command")
        if declared:
            return declare(declared[0], declared[1], pipeline)
        return print_value(pipeline)

    def _branch(self, word: str) -> Node:
        """if and with, whose else may carry another if or with."""
        known = len(self._known)
        declared = self._declaration()
        condition = self._pipeline(word)
        body, end = self.block(("end", "else"))
        other: list[Node] = []
        if end == "else":
            if self._peek_word() in ("if", "with"):
                again = self._peek_word()
                self._next += 1
                other = [self._branch(again)]
            else:
                other, _ = self.block(("end",))
        del self._known[known:]

        name = declared[0] if declared else ""
        return branch(condition, name, body, other, moves_dot=word == "with")

    def _range(self) -> Node:
        known = len(self._known)
        names = self._loop_variables()
        place_at = self._peek()
        pipeline = self._pipeline("range")
        place = self._place(place_at) if place_at else Place(self._source, 0, "")
        self._loops += 1
        body, end = self.block(("end", "else"))
        self._loops -= 1
        other, _ = self.block(("end",)) if end == "else" else ([], "")
        del self._known[known:]

        return loop(pipeline, names, body, other, place)

    def _loop_variables(self) -> list[str]:
        kinds = [token.kind for token in self._tokens[self._next :]]
        count = 2 if kinds[:4] == ["variable", ",", "variable", ":="] else 1
        if count == 1 and kinds[:2] != ["variable", ":="]:
            return []
        names = [self._tokens[self._next + 2 * n].text for n in range(count)]
        self._known += names
        self._next += 2 * count
        return names

    def _declaration(self) -> tuple[str, bool] | None:
        """`$x :=` (new) or `$x =` (not new) at the beginning of a pipeline."""
        tokens = self._tokens[self._next : self._next + 2]
        if [token.kind for token in tokens] not in (["variable", ":="], ["variable", "="]):
            return None
        self._next += 2
        name, new = tokens[0].text, tokens[1].kind == ":="
        if new:
            self._known.append(name)
        elif name not in self._known:
            raise unreadable(self._line(), f'undefined variable "{name}"')
        return name, new

    def _pipeline(self, context: str) -> Expression:
        """Commands joined by |, each given the value before it as its last argument."""
        if self._peek() is None or self._peek_word() in ("else", "end"):
            raise unreadable(self._line(), f"missing value for {context}")
        value = self._command(None)
        while (token := self._peek()) is not None and token.kind == "|":
            self._next += 1
            if self._peek() is None:
                raise unreadable(self._line(), f"missing value for {context}")
            value = self._command(value)
        if (token := self._peek()) is not None and token.kind != ")":
            raise unreadable(self._line(), f'unexpected "{token.text}" in {context}')
        return value

    def _command(self, piped: Expression | None) -> Expression:
        token = self._peek()
        assert token is not None
        if token.kind == "word" and token.text not in ("true", "false", "nil"):
            self._next += 1
            if token.text not in FUNCTIONS:
                raise unreadable(self._line(), f'function "{token.text}" not defined')
            return self._call(token, piped)
        first = self._operand()
        arguments = self._operands()
        if token.kind == "field" and (arguments or piped):
            return self._method(token, first, arguments)
        if arguments or piped is not None:
            return refused(self._place(token), token.text)
        return first

    def _method(self, token: Token, first: Expression, arguments: list[Expression]) -> Expression:
        """A field with arguments: a method of a row, such as `.Label "key"`."""
        return method(token.text[1:], first, arguments, self._place(token))

    def _call(self, token: Token, piped: Expression | None) -> Expression:
        arguments = self._operands()
        if piped is not None:
            arguments.append(piped)
        place = self._place(token, whole=bool(arguments) and piped is None)
        return call(token.text, arguments, place)

    def _operands(self) -> list[Expression]:
        found = []
        while (token := self._peek()) is not None and token.kind not in ("|", ")"):
            found.append(self._operand())
        return found

    def _operand(self) -> Expression:
        token = self._peek()
        assert token is not None
        self._next += 1
        if token.kind == "constant":
            value = token.value
            return lambda state, dot: value
        if token.kind == ".":
            return lambda state, dot: dot
        if token.kind == "field":
            self._next -= 1
            return self._fields(lambda state, dot: dot, token.at)
        if token.kind == "variable":
            if token.text not in self._known:
                raise unreadable(self._line(), f'undefined variable "{token.text}"')
            return self._fields(lambda state, dot: state.get(token.text), token.at)
        if token.kind == "(":
            inner = self._pipeline("parenthesized pipeline")
            closing = self._peek()
            if closing is None or closing.kind != ")":
                raise unreadable(self._line(), "unclosed left paren")
            self._next += 1
            return self._fields(inner, token.at)
        if token.kind == "word":
            return self._word(token)
        raise unreadable(self._line(), f'unexpected "{token.text}" in operand')

    def _word(self, token: Token) -> Expression:
        if token.text in ("true", "false", "nil"):
            value = {"true": True, "false": False, "nil": None}[token.text]
            return lambda state, dot: value
        if token.text not in FUNCTIONS:
            raise unreadable(self._line(), f'function "{token.text}" not defined')
        return self._call_alone(token)

    def _call_alone(self, token: Token) -> Expression:
        """A function as an argument of another: called with none."""
        tokens, self._tokens = self._tokens, self._tokens[: self._next]
        try:
            return self._call(token, None)
        finally:
            self._tokens = tokens

    def _fields(self, value: Expression, start: int) -> Expression:
        """A chain of .Field behind a value, as far as nothing stands between."""
        end = self._tokens[self._next - 1]
        at = start if self._peek_field(start) else end.at + len(end.text)
        while (token := self._peek_field(at)) is not None:
            self._next += 1
            at = token.at + len(token.text)
            value = Field(value, token.text[1:], Place(self._source, token.at, ""))
        text = self._source[start:at]
        value_places = getattr(value, "places", None)
        if value_places is not None:
            for place in value_places:
                place.text = text
        return value

    def _peek_field(self, at: int) -> Token | None:
        token = self._peek()
        return token if token is not None and token.kind == "field" and token.at == at else None

    def _place(self, token: Token, whole: bool = False) -> Place:
        """Where `token` stands; with `whole`, the text is all of its command up to here."""
        last = self._tokens[self._next - 1] if whole else token
        return Place(self._source, token.at, self._source[token.at : last.at + len(last.text)])
