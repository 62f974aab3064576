"""The gRPC service `grpc.health.v1.Health`, as dockerd asks it before it subscribes again.

Source: the health checking protocol of gRPC. Who gets an answer has reached a server that serves:
it listens only once it does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from barque.containerd.grpc import AtOnce, Call, Service
from barque.containerd.proto import health_pb2 as api
from barque.errors import NotFound

SERVING = api.HealthCheckResponse.SERVING
SERVICE_UNKNOWN = api.HealthCheckResponse.SERVICE_UNKNOWN


class Health:
    """Tells of the server as a whole (the empty name) and of each service in `names`."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {"", *names}

    def service(self) -> Service:
        descriptor = api.DESCRIPTOR.services_by_name["Health"]
        return Service(descriptor, {"Check": AtOnce(self.check), "Watch": self.watch})

    async def check(self, call: Call, request: api.HealthCheckRequest) -> api.HealthCheckResponse:
        if request.service not in self._names:
            raise NotFound("unknown service")
        return api.HealthCheckResponse(status=SERVING)

    async def watch(
        self, call: Call, request: api.HealthCheckRequest
    ) -> AsyncIterator[api.HealthCheckResponse]:
        known = request.service in self._names
        yield api.HealthCheckResponse(status=SERVING if known else SERVICE_UNKNOWN)
        await asyncio.Event().wait()  # it does not change before the connection ends
