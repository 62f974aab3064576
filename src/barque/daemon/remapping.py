"""`userns-remap`: the container's ids are others on the machine. dockerd: "Isolate containers".

Who they are is asked of /etc/passwd, /etc/group, /etc/subuid and /etc/subgid (subuid(5)): the
ranges of the user, one after the other, are the ids from 0 on. `default` is the user dockremap,
who is made with a range when missing. One user namespace with this mapping is for all containers,
so that they can share network, ipc and pid namespaces; docs/adr/daemon-user-namespaces.md.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from barque import errors
from barque.daemon.paths import Paths
from barque.linux import id_mapped
from barque.linux.mount import MNT_DETACH, MS_BIND, mount, umount2
from barque.oci.id_maps import IDS, IdMaps

DEFAULT = "default"
DEFAULT_USER = "dockremap"
FIRST_RANGE, RANGE_SIZE = 100_000, 65_536
LONGEST_FILE = 1 << 22


@dataclass(frozen=True, slots=True)
class Remap:
    """`text` is "user:group", `namespace` where the user namespace is bound ("" before)."""

    text: str
    maps: IdMaps
    namespace: str = ""

    @property
    def root(self) -> tuple[int, int]:
        return self.maps.root

    @property
    def directory(self) -> str:
        """What the data root's own subdirectory is called, as dockerd calls it."""
        return "{}.{}".format(*self.root)


class Files(NamedTuple):
    """Where a machine says who is who."""

    passwd: Path = Path("/etc/passwd")
    group: Path = Path("/etc/group")
    subuid: Path = Path("/etc/subuid")
    subgid: Path = Path("/etc/subgid")


MACHINE = Files()


def resolve(option: str, files: Files = MACHINE) -> Remap | None:
    """What the option means; None for root, who is not remapped. Raises InvalidArgument."""
    if option == DEFAULT:
        _make_default(files)
        user = group = DEFAULT_USER
    else:
        first, colon, second = option.partition(":")
        if not first or (colon and not second) or ":" in second:
            raise errors.InvalidArgument(
                f"invalid user/group specification in --userns-remap: {option!r}"
            )
        user = _known(files.passwd, first, "user", option)
        group = _known(
            files.group, second or (user if not first.isdigit() else first), "group", option
        )
    if user == "root":
        return None
    return Remap(
        f"{user}:{group}",
        IdMaps(
            _mapping(files.subuid, user, _number(files.passwd, user)),
            _mapping(files.subgid, group, _number(files.group, group)),
        ),
    )


def _known(path: Path, wanted: str, what: str, option: str) -> str:
    """The name of a user or group that is given by name or number."""
    for name, number in _entries(path):
        if wanted == (number if wanted.isdigit() else name):
            return name
    raise errors.InvalidArgument(f"--userns-remap {option!r}: no such {what}: {wanted}")


def _number(path: Path, name: str) -> str:
    return next((number for known, number in _entries(path) if known == name), "")


def _entries(path: Path) -> Iterator[tuple[str, str]]:
    for fields in _lines(path):
        if len(fields) > 2:
            yield fields[0], fields[2]


def _lines(path: Path) -> Iterator[list[str]]:
    try:
        with path.open("rb") as file:
            text = file.read(LONGEST_FILE).decode("utf-8", "replace")
    except FileNotFoundError:
        return
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            yield line.strip().split(":")


def _ranges(path: Path, name: str = "", number: str = "") -> list[tuple[int, int]]:
    """(first, count) of what a user has; of everyone without a name."""
    found = []
    for fields in _lines(path):
        if name and fields[0] not in {name, number}:
            continue
        if len(fields) != 3 or not all(f.isascii() and f.isdigit() for f in fields[1:]):
            raise errors.InvalidArgument(f"{path}: cannot be understood: {':'.join(fields)[:80]!r}")
        found.append((int(fields[1][:12]), int(fields[2][:12])))
    return found


def _mapping(path: Path, name: str, number: str) -> str:
    """As IdMaps takes it. Raises InvalidArgument."""
    ranges = _ranges(path, name, number)
    if not ranges:
        raise errors.InvalidArgument(f"no subordinate ids for {name!r} in {path}")
    pieces, inside = [], 0
    for first, count in ranges:
        pieces.append(f"{inside}:{first}:{count}")
        inside += count
    return ",".join(pieces)


def _make_default(files: Files) -> None:
    """The user dockremap, its group and its ranges, as far as they are missing."""
    if not _number(files.passwd, DEFAULT_USER):
        _call(
            *("useradd", "--system", "--user-group", "--no-create-home"),
            *("--home-dir", "/nonexistent", "--shell", "/bin/false", DEFAULT_USER),
        )
    for path, flag in ((files.subuid, "--add-subuids"), (files.subgid, "--add-subgids")):
        if not _ranges(path, DEFAULT_USER, _number(files.passwd, DEFAULT_USER)):
            first = max([FIRST_RANGE, *(start + count for start, count in _ranges(path))])
            if first + RANGE_SIZE > IDS:
                raise errors.ResourceExhausted(f"no room for {RANGE_SIZE} more ids in {path}")
            _call("usermod", flag, f"{first}-{first + RANGE_SIZE - 1}", DEFAULT_USER)


def _call(program: str, *arguments: str) -> None:
    found = shutil.which(program, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        raise errors.Unsupported(
            f"--userns-remap default: {program} is not there to make the user {DEFAULT_USER}: "
            "make it by hand, with ranges in /etc/subuid and /etc/subgid"
        )
    done = subprocess.run([found, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise errors.BarqueError(f"{program} {DEFAULT_USER}: {done.stderr.strip()[:300]}")


def prepare_roots(data_root: Path, remap: Remap) -> Path:
    """Make the data root's subdirectory for these ids, reachable by them. Raises InvalidArgument.

    As dockerd: what stood in the data root itself stays there, unseen.
    """
    data_root.mkdir(mode=0o711, parents=True, exist_ok=True)
    if data_root.stat().st_mode & 0o011 != 0o011:
        data_root.chmod(data_root.stat().st_mode & 0o777 | 0o011)
    for directory in data_root.parents:
        if not directory.stat().st_mode & 0o001:
            raise errors.InvalidArgument(
                f"a subdirectory in your data root path ({directory}) restricts access to the "
                f"remapped root {remap.text}; please fix by allowing 'o+x' permissions on it"
            )
    return data_root / remap.directory


def bind_namespace(paths: Paths, remap: Remap) -> Remap:
    """The user namespace of these ids, bound below the exec root: made, or that of a daemon before.

    For a process that has one thread.
    """
    lines = remap.maps.uids.lines(), remap.maps.gids.lines()
    name = f"{remap.directory}-{zlib.crc32('/'.join(lines).encode()):08x}"
    paths.user_namespaces.mkdir(mode=0o711, exist_ok=True)
    place = paths.user_namespaces / name
    if not place.exists():
        place.touch(mode=0o444)
    if place.stat().st_dev == paths.user_namespaces.stat().st_dev:  # nothing is bound there
        fd = id_mapped.new_user_namespace(*lines)
        try:
            mount(f"/proc/self/fd/{fd}", str(place), flags=MS_BIND)
        finally:
            os.close(fd)
    return Remap(remap.text, remap.maps, str(place))


def release_namespaces(paths: Paths) -> None:
    """Unbind them unless a container lives on: another may be asked to share with it."""
    if any(paths.netns.iterdir()):
        return
    for place in paths.user_namespaces.iterdir():
        with suppress(OSError):  # not bound
            umount2(str(place), MNT_DETACH)
        place.unlink()
