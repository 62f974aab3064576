"""What was asked for: a container's immutable description, as it is stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from barque.daemon.containers.documents import Config, HostConfig

DEFAULT_NETWORK = frozenset({"", "default", "bridge"})  # the modes that mean it


class MountPoint(Struct, kw_only=True, omit_defaults=True):
    """One mount of the user's: planned at create, its volume resolved at start.

    `source` is the host path of a bind and empty for a volume (the volumes service knows it) or a
    tmpfs. `mode` is what the user wrote behind the last colon.
    """

    type: str
    destination: str
    name: str = ""
    source: str = ""
    driver: str = ""
    mode: str = ""
    rw: bool = True
    propagation: str = ""
    create_source: bool = False
    copy_up: bool = False
    anonymous: bool = False
    recursive: bool = True
    read_only_recursive: bool = True
    force_recursive: bool = False
    tmpfs_options: list[str] = []
    subpath: str = ""
    labels: dict[str, str] = {}
    options: dict[str, str] = {}


class Record(Struct, kw_only=True):
    """A container as created. Changed only by rename, by update, and by the volumes it names."""

    id: str
    name: str
    created: str
    image: str
    chain_id: str
    path: str
    args: list[str]
    config: Config
    host: HostConfig
    endpoints: dict[str, Any] = {}
    mounts: list[MountPoint] = []
    driver: str = "overlayfs"
    process_label: str = ""
    mount_label: str = ""

    @property
    def legacy_links(self) -> Sequence[tuple[str, str]]:
        """--link of a container on the default network, whom and by which name; elsewhere its
        endpoints have them."""
        if self.host.network_mode not in DEFAULT_NETWORK:
            return ()
        parted = (link.partition(":") for link in self.host.links or ())
        return [(target, alias or target) for target, _, alias in parted]

    @property
    def short_id(self) -> str:
        return self.id[:12]
