"""The endpoints of distribution-spec 1.1: who may, what is asked for, what came of it."""

from __future__ import annotations

import re

from barque import errors
from barque.registryd.access import Access
from barque.registryd.answers import Endpoint, Endpoints
from barque.registryd.http import Answer, Request
from barque.registryd.metrics import Metrics
from barque.registryd.names import check_name
from barque.registryd.refusals import Refusal

API_VERSION = {"Docker-Distribution-Api-Version": "registry/2.0"}
_PATTERNS = (
    ("tags", re.compile(r"/v2/(?P<name>.+)/tags/list")),
    ("manifest", re.compile(r"/v2/(?P<name>.+)/manifests/(?P<reference>[^/]+)")),
    ("start", re.compile(r"/v2/(?P<name>.+)/blobs/uploads/?")),
    ("upload", re.compile(r"/v2/(?P<name>.+)/blobs/uploads/(?P<id>[^/]+)")),
    ("blob", re.compile(r"/v2/(?P<name>.+)/blobs/(?P<digest>[^/]+)")),
    ("referrers", re.compile(r"/v2/(?P<name>.+)/referrers/(?P<digest>[^/]+)")),
)
WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class Api:
    """`endpoints` answer by what is asked for and by the method: see `reading`, `writing`."""

    def __init__(
        self,
        endpoints: Endpoints,
        access: Access,
        metrics: Metrics,
        *,
        read_only: bool = False,
        deletes: bool = True,
    ) -> None:
        self._endpoints, self._access, self._metrics = endpoints, access, metrics
        self._read_only, self._deletes = read_only, deletes

    async def answer(self, request: Request) -> Answer:
        """The handler of the server: refusals become answers here and nowhere else."""
        what = "other"
        try:
            what, answer = await self._answer(request)
        except Refusal as refusal:
            answer = _refused(refusal)
        except errors.ResourceExhausted as error:  # the engine's disk is full
            answer = _refused(Refusal("UNKNOWN", str(error), status=507))
        except errors.BarqueError as error:
            answer = _refused(Refusal("UNAVAILABLE", str(error)))
        except OSError as error:
            if isinstance(error, ConnectionError | TimeoutError):
                raise
            full = error.errno in {28, 122}  # ENOSPC, EDQUOT
            text = "no space left on device" if full else (error.strerror or str(error)).lower()
            answer = _refused(Refusal("UNKNOWN", text, status=507 if full else 500))
        answer.headers = {**API_VERSION, **answer.headers}
        self._metrics.count(request.method, what, answer.status)
        return answer

    async def _answer(self, request: Request) -> tuple[str, Answer]:
        if request.path in {"/v2", "/v2/"}:
            await self._access.check(request, "", "")
            return "base", Answer(200, {"Content-Type": "application/json"}, b"{}")
        if self._access.tokens and request.path == self._access.tokens.path:
            return "token", await self._access.give(request)
        if request.path == "/v2/_catalog":
            await self._access.check(request, "registry:catalog:*", "")
            return "catalog", await self._endpoint("catalog", request)(request)
        for what, pattern in _PATTERNS:
            if match := pattern.fullmatch(request.path):
                return what, await self._found(request, what, match.groupdict())
        raise Refusal("UNSUPPORTED", "page not found", status=404)

    async def _found(self, request: Request, what: str, parts: dict[str, str]) -> Answer:
        name = check_name(parts.pop("name"))
        writes = request.method in WRITES
        actions = "delete" if request.method == "DELETE" else "pull,push" if writes else "pull"
        await self._access.check(request, name, actions)
        if writes and self._read_only:
            raise Refusal("UNSUPPORTED", "this registry is read-only")
        if request.method == "DELETE" and what != "upload" and not self._deletes:
            raise Refusal("UNSUPPORTED", "this registry deletes nothing")
        return await self._endpoint(what, request)(request, name, **parts)

    def _endpoint(self, what: str, request: Request) -> Endpoint:
        endpoint = self._endpoints.get((what, request.method))
        if endpoint is None:
            raise Refusal("UNSUPPORTED", f"{request.method} is not supported here")
        return endpoint


def _refused(refusal: Refusal) -> Answer:
    headers = {"Content-Type": "application/json", **refusal.headers}
    return Answer(refusal.status, headers, refusal.body())
