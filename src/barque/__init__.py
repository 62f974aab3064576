"""Barque: the Docker Engine stack in Python. ARCHITECTURE.md is the map.

For programs, the client that the command line uses:

    import barque

    with barque.Client() as client:
        client.containers.start("web")
"""

__version__ = "0.1.0"
__all__ = ("AsyncClient", "Client", "Tls", "__version__", "errors")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque import errors
    from barque.client.client import Client
    from barque.client.connection import Tls
    from barque.sdk.asynchronous import AsyncClient

_HOMES = {
    "AsyncClient": "barque.sdk.asynchronous",
    "Client": "barque.client.client",
    "Tls": "barque.client.connection",
}


def __getattr__(name: str) -> object:
    """Loaded when first named: every program of ours imports this package."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(__import__(_HOMES[name], fromlist=[name]), name)
