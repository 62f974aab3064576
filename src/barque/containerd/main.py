"""barque-containerd: the composition root, and containerd's command line.

Reading `running` shows all there is: stores over one database, services over them, one socket.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from barque.containerd.checkpoints import Checkpoints
from barque.containerd.config import RESTART, Command, Config, document_of, load, parse_arguments
from barque.containerd.content.store import ContentStore
from barque.containerd.events import Exchange
from barque.containerd.grpc import Server
from barque.containerd.health import Health
from barque.containerd.paths import Paths
from barque.containerd.process import log_to_stderr, place
from barque.containerd.restarts import Restarts
from barque.containerd.services import check_plugins, over, plugins
from barque.containerd.stores import opened
from barque.containerd.supervision import supervision
from barque.containerd.version import API_VERSION, REVISION
from barque.errors import BarqueError
from barque.linux import allocator, lock

SETTLE_S = 2.0  # until who waited for the start has been answered
log = logging.getLogger("barque.containerd")

USAGE = """usage: barque-containerd [OPTIONS] [COMMAND]

Serve containerd's API, or:
  config default|dump                             print the configuration: ours, or what it is here
  publish --topic TOPIC --namespace NAMESPACE     tell of the event on standard input
  oci-hook -- PROGRAM [ARGUMENT...]               run a hook with words of the container's state

options:
  -c, --config FILE      configuration (default /etc/barque/containerd.toml)
      --root DIR         what survives a reboot (default /var/lib/barque/containerd)
      --state DIR        what a reboot may clear (default /run/barque/containerd)
  -a, --address SOCKET   unix socket to serve (default STATE/containerd.sock)
  -l, --log-level LEVEL  trace, debug, info, warn, error, fatal or panic (default info)
  -h, --help             show this
  -v, --version          show the version
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
        case "oci-hook", words:
            from barque.containerd import oci_hook

            words = words[1:] if words[:1] == ("--",) else words
            oci_hook.run(words, sys.stdin.buffer.read(), dict(os.environ))
        case name, rest:
            sys.stderr.write(f"unknown command {' '.join((name, *rest))}\n{USAGE}")
            return 1
    return 0


async def serve(config: Config) -> None:
    """Serve until SIGTERM or SIGINT."""
    gc.disable()  # what is made until it serves stays
    allocator.keep_freed()  # for the pieces of content that pass through
    log_to_stderr(config.log_level, config.log_format)
    place(config.oom_score, config.cgroup)
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
    allocator.trim()


@asynccontextmanager
async def running(
    config: Config, descriptors: tuple[int, int] | None = None
) -> AsyncIterator[None]:
    """A whole server, from lock to socket; when this is entered, it answers."""
    paths = Paths(config.root, config.state)
    with opened(paths, config.disabled_plugins, config.pool) as stores:
        known = plugins(paths, stores.snapshots)
        check_plugins(known, config.required_plugins, config.disabled_plugins)
        exchange = Exchange()
        kept = over(stores, paths, exchange, known)
        async with AsyncExitStack() as serving:
            serving.callback(kept.activations.close)
            stores.settling.soon()
            serving.push_async_callback(stores.settling.close)
            serving.push_async_callback(kept.ahead.close)
            supervising = await serving.enter_async_context(
                supervision(
                    paths,
                    config.socket,
                    exchange,
                    kept.containers,
                    Checkpoints(paths.checkpoints, stores.content, kept.blobs),
                    kept.sandboxes,
                    debug=config.log_level in ("debug", "trace"),
                    descriptors=descriptors,
                )
            )
            services = kept.services + supervising.services
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
            background = [stores.collector.keep_sweeping(), sweep_files(stores.content)]
            if RESTART not in config.disabled_plugins:
                monitor = Restarts(kept.containers, kept.snapshots, supervising.tasks, exchange)
                background.append(monitor.keep(config.restart_interval_s))
            for work in background:
                serving.push_async_callback(ended, asyncio.create_task(work))
            yield


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
