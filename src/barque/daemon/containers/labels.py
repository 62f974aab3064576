"""SELinux labels of containers: which one each gets, and the files that get it too.

dockerd with `--selinux-enabled`: the policy's `lxc_contexts` names the type of containers and of
their files, and two categories that no other container has keep one from the files of the next.
lxc_contexts(5), mcs(8).
"""

from __future__ import annotations

import errno
import os
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from barque import errors
from barque.daemon.containers.record import MountPoint, Record
from barque.daemon.containers.supervise import RootfsMount
from barque.linux.fs import SELINUX_ATTRIBUTE

CONFIGURATION = Path("/etc/selinux")
CATEGORIES = 1024
# Categories that are given to no container of its own: files of those without a label have them.
RESERVED = f"s0:c{CATEGORIES - 2},c{CATEGORIES - 1}"
SHARED = "s0"
WORDS = ("user", "role", "type", "level")
DISABLE = "disable"
# What the machine needs as it is labelled. dockerd has the same list.
NEVER_RELABELLED = frozenset(
    {
        *("/", "/bin", "/boot", "/dev", "/etc", "/etc/passwd", "/etc/pki", "/etc/shadow", "/home"),
        *("/lib", "/lib64", "/media", "/opt", "/proc", "/root", "/run", "/sbin", "/srv", "/sys"),
        *("/tmp", "/usr", "/var", "/var/lib", "/var/log"),
    }
)


class Label(NamedTuple):
    """`user:role:type:level`, the level with categories after another colon."""

    user: str
    role: str
    type: str
    level: str = ""

    @classmethod
    def parse(cls, text: str) -> Label:
        """Raises InvalidArgument for what has too few parts."""
        parts = text.split(":", 3)
        if len(parts) < 3 or not all(parts):
            raise errors.InvalidArgument(f"{text!r} is no SELinux label")
        return cls(*parts)

    def __str__(self) -> str:
        return ":".join(part for part in self if part)


class Pair(NamedTuple):
    """What inspect tells: of the process, and of new file systems. Empty: as the daemon's own."""

    process: str = ""
    mount: str = ""


class Labels:
    """Gives out labels; one for the daemon's life. `contexts` is None where labels are not on."""

    def __init__(self, contexts: tuple[Label, Label] | None = None) -> None:
        self._contexts = contexts
        self._taken: Counter[str] = Counter()

    @classmethod
    def read(cls, configuration: Path = CONFIGURATION) -> Labels:
        """From the policy in use. Raises BarqueError when it says nothing of containers."""
        try:
            name = _words(configuration / "config").get("SELINUXTYPE", "")
            words = _words(configuration / name / "contexts/lxc_contexts")
            return cls((Label.parse(words["process"]), Label.parse(words["file"])))
        except (OSError, KeyError, errors.InvalidArgument) as error:
            text = f"selinux-enabled: the policy names no label of containers: {error}"
            raise errors.InvalidArgument(text) from error

    def keep(self, records: Iterable[Record]) -> None:
        """The levels of containers that are there are theirs."""
        self._taken.update(Label.parse(r.process_label).level for r in records if r.process_label)

    def release(self, record: Record) -> None:
        if record.process_label:
            self._taken[Label.parse(record.process_label).level] -= 1

    def choose(self, options: Iterable[str], *, privileged: bool = False) -> Pair:
        """The labels of a new container; `options` are the words behind `--security-opt label=`.

        A level that nobody else has is its own until `release`. Raises InvalidArgument.
        """
        if self._contexts is None:
            return Pair()
        process, file = self._contexts
        given: dict[str, str] = {}
        for option in options:
            word, colon, value = option.partition(":")
            if option == DISABLE:
                return Pair("", str(file._replace(level=RESERVED)))
            if not colon or not value or word not in (*WORDS, "filetype"):
                raise errors.InvalidArgument(
                    f'bad label option "{option}", valid options are "{DISABLE}" or '
                    f"{', '.join(WORDS)}, filetype followed by ':' and a value"
                )
            given[word] = value
        level = given.pop("level", "") or (self._unique() if process.level else "")
        self._taken[level] += 1
        file = file._replace(
            level=level, type=given.pop("filetype", file.type), user=given.get("user", file.user)
        )
        process = process._replace(level=level, **given)
        return Pair("" if privileged else str(process), str(file))

    def _unique(self) -> str:
        while True:
            low, high = sorted((secrets.randbelow(CATEGORIES), secrets.randbelow(CATEGORIES)))
            level = f"s0:c{low},c{high}"
            if low != high and level != RESERVED and not self._taken[level]:
                return level


def _words(path: Path) -> dict[str, str]:
    """`name = "value"` on each line; `#` and `;` begin comments."""
    lines = (line.strip() for line in path.read_text().splitlines())
    pairs = (line.partition("=") for line in lines if line and line[0] not in "#;")
    return {name.strip(): value.strip().strip('"') for name, equals, value in pairs if equals}


def of_others(ipc: str | None, pid: str | None) -> list[str]:
    """Options that give a container the label of those whose namespaces it joins.

    `ipc` and `pid` are those containers' labels, None where it joins none. Raises InvalidArgument.
    """
    labels = {label for label in (ipc, pid) if label is not None}
    if len(labels) > 1:
        raise errors.InvalidArgument("--ipc and --pid containers SELinux labels aren't the same")
    if not labels or not (text := labels.pop()):
        return []
    return [
        f"label={word}:{value}"
        for word, value in zip(WORDS, Label.parse(text), strict=True)
        if value
    ]


def labelled(mounts: list[RootfsMount], label: str) -> list[RootfsMount]:
    """A root file system's mounts, with this label on all that is in them."""
    if not label:
        return mounts
    return [mount._replace(options=(*mount.options, f'context="{label}"')) for mount in mounts]


def relabel_mount(point: MountPoint, source: str, label: str) -> None:
    """What the words `z` (for all containers) and `Z` (for this one) of `-v` ask for. It blocks.

    Raises InvalidArgument for a directory of the machine's.
    """
    words = point.mode.split(",")
    if not label or not {"z", "Z"} & {*words}:
        return
    source = os.path.realpath(source)
    try:
        if source in NEVER_RELABELLED:
            raise errors.InvalidArgument(f"SELinux relabeling of {source} is not allowed")
        relabel(source, shared(label) if "z" in words else label)
    except errors.InvalidArgument as error:
        text = f"error setting label on mount source '{source}': {error}"
        raise errors.InvalidArgument(text) from error
    except OSError as error:
        if error.errno == errno.ENOTSUP:  # a file system without labels of its own
            return
        reason = (error.strerror or str(error)).lower()
        text = f"error setting label on mount source '{source}': {reason}"
        raise errors.BarqueError(text) from error


def shared(label: str) -> str:
    return str(Label.parse(label)._replace(level=SHARED))


def relabel(top: str, label: str) -> None:
    """Label a file, or a directory with all in it. No link is followed, whoever puts one there
    meanwhile: each name is labelled in its open directory."""
    _set(top, label)
    if not os.path.isdir(top):
        return
    for _, directories, files, fd in os.fwalk(top, follow_symlinks=False):
        for name in (*directories, *files):
            try:
                _set(f"/proc/self/fd/{fd}/{name}", label)
            except FileNotFoundError:
                continue


def relabel_files(files: Mapping[str, str], label: str) -> None:
    """The files of ours that are mounted in a container."""
    for path in files.values() if label else ():
        _set(path, label)


def _set(path: str, label: str) -> None:
    wanted = label.encode()
    try:
        if os.getxattr(path, SELINUX_ATTRIBUTE, follow_symlinks=False).rstrip(b"\0") == wanted:
            return
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise
    os.setxattr(path, SELINUX_ATTRIBUTE, wanted, follow_symlinks=False)
