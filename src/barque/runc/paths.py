"""Every path the runtime keeps on disk, drawn once.

<root>/                      0700, `--root`, not kept over a reboot
    <id>/                    0711, one container
        state.json           runtime-spec state and what later commands need
        config.json          the bytes of the bundle's config.json at create
        bundle               a link to the bundle, should state.json be lost
        notify/notify.sock   where the container says that it is ready, when it was asked to
        exec.fifo            there until start; the container's first process waits at it
        criu-root            mount point of the root file system while it is restored
    @seccomp/<sha256>        compiled filters; `@` is in no container's id
"""

from __future__ import annotations

from barque.errors import InvalidArgument

STATE = "state.json"
DEFAULT_ROOT = "/run/barque/runc"
LONGEST_ID = 1024  # bytes
ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")


class Paths:
    """The tree under one `--root`."""

    __slots__ = ("criu", "root", "rootless", "systemd")

    def __init__(
        self, root: str, criu: str = "", *, systemd: bool = False, rootless: bool = False
    ) -> None:
        self.root = root
        self.criu = criu  # the program, which is not of the tree; empty: that of PATH
        self.systemd = systemd  # who makes the cgroups: their paths are systemd's
        self.rootless = rootless  # what of cgroups is not permitted is done without

    def container(self, container: str) -> str:
        return f"{self.root}/{checked_id(container)}"

    def state(self, container: str) -> str:
        return f"{self.container(container)}/{STATE}"

    def config(self, container: str) -> str:
        return f"{self.container(container)}/config.json"

    def bundle(self, container: str) -> str:
        return f"{self.container(container)}/bundle"

    def notify(self, container: str) -> str:
        return f"{self.container(container)}/notify"

    def fifo(self, container: str) -> str:
        return f"{self.container(container)}/exec.fifo"

    def criu_root(self, container: str) -> str:
        return f"{self.container(container)}/criu-root"

    @property
    def filters(self) -> str:
        return f"{self.root}/@seccomp"

    def filter(self, key: str) -> str:
        return f"{self.filters}/{key}"


def checked_id(container: str) -> str:
    """An id that is one safe path component."""
    if not container or container in (".", "..") or len(container) > LONGEST_ID:
        raise InvalidArgument("invalid container ID format")
    if not ALLOWED.issuperset(container):
        raise InvalidArgument("invalid container ID format")
    return container
