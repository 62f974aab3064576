"""What the Engine API answers, as published: the shape of each answer, and whether one has it.

`engine_answers.json` has the facts of the API's description, version 1.55, in a notation of ours:
"integer", "@Name" a named type, "=a|b" one of these words, [T] a list, {"field": T} an object whose
`field!` must be there, {"*": T} a map, "+" the types whose fields it has too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_FACTS = json.loads(Path(__file__).with_name("engine_answers.json").read_text())
ANSWERS: dict[str, Any] = _FACTS["answers"]
TYPES: dict[str, Any] = _FACTS["types"]
_PLAIN: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


def faults(shape: Any, value: Any, where: str = "answer") -> Iterator[str]:
    """What of `value` is not as `shape` has it, a line each.

    null is as good as nothing: Go writes it for what is empty, whatever the description says.
    """
    if value is None or shape == "any":
        return
    if isinstance(shape, list):
        yield from _list_faults(shape[0], value, where)
    elif isinstance(shape, dict):
        yield from _object_faults(shape, value, where)
    elif shape.startswith("@"):
        yield from faults(TYPES[shape[1:]], value, where)
    elif shape.startswith("="):
        if value not in shape[1:].split("|"):
            yield f"{where}: {value!r} is none of {shape[1:]}"
    elif shape != "object" and (
        not isinstance(value, _PLAIN[shape]) or (isinstance(value, bool) and shape != "boolean")
    ):
        yield f"{where}: {value!r} is no {shape}"


def _list_faults(shape: Any, value: Any, where: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{where}: {value!r} is no list"
        return
    for number, item in enumerate(value):
        yield from faults(shape, item, f"{where}[{number}]")


def _object_faults(shape: dict[str, Any], value: Any, where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where}: {value!r} is no object"
        return
    if "*" in shape:
        for key, item in value.items():
            yield from faults(shape["*"], item, f"{where}.{key}")
        return
    known = fields(shape)
    for name, (inner, needed) in known.items():
        if name in value:
            yield from faults(inner, value[name], f"{where}.{name}")
        elif needed:
            yield f"{where}: {name} is missing"
    for name in set(value) - set(known):
        yield f"{where}: there is no {name}"


def fields(shape: Any) -> dict[str, tuple[Any, bool]]:
    """The fields of an object or of a named type: their shapes, and whether they must be there."""
    if isinstance(shape, str):
        shape = TYPES[shape.lstrip("@")]
        if isinstance(shape, str):
            return fields(shape)
    found: dict[str, tuple[Any, bool]] = {}
    for name, inner in shape.items():
        if name == "+":
            for other in inner:
                found |= fields(f"@{other}")
        else:
            found[name.rstrip("!")] = (inner, name.endswith("!"))
    return found
