"""`tmpcopyup`: a new tmpfs gets what the image has at its place. Between descriptors only.

The source is the image's: a link in it is copied as a link and never followed, and what is no
file, directory, link or node (a socket) is left out.
"""

from __future__ import annotations

import os
import stat

from barque.errors import ResourceExhausted
from barque.linux.fs import open_beneath

DEEPEST = 200  # levels of directories: each holds two descriptors open
CHUNK = 1 << 20  # bytes
NODES = (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO)


def copy_tree(source: int, target: int, depth: int = 0) -> None:
    """Copy what is in the directory `source` into the empty directory `target`."""
    if depth > DEEPEST:
        raise ResourceExhausted("tmpcopyup: directories are nested too deeply")
    for name in os.listdir(source):
        found = os.stat(name, dir_fd=source, follow_symlinks=False)
        kind = stat.S_IFMT(found.st_mode)
        if kind == stat.S_IFDIR:
            _copy_directory(source, target, name, depth)
        elif kind == stat.S_IFREG:
            _copy_file(source, target, name)
        elif kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=target)
        elif kind in NODES:
            os.mknod(name, kind | stat.S_IMODE(found.st_mode), found.st_rdev, dir_fd=target)
        else:
            continue
        os.chown(name, found.st_uid, found.st_gid, dir_fd=target, follow_symlinks=False)
        if kind != stat.S_IFLNK:
            os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=target)
        times = (found.st_atime_ns, found.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=target, follow_symlinks=False)


def _copy_directory(source: int, target: int, name: str, depth: int) -> None:
    below = open_beneath(source, name, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.mkdir(name, 0o700, dir_fd=target)
        made = open_beneath(target, name, os.O_RDONLY | os.O_DIRECTORY)
        try:
            copy_tree(below, made, depth + 1)
        finally:
            os.close(made)
    finally:
        os.close(below)


def _copy_file(source: int, target: int, name: str) -> None:
    reader = open_beneath(source, name, os.O_RDONLY | os.O_NONBLOCK)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        writer = os.open(name, flags, 0o600, dir_fd=target)
        try:
            while os.sendfile(writer, reader, None, CHUNK):
                pass
        finally:
            os.close(writer)
    finally:
        os.close(reader)
