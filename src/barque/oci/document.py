"""JSON documents for the hot programs: the interpreter's own scanner and encoder, without `json`.

Importing `json` costs more than everything `barque-runc state` does, nearly all of it for the
regular expressions of its pure Python half. Its C half needs none of that. Where an interpreter
lacks it, `json` itself does the work.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LONGEST = 1 << 24  # bytes; a config.json is some 20 KB


def parse(raw: bytes) -> Any:
    """The value of a JSON document in UTF-8. ValueError says what is wrong with it."""
    if len(raw) > LONGEST:
        raise ValueError(f"larger than {LONGEST} bytes")
    text = raw.decode()
    start = len(text) - len(text.lstrip(" \t\r\n"))
    try:
        value, end = _scan(text, start)
    except StopIteration as error:
        raise ValueError(f"no JSON value at character {error.value}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except SystemError:  # the scanner wants to raise json's own error, and json is not loaded
        raise _reason(text) from None
    if text[end:].strip(" \t\r\n"):
        raise ValueError(f"text after the JSON value at character {end}")
    return value


def _reason(text: str) -> ValueError:
    import json

    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        return ValueError(str(error))
    raise AssertionError("json takes what its scanner refuses")


def dump(value: Any) -> bytes:
    """The document of `value` on one line."""
    return "".join(_encode(value, 0)).encode()


def dump_indented(value: Any, indent: str = "  ", level: int = 0) -> str:
    """The document of `value` for people, as Go's MarshalIndent writes it."""
    inner, outer = f"\n{indent * (level + 1)}", f"\n{indent * level}"
    if isinstance(value, dict) and value:
        members = (f"{_text(k)}: {dump_indented(v, indent, level + 1)}" for k, v in value.items())
        return "{" + inner + f",{inner}".join(members) + outer + "}"
    if isinstance(value, list | tuple) and value:
        items = (dump_indented(v, indent, level + 1) for v in value)
        return "[" + inner + f",{inner}".join(items) + outer + "]"
    return _text(value)


def _text(value: Any) -> str:
    return "".join(_encode(value, 0))


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _refuse_type(value: Any) -> Any:
    raise TypeError(f"{type(value).__name__} has no JSON form")


class _Context:
    """What the C scanner asks its context for."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = staticmethod(_refuse_constant)
    memo: dict[str, str] = {}


def _machinery() -> tuple[Any, Any]:
    try:
        import _json

        context: Any = _Context()

        encode = _json.make_encoder(
            None, _refuse_type, _json.encode_basestring, None, ":", ",", False, False, False
        )
        return _json.make_scanner(context), encode
    except (ImportError, AttributeError, TypeError):
        import json

        decoder = json.JSONDecoder(parse_constant=_refuse_constant)
        separators = (",", ":")
        return decoder.raw_decode, lambda value, _: (json.dumps(value, separators=separators),)


_scan, _encode = _machinery()
