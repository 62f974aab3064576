"""What runs when a template is filled: each node writes a part of the output."""

from __future__ import annotations

from barque import errors
from barque.cli.templates.functions import FUNCTIONS, Missing, field, iterate, shown, true

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class ExecutionError(errors.InvalidArgument):
    """The template does not fit its data."""


class Break(Exception):
    """{{break}}: the innermost loop ends."""


class Continue(Exception):
    """{{continue}}: the innermost loop takes its next value."""


class Place:
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


class State:
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
    Expression = Callable[[State, Any], Any]  # (state, dot) -> value
    Node = Callable[[State, Any], None]


def run(nodes: list[Node], state: State, dot: Any) -> None:
    depth = len(state.variables)
    for node in nodes:
        node(state, dot)
    del state.variables[depth:]


def emit(text: str) -> Node:
    return lambda state, dot: state.out.append(text)


def leave(how: type[Exception]) -> Node:
    def act(state: State, dot: Any) -> None:
        raise how

    return act


def declare(name: str, new: bool, pipeline: Expression) -> Node:
    def act(state: State, dot: Any) -> None:
        value = pipeline(state, dot)
        if new:
            state.variables.append((name, value))
        else:
            state.set(name, value)

    return act


def print_value(pipeline: Expression) -> Node:
    return lambda state, dot: state.out.append(shown(pipeline(state, dot)))


def branch(
    condition: Expression, variable: str, body: list[Node], other: list[Node], *, moves_dot: bool
) -> Node:
    """if, or where the value is the new dot, with; `variable` ("" for none) has the value too."""

    def act(state: State, dot: Any) -> None:
        value = condition(state, dot)
        depth = len(state.variables)
        if variable:
            state.variables.append((variable, value))
        if true(value):
            run(body, state, value if moves_dot else dot)
        else:
            run(other, state, dot)
        del state.variables[depth:]

    return act


def loop(
    pipeline: Expression, names: list[str], body: list[Node], other: list[Node], place: Place
) -> Node:
    """range; `names` are the variables of the key and the value, or of the value alone."""

    def act(state: State, dot: Any) -> None:
        try:
            pairs = iterate(pipeline(state, dot))
        except TypeError as error:
            raise place.fail(error) from None
        if not pairs:
            run(other, state, dot)
        depth = len(state.variables)
        for key, value in pairs:
            if names:
                state.variables.append((names[-1], value))
            if len(names) == 2:
                state.variables.append((names[0], key))
            try:
                run(body, state, value)
            except Continue:
                continue
            except Break:
                break
            finally:
                del state.variables[depth:]

    return act


def refused(place: Place, text: str) -> Expression:
    """An argument behind what takes none: told when the template runs, as Go does."""

    def act(state: State, dot: Any) -> Any:
        raise place.fail(f"can't give argument to non-function {text}")

    return act


def method(name: str, plain: Expression, arguments: list[Expression], place: Place) -> Expression:
    """A field with arguments: a method of a row, such as `.Label "key"`."""

    def act(state: State, dot: Any) -> Any:
        of_row = getattr(dot, "template_method", None)
        if of_row is None:
            raise place.fail(f"{name} has arguments but cannot be invoked as function")
        try:
            return of_row(name, *(one(state, dot) for one in arguments))
        except KeyError:
            return plain(state, dot)

    return act


def call(name: str, arguments: list[Expression], place: Place) -> Expression:
    """One of FUNCTIONS, with the number of its arguments checked when it is called."""
    function, least, most = FUNCTIONS[name]

    def act(state: State, dot: Any) -> Any:
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

    return act


def _short_circuit(name: str, arguments: list[Expression], state: State, dot: Any) -> Any:
    value: Any = Missing()
    for argument in arguments:
        value = argument(state, dot)
        if true(value) == (name == "or"):
            return value
    return value


class Field:
    """One .Field of a value; `places` are those of the whole chain."""

    def __init__(self, value: Expression, name: str, place: Place) -> None:
        self._value, self._name, self._place = value, name, place
        self.places: list[Place] = [*getattr(value, "places", ()), place]

    def __call__(self, state: State, dot: Any) -> Any:
        value = self._value(state, dot)
        try:
            return field(value, self._name, isinstance(state.get("$"), dict))
        except (KeyError, TypeError) as error:
            raise self._place.fail(error.args[0]) from None
