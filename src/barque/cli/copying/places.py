"""Docker's rules of `cp` for paths: what is copied, into what directory, and under which name.

Source: the reference of docker container cp. A path that ends in `/.` means a directory's content,
one that ends in `/` a directory.
"""

from __future__ import annotations

import os
import stat

from barque import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_LINKS = 255


def base(path: str) -> str:
    """The last component; `.` where the path ends in it, `/` for the root."""
    if path.endswith("/."):
        return "."
    return path.rstrip("/").rpartition("/")[2] or "/"


def parent(path: str) -> str:
    head, slash, _ = path.rstrip("/").rpartition("/")
    return head or (slash or ".")


class Place:
    """One end of a copy, as far as it is known before anything moves."""

    __slots__ = ("exists", "is_directory", "path", "rename")

    def __init__(self, path: str, exists: bool, is_directory: bool, rename: str = "") -> None:
        self.path = path
        self.exists = exists
        self.is_directory = is_directory
        self.rename = rename  # what the archive calls it, where that is not its own name


def plan(source: Place, target: Place) -> tuple[str, str, str]:
    """The directory to unpack in, and what the archive's first name is replaced by: (directory,
    old, new), with old == new where names stay. Raises InvalidArgument."""
    name = source.rename or base(source.path)
    if target.exists and target.is_directory:
        return target.path, name, name
    if target.exists and source.is_directory:
        raise errors.InvalidArgument("cannot copy directory")
    if not target.exists and not source.is_directory and target.path.endswith(("/", "/.")):
        raise errors.InvalidArgument("no such directory")
    return parent(target.path), name, base(target.path)


def renamer(old: str, new: str) -> Callable[[bytes], bytes] | None:
    """What to do with each name of the archive."""
    if old == new:
        return None
    before, after = (b"" if old == "/" else os.fsencode(old)), os.fsencode(new)
    return lambda name: name.replace(before, after, 1)


def local_target(path: str) -> Place:
    """Where a copy goes on this machine; links to it are followed. Raises InvalidArgument."""
    at = path
    for _ in range(MAX_LINKS):
        try:
            facts = os.lstat(at.rstrip("/") or "/")
        except FileNotFoundError:
            _check_parent(at)
            return Place(at, False, False)
        except OSError as error:
            raise errors.InvalidArgument(f"lstat {at}: {(error.strerror or '').lower()}") from None
        if not stat.S_ISLNK(facts.st_mode):
            return Place(at, True, stat.S_ISDIR(facts.st_mode))
        link = os.readlink(at.rstrip("/"))
        at = link if link.startswith("/") else f"{parent(at)}/{link}"
    raise errors.InvalidArgument(f"{path}: too many levels of symbolic links")


def _check_parent(path: str) -> None:
    above = parent(path)
    if not os.path.isdir(above):
        raise errors.InvalidArgument(f"invalid output path: directory {above!r} does not exist")


def local_source(path: str, follow: bool) -> Place:
    """What is copied from this machine. Raises InvalidArgument."""
    rename = os.path.basename(os.path.realpath(path)) if base(path) == ".." else ""
    try:
        if follow and os.path.islink(path.rstrip("/")):
            rename, path = base(path), os.path.realpath(path)
        facts = os.lstat(path) if not path.endswith(("/", "/.")) else os.stat(path)
    except OSError as error:
        raise errors.InvalidArgument(f"lstat {path}: {(error.strerror or '').lower()}") from None
    return Place(path, True, stat.S_ISDIR(facts.st_mode), rename)
