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
    servers: list[asyncio.Server] = []
    for address in config.listen:
        try:
            servers += await _listen_on(config, address, factory)
        except OSError as error:
            raise errors.Unavailable(
                f"failed to listen on {address}: {error.strerror or error}"
            ) from error
    return servers


async def _listen_on(config: Config, address: str, factory: Factory) -> list[asyncio.Server]:
    loop = asyncio.get_running_loop()
    if address.startswith("fd://"):
        return await _listen_on_passed(address.removeprefix("fd://"), config, factory)
    if address.startswith("unix://"):
        bound = unix_socket(address.removeprefix("unix://"), config.group)
        return [await loop.create_unix_server(factory, sock=bound, backlog=BACKLOG)]
    parts = urlsplit(address)
    context = tls_context(config)
    if context is None:
        log.warning("the API on %s is open without TLS: whoever reaches it is root here", address)
    port = parts.port or (2376 if context else 2375)
    host = parts.hostname or "127.0.0.1"
    return [await loop.create_server(factory, host, port, ssl=context, backlog=BACKLOG)]


async def listen_plain(address: str, factory: Factory) -> list[asyncio.Server]:
    """On `host:port`, without TLS. Raises InvalidArgument, Unavailable."""
    parts = urlsplit(f"tcp://{address}")
    try:
        host, port = parts.hostname or "127.0.0.1", parts.port
    except ValueError:
        port = None
    if port is None:
        raise errors.InvalidArgument(f"metrics-addr {address!r}: expected HOST:PORT")
    try:
        loop = asyncio.get_running_loop()
        return [await loop.create_server(factory, host, port, backlog=BACKLOG)]
    except OSError as error:
        raise errors.Unavailable(
            f"failed to listen on {address}: {error.strerror or error}"
        ) from error


FIRST_PASSED_FD = 3


async def _listen_on_passed(which: str, config: Config, factory: Factory) -> list[asyncio.Server]:
    """Sockets that our starter listens on already: all of them, or number `which`.

    Source: sd_listen_fds(3). A unix socket's rights are its maker's affair.
    """
    passed = _passed_fds()
    if which not in {"", "*"}:
        if not which.isdigit() or int(which) not in passed:
            raise errors.InvalidArgument(f"fd://{which}: no such socket was passed to barqued")
        passed = [int(which)]
    if not passed:
        raise errors.Unavailable("fd://: no sockets were passed to barqued by its starter")
    loop, servers = asyncio.get_running_loop(), []
    for fd in passed:
        bound = socket.socket(fileno=fd)
        bound.set_inheritable(False)
        if bound.family == socket.AF_UNIX:
            servers.append(await loop.create_unix_server(factory, sock=bound, backlog=BACKLOG))
        else:
            context = tls_context(config)
            servers.append(
                await loop.create_server(factory, sock=bound, ssl=context, backlog=BACKLOG)
            )
    return servers


def _passed_fds() -> list[int]:
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    text = os.environ.get("LISTEN_FDS", "")
    count = int(text) if text.isascii() and text.isdigit() and len(text) < 5 else 0
    return list(range(FIRST_PASSED_FD, FIRST_PASSED_FD + count))


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
