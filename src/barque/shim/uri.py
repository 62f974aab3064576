"""Where a process's standard streams go, as containerd's requests name it.

Source: containerd's runtime v2 documentation ("I/O", "Logging"), docs/boundaries.md section 3.

    ""              nowhere          /path        a fifo
    file:///path    appended to      binary:///path?key=value     a logging program
    barque:///path?log=...&path=...  the shim's own socket and log
"""

from __future__ import annotations

from barque.errors import InvalidArgument, Unsupported
from barque.oci import document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

NULL: Final = "null"
FIFO: Final = "fifo"
FILE: Final = "file"
BINARY: Final = "binary"
BARQUE: Final = "barque"
SCHEMES: Final = (FIFO, FILE, BINARY, BARQUE)
LOG_KINDS: Final = ("json-file", "local", "none")
MODES: Final = ("blocking", "non-blocking")
BUFFER_BYTES: Final = 1 << 20  # Docker's, where max-buffer-size is not given
NUMBER_DIGITS_MAX: Final = 18


class Address:
    """One parsed stream address; `options` in the order given, the last of a key counts."""

    __slots__ = ("kind", "options", "path")

    def __init__(self, kind: str, path: str, options: dict[str, str]) -> None:
        self.kind = kind
        self.path = path
        self.options = options


def decode(text: str, plus: bool = False) -> str:
    """Percent-decoding; in a query `plus` is a space. Raises InvalidArgument."""
    if plus:
        text = text.replace("+", " ")
    first, *rest = text.encode().split(b"%")
    out = first
    try:
        for part in rest:
            out += bytes((int(part[:2].decode(), 16),)) + part[2:]
            if len(part) < 2:
                raise ValueError("short")
        value = out.decode()
    except ValueError as error:
        raise InvalidArgument(f"bad percent-encoding in {text!r}") from error
    if "\0" in value:
        raise InvalidArgument(f"NUL byte in {text!r}")
    return value


def parse(text: str) -> Address:
    """Raises InvalidArgument, or Unsupported for a scheme that is not known."""
    if not text:
        return Address(NULL, "", {})
    if "://" not in text:
        if not text.startswith("/") or "\0" in text:
            raise InvalidArgument(f"stdio path {text!r} is not absolute")
        return Address(FIFO, text, {})
    scheme, _, rest = text.partition("://")
    if scheme not in SCHEMES:
        raise Unsupported(f"stdio scheme {scheme!r} is not supported")
    raw, _, query = rest.partition("?")
    path = decode(raw)
    if not path.startswith("/"):
        raise InvalidArgument(f"stdio path {path!r} is not absolute")
    options: dict[str, str] = {}
    for pair in query.split("&") if query else ():
        key, _, value = pair.partition("=")
        options[decode(key, plus=True)] = decode(value, plus=True)
    return Address(scheme, path, options)


class BarqueOptions:
    """The options of a `barque://` address, checked."""

    __slots__ = (
        "attributes",
        "buffer",
        "log",
        "log_path",
        "max_files",
        "max_size",
        "packed",
        "stdin",
        "stdin_once",
    )

    def __init__(self, options: dict[str, str]) -> None:
        """Raises InvalidArgument for an option that is not known or not in range."""
        rest = dict(options)
        self.log = rest.pop("log", "none")
        if self.log not in LOG_KINDS:
            raise InvalidArgument(f"log kind {self.log!r} is not one of {', '.join(LOG_KINDS)}")
        self.log_path = rest.pop("path", "")
        if self.log != "none" and not self.log_path.startswith("/"):
            raise InvalidArgument(f"log path {self.log_path!r} is not absolute")
        self.max_size = _number(rest, "max-size", 0)
        self.max_files = max(1, _number(rest, "max-file", 1))
        self.packed = _flag(rest, "compress")
        self.attributes = _attributes(rest.pop("labels", ""))
        if self.log == "local" and self.attributes:
            raise Unsupported("labels in a log of kind 'local' are not supported")
        mode = rest.pop("mode", "blocking")
        if mode not in MODES:
            raise InvalidArgument(f"stdio option mode={mode!r} is not one of {', '.join(MODES)}")
        self.buffer = _number(rest, "max-buffer-size", BUFFER_BYTES)
        if mode == "blocking":
            self.buffer = 0  # bytes that may wait for a log that does not hold its container back
        self.stdin = _flag(rest, "stdin")
        self.stdin_once = _flag(rest, "stdin-once")
        if rest:
            raise InvalidArgument(f"unknown stdio option {next(iter(rest))!r}")


def _number(options: dict[str, str], key: str, default: int) -> int:
    text = options.pop(key, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit()) or len(text) > NUMBER_DIGITS_MAX:
        raise InvalidArgument(f"stdio option {key}={text!r} is not a number")
    return int(text)


def _flag(options: dict[str, str], key: str) -> bool:
    text = options.pop(key, "")
    if text not in ("", "0", "1"):
        raise InvalidArgument(f"stdio option {key}={text!r} is neither 0 nor 1")
    return text == "1"


def _attributes(text: str) -> dict[str, str]:
    if not text:
        return {}
    try:
        value: Any = document.parse(text.encode())
    except ValueError as error:
        raise InvalidArgument(f"stdio option labels is not JSON: {error}") from error
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise InvalidArgument("stdio option labels is not an object of strings")
    return value
