"""`linux.intelRdt`: the container's processes in a group of the resctrl filesystem.

config-linux.md, "IntelRdt". Where resctrl is not mounted it is an error.
"""

from __future__ import annotations

import os

from barque.errors import InvalidArgument, NotFound, Unsupported
from barque.linux.fs import RESCTRL_MAGIC, filesystem_magic, read_bounded, write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.oci.fields import Fields
    from barque.runc.undo import Undo

ROOT = "/sys/fs/resctrl"


def mounted() -> bool:
    try:
        return filesystem_magic(ROOT) == RESCTRL_MAGIC
    except OSError:
        return False


class Group:
    """What a config asks for, checked."""

    __slots__ = ("lines", "monitoring", "name", "named")

    def __init__(self, fields: Fields, container: str) -> None:
        self.named = bool(fields.text("closID"))
        self.name = fields.text("closID") or container
        if self.name in (".", "..") or "/" in self.name:
            raise InvalidArgument(f'invalid intelRdt.ClosID "{self.name}"')
        cache, bandwidth = _line(fields, "l3CacheSchema"), _line(fields, "memBwSchema")
        if bandwidth and not bandwidth.startswith("MB:"):
            raise InvalidArgument(f'{fields.path("memBwSchema")} does not begin with "MB:"')
        lines = [line for line in cache.split("\n") if line]
        if bandwidth:  # wins over what the cache's schema says of it
            lines = [line for line in lines if not line.startswith("MB:")] + [bandwidth]
        self.lines = tuple(lines) + tuple(
            line for entry in fields.texts("schemata") for line in entry.split("\n") if line
        )
        self.monitoring = fields.flag("enableMonitoring")
        for old in ("enableCMT", "enableMBM"):  # as the specification called it before 1.3
            self.monitoring = self.monitoring or fields.flag(old)


def _line(fields: Fields, name: str) -> str:
    text = fields.text(name).strip()
    if name == "memBwSchema" and "\n" in text:
        raise InvalidArgument(f"{fields.path(name)} has a new line")
    return text


def join(group: Group, pid: int, container: str, undo: Undo, root: str = ROOT) -> None:
    """Put process `pid`, and so its children, into the group; made and limited when it is new."""
    if root == ROOT and not mounted():
        raise Unsupported("linux.intelRdt is specified in config, but resctrl is not mounted")
    directory = f"{root}/{group.name}"
    if os.path.isdir(directory):
        _check_same(group, directory)
    elif group.named and not group.lines:
        raise NotFound(
            f"linux.intelRdt: closID {group.name} has no group, and no schema to make one"
        )
    else:
        os.mkdir(directory, 0o755)
        undo.add(os.rmdir, directory)
        if group.lines:
            write_file(f"{directory}/schemata", "".join(f"{line}\n" for line in group.lines))
    write_file(f"{directory}/tasks", str(pid))
    if group.monitoring:
        monitor = f"{directory}/mon_groups/{container}"
        os.mkdir(monitor, 0o755)
        undo.add(os.rmdir, monitor)
        write_file(f"{monitor}/tasks", str(pid))


def leave(group: Group, container: str, root: str = ROOT) -> None:
    """Remove what `join` made; what is gone, or was there before, is left."""
    made = [f"{root}/{group.name}/mon_groups/{container}"] if group.monitoring else []
    for directory in (*made, *(() if group.named else (f"{root}/{group.name}",))):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            continue


def _check_same(group: Group, directory: str) -> None:
    found = {line.strip() for line in read_bounded(f"{directory}/schemata").decode().splitlines()}
    missing = [line for line in group.lines if line.strip() not in found]
    if missing:
        raise InvalidArgument(
            f"linux.intelRdt: closID {group.name} has another schema: {missing[0]}"
        )
