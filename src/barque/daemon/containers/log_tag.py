"""What a container's lines are called elsewhere: the template `tag` of a log's options.

Of Go's templates it has what Docker documents for tags: the names of `NAMES`, `index` of a label,
`(.ExtraAttributes nil)` of a chosen label or variable, and functions behind `|`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from barque import errors
from barque.daemon.containers.record import Record

DEFAULT = "{{.ID}}"
MAX_CHARS = 1024
NAMES: Mapping[str, Callable[[Record], str]] = {
    "ID": lambda record: record.short_id,
    "FullID": lambda record: record.id,
    "Name": lambda record: record.name,
    "ImageID": lambda record: record.image.removeprefix("sha256:")[:12],
    "ImageFullID": lambda record: record.image,
    "ImageName": lambda record: record.config.image,
    "DaemonName": lambda record: "barque",
    "Command": lambda record: " ".join((record.path, *record.args)),
    "ContainerID": lambda record: record.id,
    "ContainerName": lambda record: f"/{record.name}",
    "ContainerImageID": lambda record: record.image,
    "ContainerImageName": lambda record: record.config.image,
    "ContainerEntrypoint": lambda record: record.path,
}
FUNCTIONS: Mapping[str, Callable[[str], str]] = {"upper": str.upper, "lower": str.lower}
_ACTION = re.compile(r"\{\{(-\s)?\s*(.*?)\s*(\s-)?\}\}", re.DOTALL)
_NAME = re.compile(r"\.(\w+)")
_LABEL = re.compile(r'index\s+\.ContainerLabels\s+"([^"\\]*)"')
_EXTRA = re.compile(r"\(\.ExtraAttributes nil\)\.(\w+)")


def check(template: str) -> None:
    """Raises InvalidArgument, or Unsupported for what Go's templates have beyond this."""
    if len(template) > MAX_CHARS:
        raise errors.InvalidArgument(f"log tag is longer than {MAX_CHARS} characters")
    for match in _ACTION.finditer(template):
        source, _, functions = match[2].partition("|")
        known = _LABEL.fullmatch(source.strip()) or _EXTRA.fullmatch(source.strip())
        if name := _NAME.fullmatch(source.strip()):
            known = name if name[1] in NAMES else None
        wanted = [word.strip() for word in functions.split("|")] if functions else []
        if known is None or not FUNCTIONS.keys() >= set(wanted) or match[1] or match[3]:
            raise errors.Unsupported(f"log tag {match[0]} is not there yet")
    if "{{" in _ACTION.sub("", template):
        raise errors.InvalidArgument(f"log tag {template!r} has an action that does not end")


def tag(template: str, record: Record, attributes: Mapping[str, str]) -> str:
    """`attributes`: the labels and variables that each line carries."""

    def shown(match: re.Match[str]) -> str:
        source, _, functions = match[2].partition("|")
        text = _value(source.strip(), record, attributes)
        for word in functions.split("|") if functions else ():
            text = FUNCTIONS.get(word.strip(), str)(text)
        return text

    return _ACTION.sub(shown, (template or DEFAULT)[:MAX_CHARS])


def _value(source: str, record: Record, attributes: Mapping[str, str]) -> str:
    if found := _LABEL.fullmatch(source):
        return record.config.labels.get(found[1], "")
    if found := _EXTRA.fullmatch(source):
        return attributes.get(found[1], "<no value>")
    found = _NAME.fullmatch(source)
    return NAMES[found[1]](record) if found and found[1] in NAMES else source
