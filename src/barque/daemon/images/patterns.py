"""The `reference` filter: shell patterns over familiar names, by Go's `path.Match`. Pure."""

from __future__ import annotations

import re

from barque import errors
from barque.oci import reference


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """`*` and `?` do not cross a slash. Raises InvalidArgument for a malformed pattern."""
    out, position = [], 0
    while position < len(pattern):
        character = pattern[position]
        position += 1
        if character == "*":
            out.append("[^/]*")
        elif character == "?":
            out.append("[^/]")
        elif character == "\\":
            out.append(re.escape(pattern[position : position + 1]) or _malformed(pattern))
            position += 1
        elif character == "[":
            end = pattern.find("]", position + 1)
            body = pattern[position:end] if end > 0 else _malformed(pattern)
            negated = body.startswith("^")
            out.append(f"[{'^' if negated else ''}{_class(body.removeprefix('^'))}]")
            position = end + 1
        else:
            out.append(re.escape(character))
    try:
        return re.compile("".join(out))
    except re.error:
        return re.compile(_malformed(pattern))


def _class(body: str) -> str:
    return "".join(c if c == "-" else re.escape(c) for c in body)


def _malformed(pattern: str) -> str:
    raise errors.InvalidArgument(f"invalid filter 'reference={pattern[:100]}': malformed pattern")


def matches(pattern: str, familiar: str) -> bool:
    """Whether `pattern` fits the name with its tag, or the name alone."""
    compiled = compile_pattern(pattern)
    try:
        alone = reference.parse(familiar).familiar_name
    except errors.InvalidArgument:
        alone = familiar
    return bool(compiled.fullmatch(familiar) or compiled.fullmatch(alone))
