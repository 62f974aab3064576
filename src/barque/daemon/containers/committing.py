"""`docker commit`: a container, held still meanwhile, becomes an image. API: ImageCommit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from barque import errors
from barque.daemon.containers import signal_process
from barque.daemon.containers.changes import MADE_TO_MOUNT_ON
from barque.daemon.containers.container import Container
from barque.daemon.containers.documents import Config, document, parse
from barque.daemon.containers.engine import Engine
from barque.daemon.containers.state import Status
from barque.daemon.images.commit import Committed
from barque.daemon.images.service import Images, new_name

LET_GO_AGAIN_S = 0.5


async def commit(
    engine: Engine,
    images: Images,
    reference: str,
    *,
    repository: str,
    tag: str,
    author: str,
    comment: str,
    changes: Sequence[str],
    pause: bool,
    overrides: Mapping[str, Any],
) -> str:
    """Returns the new image's id. Raises NotFound, Conflict, InvalidArgument. Events: commit."""
    container = engine.catalogue.find(reference)
    container.refuse_when_gone()
    ref = new_name(repository, tag) if repository else None
    if container.state.status is Status.REMOVING:
        raise errors.Conflict(f"You cannot commit container {container.id} which is being removed")
    record = container.record
    wanted = Committed(
        snapshot=container.id,
        image=await images.resolve(record.image) if record.chain_id else None,
        config=document(record.config),
        places=[place.removeprefix("/") for place in sorted(MADE_TO_MOUNT_ON)],
        overrides=document(parse(Config, overrides)) if overrides else {},
        changes=changes,
        author=author,
        comment=comment,
    )
    async with still(engine, container) if pause else _as_it_is():
        try:
            with engine.measures.timed("commit"):
                image_id = await images.commit(wanted, ref)
        except errors.BarqueError:
            container.refuse_when_gone()  # it was removed meanwhile
            raise
    engine.publish(
        container,
        "commit",
        comment=comment,
        imageID=image_id,
        imageRef=ref.full if ref else "",
    )
    return image_id


@asynccontextmanager
async def _as_it_is() -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def still(engine: Engine, container: Container) -> AsyncIterator[None]:
    """No process of it runs meanwhile; one that was not running, or was paused, is left so."""
    if not await _hold(engine, container):
        yield
        return
    try:
        yield
    finally:
        with suppress(errors.Conflict):  # someone else has let it go on, or it is gone
            await signal_process.unpause(engine, container)
        if _is_held(container):
            engine.spawn(_let_go(engine, container), lasting=True)


async def _hold(engine: Engine, container: Container) -> bool:
    """Whether it is we who keep it still. Raises Conflict for one that goes on."""
    pid = container.state.pid
    if container.state.status is not Status.RUNNING:
        return False
    try:
        await signal_process.pause(engine, container, held=True)
    except errors.Conflict:  # it has just ended, or somebody else has paused it
        if container.state.status is Status.RUNNING and not await container.has_ended(pid):
            raise
        return False
    return True


def _is_held(container: Container) -> bool:
    return container.state.held and container.state.status is Status.PAUSED


async def _let_go(engine: Engine, container: Container) -> None:
    """containerd was away: nobody else lets go on what we have paused."""
    while _is_held(container):
        await asyncio.sleep(LET_GO_AGAIN_S)
        with suppress(errors.BarqueError):
            await signal_process.unpause(engine, container)
