"""What templates do with values: fields, truth, printing, and the functions.

Sources: Go's documentation of text/template and fmt; Docker's of "Format command output".
Values are those of JSON, and rows of lists (`cli.tables.Row`).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# null in an answer is an empty list or map of the daemon's language, or a pointer to nothing; JSON
# does not say which. These keys are maps, these pointers; all others are lists.
_MAPS = frozenset(
    [
        "Labels",
        "Volumes",
        "Options",
        "StorageOpt",
        "Sysctls",
        "Tmpfs",
        "Annotations",
        "DriverOpts",
        "Ports",
        "Networks",
        "Config",
        "ExposedPorts",
        "Containers",
        "Status",
        "Plugins",
    ]
)
_POINTERS = frozenset(
    [
        "MemorySwappiness",
        "OomKillDisable",
        "PidsLimit",
        "Init",
        "SizeRw",
        "SizeRootFs",
        "Health",
        "IPAMConfig",
        "StopTimeout",
        "Healthcheck",
        "UsageData",
        "Error",
    ]
)


_GO_NAMES = {
    "ID": "Id",
    "CPUShares": "CpuShares",
    "CPUPeriod": "CpuPeriod",
    "CPUQuota": "CpuQuota",
    "CPURealtimePeriod": "CpuRealtimePeriod",
    "CPURealtimeRuntime": "CpuRealtimeRuntime",
    "CPUCount": "CpuCount",
    "CPUPercent": "CpuPercent",
    "NanoCPUs": "NanoCpus",
    "DNS": "Dns",
    "DNSOptions": "DnsOptions",
    "DNSSearch": "DnsSearch",
}
"""Docker's own types have these names for what the API calls otherwise: templates may say both."""


class Missing:
    """The value of a key that a map has not, or null, knowing how it is printed."""

    def __init__(self, text: str = "<no value>") -> None:
        self.text = text


class Strings(dict[str, str]):
    """A map of nothing but texts: what it has not is empty."""


def _null(name: str) -> Missing:
    if name in _POINTERS:
        return Missing("<nil>")
    return Missing("map[]" if name in _MAPS else "[]")


def field(value: Any, name: str, untyped: bool = False) -> Any:
    """`value.name`. Raises KeyError or TypeError with Go's words, `untyped` for parts of JSON."""
    if isinstance(value, Strings):
        return value.get(name, "")
    if isinstance(value, dict):
        if name not in value and name in _POINTERS:
            return Missing("<nil>")
        key = name if name in value else _GO_NAMES.get(name, name)
        if key not in value:
            raise KeyError(f'map has no entry for key "{name}"')
        found = value[key]
        return _null(name) if found is None else found
    of_row = getattr(value, "template_field", None)
    if of_row is not None:
        try:
            return of_row(name)
        except KeyError:
            raise KeyError(f"can't evaluate field {name} in type *{value.kind}") from None
    if isinstance(value, Missing) or value is None:
        raise TypeError(f"nil pointer evaluating interface {{}}.{name}")
    kind = "interface {}" if untyped else _type(value)
    raise TypeError(f"can't evaluate field {name} in type {kind}")


def _type(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "[]interface {}"
    names = {bool: "bool", int: "int", float: "float64", str: "string", dict: "map"}
    return names.get(type(value)) or str(getattr(value, "kind", "interface {}"))


def true(value: Any) -> bool:
    """Go's truth: not the zero value, not empty."""
    return bool(value) if not isinstance(value, Missing) else False


def iterate(value: Any) -> list[tuple[Any, Any]]:
    """(key or index, value) of a map in the order of its keys, a list or a count, or TypeError."""
    if isinstance(value, dict):
        return [(key, value[key]) for key in sorted(value)]
    if isinstance(value, (list, tuple)):
        return list(enumerate(value))
    if isinstance(value, Missing) or value is None:
        return []
    if isinstance(value, int) and not isinstance(value, bool):
        return [(n, n) for n in range(value)]
    raise TypeError(f"range can't iterate over {shown(value)}")


def shown(value: Any) -> str:
    """As fmt's %v."""
    if isinstance(value, str):
        return value
    if value is True or value is False:
        return "true" if value else "false"
    if value is None:
        return "<nil>"
    if isinstance(value, Missing):
        return value.text
    if isinstance(value, dict):
        pairs = (
            f"{key}:{shown(value[key]) if value[key] != {} else '{}'}" for key in sorted(value)
        )
        return "map[" + " ".join(pairs) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(map(shown, value)) + "]"
    if isinstance(value, float):
        return _float(value)
    return str(value)


def _float(value: float) -> str:
    text = repr(value)
    if "e" in text or 1e-4 <= abs(value) < 1e21 or value == 0:
        return text.removesuffix(".0")
    return f"{value:e}"


def _json(value: Any) -> str:
    from barque.cli.json_text import compact, escaped

    if isinstance(value, Missing):
        return "null"
    document = getattr(value, "document", None)
    return escaped(compact(document())) if document is not None else compact(value)


def _title(text: str) -> str:
    return "".join(
        c.upper() if not n or not (text[n - 1].isalnum() or text[n - 1] in "_'") else c
        for n, c in enumerate(text)
    )


def _truncate(text: str, width: int) -> str:
    return text[:width]


def _pad(text: str, before: int, after: int) -> str:
    return " " * before + text + " " * after if text else text


def _split(text: str, separator: str) -> list[str]:
    return text.split(separator) if separator else list(text)


def _join(items: Any, separator: str) -> str:
    if isinstance(items, Missing):
        return ""
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise TypeError(f"wrong type for value; expected []string; got {_type(items)}")
    return separator.join(items)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, (list, str)):
            if not isinstance(key, int):
                raise TypeError(f"cannot index slice/array with type {_type(key)}")
            if not 0 <= key < len(value):
                raise IndexError(f"index out of range: {key}")
            value = value[key] if isinstance(value, list) else ord(value[key])
        elif isinstance(value, dict):
            texts = all(isinstance(item, str) for item in value.values())
            value = value.get(key, "" if texts else Missing())
        elif isinstance(value, Missing):
            value = Missing()
        else:
            raise TypeError(f"can't index item of type {_type(value)}")
    return value


def _slice(value: Any, *bounds: int) -> Any:
    low = bounds[0] if bounds else 0
    high = bounds[1] if len(bounds) > 1 else len(value)
    if not 0 <= low <= len(value) or not low <= high <= len(value):
        raise IndexError(f"index out of range: {high if low <= len(value) else low}")
    return value[low:high]


def _length(value: Any) -> int:
    if isinstance(value, Missing):
        return 0
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, (list, dict)):
        return len(value)
    raise TypeError(f"len of type {_type(value)}")


def _equal(first: Any, *others: Any) -> bool:
    for other in others:
        if isinstance(first, (str, bool)) != isinstance(other, (str, bool)) and not (
            first is None or other is None or isinstance(first, Missing)
        ):
            raise TypeError("incompatible types for comparison")
    return any(type(first) is type(other) and first == other for other in others)


def _compare(name: str) -> Callable[[Any, Any], bool]:
    def run(first: Any, second: Any) -> bool:
        if isinstance(first, str) != isinstance(second, str):
            raise TypeError("incompatible types for comparison")
        if name in ("lt", "le"):
            return bool(first < second or (name == "le" and first == second))
        return bool(first > second or (name == "ge" and first == second))

    return run


def _print(*values: Any) -> str:
    """fmt.Sprint: a space between two where neither is a text."""
    text = ""
    for n, value in enumerate(values):
        if n and not isinstance(value, str) and not isinstance(values[n - 1], str):
            text += " "
        text += shown(value)
    return text


def _println(*values: Any) -> str:
    return " ".join(map(shown, values)) + "\n"


def _printf(form: str, *values: Any) -> str:
    """fmt.Sprintf: the verbs v d s q x X t f g e c o b %, flags, width and precision."""
    out, at, left = [], 0, list(values)
    while at < len(form):
        if form[at] != "%":
            out.append(form[at])
            at += 1
            continue
        end = at + 1
        while end < len(form) and form[end] in "+-# 0123456789.":
            end += 1
        verb = form[end : end + 1]
        if verb == "%":
            out.append("%")
        elif not left:
            out.append(f"%!{verb}(MISSING)" if verb else "%!(NOVERB)")
        else:
            out.append(_verb(form[at + 1 : end], verb, left.pop(0)))
        at = end + 1
    if left:
        extra = ", ".join(f"{_type(value)}={shown(value)}" for value in left)
        out.append(f"%!(EXTRA {extra})")
    return "".join(out)


def _verb(flags: str, verb: str, value: Any) -> str:
    width, _, precision = flags.lstrip("+-# 0").partition(".")
    text = _converted(verb, value, precision, flags)
    if "-" in flags[: len(flags) - len(flags.lstrip("+-# 0"))]:
        return text.ljust(int(width or 0))
    if flags.startswith("0") and isinstance(value, (int, float)):
        return text.zfill(int(width or 0))
    return text.rjust(int(width or 0))


def _converted(verb: str, value: Any, precision: str, flags: str) -> str:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if verb == "v" or (verb == "s" and not number) or (verb == "t" and isinstance(value, bool)):
        text = shown(value)
        return text[: int(precision)] if precision and verb == "s" else text
    if verb == "q" and isinstance(value, str):
        from barque.cli.units import quoted

        return quoted(value)
    if verb == "d" and isinstance(value, int) and number:
        return f"{value:+d}" if "+" in flags else str(value)
    if verb in "xX" and isinstance(value, str):
        text = value.encode().hex()
        return text.upper() if verb == "X" else text
    if verb in "xXob" and isinstance(value, int) and number:
        return format(value, verb)
    if verb == "c" and isinstance(value, int):
        return chr(value)
    if verb in "fge" and number:
        return format(float(value), f".{precision or 6}{verb}")
    return f"%!{verb}({_type(value)}={shown(value)})"


def _html(*values: Any) -> str:
    text = _print(*values)
    for character, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&#34;")):
        text = text.replace(character, name)
    return text.replace("'", "&#39;")


def _urlquery(*values: Any) -> str:
    from barque.client.http import quote

    return quote(_print(*values)).replace("%20", "+")


def _nothing(*values: Any) -> Any:
    """`and` and `or`, which the template evaluates itself because they may stop early."""
    raise AssertionError


# name -> (function, least and most arguments; -1: any number)
FUNCTIONS: dict[str, tuple[Callable[..., Any], int, int]] = {
    "and": (_nothing, 1, -1),
    "or": (_nothing, 1, -1),
    "not": (lambda value: not true(value), 1, 1),
    "eq": (_equal, 2, -1),
    "ne": (lambda first, second: not _equal(first, second), 2, 2),
    "lt": (_compare("lt"), 2, 2),
    "le": (_compare("le"), 2, 2),
    "gt": (_compare("gt"), 2, 2),
    "ge": (_compare("ge"), 2, 2),
    "len": (_length, 1, 1),
    "index": (_index, 1, -1),
    "slice": (_slice, 1, 3),
    "print": (_print, 0, -1),
    "printf": (_printf, 1, -1),
    "println": (_println, 0, -1),
    "html": (_html, 1, -1),
    "urlquery": (_urlquery, 1, -1),
    "json": (_json, 1, 1),
    "split": (_split, 2, 2),
    "join": (_join, 2, 2),
    "title": (_title, 1, 1),
    "lower": (lambda text: text.lower(), 1, 1),
    "upper": (lambda text: text.upper(), 1, 1),
    "pad": (_pad, 3, 3),
    "truncate": (_truncate, 2, 2),
}
