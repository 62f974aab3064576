"""--filter key=value, several times: what the API takes as a map of lists."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.cli.flags import Options


def parse(options: Options, name: str = "filter") -> dict[str, list[str]]:
    """Raises UsageError for one without an equals sign."""
    found: dict[str, list[str]] = {}
    for text in options.all(name):
        key, equals, value = text.partition("=")
        if not equals:
            raise options.invalid(name, text, "bad format of filter (expected name=value)")
        found.setdefault(key.lower().strip(), []).append(value.strip())
    return found
