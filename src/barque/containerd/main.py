"""barque-containerd: the composition root, and containerd's command line.

Reading `serve` shows all there is: stores over one database, services over stores, one socket.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

from barque.containerd.checkpoints import Checkpoints
from barque.containerd.collector import Collector
from barque.containerd.config import (
    Command,
    Config,
    document_of,
    load,
    parse_arguments,
)
from barque.containerd.containers import Containers
from barque.containerd.content.blobs import Blobs
from barque.containerd.content.service import Content
from barque.containerd.content.store import ContentStore
from barque.containerd.diff.service import FOLLOW, PLACES, Diff
from barque.containerd.events import Exchange
from barque.containerd.grpc import Server, Service
from barque.containerd.health import Health
from barque.containerd.images import Images
from barque.containerd.leases import Leases
from barque.containerd.metadata import Metadata, now_ns
from barque.containerd.namespaces import Namespaces
from barque.containerd.paths import ContentPaths, Paths
from barque.containerd.references import CONTENT, SNAPSHOTS, References
from barque.containerd.sandboxes import Sandboxes
from barque.containerd.settling import Settling
from barque.containerd.snapshots.origins import Origins
from barque.containerd.snapshots.service import Snapshots
from barque.containerd.snapshots.stores import KINDS, SnapshotStores
from barque.containerd.streaming import Streams
from barque.containerd.supervision import supervision
from barque.containerd.transfer.service import Transfer
from barque.containerd.transfer.unpack import Unpacker
from barque.containerd.version import (
    API_VERSION,
    REVISION,
    Introspection,
    Plugin,
    Version,
    server_id,
)
from barque.errors import BarqueError
from barque.linux import lock

SETTLE_S = 2.0  # until who waited for the start has been answered
log = logging.getLogger("barque.containerd")

SERVICES = (
    *("containers", "content", "diff", "events", "images", "introspection", "leases"),
    *("namespaces", "sandboxes", "snapshots", "streaming", "tasks", "transfer", "version"),
)
LEVELS = {"trace": 10, "debug": 10, "info": 20, "warn": 30, "error": 40, "fatal": 50, "panic": 50}
USAGE = """usage: barque-containerd [--config FILE] [--root DIR] [--state DIR] [--address SOCKET]
                         [--log-level LEVEL] [config default | config dump]
                         [publish --topic TOPIC --namespace NAMESPACE]
"""


def main(arguments: list[str]) -> int:
    try:
        command = parse_arguments(arguments)
        return run(command)
    except lock.Taken as error:
        sys.stderr.write(f"barque-containerd: {error}\n")
        return lock.EXIT_TAKEN
    except (BarqueError, OSError) as error:
        sys.stderr.write(f"barque-containerd: {error}\n")
        return 1


def run(command: Command) -> int:
    match command.name, command.arguments:
        case "version", ():
            sys.stdout.write(f"containerd barque v{API_VERSION} {REVISION}\n")
        case "help", ():
            sys.stdout.write(USAGE)
        case "config", ("default",):
            sys.stdout.write(document_of(Config()))
        case "config", ("dump",):
            sys.stdout.write(document_of(load(command.options)))
        case "", ():
            asyncio.run(serve(load(command.options)))
        case "publish", words:
            # Here: the server's start must not pay for the client.
            from barque.containerd.publish import publish

            publish(load(command.options).socket, words)
        case name, rest:
            sys.stderr.write(f"unknown command {' '.join((name, *rest))}\n{USAGE}")
            return 1
    return 0


async def serve(config: Config) -> None:
    """Serve until SIGTERM or SIGINT."""
    gc.disable()  # what is made until it serves stays
    log_to_stderr(config.log_level)
    # Each shim and each client takes one; what is started here has the limit that was given to us.
    given = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (given[1], given[1]))
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with running(config, given):
        loop.call_later(SETTLE_S, settle)
        log.info("serving on %s", config.socket)
        await stopped.wait()
    log.info("stopped")


def settle() -> None:
    """What was made at start stays: the search for garbage need not look at it again."""
    gc.collect()
    gc.freeze()
    gc.enable()


@asynccontextmanager
async def running(
    config: Config, descriptors: tuple[int, int] | None = None
) -> AsyncIterator[None]:
    """A whole server, from lock to socket; when this is entered, it answers."""
    paths = Paths(config.root, config.state)
    paths.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    paths.root.chmod(0o700)  # earlier ones were open to who knew a path in them
    paths.state.mkdir(mode=0o711, parents=True, exist_ok=True)
    locks = take_locks(paths)
    metadata = Metadata(paths.database)
    references = References(metadata)
    snapshots = SnapshotStores(metadata, references, paths)
    try:
        exchange = Exchange()
        content = ContentStore(metadata, references, ContentPaths(paths.content))
        content.forget_stale(now_ns())
        if removed := snapshots.sweep_files():
            log.info("removed %d snapshots of an earlier run", removed)
        origins = Origins()
        settling = Settling(metadata, content, snapshots, origins)
        if made := settling.recover():
            log.info("made %d layers again that the disk may not have", made)
        collector = Collector(
            metadata,
            references,
            {CONTENT: content, SNAPSHOTS: snapshots},
            time.time,
        )
        blobs = Blobs(content, metadata, references)
        containers = Containers(metadata, references, exchange, collector)
        images = Images(metadata, references, exchange, collector)
        snapshotting = Snapshots(snapshots, metadata, references, exchange, collector, settling)
        leases = Leases(metadata, references, collector)
        diff = Diff(content, blobs, origins)
        streams = Streams()
        sandboxes = Sandboxes(metadata)
        services: list[Service] = [
            Version().service(),
            Introspection(plugins(paths, snapshots), server_id(paths.uuid)).service(),
            Namespaces(metadata, exchange).service(),
            Content(content, metadata, references, exchange).service(),
            images.service(),
            snapshotting.service(),
            containers.service(),
            leases.service(),
            diff.service(),
            sandboxes.service(),
            streams.service(),
            Transfer(
                streams, blobs, images, leases, Unpacker(snapshotting, diff), os.uname().machine
            ).service(),
        ]
        debug = config.log_level in ("debug", "trace")
        async with AsyncExitStack() as serving:
            settling.soon()
            serving.push_async_callback(settling.close)
            supervising = await serving.enter_async_context(
                supervision(
                    paths,
                    config.socket,
                    exchange,
                    containers,
                    Checkpoints(paths.checkpoints, content, blobs),
                    sandboxes,
                    debug=debug,
                    descriptors=descriptors,
                )
            )
            services += supervising.services
            services.append(Health(service.name for service in services).service())
            watch = None
            if config.metrics_address:  # else nothing of it is loaded
                from barque.containerd.metrics.serving import counted

                statistics = supervising.tasks.statistics
                watch = await serving.enter_async_context(counted(config, statistics))
            server = Server(services, watch)
            serving.push_async_callback(server.stop)
            await server.start(config.socket, config.uid, config.gid)
            serving.callback(remove_socket, config.socket)
            for work in (collector.keep_sweeping(), sweep_files(content)):
                serving.push_async_callback(ended, asyncio.create_task(work))
            yield
    finally:
        try:
            metadata.checkpoint()
        except BarqueError as error:
            log.error("%s", error)  # its log has it all
        metadata.close()
        snapshots.close()
        for fd in locks:
            os.close(fd)


def take_locks(paths: Paths) -> list[int]:
    """One server a root, and one a state. Raises Conflict; held as long as the descriptors."""
    taken: list[int] = []
    for path in (paths.lock, paths.state_lock):
        try:
            taken.append(lock.take(str(path), f"{path.parent} is in use by another server"))
        except BaseException:
            for fd in taken:
                os.close(fd)
            raise
    return taken


def remove_socket(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


async def sweep_files(content: ContentStore) -> None:
    """What a crash left of content and no row knows, while we serve already."""
    try:
        removed = await content.sweep_files()
    except OSError as error:
        log.error("files without rows cannot be swept: %s", error)
        return
    if removed:
        log.info("removed %d files of an earlier run", removed)


async def ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def plugins(paths: Paths, snapshots: SnapshotStores) -> list[Plugin]:
    """This server's parts in containerd's words: clients look for snapshotters among them."""
    return [
        Plugin("io.containerd.content.v1", "content", {"root": str(paths.content)}),
        *(
            Plugin(
                "io.containerd.snapshotter.v1",
                name,
                {"root": str(paths.snapshotter(name))},
                partial(snapshots.missing, name),
                partial(snapshots.capabilities, name),
            )
            for name in KINDS
        ),
        Plugin("io.containerd.metadata.v1", "bolt", {"policy": "shared"}),
        Plugin("io.containerd.differ.v1", "walking", capabilities=lambda: (FOLLOW, PLACES)),
        Plugin("io.containerd.gc.v1", "scheduler"),
        Plugin("io.containerd.runtime.v2", "task"),
        Plugin("io.containerd.sandbox.controller.v1", "podsandbox"),
        Plugin("io.containerd.sandbox.store.v1", "local"),
        Plugin("io.containerd.streaming.v1", "manager"),
        Plugin("io.containerd.transfer.v1", "local"),
        *(Plugin("io.containerd.grpc.v1", name) for name in SERVICES),
    ]


def log_to_stderr(level: str) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=LEVELS[level],
        format='time="%(asctime)s" level=%(levelname)s msg="%(message)s" module=%(name)s',
    )
    for noisy in ("hpack", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
