"""A container on disk and in the kernel: its state file, its status, its directory.

runtime.md, "State" and "Lifecycle". The status is never stored: it follows from the first process
and from the fifo that it waits at and `start` removes. A container is on disk before the first
thing of it is made, so that `delete` finds what a killed `create` has left; `create` holds the lock
meanwhile.

    creating -> created -> running <-> paused
                   |          |          |
                   `----------+----------`-> stopped
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from barque.errors import AlreadyExists, NotFound
from barque.linux.cgroup import Cgroup
from barque.linux.fs import read_bounded, remove_at, write_atomic
from barque.oci.document import dump, parse
from barque.oci.runtime import SPEC_VERSION
from barque.runc.paths import STATE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.runc.paths import Paths

CREATING = "creating"
CREATED = "created"
RUNNING = "running"
PAUSED = "paused"
STOPPED = "stopped"
DEAD_STATES = (b"Z", b"X", b"x")


class Container:
    """What `state.json` says; `status` asks the kernel."""

    __slots__ = (
        "annotations",
        "bundle",
        "cgroup",
        "created",
        "filter_key",
        "id",
        "keyring",
        "namespaces",
        "paths",
        "pid",
        "rootfs",
        "start_time",
        "unit",
    )

    def __init__(
        self,
        paths: Paths,
        identifier: str,
        *,
        bundle: str,
        rootfs: str,
        annotations: dict[str, str],
        cgroup: Cgroup,
        namespaces: list[str],
        filter_key: str = "",
        pid: int = 0,
        start_time: int = 0,
        created: str = "",
        unit: str = "",
        keyring: bool = True,
    ) -> None:
        self.paths = paths
        self.id = identifier
        self.bundle = bundle
        self.rootfs = rootfs
        self.annotations = annotations
        self.cgroup = cgroup
        self.namespaces = namespaces  # the kinds that are not the runtime's own
        self.filter_key = filter_key  # of the compiled seccomp filter
        self.pid = pid
        self.start_time = start_time  # clock ticks; tells a pid from the same number used again
        self.created = created or _now()
        self.unit = unit  # systemd's, where it makes the cgroup
        self.keyring = keyring  # its processes have a session keyring of their own

    def save(self) -> None:
        document = {
            "ociVersion": SPEC_VERSION,
            "id": self.id,
            "pid": self.pid,
            "bundle": self.bundle,
            "rootfs": self.rootfs,
            "created": self.created,
            "annotations": self.annotations,
            "startTime": self.start_time,
            "cgroup": self.cgroup.directories,
            "namespaces": self.namespaces,
            "filter": self.filter_key,
            "unit": self.unit,
            "keyring": self.keyring,
        }
        write_atomic(self.paths.state(self.id), dump(document))

    def session_keyring(self) -> str:
        """The name of what its processes join; empty: they have their maker's."""
        return f"_ses.{self.id}" if self.keyring else ""

    def status(self) -> str:
        if not self.alive():
            return CREATING if not self.pid and self.locked() else STOPPED
        if self.cgroup.frozen():
            return PAUSED
        return CREATED if self._waits() else RUNNING

    def _waits(self) -> bool:
        """Whether the first process waits at the fifo. Who started it may have been killed before
        removing that: then nobody has it open for reading."""
        try:
            os.close(os.open(self.paths.fifo(self.id), os.O_WRONLY | os.O_NONBLOCK))
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return False
        return True

    def alive(self) -> bool:
        found = process_times(self.pid)
        return found is not None and found == self.start_time

    def document(self, status: str) -> dict[str, Any]:
        """What `state` prints: runtime.md, "State", with runc's own members after them."""
        answer: dict[str, Any] = {
            "ociVersion": SPEC_VERSION,
            "id": self.id,
            "pid": 0 if status == STOPPED else self.pid,
            "status": status,
            "bundle": self.bundle,
            "rootfs": self.rootfs,
            "created": self.created,
        }
        if self.annotations:
            answer["annotations"] = self.annotations
        answer["owner"] = ""
        return answer

    def lock(self) -> int:
        """One life-cycle command at a time, `create` included; `unlock` takes the descriptor."""
        fd = self._open_directory()
        fcntl.flock(fd, fcntl.LOCK_EX)
        return fd

    def locked(self) -> bool:
        """Whether a command works on the container now."""
        fd = self._open_directory()
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def _open_directory(self) -> int:
        try:
            return os.open(self.paths.container(self.id), os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            raise NotFound("container does not exist") from None

    def forget(self) -> None:
        """Remove the directory: the id is free from here on.

        The state goes last, and is there again where the directory cannot go: what failed can be
        done once more.
        """
        path = self.paths.container(self.id)
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in sorted(os.listdir(directory), key=STATE.__eq__):
                remove_at(directory, name)
        finally:
            os.close(directory)
        try:
            os.rmdir(path)
        except OSError:
            self.save()
            raise


def unlock(lock: int) -> None:
    """End a `Container.lock`, also where a forked process has inherited the descriptor."""
    try:
        fcntl.flock(lock, fcntl.LOCK_UN)
    except OSError:  # what was done is done; the close ends it where nobody else has it
        pass
    os.close(lock)


def reserve(paths: Paths, identifier: str) -> str:
    """Make the container's directory; AlreadyExists when the id is taken."""
    directory = paths.container(identifier)
    os.makedirs(paths.root, 0o700, exist_ok=True)
    try:
        os.mkdir(directory, 0o711)
    except FileExistsError:
        raise AlreadyExists("container with given ID already exists") from None
    return directory


def load(paths: Paths, identifier: str) -> Container:
    """The container of this id; NotFound when there is none (or it is only being made)."""
    try:
        raw = read_bounded(paths.state(identifier))
    except NotADirectoryError:
        raise NotFound("container does not exist") from None
    except FileNotFoundError:
        if not os.path.exists(paths.config(identifier)):
            raise NotFound("container does not exist") from None
        return _rebuilt(paths, identifier, "it is gone")
    try:
        state = parse(raw)
        return Container(
            paths,
            state["id"],
            bundle=state["bundle"],
            rootfs=state["rootfs"],
            annotations=state["annotations"],
            cgroup=Cgroup(state["cgroup"]),
            namespaces=state["namespaces"],
            filter_key=state["filter"],
            pid=state["pid"],
            start_time=state["startTime"],
            created=state["created"],
            unit=state.get("unit", ""),
            keyring=state.get("keyring", True),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return _rebuilt(paths, identifier, f"{type(error).__name__}: {error}")


def _rebuilt(paths: Paths, identifier: str, why: str) -> Container:
    from barque.runc.rebuild import rebuild

    return rebuild(paths, identifier, why)


def reload(container: Container) -> Container:
    """The same container as it is on disk now."""
    return load(container.paths, container.id)


def identifiers(paths: Paths) -> list[str]:
    """The ids under this root, in order."""
    try:
        return sorted(name for name in os.listdir(paths.root) if not name.startswith("@"))
    except FileNotFoundError:
        return []


def process_times(pid: int) -> int | None:
    """When this process started, in clock ticks since boot; None: it is not there, or a zombie."""
    if pid <= 0:
        return None
    try:
        raw = read_bounded(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = raw[raw.rindex(b")") + 2 :].split()
    return None if fields[0] in DEAD_STATES else int(fields[19])


def _now() -> str:
    nanoseconds = time.time_ns()
    seconds, fraction = divmod(nanoseconds, 10**9)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{fraction:09d}Z"
