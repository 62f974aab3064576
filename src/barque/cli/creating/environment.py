"""-e, --env-file, -l, --label-file: from the command line, files and our own environment."""

from __future__ import annotations

import posix

from barque import errors
from barque.cli.session import variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.cli.flags import Options

MAX_LINE_BYTES = 64 << 10


def variables(options: Options) -> list[str]:
    """NAME=value, those of files first; a bare NAME that we have not ourselves unsets it."""
    found = []
    for path in options.all("env-file"):
        for line in _lines(path):
            if "=" in line:
                found.append(line)
            elif line.encode() in posix.environ:
                found.append(f"{line}={variable(line)}")
    for text in options.all("env"):
        name, equals, _ = text.partition("=")
        if not name:
            raise options.invalid("env", text, f"invalid environment variable: {text}")
        inherited = not equals and name.encode() in posix.environ
        found.append(f"{name}={variable(name)}" if inherited else text)
    return found


def apply(options: Options, config: dict[str, Any]) -> None:
    if found := variables(options):
        config["Env"] = found
    labels = [line for path in options.all("label-file") for line in _lines(path)]
    for text in options.all("label"):
        if not text.partition("=")[0].strip():
            raise options.invalid("label", text, f"invalid label '{text}': empty name")
        labels.append(text)
    if labels:
        config["Labels"] = dict(_pair(text) for text in labels)


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _lines(path: str) -> list[str]:
    """Lines with a name, without comments. Raises InvalidArgument."""
    try:
        with open(path, "rb") as file:
            raw = file.read()
    except OSError as error:
        raise errors.InvalidArgument(
            f"open {path}: {(error.strerror or 'cannot be read').lower()}"
        ) from None
    found = []
    for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            text = line.removesuffix(b"\r").decode().lstrip()
        except UnicodeDecodeError:
            raise errors.InvalidArgument(
                f"invalid env file ({path}): invalid utf8 bytes at line {number}"
            ) from None
        if text and text[0] != "#":
            found.append(_checked(text, path))
    return found


def _checked(text: str, path: str) -> str:
    name, equals, _ = text.partition("=")
    if not name:
        raise errors.InvalidArgument(
            f"invalid env file ({path}): no variable name on line '{text}'"
        )
    if name != name.strip() or any(c.isspace() for c in name):
        raise errors.InvalidArgument(
            f"invalid env file ({path}): variable '{name}' contains whitespaces"
        )
    return text if equals else text.strip()
