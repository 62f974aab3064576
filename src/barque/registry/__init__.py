"""OCI distribution: the client of registries.

transport = Transport(Policy(insecure=frozenset({"registry.internal:5000"})))
repository = open_repository(transport, "docker.io", "library/busybox", "busybox", credentials)
manifest = await repository.manifest("latest")
"""

from barque.registry.auth import ANONYMOUS, Credentials
from barque.registry.failures import refused
from barque.registry.hosts import Policy
from barque.registry.repository import Fetched, Repository
from barque.registry.session import Session
from barque.registry.transport import Transport

__all__ = [
    "ANONYMOUS",
    "Credentials",
    "Fetched",
    "Policy",
    "Repository",
    "Transport",
    "authenticate",
    "open_repository",
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
