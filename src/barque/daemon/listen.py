"""The sockets that the API is served on."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import logging
import os
import socket
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

from barque import errors
from barque.daemon.config import Config

BACKLOG = 1024
log = logging.getLogger(__name__)
Factory = Callable[[], asyncio.BaseProtocol]


async def listen(config: Config, factory: Factory) -> list[asyncio.Server]:
    """Listen on every address of `config`. Raises Unavailable that names the address."""
    servers = []
    for address in config.listen:
        try:
            servers.append(await _listen_on(config, address, factory))
        except OSError as error:
            raise errors.Unavailable(
                f"failed to listen on {address}: {error.strerror or error}"
            ) from error
    return servers


async def _listen_on(config: Config, address: str, factory: Factory) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    if address.startswith("unix://"):
        bound = unix_socket(address.removeprefix("unix://"), config.group)
        return await loop.create_unix_server(factory, sock=bound, backlog=BACKLOG)
    parts = urlsplit(address)
    context = tls_context(config)
    if context is None:
        log.warning("the API on %s is open without TLS: whoever reaches it is root here", address)
    port = parts.port or (2376 if context else 2375)
    return await loop.create_server(
        factory, parts.hostname or "127.0.0.1", port, ssl=context, backlog=BACKLOG
    )


def unix_socket(path: str, group: str) -> socket.socket:
    """A listening socket, mode 0660, owned by root and `group` (by root when there is no such).

    Made beside its path and renamed into place, so that nobody meets it with looser rights and a
    stale one is replaced. The caller holds the lock that says no daemon serves it.
    """
    os.makedirs(os.path.dirname(path) or "/", mode=0o755, exist_ok=True)
    bound = socket.socket(socket.AF_UNIX)
    temporary = f"{path}.{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    before = os.umask(0o177)
    try:
        bound.bind(temporary)
    finally:
        os.umask(before)
    os.chown(temporary, 0, _group_id(group))
    os.chmod(temporary, 0o660)
    bound.listen(BACKLOG)
    os.rename(temporary, path)
    return bound


def _group_id(name: str) -> int:
    if name.isdigit():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return 0


def tls_context(config: Config) -> ssl.SSLContext | None:
    """The server's TLS settings: with `tlsverify`, clients show a certificate of `tlscacert`."""
    if not (config.tls or config.tlsverify):
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(config.tlscert, config.tlskey)
        if config.tlsverify:
            context.load_verify_locations(config.tlscacert)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise errors.InvalidArgument(
            f"could not load TLS files {config.tlscert!r}, {config.tlskey!r}, "
            f"{config.tlscacert!r}: {error}"
        ) from error
    return context
