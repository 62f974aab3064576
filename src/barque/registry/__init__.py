"""OCI distribution: the client of registries.

transport = Transport(Policy(insecure=frozenset({"registry.internal:5000"})))
repository = open_repository(transport, "docker.io", "library/busybox", "busybox", credentials)
manifest = await repository.manifest("latest")
"""

from barque.registry.auth import ANONYMOUS, Credentials
from barque.registry.failures import refused, verification
from barque.registry.foreign import foreign_blob
from barque.registry.hosts import DOCKER_HUB, Policy
from barque.registry.mirrors import Mirrored, Source
from barque.registry.proxies import Proxies
from barque.registry.repository import Fetched, Repository
from barque.registry.session import Session
from barque.registry.transport import Transport
from barque.registry.uploads import ReadFrom

__all__ = [
    "ANONYMOUS",
    "Credentials",
    "Fetched",
    "Mirrored",
    "Policy",
    "Proxies",
    "ReadFrom",
    "Repository",
    "Source",
    "Transport",
    "authenticate",
    "foreign_blob",
    "open_repository",
    "open_source",
    "verification",
]


async def authenticate(transport: Transport, domain: str, credentials: Credentials) -> None:
    """Raises Unauthorized when the registry of `domain` does not take `credentials`."""
    session = Session(transport, domain, "", domain, credentials)
    async with session.ask("GET", "/v2/", {}, push=True) as answer:
        if answer.head.status != 200:
            raise refused("unauthorized: authentication required", answer.head.status)


def open_repository(
    transport: Transport, domain: str, path: str, name: str, credentials: Credentials = ANONYMOUS
) -> Repository:
    """`domain` and `path` of a full reference; `name` is its familiar form, for messages."""
    return Repository(Session(transport, domain, path, name, credentials), name)


def open_source(
    transport: Transport, domain: str, path: str, name: str, credentials: Credentials = ANONYMOUS
) -> Source:
    """As `open_repository`, for a pull: what Docker Hub has is asked of its mirrors first."""
    origin = open_repository(transport, domain, path, name, credentials)
    mirrors = transport.policy.mirror_domains() if domain == DOCKER_HUB else ()
    if not mirrors:
        return origin
    found = [open_repository(transport, mirror, path, name) for mirror in mirrors]
    return Mirrored(found, origin)
