"""barque-archive: one copy into or out of one container, as a process of its own.

    standard input    one line of JSON (`tree.assemble`, with `do`, `path`), then, for `put`, a tar
    standard output   one line of JSON, {"stat": ...} or {"error": ...}, then, for `get`, a tar

It ends with its work; a tree that it mounted goes with it. docs/boundaries.md, section 8.
"""

from __future__ import annotations

import errno
import os
import stat

from barque import errors
from barque.daemon.archive.modes import go_mode
from barque.daemon.archive.tree import Tree, assemble
from barque.linux.fs import open_in_root
from barque.oci.document import dump, parse
from barque.oci.tar_pack import Content, pack, pack_bare, pack_inside
from barque.oci.tar_unpack import Unpacker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

MAX_REQUEST_BYTES = 1 << 20
CHUNK_BYTES = 1 << 20
IN, OUT = 0, 1
KINDS = {
    kind.__name__: kind
    for kind in (
        errors.InvalidArgument,
        errors.NotFound,
        errors.Forbidden,
        errors.Conflict,
        errors.Unsupported,
        errors.ResourceExhausted,
    )
}


def main(arguments: list[str]) -> int:
    try:
        line, rest = _read_line()
        request = parse(line)
        _serve(request, rest)
    except errors.BarqueError as error:
        _say({"error": type(error).__name__, "text": str(error)})
        return 1
    except BrokenPipeError:
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        kind = "ResourceExhausted" if full else "BarqueError"
        _say({"error": kind, "text": f"{where}{(error.strerror or str(error)).lower()}"})
        return 1
    return 0


def _read_line() -> tuple[bytes, bytes]:
    data = b""
    while b"\n" not in data:
        piece = os.read(IN, 65536)
        if not piece or len(data) > MAX_REQUEST_BYTES:
            raise errors.InvalidArgument("malformed request")
        data += piece
    line, _, rest = data.partition(b"\n")
    return line, rest


def _say(answer: dict[str, Any]) -> None:
    _write(dump({key: _readable(value) for key, value in answer.items()}) + b"\n")


def _readable(value: Any) -> Any:
    """What JSON can carry: names on a disk are bytes, not all of them text."""
    if isinstance(value, dict):
        return {key: _readable(item) for key, item in value.items()}
    if isinstance(value, str):
        return os.fsencode(value).decode("utf-8", "replace")
    return value


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(OUT, view) :]


def _serve(request: dict[str, Any], rest: bytes) -> None:
    try:
        tree = assemble(request)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ESTALE):
            raise
        raise errors.NotFound(f"No such container: {request['reference']}") from error
    if request["do"] == "put":
        directory = _extraction_point(tree, request)
        _say({"stat": {}})  # from here on the archive is read
        put(tree, request, directory, rest)
        _say({"stat": {}})
        return
    where = locate(tree, request)
    _say({"stat": describe(tree, where)})
    if request["do"] == "export":
        for piece in pack_bare(tree.root):
            _send(piece)
    elif request["do"] == "get":
        for piece in archive(where, attributes=bool(request["whole"])):
            _send(piece)


class Place:
    """What a path names: an entry of a directory, or an opened directory itself."""

    __slots__ = ("base", "directory", "facts", "name", "path")

    def __init__(self, directory: int, name: bytes, base: str, path: str) -> None:
        self.directory = directory
        self.name = name  # of the entry in the directory; b"" for the directory itself
        self.base = base  # what the archive calls it
        self.path = path
        self.facts = os.fstat(directory) if not name else os.lstat(name, dir_fd=directory)


def absolute(path: str) -> str:
    """The path from the root, cleaned; a last `/` or `/.` stays, for it says "the directory"."""
    clean: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del clean[-1:]
        elif part not in ("", "."):
            clean.append(part)
    whole = "/" + "/".join(clean)
    if path.endswith("/.") or path == ".":
        return whole.rstrip("/") + "/."
    return whole + "/" if path.endswith("/") and clean else whole


def locate(tree: Tree, request: dict[str, Any]) -> Place:
    """Docker's rule: the last component is not followed, unless a `/` or `/.` stands behind it.

    Raises NotFound, InvalidArgument.
    """
    path = absolute(_asked(request))
    head, _, last = path.rpartition("/")
    try:
        if last in ("", "."):
            directory = tree.open(head or "/", os.O_RDONLY | os.O_DIRECTORY)
            base = last or head.rpartition("/")[2] or "/"
            return Place(directory, b"", base, path)
        directory = tree.open(head or "/", os.O_RDONLY | os.O_DIRECTORY)
        return Place(directory, os.fsencode(last), last, path)
    except FileNotFoundError:
        raise _missing(request) from None
    except NotADirectoryError:
        raise errors.InvalidArgument(f"lstat {request['path']}: not a directory") from None


def _asked(request: dict[str, Any]) -> str:
    path: str = request["path"]
    if "\0" in path:
        raise errors.InvalidArgument("invalid path: it contains a NUL byte")
    return path


def _missing(request: dict[str, Any]) -> errors.NotFound:
    path, container = request["path"], request["reference"]
    return errors.NotFound(f"Could not find the file {path} in container {container}")


def describe(tree: Tree, place: Place) -> dict[str, Any]:
    """API: the X-Docker-Container-Path-Stat header."""
    facts = place.facts
    target = ""
    if stat.S_ISLNK(facts.st_mode):
        target = _link_target(tree, place)
    return {
        "name": place.base,
        "size": facts.st_size,
        "mode": go_mode(facts.st_mode),
        "mtime": facts.st_mtime_ns,
        "linkTarget": target,
    }


def _link_target(tree: Tree, place: Place) -> str:
    """Where the link ends, from the container's root; as far as it can be followed."""
    try:
        fd = open_in_root(tree.root, place.path, os.O_PATH)
    except OSError:
        text = os.fsdecode(os.readlink(place.name, dir_fd=place.directory))
        if text.startswith("/"):
            return absolute(text)
        return absolute(f"{tree.path_of(place.directory)}/{text}")
    try:
        return tree.path_of(fd)
    finally:
        os.close(fd)


def archive(place: Place, *, attributes: bool = False) -> Iterator[bytes | Content]:
    if place.name:
        return pack(place.directory, place.name, os.fsencode(place.base))
    return pack_inside(place.directory, os.fsencode(place.base), attributes=attributes)


def _send(piece: bytes | Content) -> None:
    if isinstance(piece, bytes):
        _write(piece)
        return
    left = piece.size
    while left:
        sent = os.sendfile(OUT, piece.fd, None, min(left, 1 << 30))
        if not sent:  # it shrank
            break
        left -= sent
    while left:
        size = min(left, CHUNK_BYTES)
        _write(bytes(size))
        left -= size


def put(tree: Tree, request: dict[str, Any], directory: int, rest: bytes) -> None:
    """Unpack the archive on standard input in a directory of the container."""
    base = tree.path_of(directory)
    unpacker = Unpacker(
        lambda parts: tree.open(
            b"/".join((os.fsencode(base), *parts)).decode("utf-8", "surrogateescape"),
            os.O_RDONLY | os.O_DIRECTORY,
        ),
        owner=tuple(request["owner"]) if request["owner"] else None,
        keep_kinds=bool(request["keep_kinds"]),
        top=bool(request["whole"]),
    )
    try:
        data = rest or os.read(IN, CHUNK_BYTES)
        while data:
            unpacker.feed(data)
            unpacker.take_from(IN)
            data = os.read(IN, CHUNK_BYTES)
        unpacker.end()
    finally:
        unpacker.close()


def _extraction_point(tree: Tree, request: dict[str, Any]) -> int:
    try:
        directory = tree.open(absolute(_asked(request)), os.O_PATH)
    except FileNotFoundError:
        raise _missing(request) from None
    except NotADirectoryError:
        raise errors.InvalidArgument("extraction point is not a directory") from None
    if not stat.S_ISDIR(os.fstat(directory).st_mode):
        raise errors.InvalidArgument("extraction point is not a directory")
    point = tree.point_of(directory)
    if point is not None and not point.writable:
        raise errors.Forbidden("mounted volume is marked read-only")
    if point is None and request["read_only"]:
        raise errors.Forbidden("container rootfs is marked read-only")
    return directory
