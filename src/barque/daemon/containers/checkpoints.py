"""Checkpoints of containers: their processes, saved by criu, to be restored by a later start.

Source: Engine API, the experimental /containers/{id}/checkpoints. One is a directory of criu's
images of its name, in the container's own directory or in one that the client names.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shutil
from pathlib import Path

from barque import errors
from barque.daemon.containers.container import Container
from barque.daemon.containers.engine import Engine
from barque.daemon.containers.names import NAME_PATTERN

NAME = re.compile(f"{NAME_PATTERN}+", re.ASCII)


async def create(
    engine: Engine, container: Container, name: str, directory: str, *, end: bool
) -> None:
    """Save a running container; with `end` it is killed, and not restarted by its policy.

    Raises InvalidArgument, Conflict. The checkpoint is there whole or not at all.
    """
    if not NAME.fullmatch(name):
        raise errors.InvalidArgument(
            f"Invalid checkpoint ID ({name}), only {NAME_PATTERN} are allowed"
        )
    if not container.state.running:
        raise errors.Conflict(f"Container {container.name} not running")
    target = _directory(engine, container, directory) / name
    if os.path.lexists(target):
        raise _taken(container, name)
    # Beside the target, or where the next start of the daemon clears away.
    draft = (target.parent if directory else engine.paths.tmp) / f".{name}-{secrets.token_hex(8)}"
    before, container.state.stopped_by_hand = container.state.stopped_by_hand, end
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft.mkdir(mode=0o700)
        await engine.supervisor.checkpoint(container.id, str(draft), end=end)
        await asyncio.to_thread(_keep, draft, target)
    except BaseException as error:
        container.state.stopped_by_hand = before
        await asyncio.to_thread(shutil.rmtree, draft, ignore_errors=True)
        if isinstance(error, FileExistsError):
            raise _taken(container, name) from error
        if isinstance(error, OSError):
            raise errors.BarqueError(
                f"Cannot checkpoint container {container.name}: {error.filename}: {error.strerror}"
            ) from error
        if isinstance(error, errors.BarqueError):
            raise type(error)(f"Cannot checkpoint container {container.name}: {error}") from error
        raise
    engine.publish(container, "checkpoint")


def names(engine: Engine, container: Container, directory: str) -> list[str]:
    """Raises NotFound for a directory that is not there."""
    found = _directory(engine, container, directory)
    try:
        return sorted(e.name for e in os.scandir(found) if e.is_dir() and NAME.fullmatch(e.name))
    except FileNotFoundError:
        if directory:
            raise _missing(container, "") from None
        return []
    except OSError as error:
        raise errors.InvalidArgument(f"{found}: {error.strerror}") from error


async def remove(engine: Engine, container: Container, name: str, directory: str) -> None:
    await asyncio.to_thread(shutil.rmtree, find(engine, container, name, directory))


def find(engine: Engine, container: Container, name: str, directory: str) -> str:
    """The directory of a checkpoint's images; "" for no name. Raises NotFound."""
    if not name:
        return ""
    target = _directory(engine, container, directory) / name
    if not NAME.fullmatch(name) or not target.is_dir() or target.is_symlink():
        raise _missing(container, name)
    return str(target)


def _directory(engine: Engine, container: Container, directory: str) -> Path:
    if directory and not os.path.isabs(directory):
        raise errors.InvalidArgument(f"checkpoint directory {directory!r} is no absolute path")
    return Path(directory) if directory else engine.paths.checkpoints(container.id)


def _keep(draft: Path, target: Path) -> None:
    """criu writes without a sync; a name is given to what is on the disk."""
    for path in (*draft.iterdir(), draft):
        _sync(path)
    os.rename(draft, target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _taken(container: Container, name: str) -> errors.BarqueError:
    return errors.AlreadyExists(
        f"checkpoint with name {name} already exists for container {container.name}"
    )


def _missing(container: Container, name: str) -> errors.BarqueError:
    return errors.NotFound(f"checkpoint {name} does not exist for container {container.name}")
