"""What the daemon asks of containerd about one container, in the daemon's own words.

A container's record, its snapshot and its task have the same id. The snapshot is a root of
containerd's garbage collection by its label, from create to removal.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from barque.daemon.containers.host import Runtime


class RootfsMount(NamedTuple):
    type: str
    source: str
    options: tuple[str, ...]


class Ended(NamedTuple):
    """The exit status of a process that is no more."""

    code: int
    at: str  # RFC 3339


class Task(NamedTuple):
    """A task that containerd knows of."""

    id: str
    pid: int
    status: str  # created, running, paused, stopped, unknown
    code: int
    at: str


class TaskEvent(NamedTuple):
    """`kind` is exit, oom, or lost: events may have been missed, look at every task."""

    kind: str
    id: str = ""
    process: str = ""  # the container's id, or an exec's
    pid: int = 0
    code: int = 0
    at: str = ""


class Stdio(NamedTuple):
    """Where a process's streams go: the path of the stdio socket that its shim shall listen on.

    `relayed`: the shim is not ours, and a relay listens in its place.
    """

    socket: str
    terminal: bool
    options: Mapping[str, str]
    relayed: bool = False


class Supervisor(Protocol):
    async def prepare(
        self, container_id: str, parent: str, size: int = 0, *, remapped: bool = True
    ) -> list[RootfsMount]:
        """Make the writable snapshot on top of the image's `parent`, of at most `size` bytes.

        `remapped`: with the ids of the daemon's userns-remap, where it has one.

        Raises Unsupported for a size where the snapshotter knows no quotas."""

    async def carry_over(self, container_id: str, parent: str, driver: str, size: int) -> None:
        """Make the container's snapshot as the snapshotter `driver` has it, and keep that one.

        Raises NotFound when either has not what it takes."""

    async def remove_left(self, container_id: str, driver: str) -> None:
        """The snapshot that was carried over goes. Idempotent."""

    async def mounts(self, container_id: str) -> list[RootfsMount]: ...

    async def view(self, key: str, container_id: str, parent: str) -> None:
        """A read-only snapshot of `parent` for the container; it has `mounts` of its own.

        `key` begins with the container's id and a dash. Raises NotFound for `parent`."""

    async def remove_snapshot(self, container_id: str) -> None:
        """Idempotent; also of a view, by its key."""

    async def snapshot_size(self, container_id: str) -> int:
        """Bytes that the container wrote. Raises NotFound."""

    async def snapshot_owners(self) -> list[str]:
        """The ids of all containers that have a snapshot, and the keys of views."""

    async def create(
        self,
        container_id: str,
        spec: Mapping[str, Any],
        runtime: Runtime,
        image: str,
        rootfs: Sequence[RootfsMount],
        stdio: Stdio,
        images: str = "",
    ) -> int:
        """Record and task; the first process is there and waits. Returns its pid.

        `images`: a directory that `checkpoint` filled; its start restores what they hold."""

    async def start(self, container_id: str) -> int: ...

    async def release_input(self, container_id: str, exec_id: str = "") -> None:
        """Let a foreign shim close its own end of the process's input, which it keeps open so that
        a client may come and go: the relay's is the only one then, and its end is the end. May
        last as long as the process."""

    async def exec(
        self, container_id: str, exec_id: str, process: Mapping[str, Any], stdio: Stdio
    ) -> None:
        """Add a process to the container, once: also where containerd dies meanwhile, and is soon
        there again."""

    async def start_exec(self, container_id: str, exec_id: str) -> int:
        """Start it, once, as `exec` adds it; its pid."""

    async def exec_ended(self, container_id: str, exec_id: str) -> int | None:
        """The exit code of one that has ended; None before, and where it is not known any more."""

    async def kill(self, container_id: str, signal: int, exec_id: str = "") -> None:
        """Raises NotFound when there is no such process any more."""

    async def pause(self, container_id: str) -> None: ...

    async def resume(self, container_id: str) -> None: ...

    async def checkpoint(self, container_id: str, directory: str, *, end: bool) -> None:
        """Save its processes by criu in the directory, which is there and empty. `end`: they are
        killed then."""

    async def resize(self, container_id: str, exec_id: str, width: int, height: int) -> None: ...

    async def pids(self, container_id: str) -> list[int]: ...

    async def update(self, container_id: str, resources: Mapping[str, Any]) -> None: ...

    async def metrics(self, container_id: str) -> tuple[int, Mapping[str, Any]]:
        """Version of control groups (1 or 2), and what containerd's Metrics message holds."""

    async def tasks(self) -> list[Task]: ...

    async def delete(self, container_id: str) -> Ended | None:
        """Task and record, whatever there is of them; kills what still runs. Idempotent."""

    async def delete_exec(self, container_id: str, exec_id: str) -> Ended | None:
        """Idempotent."""

    def events(self) -> AsyncIterator[TaskEvent]: ...
