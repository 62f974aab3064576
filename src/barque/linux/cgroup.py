"""Control groups: version 1, version 2, and both side by side (hybrid).

A container has one directory in each hierarchy. `Cgroup.directories` maps a controller's name
(version 1) and `UNIFIED` (version 2) to them; it is plain data, kept in the container's state.

    v2       /sys/fs/cgroup is cgroup2
    v1       /sys/fs/cgroup/<controller> is cgroup, one hierarchy each
    hybrid   v1, and /sys/fs/cgroup/unified is cgroup2 without controllers: for kill and membership
"""

from __future__ import annotations

import errno
import os
import select
import time

from barque.linux.fs import (
    CGROUP2_SUPER_MAGIC,
    CGROUP_SUPER_MAGIC,
    filesystem_magic,
    read_bounded,
    write_file,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = "/sys/fs/cgroup"
UNIFIED = "unified"
PATIENCE_S = 2.0  # for the kernel to freeze, or to let go of the dead
PAUSE_S = 0.002
MODE = 0o755
SELF = b"0"


def is_unified() -> bool:
    """Whether only cgroup version 2 is used."""
    return filesystem_magic(ROOT) == CGROUP2_SUPER_MAGIC


def hierarchies() -> dict[str, str]:
    """The mounted hierarchies: controller (or `name=systemd`, or `UNIFIED`) to mount point."""
    if is_unified():
        return {UNIFIED: ROOT}
    found = {}
    for controller in own_paths():
        if not controller:
            directory, magic = f"{ROOT}/{UNIFIED}", CGROUP2_SUPER_MAGIC
        else:
            directory = f"{ROOT}/{controller.removeprefix('name=')}"
            magic = CGROUP_SUPER_MAGIC
        try:
            if filesystem_magic(directory) == magic:
                found[controller or UNIFIED] = directory
        except FileNotFoundError:
            continue
    return found


def own_paths(pid: int | str = "self") -> dict[str, str]:
    """Where a process is in each hierarchy: controller ("" for version 2) to path."""
    paths = {}
    for line in read_bounded(f"/proc/{pid}/cgroup").decode(errors="surrogateescape").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = path
    return paths


def locate(path: str, container: str) -> dict[str, str]:
    """The directories of a container whose config asks for `path` (`linux.cgroupsPath`).

    An absolute path is one from each hierarchy's mount point; none, or a relative one, lies below
    the caller's own cgroup (version 2: beside it, as a cgroup with processes has no children).
    """
    mounts = hierarchies()
    inner = os.path.normpath("/" + (path.lstrip("/") if path else container))
    if inner == "/":
        raise OSError(errno.EINVAL, f"cgroup path {path!r} is the root of all cgroups")
    if path.startswith("/"):
        return {name: mount + inner for name, mount in mounts.items()}
    own = own_paths()
    found = {}
    for name, mount in mounts.items():
        base = own["" if name == UNIFIED else name]
        if name == UNIFIED and len(mounts) == 1:
            base = os.path.dirname(base)
        found[name] = mount + os.path.normpath(f"/{base.lstrip('/')}{inner}")
    return found


class Cgroup:
    """One container's cgroup."""

    __slots__ = ("directories",)

    def __init__(self, directories: dict[str, str]) -> None:
        self.directories = directories

    @property
    def unified_only(self) -> bool:
        return list(self.directories) == [UNIFIED]

    def distinct(self) -> Iterable[str]:
        """The directories without repetition (controllers may share a hierarchy)."""
        return dict.fromkeys(self.directories.values())

    def create(self, names: Iterable[str] | None = None) -> None:
        """Make the directories, or those in the hierarchies `names`; on version 2 with every
        controller that can be had: the container may limit what is below it, with controllers that
        its own config does not name.

        A directory that is there already is taken when nothing is in it, neither a process nor a
        cgroup, and what enters it will run: OSError EBUSY else. After a failure what was made is
        gone and all else untouched.
        """
        made: list[str] = []
        taken = False
        try:
            for name in self.directories if names is None else names:
                directory = self.directories[name]
                if self.unified_only:
                    self._delegate(directory)
                if make_directory(directory):
                    made.append(directory)
                elif directory not in made:
                    check_unused(directory)
                    taken = True
                if name == "cpuset":
                    inherit_cpuset(directory)
            if taken and self.frozen():
                raise OSError(errno.EBUSY, "container's cgroup unexpectedly frozen")
        except OSError:
            for directory in reversed(made):
                os.rmdir(directory)
            raise

    def adopt(self) -> None:
        """Take directories that another has made, with the controllers that it gives them."""
        for directory in self.distinct():
            self._delegate(directory)

    def _delegate(self, directory: str) -> None:
        wanted = read_bounded(f"{ROOT}/cgroup.controllers").split()
        parent = ROOT
        for part in os.path.dirname(directory.removeprefix(ROOT + "/")).split("/"):
            self._enable(parent, wanted)
            if part:
                parent = f"{parent}/{part}"
                os.makedirs(parent, MODE, exist_ok=True)
        self._enable(parent, wanted)

    def _enable(self, parent: str, wanted: list[bytes]) -> None:
        path = f"{parent}/cgroup.subtree_control"
        enabled = read_bounded(path).split()
        for controller in wanted:
            if controller not in enabled:
                try:
                    write_file(path, b"+" + controller)
                except OSError:  # in use, or not delegated: what needs it will fail by name
                    pass

    def attach(self, pid: int) -> None:
        """Move another process into the cgroup, in all hierarchies. Slow on version 1: the kernel
        waits for a grace period; a process that moves itself (`open_entries`) waits for nothing."""
        for directory in self.distinct():
            write_file(f"{directory}/cgroup.procs", str(pid))

    def open_entries(self) -> list[int]:
        """Descriptors through which a process with one thread moves itself: it writes `SELF`.

        One a hierarchy of version 1; into version 2 a process is born (`open_unified`).
        """
        entries: list[int] = []
        try:
            for directory in self.distinct():
                if directory != self.directories.get(UNIFIED):
                    entries.append(os.open(f"{directory}/tasks", os.O_WRONLY | os.O_CLOEXEC))
        except OSError:
            for entry in entries:
                os.close(entry)
            raise
        return entries

    def path(self, controller: str) -> str | None:
        """The directory where this controller's files are; None: it is in no hierarchy."""
        return self.directories.get(UNIFIED if self.unified_only else controller)

    def open_unified(self) -> int:
        """A file descriptor on the version 2 directory, or -1: there is none."""
        directory = self.directories.get(UNIFIED)
        if directory is None:
            return -1
        return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def open_unified_of(self, pid: int) -> int:
        """As `open_unified`, where this process of the container is: it may have moved itself below
        (a cgroup that hands controllers on takes no processes). OSError EBUSY: it is elsewhere."""
        directory = self.directories[UNIFIED]
        mount = ROOT if self.unified_only else f"{ROOT}/{UNIFIED}"
        path = mount + own_paths(pid)[""]
        if not path.startswith(f"{directory}/") or "/../" in path:
            raise OSError(errno.EBUSY, "the container's first process is in no cgroup of it", path)
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def pids(self) -> list[int]:
        """The processes in it, cgroups below included; empty when it is gone."""
        for name in ("freezer", "devices", "pids", "memory", UNIFIED, *self.directories):
            if name in self.directories:
                return sorted(processes(self.directories[name]))
        return []

    def frozen(self) -> bool:
        freezer = self.directories.get("freezer")
        try:
            if freezer is not None:
                return read_bounded(f"{freezer}/freezer.state").strip() != b"THAWED"
            unified = self.directories.get(UNIFIED)
            if unified is None:
                return False
            return read_bounded(f"{unified}/cgroup.freeze").strip() == b"1"
        except FileNotFoundError:
            return False

    def freeze(self) -> None:
        """Stop every process where it is; returns when all have stopped."""
        freezer = self.directories.get("freezer")
        if freezer is not None:
            _freeze_v1(f"{freezer}/freezer.state")
        else:
            _freeze_v2(self.directories[UNIFIED])

    def thaw(self) -> None:
        freezer = self.directories.get("freezer")
        if freezer is not None:
            write_file(f"{freezer}/freezer.state", "THAWED")
        else:
            write_file(f"{self.directories[UNIFIED]}/cgroup.freeze", "0")

    def kill(self) -> None:
        """SIGKILL to every process in it and below; none escapes by forking."""
        unified = self.directories.get(UNIFIED)
        if unified is not None:
            try:
                write_file(f"{unified}/cgroup.kill", "1")
            except FileNotFoundError:
                unified = None  # gone, or a kernel before 5.14
        if unified is None or not self.unified_only:
            self._kill_each()

    def _kill_each(self) -> None:
        if not self.pids():
            return
        freezer = "freezer" in self.directories
        try:
            if freezer:
                self.freeze()
            for pid in self.pids():
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    continue
        finally:
            if freezer:
                self.thaw()

    def remove(self) -> None:
        """Remove the directories with those below them; what is gone is done.

        A process that is just dying holds its cgroup for a moment: waits up to `PATIENCE_S`.
        """
        for directory in self.distinct():
            remove_directory(directory)

    def remove_now(self) -> bool:
        """`remove` of directories that nothing holds or is below; False: `remove` has to go on."""
        for directory in self.distinct():
            try:
                os.rmdir(directory)
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                    raise
                return False
        return True


def make_directory(directory: str) -> bool:
    """Make a cgroup with those above it; False: it was there."""
    try:
        os.mkdir(directory, MODE)
    except FileExistsError:
        return False
    except FileNotFoundError:
        os.makedirs(directory, MODE, exist_ok=True)
    return True


def check_unused(directory: str) -> None:
    """Raise EBUSY when a cgroup that is there belongs to somebody."""
    if pids := processes(directory):
        text = f"container's cgroup is not empty: {len(pids)} process(es) found"
        raise OSError(errno.EBUSY, text)
    if _below(directory):
        raise OSError(errno.EBUSY, f"cgroup {directory} has cgroups below it")


def processes(directory: str) -> set[int]:
    """The processes in a cgroup directory and in those below it."""
    found: set[int] = set()
    try:
        found.update(int(pid) for pid in read_bounded(f"{directory}/cgroup.procs", 1 << 24).split())
        for entry in os.scandir(directory):
            if entry.is_dir(follow_symlinks=False):
                found |= processes(entry.path)
    except (FileNotFoundError, ProcessLookupError):
        pass
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENODEV):  # threaded; just removed
            raise
    return found


def remove_directory(directory: str) -> None:
    """Remove a cgroup and the cgroups below it."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            os.rmdir(directory)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.ENOTEMPTY):
                raise
            for below in _below(directory):
                remove_directory(below)
            if time.monotonic() > deadline:
                raise
            if not _below(directory):
                try:
                    os.rmdir(directory)
                    return
                except OSError:
                    time.sleep(PAUSE_S)


def _below(directory: str) -> list[str]:
    try:
        return [
            entry.path for entry in os.scandir(directory) if entry.is_dir(follow_symlinks=False)
        ]
    except FileNotFoundError:
        return []


def inherit_cpuset(directory: str) -> None:
    """A new cpuset (version 1) has no CPU and no memory node: take the parent's, top down."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        _inherit(directory, name)


def _inherit(directory: str, name: str) -> bytes:
    value = read_bounded(f"{directory}/{name}")
    if not value.strip() and directory != ROOT:
        value = _inherit(os.path.dirname(directory), name)
        write_file(f"{directory}/{name}", value)
    return value


def _freeze_v1(state: str) -> None:
    """FREEZING may last while a process forks: asking again makes the kernel try again."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        write_file(state, "FROZEN")
        if read_bounded(state).strip() == b"FROZEN":
            return
        if time.monotonic() > deadline:
            write_file(state, "THAWED")
            raise TimeoutError(errno.ETIMEDOUT, "the cgroup does not freeze")
        time.sleep(PAUSE_S)


def _freeze_v2(directory: str) -> None:
    write_file(f"{directory}/cgroup.freeze", "1")
    events = os.open(f"{directory}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    try:
        poller = select.poll()
        poller.register(events, select.POLLPRI)
        deadline = time.monotonic() + PATIENCE_S
        while b"frozen 1" not in os.pread(events, 4096, 0):
            left = deadline - time.monotonic()
            if left <= 0:
                write_file(f"{directory}/cgroup.freeze", "0")
                raise TimeoutError(errno.ETIMEDOUT, "the cgroup does not freeze")
            poller.poll(left * 1000)
    finally:
        os.close(events)
