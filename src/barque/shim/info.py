"""`-info`: what this shim is, for containerd's introspection (api/types/introspection.proto)."""

from __future__ import annotations

from barque import __version__
from barque.shim.wire import MESSAGE, STRING, Field, Table, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

VERSION: Final = Table("containerd.types.RuntimeVersion", Field(1, "version", STRING))
INFO: Final = Table(
    "containerd.types.RuntimeInfo", Field(1, "name", STRING), Field(2, "version", MESSAGE, VERSION)
)


def describe() -> bytes:
    """An encoded RuntimeInfo."""
    return encode(INFO, {"name": "io.containerd.barque.v2", "version": {"version": __version__}})
