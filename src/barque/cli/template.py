"""--format: Go's text/template, as much of it as Docker's users write.

Source: Go's documentation of text/template. Fields, variables, pipelines, if/else, range, with,
break, continue, comments, trimming, the built-in functions and Docker's own. Named templates
(define, template, block) are refused by name.

    text ──[lexer]──> tokens ──[parser]──> nodes ──run(data)──> text
"""

from __future__ import annotations

from barque import errors
from barque.cli.template_functions import FUNCTIONS, Missing, field, iterate, shown, true

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_SPACE = " \t\r\n"
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\", "'": "'", "0": "\0", "a": "\a"}
_REFUSED = ("define", "template", "block")


class TemplateError(errors.InvalidArgument):
    """The template cannot be read; the message has Go's words."""


class ExecutionError(errors.InvalidArgument):
    """The template does not fit its data."""


def _unreadable(line: int, text: str) -> TemplateError:
    return TemplateError(f"template: :{line}: {text}")


class _Token:
    __slots__ = ("at", "kind", "text", "value")

    def __init__(self, kind: str, text: str, at: int, value: Any = None) -> None:
        self.kind, self.text, self.at, self.value = kind, text, at, value


class _Place:
    """Where in the template something stands, for messages of its execution."""

    __slots__ = ("column", "line", "text")

    def __init__(self, source: str, at: int, text: str) -> None:
        self.line = source.count("\n", 0, at) + 1
        self.column = at - (source.rfind("\n", 0, at) + 1)
        self.text = text

    def fail(self, reason: object) -> ExecutionError:
        return ExecutionError(
            f'template: :{self.line}:{self.column}: executing "" at <{self.text}>: {reason}'
        )


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class _State:
    """What is known while a template runs: the variables, innermost last, and the output."""

    def __init__(self, data: Any) -> None:
        self.variables: list[tuple[str, Any]] = [("$", data)]
        self.out: list[str] = []

    def get(self, name: str) -> Any:
        return next(value for key, value in reversed(self.variables) if key == name)

    def set(self, name: str, value: Any) -> None:
        for index in range(len(self.variables) - 1, -1, -1):
            if self.variables[index][0] == name:
                self.variables[index] = (name, value)
                return


if TYPE_CHECKING:
    Expression = Callable[[_State, Any], Any]  # (state, dot) -> value
    Node = Callable[[_State, Any], None]


class Template:
    def __init__(self, nodes: list[Node]) -> None:
        self._nodes = nodes

    def run(self, data: Any) -> str:
        """Raises ExecutionError."""
        state = _State(data)
        _run(self._nodes, state, data)
        return "".join(state.out)


def _run(nodes: list[Node], state: _State, dot: Any) -> None:
    depth = len(state.variables)
    for node in nodes:
        node(state, dot)
    del state.variables[depth:]


def parse(text: str) -> Template:
    """Raises TemplateError."""
    parser = _Parser(text)
    nodes, end = parser.block(())
    assert not end
    return Template(nodes)


class _Lexer:
    """Splits one action, what is between {{ and }}, into tokens."""

    def __init__(self, source: str, start: int) -> None:
        self._source, self._at = source, start
        self.tokens: list[_Token] = []
        self.trims_after = False

    def run(self) -> int:
        """Fills `tokens`; returns where the action has ended."""
        source = self._source
        while True:
            while self._at < len(source) and source[self._at] in _SPACE:
                self._at += 1
            if source.startswith("}}", self._at):
                return self._at + 2
            if source.startswith("-}}", self._at) and source[self._at - 1] in _SPACE:
                self.trims_after = True
                return self._at + 3
            if self._at >= len(source):
                raise _unreadable(self._line(), "unclosed action")
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
            raise _unreadable(
                self._line(), f"unexpected bad character U+{ord(character):04X} in command"
            )

    def _word_from(self, at: int) -> int:
        while at < len(self._source) and (self._source[at].isalnum() or self._source[at] == "_"):
            at += 1
        return at

    def _add(self, kind: str, start: int, end: int, value: Any = None) -> None:
        self.tokens.append(_Token(kind, self._source[start:end], start, value))
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
            raise _unreadable(self._line(), f"unterminated {kind}")
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
                raise _unreadable(self._line(), f'bad number syntax: "{text}"') from None
        self._add("constant", start, end, value)


class _Parser:
    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
        self._tokens: list[_Token] = []
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
                nodes.append(_emit(text))
            if not more:
                if ends:
                    raise _unreadable(self._line(), "unexpected EOF")
                return nodes, ""
            word = self._peek_word()
            if word in ("end", "else"):
                if word not in ends:
                    raise _unreadable(self._line(), "unexpected {{" + word + "}}")
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
        if self._source.startswith("-", inner) and self._source[inner + 1 : inner + 2] in _SPACE:
            text = text.rstrip(_SPACE)
            inner += 1
        stripped = self._source[inner:].lstrip(_SPACE)
        if stripped.startswith("/*"):
            self._comment(len(self._source) - len(stripped))
            return text, True
        lexer = _Lexer(self._source, inner)
        self._at = lexer.run()
        if not lexer.tokens:
            raise _unreadable(self._line(), "missing value for command")
        self._tokens, self._next = lexer.tokens, 0
        if lexer.trims_after:
            self._trim()
        return text, True

    def _comment(self, at: int) -> None:
        end = self._source.find("*/", at + 2)
        rest = self._source[end + 2 :].lstrip(_SPACE) if end >= 0 else ""
        if not rest.startswith(("}}", "-}}")):
            raise _unreadable(self._line(), "unclosed comment")
        self._at = len(self._source) - len(rest) + rest.index("}}") + 2
        self._tokens, self._next = [], 0
        if rest.startswith("-"):
            self._trim()

    def _trim(self) -> None:
        while self._at < len(self._source) and self._source[self._at] in _SPACE:
            self._at += 1

    def _line(self) -> int:
        return self._source.count("\n", 0, self._at) + 1

    def _peek(self) -> _Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _peek_word(self) -> str:
        token = self._peek()
        return token.text if token is not None and token.kind == "word" else ""

    def _action(self, word: str) -> Node:
        if word in _REFUSED:
            raise _unreadable(self._line(), f"{{{{{word}}}}} is not there yet")
        if word in ("if", "with"):
            self._next += 1
            return self._branch(word)
        if word == "range":
            self._next += 1
            return self._range()
        if word in ("break", "continue"):
            if not self._loops:
                raise _unreadable(self._line(), f"{{{{{word}}}}} outside {{{{range}}}}")
            return _leave(_Break if word == "break" else _Continue)
        declared = self._declaration()
        pipeline = self._pipeline("command")
        if declared:
            return _declare(declared[0], declared[1], pipeline)
        return lambda state, dot: state.out.append(shown(pipeline(state, dot)))

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

        def run(state: _State, dot: Any) -> None:
            value = condition(state, dot)
            depth = len(state.variables)
            if declared:
                state.variables.append((declared[0], value))
            inner = value if word == "with" else dot
            _run(body if true(value) else other, state, inner if true(value) else dot)
            del state.variables[depth:]

        return run

    def _range(self) -> Node:
        known = len(self._known)
        names = self._loop_variables()
        place_at = self._peek()
        pipeline = self._pipeline("range")
        place = self._place(place_at) if place_at else _Place(self._source, 0, "")
        self._loops += 1
        body, end = self.block(("end", "else"))
        self._loops -= 1
        other, _ = self.block(("end",)) if end == "else" else ([], "")
        del self._known[known:]

        def run(state: _State, dot: Any) -> None:
            try:
                pairs = iterate(pipeline(state, dot))
            except TypeError as error:
                raise place.fail(error) from None
            if not pairs:
                _run(other, state, dot)
            depth = len(state.variables)
            for key, value in pairs:
                if names:
                    state.variables.append((names[-1], value))
                if len(names) == 2:
                    state.variables.append((names[0], key))
                try:
                    _run(body, state, value)
                except _Continue:
                    continue
                except _Break:
                    break
                finally:
                    del state.variables[depth:]

        return run

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
            raise _unreadable(self._line(), f'undefined variable "{name}"')
        return name, new

    def _pipeline(self, context: str) -> Expression:
        """Commands joined by |, each given the value before it as its last argument."""
        if self._peek() is None or self._peek_word() in ("else", "end"):
            raise _unreadable(self._line(), f"missing value for {context}")
        value = self._command(None)
        while (token := self._peek()) is not None and token.kind == "|":
            self._next += 1
            if self._peek() is None:
                raise _unreadable(self._line(), f"missing value for {context}")
            value = self._command(value)
        if (token := self._peek()) is not None and token.kind != ")":
            raise _unreadable(self._line(), f'unexpected "{token.text}" in {context}')
        return value

    def _command(self, piped: Expression | None) -> Expression:
        token = self._peek()
        assert token is not None
        if token.kind == "word" and token.text not in ("true", "false", "nil"):
            self._next += 1
            if token.text not in FUNCTIONS:
                raise _unreadable(self._line(), f'function "{token.text}" not defined')
            return self._call(token, piped)
        first = self._operand()
        arguments = self._operands()
        if token.kind == "field" and (arguments or piped):
            return self._method(token, first, arguments)
        if arguments or piped is not None:
            place = self._place(token)

            def refuse(state: _State, dot: Any) -> Any:
                raise place.fail(f"can't give argument to non-function {token.text}")

            return refuse
        return first

    def _method(self, token: _Token, first: Expression, arguments: list[Expression]) -> Expression:
        """A field with arguments: a method of a row, such as `.Label "key"`."""
        place = self._place(token)

        def run(state: _State, dot: Any) -> Any:
            method = getattr(dot, "template_method", None)
            if method is None:
                raise place.fail(
                    f"{token.text[1:]} has arguments but cannot be invoked as function"
                )
            try:
                return method(token.text[1:], *(one(state, dot) for one in arguments))
            except KeyError:
                return first(state, dot)

        return run

    def _call(self, token: _Token, piped: Expression | None) -> Expression:
        arguments = self._operands()
        if piped is not None:
            arguments.append(piped)
        function, least, most = FUNCTIONS[token.text]
        place = self._place(token, whole=bool(arguments) and piped is None)
        name = token.text

        def run(state: _State, dot: Any) -> Any:
            count = len(arguments)
            if count < least or (most >= 0 and count > most):
                want = str(least) if least == most else f"at least {least}"
                raise place.fail(f"wrong number of args for {name}: want {want} got {count}")
            if name in ("and", "or"):
                return _short_circuit(name, arguments, state, dot)
            values = [argument(state, dot) for argument in arguments]
            try:
                return function(*values)
            except (TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
                raise place.fail(f"error calling {name}: {error}") from None

        return run

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
                raise _unreadable(self._line(), f'undefined variable "{token.text}"')
            return self._fields(lambda state, dot: state.get(token.text), token.at)
        if token.kind == "(":
            inner = self._pipeline("parenthesized pipeline")
            closing = self._peek()
            if closing is None or closing.kind != ")":
                raise _unreadable(self._line(), "unclosed left paren")
            self._next += 1
            return self._fields(inner, token.at)
        if token.kind == "word":
            return self._word(token)
        raise _unreadable(self._line(), f'unexpected "{token.text}" in operand')

    def _word(self, token: _Token) -> Expression:
        if token.text in ("true", "false", "nil"):
            value = {"true": True, "false": False, "nil": None}[token.text]
            return lambda state, dot: value
        if token.text not in FUNCTIONS:
            raise _unreadable(self._line(), f'function "{token.text}" not defined')
        return self._call_alone(token)

    def _call_alone(self, token: _Token) -> Expression:
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
            value = _field_of(value, token.text[1:], _Place(self._source, token.at, ""), start)
        text = self._source[start:at]
        value_places = getattr(value, "places", None)
        if value_places is not None:
            for place in value_places:
                place.text = text
        return value

    def _peek_field(self, at: int) -> _Token | None:
        token = self._peek()
        return token if token is not None and token.kind == "field" and token.at == at else None

    def _place(self, token: _Token, whole: bool = False) -> _Place:
        """Where `token` stands; with `whole`, the text is all of its command up to here."""
        last = self._tokens[self._next - 1] if whole else token
        return _Place(self._source, token.at, self._source[token.at : last.at + len(last.text)])


class _Field:
    """One .Field of a value; `places` are those of the whole chain."""

    def __init__(self, value: Expression, name: str, place: _Place) -> None:
        self._value, self._name, self._place = value, name, place
        self.places: list[_Place] = [*getattr(value, "places", ()), place]

    def __call__(self, state: _State, dot: Any) -> Any:
        value = self._value(state, dot)
        try:
            return field(value, self._name, isinstance(state.get("$"), dict))
        except (KeyError, TypeError) as error:
            raise self._place.fail(error.args[0]) from None


def _field_of(value: Expression, name: str, place: _Place, start: int) -> Expression:
    return _Field(value, name, place)


def _emit(text: str) -> Node:
    return lambda state, dot: state.out.append(text)


def _leave(how: type[Exception]) -> Node:
    def run(state: _State, dot: Any) -> None:
        raise how

    return run


def _declare(name: str, new: bool, pipeline: Expression) -> Node:
    def run(state: _State, dot: Any) -> None:
        value = pipeline(state, dot)
        if new:
            state.variables.append((name, value))
        else:
            state.set(name, value)

    return run


def _short_circuit(name: str, arguments: list[Expression], state: _State, dot: Any) -> Any:
    value: Any = Missing()
    for argument in arguments:
        value = argument(state, dot)
        if true(value) == (name == "or"):
            return value
    return value
