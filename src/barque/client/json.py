"""JSON without the `json` package, which costs a quarter of a short command's time (mostly `re`).

The C scanner and encoder behind `json` are used directly where the interpreter has them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

WHITE_SPACE = " \t\r\n"


class _Context:
    """What `_json.make_scanner` asks of a decoder."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    memo: dict[str, str] = {}

    @staticmethod
    def parse_constant(text: str) -> Any:
        raise ValueError(f"{text} is not JSON")


def _refuse(value: object) -> Any:
    raise TypeError(f"{type(value).__name__} is not JSON")


def _build() -> tuple[Callable[[str, int], tuple[Any, int]], Callable[[Any], str]]:
    try:
        import _json

        scan = _json.make_scanner(_Context)  # type: ignore[arg-type]
        encode = _json.make_encoder(
            None, _refuse, _json.encode_basestring_ascii, None, ":", ",", False, False, False
        )
        return scan, lambda value: "".join(encode(value, 0))
    except (ImportError, AttributeError, TypeError):
        return _build_slowly()


def _build_slowly() -> tuple[Callable[[str, int], tuple[Any, int]], Callable[[Any], str]]:
    import json

    decoder = json.JSONDecoder(strict=True)
    return decoder.raw_decode, lambda value: json.dumps(
        value, separators=(",", ":"), allow_nan=False
    )


_scan, dumps = _build()


def loads(text: str | bytes) -> Any:
    """The one document in `text`. Raises ValueError."""
    value, rest = first(text)
    if rest.strip(WHITE_SPACE):
        raise ValueError(f"more than one JSON document: {rest[:40]!r}")
    return value


def first(text: str | bytes) -> tuple[Any, str]:
    """The first document in `text`, and what follows it. Raises ValueError."""
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    text = text.lstrip(WHITE_SPACE)
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        raise ValueError(f"not JSON: {text[:40]!r}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except SystemError:  # the scanner wants to raise json's own error, and json is not loaded
        return _first_slowly(text)
    return value, text[end:]


def _first_slowly(text: str) -> tuple[Any, str]:
    import json

    value, end = json.JSONDecoder(strict=True).raw_decode(text)
    return value, text[end:]
