"""barque-registry: `serve` a registry, or collect its garbage (`gc`)."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import ssl
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NoReturn

from barque import errors
from barque.linux.crypt import Crypt
from barque.registry import ANONYMOUS, Credentials, Policy, Transport, addresses
from barque.registryd.access import Access, OwnTokens, Passwords
from barque.registryd.answers import Endpoints
from barque.registryd.api import Api
from barque.registryd.cache import Cache
from barque.registryd.collector import GRACE_S, Collector
from barque.registryd.directory import Directory
from barque.registryd.http import Server
from barque.registryd.metrics import Metrics
from barque.registryd.paths import DEFAULT_ROOT, Paths
from barque.registryd.reading import Reading
from barque.registryd.store import Store
from barque.registryd.tokens import Tokens, read_keys
from barque.registryd.uploads import Uploads
from barque.registryd.writing import Writing

DEFAULT_ADDRESS = "127.0.0.1:5000"
MAX_CONNECTIONS = 512
log = logging.getLogger(__name__)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise errors.InvalidArgument(message)


def parser() -> argparse.ArgumentParser:
    made = _Parser("barque-registry", allow_abbrev=False)
    commands = made.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", allow_abbrev=False)
    serve.add_argument("--address", default=DEFAULT_ADDRESS)
    serve.add_argument("--root", default=DEFAULT_ROOT)
    serve.add_argument("--htpasswd", default="")
    serve.add_argument("--anonymous-pull", action="store_true")
    serve.add_argument("--tokens", action="store_true")
    serve.add_argument("--token-realm", default="")
    serve.add_argument("--token-service", default="")
    serve.add_argument("--token-issuer", default="")
    serve.add_argument("--token-key", default="")
    serve.add_argument("--tls-cert", default="")
    serve.add_argument("--tls-key", default="")
    serve.add_argument("--read-only", action="store_true")
    serve.add_argument("--no-delete", action="store_true")
    serve.add_argument("--push-users", default="")
    serve.add_argument("--max-connections", type=int, default=MAX_CONNECTIONS)
    serve.add_argument("--engine", default="")
    serve.add_argument("--engine-namespace", default="moby")
    serve.add_argument("--engine-push", default="")
    serve.add_argument("--cache-of", default="")
    serve.add_argument("--cache-credentials", default="")
    serve.add_argument("--cache-expiry", type=float, default=0.0)
    serve.add_argument("--gc-interval", type=float, default=GRACE_S)
    serve.add_argument("--gc-grace", type=float, default=GRACE_S)
    serve.add_argument("--metrics-address", default="")
    collect = commands.add_parser("gc", allow_abbrev=False)
    collect.add_argument("--root", default=DEFAULT_ROOT)
    collect.add_argument("--grace", type=float, default=GRACE_S)
    collect.add_argument("--untagged", action="store_true")
    return made


def main(arguments: list[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        options = parser().parse_args(arguments)
        if options.command == "gc":
            return _collect(options)
        return asyncio.run(_serve(options))
    except errors.BarqueError as error:
        sys.stderr.write(f"barque-registry: {error}\n")
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"barque-registry: {where}{error.strerror or error}\n")
        return 1


def _collect(options: argparse.Namespace) -> int:
    if not Path(options.root).is_dir():
        raise errors.NotFound(f"{options.root}: no such directory")
    store = Store(Paths(Path(options.root)))
    try:
        done = Collector(store, options.grace).run(untagged=options.untagged)
    finally:
        store.close()
    sys.stdout.write(
        f"removed {done.manifests} manifests, {done.links} unused blobs of repositories, "
        f"{done.blobs} blobs ({done.bytes} bytes), {done.uploads} uploads\n"
    )
    return 0


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise errors.InvalidArgument(f"invalid address {text!r}: expected HOST:PORT")
    return host.strip("[]"), int(port)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise errors.InvalidArgument(f"{path}: {reason.lower()}") from None


def access(options: argparse.Namespace) -> Access:
    """Raises InvalidArgument for flags that do not go together."""
    given = [options.token_realm, options.token_service, options.token_issuer, options.token_key]
    if any(given):
        if not all(given) or options.htpasswd or options.tokens or options.push_users:
            raise errors.InvalidArgument(
                "a token server needs all of --token-realm, --token-service, --token-issuer and "
                "--token-key, and none of --htpasswd, --tokens and --push-users"
            )
        keys = read_keys(_read(options.token_key))
        verifier = Tokens(keys, options.token_issuer, options.token_service)
        challenge = f'Bearer realm="{options.token_realm}",service="{options.token_service}"'
        return Access(verifier=verifier, challenge=challenge, open_pull=options.anonymous_pull)
    if not options.htpasswd:
        if options.tokens or options.anonymous_pull or options.push_users:
            raise errors.InvalidArgument(
                "--tokens, --anonymous-pull and --push-users need --htpasswd"
            )
        return Access()
    passwords = Passwords(_read(options.htpasswd), Crypt().hashed)
    tokens = OwnTokens() if options.tokens else None
    pushers = [user.strip() for user in options.push_users.split(",") if user.strip()]
    return Access(passwords, tokens=tokens, open_pull=options.anonymous_pull, pushers=pushers)


def _cache(options: argparse.Namespace, store: Store, uploads: Uploads) -> Cache | None:
    if not options.cache_of:
        if options.cache_expiry:
            raise errors.InvalidArgument("--cache-expiry needs --cache-of")
        return None
    text = options.cache_of if "://" in options.cache_of else f"https://{options.cache_of}"
    address = addresses.parse(text)
    plain = frozenset({address.authority}) if address.scheme == "http" else frozenset()
    credentials: Credentials = ANONYMOUS
    if options.cache_credentials:
        user, _, password = _read(options.cache_credentials).strip().partition(":")
        credentials = Credentials(user, password)
    transport = Transport(Policy(insecure=plain), "barque-registry")
    domain = address.host if address.host == "docker.io" else address.authority
    return Cache(store, uploads, transport, domain, credentials)


def _tls(options: argparse.Namespace) -> ssl.SSLContext | None:
    if not options.tls_cert and not options.tls_key:
        return None
    if not (options.tls_cert and options.tls_key):
        raise errors.InvalidArgument("TLS needs both --tls-cert and --tls-key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(options.tls_cert, options.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise errors.InvalidArgument(f"{options.tls_cert}: {error}") from None
    return context


def _read_only(options: argparse.Namespace) -> bool:
    reads = options.cache_of or (options.engine and not options.engine_push)
    return bool(options.read_only or reads)


async def _endpoints(
    options: argparse.Namespace, who: Access, stack: AsyncExitStack
) -> tuple[Endpoints, Store | None]:
    """Those of a directory, or of an engine, which has no directory here."""
    if options.engine:
        if options.cache_of:
            raise errors.InvalidArgument("--engine and --cache-of do not go together")
        from barque.registryd.engine import open_engine  # gRPC: only who wants it pays for it

        namespace, domain = options.engine_namespace, options.engine_push
        return await open_engine(options.engine, namespace, domain, who, stack), None
    if options.engine_push:
        raise errors.InvalidArgument("--engine-push needs --engine")
    store = Store(Paths(Path(options.root)))
    stack.callback(store.close)
    uploads = Uploads(store)
    stack.callback(uploads.close)
    cache = _cache(options, store, uploads)
    if cache is not None:
        stack.callback(cache.close)
    reading, writing = Reading(store, cache), Writing(Directory(store, uploads), who)
    return {**reading.endpoints(), **writing.endpoints()}, store


async def _serve(options: argparse.Namespace) -> int:
    async with AsyncExitStack() as stack:
        tls, who, where = _tls(options), access(options), _address(options.address)
        endpoints, store = await _endpoints(options, who, stack)
        metrics = Metrics()
        api = Api(
            endpoints, who, metrics, read_only=_read_only(options), deletes=not options.no_delete
        )
        server = Server(api.answer, options.max_connections)
        stack.push_async_callback(server.close)
        if options.metrics_address:
            metrics.gauge(
                "barque_registry_sent_bytes_total", "Bytes of answers.", lambda: server.bytes_out
            )
            side = Server(metrics.answer)
            stack.push_async_callback(side.close)
            await side.listen(*_address(options.metrics_address))
        port = await server.listen(*where, tls)
        sys.stdout.write(f"listening on {where[0]}:{port}\n")
        sys.stdout.flush()
        if store is not None:
            collecting = asyncio.create_task(_collecting(store, options))
            stack.callback(collecting.cancel)
        ended = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        await ended.wait()
    return 0


async def _collecting(store: Store, options: argparse.Namespace) -> None:
    """Now and then, in a thread with a view of its own."""
    while options.gc_interval > 0:
        await asyncio.sleep(options.gc_interval)
        grace_s, unused_s = options.gc_grace, options.cache_expiry
        done = await asyncio.to_thread(_collect_once, store.paths, grace_s, unused_s)
        log.info("collected %s", json.dumps(done))


def _collect_once(paths: Paths, grace_s: float, unused_s: float) -> dict[str, int]:
    store = Store(paths)
    try:
        done = Collector(store, grace_s).run(unused_s=unused_s)
    finally:
        store.close()
    return {
        "manifests": done.manifests,
        "links": done.links,
        "blobs": done.blobs,
        "bytes": done.bytes,
    }
