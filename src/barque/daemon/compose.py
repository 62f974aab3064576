"""The daemon's composition root: every service is made here; reading it shows the whole wiring.

containerd <- images, containers, supervisor       database <- networks, volumes, containers
routes -> services -> containerd's client, network, volume            events <- all services
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import NamedTuple

from barque import __version__, program
from barque.containerd.client import Containerd
from barque.daemon import cgroups, defaults, storage
from barque.daemon import metrics as metric_routes
from barque.daemon.authorization import Authorization
from barque.daemon.config import Config
from barque.daemon.containers.catalogue import Catalogue
from barque.daemon.containers.containerd_supervisor import ContainerdSupervisor
from barque.daemon.containers.engine import Engine
from barque.daemon.containers.host import Host
from barque.daemon.containers.labels import Labels
from barque.daemon.containers.runtimes import write_scripts
from barque.daemon.containers.service import Containers
from barque.daemon.database import Database
from barque.daemon.disk_usage import DiskUsage
from barque.daemon.doctor import Doctor
from barque.daemon.events import Events
from barque.daemon.http.messages import Route
from barque.daemon.http.router import Router
from barque.daemon.images.containerd_store import ContainerdStore
from barque.daemon.images.remove import User
from barque.daemon.images.service import Images
from barque.daemon.migration import Migration
from barque.daemon.names import Names
from barque.daemon.networks.membership import Membership
from barque.daemon.networks.service import Networks
from barque.daemon.own_log import log_level
from barque.daemon.paths import Paths
from barque.daemon.proxy_link import ProxyLink
from barque.daemon.reload import Reloader
from barque.daemon.remapping import Remap
from barque.daemon.routes import checkpoints as checkpoint_routes
from barque.daemon.routes import commit as commit_routes
from barque.daemon.routes import containers as container_routes
from barque.daemon.routes import distribution as distribution_routes
from barque.daemon.routes import exec as exec_routes
from barque.daemon.routes import images as image_routes
from barque.daemon.routes import networks as network_routes
from barque.daemon.routes import system as system_routes
from barque.daemon.routes import volumes as volume_routes
from barque.daemon.storage import DEFAULT, SNAPSHOTTERS
from barque.daemon.supervisor import Supervisor
from barque.daemon.system import System, engine_id
from barque.daemon.volumes.copies import VolumeCopies
from barque.daemon.volumes.service import Volumes
from barque.volume.local import LocalVolumes


class Composed(NamedTuple):
    """What serves: `idle` tells whether nothing runs."""

    router: Router
    idle: Callable[[], bool]
    reloader: Reloader
    metrics: list[Route]
    authorization: Authorization


@asynccontextmanager
async def composed(
    config: Config,
    paths: Paths,
    supervisor: Supervisor | None,
    arguments: Sequence[str],
    remap: Remap | None = None,
) -> AsyncIterator[Composed]:
    """All services, restored and at work."""
    async with AsyncExitStack() as stack:
        events = Events(paths.events)
        stack.callback(events.close)
        database = Database.open(paths.database)
        stack.callback(database.close)
        networks = Networks(
            database,
            events,
            owner=str(paths.root),
            netns=paths.netns,
            maker_argv=program.command("barque-netns", *([remap.namespace] if remap else [])),
            names=Names(paths.run, program.command("barque-dns", str(paths.run))),
            proxy=ProxyLink(paths.run, program.command("barque-proxy", str(paths.run))),
            options=defaults.network_options(config),
        )
        catalogue = Catalogue(database, SNAPSHOTTERS[config.storage_driver])
        address = config.containerd or str(paths.containerd_socket)
        starting = asyncio.create_task(networks.start())  # needs no containerd
        stack.push_async_callback(networks.close)
        stack.push_async_callback(_ended, starting)
        if supervisor is not None:
            await supervisor.ready()
        containerd = await Containerd.connect(address, config.containerd_namespace)
        stack.callback(containerd.close)
        known = await containerd.version()
        snapshotter = SNAPSHOTTERS[config.storage_driver]
        if snapshotter != DEFAULT:  # which every containerd has
            await storage.check(containerd, snapshotter)
        if remap is not None:
            await storage.check_remapping(containerd, snapshotter)

        def users(image_id: str) -> list[User]:
            return [User(c.id, c.state.running) for c in catalogue.using_image(image_id)]

        images = Images(
            ContainerdStore(containerd, snapshotter),
            events,
            users,
            policy=defaults.registry_policy(config),
            concurrent_downloads=config.max_concurrent_downloads,
            concurrent_uploads=config.max_concurrent_uploads,
            user_agent=f"barque/{__version__}",
        )
        stack.callback(images.close)
        copier = program.command("barque-copyup")
        volumes = Volumes(
            database,
            events,
            LocalVolumes(paths.volumes, copier, owner=remap.root if remap else None),
            paths.subpaths,
        )
        write_scripts(paths.runtimes, config.runtimes)
        containers = Containers(
            Engine(
                catalogue=catalogue,
                supervisor=ContainerdSupervisor(containerd, snapshotter, remap),
                images=images,
                networks=networks,
                volumes=volumes,
                events=events,
                paths=paths,
                machine=Host.probe(selinux=config.selinux_enabled),
                labels=Labels.read() if config.selinux_enabled else Labels(),
                defaults=defaults.container_defaults(config, paths, remap),
            )
        )
        stack.push_async_callback(containers.close)
        copies = VolumeCopies(volumes, containers.engine, copier)
        system = System(
            config,
            paths,
            database,
            containerd_version=lambda: (known.version, known.revision),
            container_counts=containers.counts,
            image_count=images.count,
            network_warnings=lambda: networks.warnings,
            listeners=lambda: events.listeners,
            remapped=remap is not None,
        )
        groups = cgroups.own_parent(config.exec_opts, config.cgroup_parent)
        router = Router(
            [
                *checkpoint_routes.routes(containers.engine),
                *container_routes.routes(containers),
                *commit_routes.routes(containers, images),
                *exec_routes.routes(containers),
                *image_routes.routes(images),
                *distribution_routes.routes(images),
                *network_routes.routes(networks, Membership(networks, catalogue, paths)),
                *volume_routes.routes(volumes, copies),
                *system_routes.routes(
                    system,
                    events,
                    DiskUsage(containers, images, volumes),
                    Migration(containers.engine, images),
                    Doctor(networks, catalogue, paths, groups),
                ),
            ]
        )
        await starting
        running = await containers.load()
        await networks.restore(running)
        await images.start()
        await containers.begin()
        attributes = {"name": os.uname().nodename}
        events.publish("daemon", "start", engine_id(database), attributes)

        def idle() -> bool:
            counts = containers.counts()
            return not (counts.get("running") or counts.get("paused"))

        identity = engine_id(database)
        reloader = Reloader(config, arguments, events, (identity, os.uname().nodename))
        authorization = Authorization(config.authorization_plugins)
        reloader.takers += [
            images_taker(images),
            containers.reload,
            system.reload,
            authorization.reload,
            log_level_taker,
        ]
        driver = storage.driver_of(snapshotter)
        metrics = metric_routes.routes(
            containers.counts, events, containers.engine.measures, identity, driver
        )
        yield Composed(router, idle, reloader, metrics, authorization)


async def _ended(task: asyncio.Task[None]) -> None:
    """Wait for what was begun, when the start failed elsewhere."""
    with suppress(Exception):
        await task


def images_taker(images: Images) -> Callable[[Config], None]:
    def take(config: Config) -> None:
        images.reload(
            defaults.registry_policy(config),
            config.max_concurrent_downloads,
            config.max_concurrent_uploads,
        )

    return take


def log_level_taker(config: Config) -> None:
    logging.getLogger().setLevel(log_level(config))
