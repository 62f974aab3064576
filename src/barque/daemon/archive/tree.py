"""A container's file tree, put together in a mount namespace of our own.

    running     a copy of the mount that is the container's root, taken in its mount namespace,
                with the user's mounts from the host on top: what Docker shows, without /proc, /sys,
                /dev and whatever the container mounted itself
    stopped     its snapshot mounted: writable as it is, or for reading below an empty layer, so
                that the container may start meanwhile

Nothing is left mounted however this process ends. Every path is resolved by openat2 as inside the
tree, so no link of a hostile container leads the daemon out of it (CVE-2018-15664).
"""

from __future__ import annotations

import errno
import os
import stat

from barque.errors import Conflict, Unsupported
from barque.linux import id_mapped
from barque.linux import mount as m
from barque.linux.fs import open_in_root
from barque.linux.namespaces import CLONE_NEWNS, CLONE_NEWUSER, setns, unshare
from barque.oci.id_maps import IdMaps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PLACE = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class Point:
    """One mount of the user's: where it is inside, and whether it may be written."""

    __slots__ = ("destination", "writable")

    def __init__(self, destination: str, writable: bool) -> None:
        self.destination = destination
        self.writable = writable


class Tree:
    """`root` is open; `path_of` tells where a descriptor in the tree is, from its root."""

    def __init__(self, root: int, place: str, points: list[Point]) -> None:
        self.root = root
        self._place = place
        self._points = points

    def open(self, path: str, flags: int) -> int:
        return open_in_root(self.root, path, flags)

    def path_of(self, fd: int) -> str:
        found = os.readlink(f"/proc/self/fd/{fd}")
        return found.removeprefix(self._place) or "/"

    def point_of(self, fd: int) -> Point | None:
        """The user's mount that something lies on, None for the container's own root."""
        path = self.path_of(fd)
        holding = [p for p in self._points if path == p.destination or _inside(path, p.destination)]
        return max(holding, key=lambda point: len(point.destination), default=None)


def _inside(path: str, directory: str) -> bool:
    return path.startswith(directory.rstrip("/") + "/")


def assemble(request: dict[str, Any]) -> Tree:
    """Changes this process's mount namespace; for a process that does this once and ends.

    `request`: `place` (an empty directory to mount on), `id`, `pid` (0: it does not run), `layers`
    (of the snapshot, top first, with `work`; only when it does not run), `write`, `mounts`: a list
    of `source`, `destination`, `rw`, by depth; `directory`, which its start would make; `users` of
    a container with other ids than ours: `namespace`, and `uids`, `gids` as in oci.id_maps. We are
    its root then.
    """
    users = request.get("users")
    place = request["place"]
    sources = [_clone(item["source"]) for item in request["mounts"]]
    unshare(CLONE_NEWNS)
    m.mount(None, "/", flags=m.MS_REC | m.MS_PRIVATE)
    if request["pid"]:
        theirs = _root_of(request["pid"], request["id"])
        m.mount_setattr(theirs, propagation=m.MS_PRIVATE, recursive=True)
        m.move_mount_to(theirs, place)
    elif request["write"]:
        _mount_writable(request["layers"], request["work"], place, users)
    else:
        place = _mount_readable(request["layers"], place, users)
    root = os.open(place, _PLACE)
    points = []
    for item, source in zip(request["mounts"], sources, strict=True):
        if source is not None and _attach(root, item, source):
            points.append(Point(item["destination"], bool(item["rw"])))
    _make_directory(root, request["directory"])
    tree = Tree(root, os.readlink(f"/proc/self/fd/{root}"), points)
    if users:
        _become_root_of(users["namespace"])
    return tree


def _become_root_of(namespace: str) -> None:
    """user_namespaces(7): who joins has every right in it, and as its root ids that it knows."""
    fd = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    setns(fd, CLONE_NEWUSER)
    os.close(fd)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _clone(source: str) -> int | None:
    """The host's tree at `source`, detached, before our namespace changes; None when it is gone."""
    try:
        tree = m.open_tree(source, m.OPEN_TREE_CLONE | m.AT_RECURSIVE)
    except FileNotFoundError:
        return None
    m.mount_setattr(tree, propagation=m.MS_PRIVATE, recursive=True)
    return tree


def _root_of(pid: int, container_id: str) -> int:
    """A detached copy of the root mount in the namespace of the container's first process."""
    ours = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        theirs = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
            named = container_id in file.read()
    except (FileNotFoundError, ProcessLookupError):
        raise Conflict(f"container {container_id} is not running") from None
    if not named or os.fstat(theirs).st_ino == os.fstat(ours).st_ino:
        raise Conflict(f"container {container_id} is not running")
    host = os.open("/", _PLACE)
    setns(theirs, CLONE_NEWNS)
    try:
        return m.open_tree("/", m.OPEN_TREE_CLONE)
    finally:
        setns(ours, CLONE_NEWNS)
        os.fchdir(host)
        os.chroot(".")


def _named(directories: list[str]) -> list[int]:
    """By descriptors: the paths of many layers would not fit the page that options go in."""
    return [os.open(path, _PLACE) for path in directories]


def _lower(fds: list[int]) -> str:
    return "lowerdir=" + ":".join(f"/proc/self/fd/{fd}" for fd in fds)


def _mount_writable(layers: list[str], work: str, place: str, users: dict[str, str] | None) -> None:
    if len(layers) == 1:
        if users:
            m.move_mount_to(id_mapped.mapped_tree(layers[0], _users(users)), place)
        else:
            m.mount(layers[0], place, flags=m.MS_BIND)
        return
    upper, *lowers = _named(layers)
    if users:
        given = [f"upperdir=/proc/self/fd/{upper}", f"workdir={work}"]
        tree = id_mapped.overlay(layers[1:], given, _users(users), 0, place)
        m.move_mount_to(tree, place)
        return
    options = f"{_lower(lowers)},upperdir=/proc/self/fd/{upper},workdir={work}"
    m.mount("overlay", place, "overlay", 0, options)


def _users(users: dict[str, str]) -> int:
    """A user namespace for mounts: it may not be the one that is ours later, but maps alike."""
    return os.open(users["namespace"], os.O_RDONLY | os.O_CLOEXEC)


def _mount_readable(layers: list[str], place: str, users: dict[str, str] | None) -> str:
    """Below an empty layer of our own: mount points may be missing in the snapshot.

    Of a remapped snapshot the first layer has the machine's ids on disk, the others have not,
    unless it is the only one: a whole tree.
    """
    lowers = _named(layers)
    m.mount("tmpfs", place, "tmpfs", m.MS_NODEV | m.MS_NOSUID, "mode=700,size=1m")
    for name in ("upper", "work", "root"):
        os.mkdir(f"{place}/{name}", 0o755)
    if users:
        _mount_lowers_mapped(layers, place, users)
        return f"{place}/root"
    options = f"{_lower(lowers)},upperdir={place}/upper,workdir={place}/work"
    m.mount("overlay", f"{place}/root", "overlay", 0, options)
    return f"{place}/root"


def _mount_lowers_mapped(layers: list[str], place: str, users: dict[str, str]) -> None:
    namespace = _users(users)
    ids = IdMaps(users["uids"], users["gids"]).root
    os.chown(f"{place}/upper", *ids)
    options = [f"upperdir={place}/upper", f"workdir={place}/work"]
    written = layers[:1] if len(layers) > 1 else []
    tree = id_mapped.overlay(
        layers[len(written) :], options, namespace, 0, f"{place}/root", plain=written
    )
    m.move_mount_to(tree, f"{place}/root")


def _attach(root: int, item: dict[str, Any], source: int) -> bool:
    """Put one of the user's mounts in its place; made if it is missing and can be."""
    directory = stat.S_ISDIR(os.fstat(source).st_mode)
    path = item["destination"]
    try:
        target = open_in_root(root, path, os.O_PATH)
    except FileNotFoundError:
        try:
            target = _make(root, path, directory)
        except OSError as error:
            if error.errno in (errno.EROFS, errno.EEXIST, errno.ENOTDIR):
                return False  # such a place cannot be: the container could not start with it
            raise
    try:
        if not item["rw"]:
            m.mount_setattr(source, attr_set=m.MOUNT_ATTR_RDONLY, recursive=True)
        m.move_mount(source, target)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.EINVAL):
            raise
        raise Unsupported(f"mount at {path} cannot be put together for copying") from error
    finally:
        os.close(target)
    return True


def _make_directory(root: int, path: str) -> None:
    """Docker's create makes the working directory; ours leaves it to whoever is the first."""
    try:
        os.close(open_in_root(root, path or "/", os.O_PATH))
    except FileNotFoundError:
        try:
            os.close(_make(root, path, directory=True))
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.ELOOP):
                raise
    except OSError:
        pass  # no such place can be; its start will say so


def _make(root: int, path: str, directory: bool) -> int:
    """The missing mount point, with the directories above it."""
    parts = [part for part in path.split("/") if part]
    at = os.open(".", _PLACE, dir_fd=root)
    for depth, part in enumerate(parts):
        if depth == len(parts) - 1 and not directory:
            os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=at))
        else:
            try:
                os.mkdir(part, 0o755, dir_fd=at)
            except FileExistsError:
                pass
        os.close(at)
        at = open_in_root(root, "/".join(parts[: depth + 1]), os.O_PATH)
    return at
