"""The container's file tree, built in the new mount namespace and through file descriptors only.

config.md, "Root" and "Mounts"; config-linux.md, "Default Devices", "Masked Paths". The tree is
hostile: any component of any path in it may be a link, or change between two calls. So every place
is one openat2 below the root's descriptor (links resolve inside it, /proc's magic links do not
resolve at all), and a mount is attached to that descriptor. Nothing is looked up twice.
"""

from __future__ import annotations

import errno
import os
import stat

import barque.linux.mount as kernel
from barque.errors import BarqueError, Forbidden, InvalidArgument
from barque.linux.cgroup import ROOT, UNIFIED, is_unified
from barque.linux.fs import (
    PROC_SUPER_MAGIC,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    SELINUX_ATTRIBUTE,
    filesystem_magic,
    openat2,
    read_bounded,
    try_openat2,
)
from barque.linux.libc import AT_EMPTY_PATH, os_error
from barque.runc.copyup import copy_tree
from barque.runc.log import reason
from barque.runc.options import Options, parse_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.oci.runtime import Mount

LONGEST_MOUNTINFO = 1 << 26  # bytes
MOST_LINKS = 40  # followed while the path of a mount point is made
DIRECTORY_MODE = 0o755
FILE_MODE = 0o644
# What may be bind-mounted inside /proc: files that lxcfs and the like imitate.
INSIDE_PROC = frozenset(
    (
        *("/proc/cpuinfo", "/proc/diskstats", "/proc/meminfo", "/proc/stat", "/proc/swaps"),
        *("/proc/uptime", "/proc/loadavg", "/proc/slabinfo", "/proc/net/dev"),
        "/proc/sys/kernel/ns_last_pid",
    )
)
KERNEL_TREES = ("proc", "sysfs")
LABELLED_BY_KIND = (*KERNEL_TREES, "cgroup", "cgroup2")  # SELinux knows them by their kind alone


class Rootfs:
    """The tree that becomes "/"; `fd` is its root directory in its own, final mount."""

    __slots__ = ("bundle", "devpts", "empty", "fd", "label", "null", "unfinished")

    def __init__(self, fd: int, bundle: str, label: str = "") -> None:
        self.fd = fd
        self.bundle = bundle
        self.label = label  # linux.mountLabel: of what is on new file systems
        self.devpts = -1  # the root of the container's own devpts
        self.empty = -1  # an attached, empty, read-only tmpfs
        self.null = -1  # the host's /dev/null, verified
        self.unfinished: list[int] = []  # mounts to make read-only when all is in its place

    def mount(self, mount: Mount, source: int = -1) -> None:
        """Make one mount of config.json, in order; `source` is its source when the runtime has
        opened it (barque.runc.sources)."""
        options = parse_options(mount)
        try:
            if options.remount:
                self._remount(mount, options)
            else:
                self._mount(mount, options, source)
        except OSError as error:
            raise _failed(mount, reason(error)) from error
        except BarqueError as error:
            raise type(error)(f"{describe(mount)}: {error}") from error

    def _remount(self, mount: Mount, options: Options) -> None:
        """Give the mount that is at the destination exactly these attributes. mount(2)."""
        place = self._find(normal(mount.destination))
        if place < 0:
            raise InvalidArgument("nothing to remount")
        try:
            if options.data:
                kernel.reconfigure(place, dict(options.data))
            attributes = options.attr_set
            kernel.mount_setattr(
                place, attr_set=attributes, attr_clr=kernel.ORDINARY_ATTRIBUTES & ~attributes
            )
        finally:
            os.close(place)

    def _mount(self, mount: Mount, options: Options, source: int) -> None:
        if source >= 0:
            detached = source
            is_directory = stat.S_ISDIR(os.fstat(detached).st_mode)
        elif options.bind:
            detached = self.bind_source(mount.source, recursive=options.recursive)
            is_directory = stat.S_ISDIR(os.fstat(detached).st_mode)
        else:
            data = dict(options.data)
            if mount.source:
                data = {"source": mount.source, **data}
            later = kernel.MOUNT_ATTR_RDONLY if mount.type == "tmpfs" else 0
            detached = self._new_filesystem(mount.type, data, options.attr_set & ~later)
            is_directory = True
        self.attach(mount, options, detached, is_directory)
        if mount.type == "tmpfs" and options.attr_set & kernel.MOUNT_ATTR_RDONLY:
            self.unfinished.append(detached)
        elif mount.type == "devpts" and normal(mount.destination) == "/dev/pts":
            self.devpts = detached
        else:
            os.close(detached)

    def _new_filesystem(self, kind: str, data: dict[str, str | None], attributes: int) -> int:
        """As the kernel's call, with the container's label on what is on it."""
        if self.label and kind == "mqueue":  # it takes no options, but an attribute
            detached = kernel.new_filesystem(kind, data, attributes)
            self._set_label(detached)
            return detached
        if self.label and kind not in LABELLED_BY_KIND:
            data = {"context": self.label, **data}
        return kernel.new_filesystem(kind, data, attributes)

    def _set_label(self, detached: int) -> None:
        directory = openat2(detached, ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.setxattr(directory, SELINUX_ATTRIBUTE, self.label.encode())
        finally:
            os.close(directory)

    def attach(self, mount: Mount, options: Options, detached: int, is_directory: bool) -> None:
        """Put a detached mount at the mount's destination, with its attributes."""
        target = self.target(mount, options, detached, is_directory)
        try:
            if options.copy_up:
                self.copy_up(target, detached)
            if options.bind and (options.attr_set or options.attr_clr):
                kernel.mount_setattr(detached, attr_set=options.attr_set, attr_clr=options.attr_clr)
            if options.rec_set or options.rec_clr:
                kernel.mount_setattr(
                    detached, attr_set=options.rec_set, attr_clr=options.rec_clr, recursive=True
                )
            kernel.move_mount(detached, target)
        finally:
            os.close(target)
        for propagation, recursive in options.propagation:
            kernel.mount_setattr(detached, propagation=propagation, recursive=recursive)

    def bind_source(self, source: str, *, recursive: bool) -> int:
        """A detached copy of the host's mount at `source`, relative to the bundle."""
        return open_source(self.bundle, source, recursive=recursive)

    def target(self, mount: Mount, options: Options, detached: int, is_directory: bool) -> int:
        """The descriptor of a mount's destination, made when it is not there."""
        destination = normal(mount.destination)
        if destination == "/":
            raise InvalidArgument("a mount may not cover the root")
        if destination.startswith("/proc/") and destination not in INSIDE_PROC:
            raise Forbidden(f'"{destination}" cannot be mounted because it is inside /proc')
        ordinary = mount.type in KERNEL_TREES and not options.bind
        fd = self.make(destination, is_directory=is_directory, follow=not ordinary)
        try:
            self._check_proc(fd, destination, mount, options, detached)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _check_proc(
        self, fd: int, destination: str, mount: Mount, options: Options, detached: int
    ) -> None:
        """Nothing covers /proc but procfs, and nothing in it but what imitates its files."""
        if destination == "/proc":
            is_proc = mount.type == "proc" and not options.bind
            if not is_proc and filesystem_magic(detached) != PROC_SUPER_MAGIC:
                raise Forbidden("cannot be mounted because it is not of type proc")
        elif filesystem_magic(fd) == PROC_SUPER_MAGIC:
            is_file = not stat.S_ISDIR(os.fstat(detached).st_mode)
            if not (destination in INSIDE_PROC and options.bind and is_file):
                raise Forbidden(f'"{destination}" cannot be mounted because it is inside /proc')

    def make_directory(self, path: str) -> None:
        """Make what is missing of the directory `path`; what else may be wrong with it is told to
        who enters it."""
        if path == "/":
            return
        fd = try_openat2(self.fd, path, os.O_PATH, resolve=RESOLVE_IN_ROOT)
        if fd >= 0:
            os.close(fd)
        elif fd == -errno.ENOENT:
            try:
                os.close(self.make(normal(path), is_directory=True))
            except OSError as error:
                text = os.strerror(error.errno or 0).lower()
                raise InvalidArgument(f"mkdir {path}: {text}") from error

    def make(self, path: str, *, is_directory: bool, follow: bool = True) -> int:
        """Open the place `path` (absolute, normal), making what is missing of it.

        `follow` False: a symbolic link on the way is an error, as for /proc and /sys.
        """
        resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
        if not follow:
            resolve |= RESOLVE_NO_SYMLINKS
        kind = os.O_PATH | (os.O_DIRECTORY if is_directory else 0)
        for _ in range(MOST_LINKS):
            fd = try_openat2(self.fd, path, kind, resolve=resolve)
            if fd >= 0:
                return fd
            if fd == -errno.ELOOP and not follow:
                text = f"filesystem must be mounted on ordinary directory, and {path} is a link"
                raise InvalidArgument(text)
            if fd != -errno.ENOENT:
                raise os_error(-fd, "openat2", path)
            path = self._make_missing(path, is_directory, resolve)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)

    def _make_missing(self, path: str, is_directory: bool, resolve: int) -> str:
        """Make the first missing component; returns the path to go on with.

        It is the one whose parent is there, looked for from the end: mostly it is the last.
        A dangling link is where its target will be made: the path goes on through its text.
        """
        parts = path.strip("/").split("/")
        for index in range(len(parts) - 1, -1, -1):
            above = "/".join(["", *parts[:index]]) or "/"
            parent = try_openat2(self.fd, above, os.O_PATH | os.O_DIRECTORY, resolve=resolve)
            if parent == -errno.ENOENT:
                continue
            if parent < 0:
                raise os_error(-parent, "openat2", above)
            try:
                text = _make_in(parent, parts[index], is_directory or index < len(parts) - 1)
            finally:
                os.close(parent)
            if text is not None and self._dangles(parts[: index + 1], resolve):
                before = "" if text.startswith("/") else "/".join(parts[:index]) + "/"
                return normal("/".join([before + text, *parts[index + 1 :]]))
            return path
        return path

    def _dangles(self, parts: list[str], resolve: int) -> bool:
        fd = try_openat2(self.fd, "/".join(parts), os.O_PATH, resolve=resolve)
        if fd >= 0:
            os.close(fd)
        return fd == -errno.ENOENT

    def mount_cgroups(self, mount: Mount, directories: dict[str, str]) -> None:
        """The container's own cgroups, and nothing above them. config-linux.md, "cgroup mount".

        Version 2: that directory. Version 1: a tmpfs with a directory for each hierarchy. One that
        was given none sees what its cgroup namespace shows, or as much as its user did.
        """
        options = parse_options(mount)
        try:
            if list(directories) == [UNIFIED]:
                self._mount_unified(mount, options, directories[UNIFIED])
            elif not directories and is_unified():
                self._mount_namespace(mount, options)
            else:
                self._mount_hierarchies(mount, options, directories)
        except OSError as error:
            raise _failed(mount, reason(error)) from error

    def _mount_unified(self, mount: Mount, options: Options, directory: str) -> None:
        detached = kernel.open_tree(directory, kernel.OPEN_TREE_CLONE)
        kernel.mount_setattr(detached, attr_set=options.attr_set)
        self.attach(mount, options, detached, True)
        os.close(detached)

    def _mount_namespace(self, mount: Mount, options: Options) -> None:
        try:
            detached = kernel.new_filesystem("cgroup2", {}, options.attr_set)
        except PermissionError:  # it has no cgroup namespace of its own
            self._mount_unified(mount, options, ROOT)
            return
        self.attach(mount, options, detached, True)
        os.close(detached)

    def _mount_hierarchies(
        self, mount: Mount, options: Options, directories: dict[str, str]
    ) -> None:
        read_only = options.attr_set & kernel.MOUNT_ATTR_RDONLY
        data: dict[str, str | None] = {"mode": "755"}
        tree = self._new_filesystem("tmpfs", data, options.attr_set & ~read_only)
        self.attach(mount, options, tree, True)
        for name, directory in directories.items():
            entry = name.removeprefix("name=")
            os.mkdir(entry, DIRECTORY_MODE, dir_fd=tree)
            place = os.open(entry, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=tree)
            detached = kernel.open_tree(directory, kernel.OPEN_TREE_CLONE)
            kernel.mount_setattr(detached, attr_set=options.attr_set)
            kernel.move_mount(detached, place)
            os.close(detached)
            os.close(place)
        if read_only:
            kernel.mount_setattr(tree, attr_set=read_only)
        os.close(tree)

    def finish(self) -> None:
        """Make read-only what had to get nodes, files or mount points of others first."""
        for mount in self.unfinished:
            kernel.mount_setattr(mount, attr_set=kernel.MOUNT_ATTR_RDONLY)
            os.close(mount)
        self.unfinished.clear()

    def make_root_read_only(self) -> None:
        """config.md, root.readonly: the root's own mount, not those below it."""
        kernel.mount_setattr(self.fd, attr_set=kernel.MOUNT_ATTR_RDONLY)

    def copy_up(self, target: int, detached: int) -> None:
        """Fill a new tmpfs with what it will cover."""
        source = openat2(target, ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            copy_tree(source, detached)
        finally:
            os.close(source)

    def read_only(self, path: str) -> None:
        """Make what is at `path` read-only; nothing there is nothing to do."""
        place = self._find(path)
        if place < 0:
            return
        try:
            copy = kernel.open_tree(
                "", kernel.OPEN_TREE_CLONE | kernel.AT_RECURSIVE | AT_EMPTY_PATH, place
            )
            try:
                kernel.mount_setattr(copy, attr_set=kernel.MOUNT_ATTR_RDONLY)
                kernel.move_mount(copy, place)
            finally:
                os.close(copy)
        finally:
            os.close(place)

    def mask(self, path: str) -> None:
        """Cover what is at `path` by an empty directory, or by /dev/null."""
        place = self._find(path)
        if place < 0:
            return
        try:
            if stat.S_ISDIR(os.fstat(place).st_mode):
                cover = self._empty_directory()
            else:
                flags = kernel.OPEN_TREE_CLONE | AT_EMPTY_PATH
                cover = kernel.open_tree("", flags, self._null())
            kernel.move_mount(cover, place)
            if self.empty < 0 and stat.S_ISDIR(os.fstat(cover).st_mode):
                self.empty = cover
            else:
                os.close(cover)
        finally:
            os.close(place)

    def _find(self, path: str) -> int:
        """Where `path` leads in the root; -1: nowhere."""
        resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
        fd = try_openat2(self.fd, path, os.O_PATH, resolve=resolve)
        if fd < 0 and fd not in (-errno.ENOENT, -errno.ENOTDIR):
            raise os_error(-fd, "openat2", path)
        return max(fd, -1)

    def _empty_directory(self) -> int:
        if self.empty >= 0:
            return kernel.open_tree("", kernel.OPEN_TREE_CLONE | AT_EMPTY_PATH, self.empty)
        options: dict[str, str | None] = {"nr_inodes": "1", "mode": "755"}
        return self._new_filesystem("tmpfs", options, kernel.MOUNT_ATTR_RDONLY)

    def _null(self) -> int:
        """The host's /dev/null: opened before the root changes, and it must be what it is."""
        if self.null < 0:
            self.null = os.open("/dev/null", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            found = os.fstat(self.null)
            if not stat.S_ISCHR(found.st_mode) or found.st_rdev != os.makedev(1, 3):
                raise Forbidden("/dev/null of the host is not the null device")
        return self.null

    def enter(self, *, by_pivot: bool = True) -> None:
        """Make the tree the root of this process and let go of the host's. pivot_root(2)."""
        if not by_pivot:
            self._enter_by_move()
            return
        old_root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fchdir(self.fd)
            kernel.pivot_root(".", ".")
            os.fchdir(old_root)
            kernel.mount(None, ".", None, kernel.MS_SLAVE | kernel.MS_REC)
            kernel.umount2(".", kernel.MNT_DETACH)
            os.chdir("/")
        finally:
            os.close(old_root)

    def _enter_by_move(self) -> None:
        """For a root in the initial ramfs, which cannot be pivoted. The host's procfs and sysfs
        would stay reachable below: they go first."""
        for place in kernel_trees_outside(self.fd):
            try:
                kernel.umount2(place, kernel.MNT_DETACH)
            except PermissionError:  # locked in a user namespace: it is covered
                kernel.mount("tmpfs", place, "tmpfs", kernel.MS_RDONLY)
        os.fchdir(self.fd)
        kernel.mount(".", "/", None, kernel.MS_MOVE)
        change_root(self.fd)


def open_source(bundle: str, source: str, *, recursive: bool) -> int:
    """A detached copy of the mount at `source`, a path of the host or relative to the bundle."""
    flags = kernel.OPEN_TREE_CLONE | (kernel.AT_RECURSIVE if recursive else 0)
    path = os.path.join(bundle, source)
    try:
        return kernel.open_tree(path, flags)
    except FileNotFoundError as error:
        raise FileNotFoundError(errno.ENOENT, "stat: No such file or directory", source) from error


def kernel_trees_outside(root: int) -> list[str]:
    """The mount points of procfs and sysfs that are not below the directory `root`."""
    inside = os.readlink(f"/proc/self/fd/{root}")
    found = []
    for line in read_bounded("/proc/self/mountinfo", LONGEST_MOUNTINFO).splitlines():
        fields, _, filesystem = line.partition(b" - ")
        place = os.fsdecode(unescaped(fields.split()[4]))
        below = place == inside or place.startswith(f"{inside}/")
        if filesystem.split()[0] in (b"proc", b"sysfs") and not below:
            found.append(place)
    return sorted(found, reverse=True)


def unescaped(path: bytes) -> bytes:
    """A path of mountinfo, where white space and backslashes are three octal digits."""
    first, *rest = path.split(b"\\")
    return first + b"".join(bytes((int(part[:3], 8),)) + part[3:] for part in rest)


def normal(path: str) -> str:
    """The absolute, normal form of a path in the container.

    Not os.path.normpath alone, which keeps two leading slashes: "//proc" must be "/proc".
    """
    return os.path.normpath(f"/{path.lstrip('/')}")


def prepare(path: str, bundle: str, propagation: str, label: str = "") -> Rootfs:
    """Cut the new mount namespace off the host's and make `path` a mount of its own in it."""
    flags = ROOT_PROPAGATION.get(propagation)
    if flags is None:
        raise InvalidArgument(f"rootfsPropagation={propagation} is not supported")
    kernel.mount(None, "/", None, flags or kernel.MS_SLAVE | kernel.MS_REC)
    if flags and (flags & kernel.MS_SHARED or not flags & kernel.MS_REC):
        make_parent_private(path)
    tree = kernel.open_tree(path, kernel.OPEN_TREE_CLONE | kernel.AT_RECURSIVE)
    kernel.move_mount_to(tree, path)
    return Rootfs(tree, bundle, label)


def detached(path: str, bundle: str, label: str = "") -> Rootfs:
    """For a container in the runtime's own mount namespace: `path` as the root of mounts that are
    in no namespace. Nobody else sees them, and they go with the last process that is in them."""
    tree = kernel.open_tree(path, kernel.OPEN_TREE_CLONE | kernel.AT_RECURSIVE)
    kernel.mount_setattr(tree, propagation=kernel.MS_PRIVATE, recursive=True)
    return Rootfs(tree, bundle, label)


def change_root(directory: int) -> None:
    """The open `directory` becomes the root and the working directory of this process."""
    os.fchdir(directory)
    os.chroot(".")


# config-linux.md, "Rootfs Mount Propagation"; 0 is the default
ROOT_PROPAGATION = {
    "": 0,
    "private": kernel.MS_PRIVATE,
    "rprivate": kernel.MS_PRIVATE | kernel.MS_REC,
    "slave": kernel.MS_SLAVE,
    "rslave": kernel.MS_SLAVE | kernel.MS_REC,
    "shared": kernel.MS_SHARED,
    "rshared": kernel.MS_SHARED | kernel.MS_REC,
    "unbindable": kernel.MS_UNBINDABLE,
    "runbindable": kernel.MS_UNBINDABLE | kernel.MS_REC,
}


def propagate(word: str) -> None:
    """The root's own propagation, now that it is the root: earlier the host would have seen it."""
    flags = ROOT_PROPAGATION[word] & ~kernel.MS_REC
    if flags not in (0, kernel.MS_PRIVATE):
        kernel.mount(None, "/", None, flags)


def make_parent_private(path: str) -> None:
    """The mount that holds `path` must not tell its peers on the host what is mounted here.

    The mount is found by walking up: only the root of a mount takes the call.
    """
    path = os.path.realpath(path)
    while True:
        try:
            kernel.mount(None, path, None, kernel.MS_PRIVATE)
            return
        except OSError as error:
            if error.errno != errno.EINVAL or path == "/":
                raise
        path = os.path.dirname(path)


def _make_in(parent: int, name: str, is_directory: bool) -> str | None:
    """Make `name` in the open directory `parent`; the text of a link that is there already."""
    try:
        if is_directory:
            os.mkdir(name, DIRECTORY_MODE, dir_fd=parent)
        else:
            flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
            os.close(os.open(name, flags, FILE_MODE, dir_fd=parent))
    except FileExistsError:
        return _link_text(parent, name)
    return None


def _link_text(parent: int, name: str) -> str | None:
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError:
        return None


def describe(mount: Mount) -> str:
    return f'error mounting "{mount.source}" to rootfs at "{mount.destination}"'


def _failed(mount: Mount, text: str) -> BarqueError:
    return InvalidArgument(f"{describe(mount)}: {text}")
