"""`barque cp`: files between a container and this machine."""

from __future__ import annotations

import os

from barque import errors
from barque.cli import terminal
from barque.cli.copying import places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from barque.cli.flags import Options, Row
    from barque.cli.session import Session
    from barque.client.client import Client
    from barque.oci.tar_pack import Content

USAGE = (
    "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\tbarque cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH"
)
SUMMARY = "Copy files and directories between a container and this machine"
ALIASES = ("container cp", "cp")
OPTIONS: tuple[Row, ...] = (
    ("archive", "a", "bool", "Keep the owner: the container's user gets what is copied in"),
    ("follow-link", "L", "bool", "Follow a link that SRC_PATH is"),
    ("quiet", "q", "bool", "Do not say what was copied"),
)
ARGUMENTS = (2, 2)

READ_BYTES = 1 << 20
DIRECTORY_BIT, LINK_BIT = 1 << 31, 1 << 27  # of Go's FileMode


def run(session: Session, options: Options, arguments: list[str]) -> int:
    source, target = (split(argument) for argument in arguments)
    if source[0] and target[0]:
        raise errors.InvalidArgument("copying between containers is not supported")
    if not source[0] and not target[0]:
        raise errors.InvalidArgument("must specify at least one container source")
    quiet = options.flag("quiet") or not terminal.is_terminal(terminal.STDERR)
    follow = options.flag("follow-link")
    if source[0]:
        copied = _from(session.client, source[0], source[1], target[1], follow)
        said = f"to {target[1]}"
    else:
        keep_owner = options.flag("archive")
        copied = _into(session.client, source[1], target[0], target[1], follow, keep_owner)
        said = f"to {target[0]}:{target[1]}"
    if not quiet and "-" not in arguments:
        from barque.cli.units import size

        terminal.err(f"Successfully copied {size(copied)} {said}\n")
    return 0


def split(argument: str) -> tuple[str, str]:
    """`CONTAINER:PATH`; a path of this machine has no container."""
    if argument.startswith("/"):
        return "", argument
    container, colon, path = argument.partition(":")
    if not colon or container.startswith("."):
        return "", argument
    if not path:
        raise errors.InvalidArgument(f"path of {argument!r} is empty")
    return container, path


class Counter:
    """Passes pieces on and counts their bytes."""

    def __init__(self, pieces: Iterable[bytes | Content]) -> None:
        self._pieces = pieces
        self.count = 0

    def __iter__(self) -> Iterator[bytes | Content]:
        for piece in self._pieces:
            self.count += len(piece) if isinstance(piece, bytes) else piece.size
            yield piece


def _from(client: Client, container: str, path: str, target: str, follow: bool) -> int:
    rename = ""
    if follow:
        found = client.containers.path_stat(container, path)
        if found is not None and int(found["mode"]) & LINK_BIT:
            link = str(found["linkTarget"])
            inside = link if link.startswith("/") else f"{places.parent(path)}/{link}"
            rename, path = places.base(path), inside
    if target == "-":
        _, pieces = client.containers.archive(container, path)
        for piece in pieces:
            terminal.write(terminal.STDOUT, piece)
        return 0
    place = places.local_target(target)
    found, pieces = client.containers.archive(container, path)
    source = places.Place(path, True, bool(int(found["mode"]) & DIRECTORY_BIT))
    old = places.base(path)
    source.rename = rename or old
    directory, _, new = places.plan(source, place)
    return _unpack(pieces, directory, old, new)


def _unpack(pieces: Iterable[bytes], directory: str, old: str, new: str) -> int:
    """The archive's size. Nothing in it leads out of `directory`: it comes from a container."""
    from barque.oci.tar_unpack import Unpacker, below

    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise errors.InvalidArgument(
            f"open {directory}: {(error.strerror or '').lower()}"
        ) from None
    unpacker = Unpacker(below(fd), chown=False, keep_kinds=True, rename=places.renamer(old, new))
    count = 0
    try:
        for piece in pieces:
            count += len(piece)
            unpacker.feed(piece)
        unpacker.end()
    finally:
        unpacker.close()
        os.close(fd)
    return count


def _into(
    client: Client, path: str, container: str, target: str, follow: bool, keep_owner: bool
) -> int:
    place = _container_target(client, container, target)
    if path == "-":
        if not place.is_directory:
            raise errors.InvalidArgument(f'destination "{container}:{target}" must be a directory')
        stdin = Counter(_standard_input())
        client.containers.extract(container, place.path, stdin, copy_owner=keep_owner)
        return stdin.count
    source = places.local_source(path, follow)
    directory, _, new = places.plan(source, place)
    counted = Counter(_packed(source, new))
    client.containers.extract(container, directory, counted, copy_owner=keep_owner)
    return counted.count


def _container_target(client: Client, container: str, path: str) -> places.Place:
    """One link is followed; what is not there may be made."""
    found = client.containers.path_stat(container, path)
    if found is not None and int(found["mode"]) & LINK_BIT:
        link = str(found["linkTarget"])
        path = link if link.startswith("/") else f"{places.parent(path)}/{link}"
        found = client.containers.path_stat(container, path)
    if found is None:
        return places.Place(path, False, False)
    return places.Place(path, True, bool(int(found["mode"]) & DIRECTORY_BIT))


def _standard_input() -> Iterator[bytes]:
    while piece := os.read(terminal.STDIN, READ_BYTES):
        yield piece


def _packed(source: places.Place, name: str) -> Iterator[bytes | Content]:
    from barque.oci.tar_pack import pack, pack_inside

    inside = source.path.endswith(("/", "/.")) or source.path in (".", "..")
    where = source.path if inside else places.parent(source.path)
    try:
        fd = os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise errors.InvalidArgument(f"open {where}: {(error.strerror or '').lower()}") from None
    try:
        if inside:
            yield from pack_inside(fd, os.fsencode(name))
        else:
            yield from pack(fd, os.fsencode(places.base(source.path)), os.fsencode(name))
    finally:
        os.close(fd)
