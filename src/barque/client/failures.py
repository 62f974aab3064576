"""From what a daemon answers, or does not, to the kinds of `barque.errors`: the client's edge."""

from __future__ import annotations

import errno

from barque import errors
from barque.client import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.client.connection import Host

KINDS = {
    304: errors.NotModified,
    400: errors.InvalidArgument,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    429: errors.ResourceExhausted,
    501: errors.Unsupported,
    503: errors.Unavailable,
    507: errors.ResourceExhausted,
}
PREFIX = "Error response from daemon: "
NO_ROUTE = "page not found"


def message(status: int, body: bytes) -> str:
    """The daemon's own words: `{"message": ...}`, or plain text from an old one or a proxy."""
    try:
        document = json.loads(body)
        text = document.get("message", "") if isinstance(document, dict) else ""
    except ValueError:
        text = ""
    plain = body.decode("utf-8", "replace").strip()
    return text.strip() or plain or f"status {status} without a message"


def refusal(status: int, body: bytes) -> errors.BarqueError:
    """The daemon answered with an error."""
    if status == 404 and message(status, body) == NO_ROUTE:
        return errors.Unsupported(f"{PREFIX}{NO_ROUTE}: this daemon cannot do that")
    return KINDS.get(status, errors.BarqueError)(PREFIX + message(status, body))


def unreachable(host: Host, error: OSError) -> errors.BarqueError:
    """Nobody answers at `host`, in the words that scripts look for."""
    if type(error).__module__ == "ssl":  # whose numbers are not the kernel's
        return errors.Unavailable(f"error during connect: {host.text}: {error.strerror or error}")
    if error.errno in (errno.EACCES, errno.EPERM):
        return errors.Forbidden(
            "permission denied while trying to connect to the Docker daemon socket at "
            f"{host.text}: {(error.strerror or '').lower()}"
        )
    if error.errno in (errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR):
        return errors.Unavailable(
            f"Cannot connect to the Docker daemon at {host.text}. Is the docker daemon running?"
        )
    detail = (error.strerror or str(error)).lower()
    return errors.Unavailable(f"error during connect: {host.text}: {detail}")
