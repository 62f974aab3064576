"""Mounts whose ids are mapped: mount_setattr(2), MOUNT_ATTR_IDMAP; user_namespaces(7).

An overlay takes ids of the machine and maps nothing itself: it is its lower layers that are mapped,
each a detached mount. Linux, Documentation/filesystems/overlayfs.rst.
"""

from __future__ import annotations

import _socket
import errno
import os
import struct

import barque.linux.mount as kernel
from barque.linux.fs import write_file
from barque.linux.namespaces import CLONE_NEWNS, CLONE_NEWUSER, clone3

SIGCHLD = 17
SIGKILL = 9
LONGEST_REASON = 1000  # bytes of it that a process says


def new_user_namespace(uid_map: str, gid_map: str) -> int:
    """A descriptor of a user namespace with these maps (uid_map's lines) and no process in it.

    The caller has one thread, as with all here that makes processes.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = clone3(CLONE_NEWUSER, exit_signal=SIGCHLD)
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)  # until it is killed, or its maker is gone
        os._exit(0)
    try:
        write_file(f"/proc/{pid}/uid_map", uid_map)
        write_file(f"/proc/{pid}/gid_map", gid_map)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(reader)
        os.close(writer)
        os.kill(pid, SIGKILL)
        os.waitpid(pid, 0)


def map_ids(mount_fd: int, user_namespace: int, *, recursive: bool = False) -> None:
    """An id of the file system that is the namespace's inside is seen as the one outside."""
    kernel.mount_setattr(
        mount_fd,
        attr_set=kernel.MOUNT_ATTR_IDMAP,
        userns_fd=user_namespace,
        recursive=recursive,
    )


def mapped_tree(path: str, user_namespace: int, *, recursive: bool = False) -> int:
    """A detached copy of the mount at `path`, or of a directory in it, with its ids mapped."""
    tree = kernel.open_tree(
        path, kernel.OPEN_TREE_CLONE | (kernel.AT_RECURSIVE if recursive else 0)
    )
    try:
        map_ids(tree, user_namespace, recursive=recursive)
    except BaseException:
        os.close(tree)
        raise
    return tree


def overlay(
    lowers: list[str],
    options: list[str],
    user_namespace: int,
    attributes: int,
    place: str,
    plain: list[str] | None = None,
) -> int:
    """A detached overlay whose `lowers` (nearest first) have their ids mapped.

    `options` are its others, `attributes` MOUNT_ATTR_*. `place` is a directory that a kernel before
    6.15 needs; nothing stays on it. What is in `plain` lies over the lowers and keeps its ids.
    """
    layers: list[int] = []
    try:
        for directory in plain or ():
            layers.append(kernel.open_tree(directory, kernel.OPEN_TREE_CLONE))
        for lower in lowers:
            layers.append(mapped_tree(lower, user_namespace))
        try:
            return _overlay_of(layers, options, attributes)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        return _overlay_by_places(layers, options, attributes, place)
    finally:
        for layer in layers:
            os.close(layer)


def _overlay_of(layers: list[int], options: list[str], attributes: int) -> int:
    """Layers that have a descriptor and no place: since Linux 6.15."""
    context = kernel.fsopen("overlay")
    try:
        kernel.fsconfig_string(context, "source", "overlay")
        for option in options:
            key, equals, value = option.partition("=")
            if equals:
                kernel.fsconfig_string(context, key, value)
            else:
                kernel.fsconfig_flag(context, key)
        for layer in layers:
            kernel.fsconfig_fd(context, "lowerdir+", layer)
        kernel.fsconfig_create(context)
        return kernel.fsmount(context, attributes)
    finally:
        os.close(context)


def _overlay_by_places(layers: list[int], options: list[str], attributes: int, place: str) -> int:
    """The layers get places in a mount namespace that goes with the process that is in it."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0)
    try:
        pid = clone3(CLONE_NEWNS, exit_signal=SIGCHLD)
        if pid == 0:
            _answer(theirs, layers, options, place)
        theirs.close()
        try:
            said, rights, _, _ = ours.recvmsg(LONGEST_REASON, _socket.CMSG_SPACE(4))
        finally:
            os.waitpid(pid, 0)
    finally:
        ours.close()
        theirs.close()
    if not rights:
        number, _, reason = said.partition(b" ")
        text = reason.decode(errors="replace") or "the process that mounts has ended"
        raise OSError(int(number or errno.EIO), text)
    (mounted,) = struct.unpack("i", rights[0][2][:4])
    try:
        kernel.mount_setattr(mounted, attr_set=attributes)
    except BaseException:
        os.close(mounted)
        raise
    return int(mounted)


def _answer(socket: _socket.socket, layers: list[int], options: list[str], place: str) -> None:
    """In the process: send the mount, or an error's number and text, and end."""
    try:
        mounted = struct.pack("i", _mounted(layers, options, place))
        socket.sendmsg([b"0"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, mounted)])
    except OSError as error:
        text = f"{error.errno} {error.strerror}"
        socket.send(text.encode()[:LONGEST_REASON])
    finally:
        os._exit(0)


def _mounted(layers: list[int], options: list[str], place: str) -> int:
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("tmpfs", place, "tmpfs")
    os.chdir(place)
    names = [str(number) for number in range(len(layers))]
    for name, layer in zip(names, layers, strict=True):
        os.mkdir(name)
        kernel.move_mount_to(layer, name)
    os.mkdir("all")
    data = ",".join([*options, "lowerdir=" + ":".join(names)])
    kernel.mount("overlay", "all", "overlay", 0, data)
    return kernel.open_tree("all")
