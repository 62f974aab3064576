"""From method and path to a handler, and from a kind of error to a status."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from barque import errors
from barque.daemon.http.messages import Handler, Route

HTTP_STATUS: Mapping[type[BaseException], int] = {
    errors.NotModified: 304,
    errors.InvalidArgument: 400,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Unsupported: 501,
    errors.Unavailable: 503,
}

_PARAMETER = re.compile(r"\{(\w+)(:path)?\}")


def http_status(error: BaseException) -> int:
    return next((HTTP_STATUS[kind] for kind in type(error).__mro__ if kind in HTTP_STATUS), 500)


def _pattern(path: str) -> re.Pattern[str]:
    """`/images/{name:path}/json` as a regular expression."""
    out, at = "", 0
    for match in _PARAMETER.finditer(path):
        out += re.escape(path[at : match.start()])
        out += f"(?P<{match[1]}>{'.+' if match[2] else '[^/]+'})"
        at = match.end()
    return re.compile(out + re.escape(path[at:]))


class Router:
    """Routes in buckets by their first segment; within one, the order in which they were given."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._buckets: dict[str, list[tuple[str, re.Pattern[str], Handler]]] = {}
        for route in routes:
            first = route.path.split("/", 2)[1]
            entry = (route.method, _pattern(route.path), route.handler)
            self._buckets.setdefault(first, []).append(entry)

    def find(self, method: str, path: str) -> tuple[Handler, dict[str, str]]:
        """Raises NotFound ("page not found") where no route has this method and path."""
        first = path.split("/", 2)[1] if path.startswith("/") else path
        for known, pattern, handler in self._buckets.get(first, ()):
            if known == method and (match := pattern.fullmatch(path)):
                return handler, match.groupdict()
        raise errors.NotFound("page not found")
