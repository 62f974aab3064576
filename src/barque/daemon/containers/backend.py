"""What containers need of their neighbours in the daemon, and no more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from barque.oci.id_maps import IdMaps


class Image(Protocol):
    @property
    def id(self) -> str:
        """`sha256:` and the digest of the image's config."""

    @property
    def config(self) -> Mapping[str, Any]:
        """The image config's `config`: Env, Cmd, Entrypoint, ..."""

    @property
    def chain_id(self) -> str:
        """The key of the unpacked root file system."""

    @property
    def platform(self) -> str:
        """`linux/amd64`, with a variant where there is one."""

    @property
    def size(self) -> int:
        """Bytes of its layers, unpacked."""


class Images(Protocol):
    async def resolve(self, reference: str) -> Image:
        """By name, id or prefix of an id. Raises NotFound ("No such image: NAME")."""

    async def ensure_unpacked(self, image: Any) -> None:
        """Make the snapshots of an image that lacks them."""


class Sandbox(Protocol):
    @property
    def netns(self) -> str | None:
        """Path of the network namespace; None for the host's."""

    @property
    def settings(self) -> dict[str, Any]:
        """The API's NetworkSettings."""

    @property
    def hosts(self) -> str: ...

    @property
    def resolv_conf(self) -> str: ...


class Networks(Protocol):
    no_default: bool  # `--bridge none`

    async def attach(
        self,
        container_id: str,
        name: str,
        hostname: str,
        mode: str,
        endpoints: Mapping[str, Mapping[str, Any]],
        ports: Mapping[str, Sequence[Mapping[str, str]] | None],
        *,
        dns: Sequence[str] = (),
        dns_search: Sequence[str] = (),
        dns_options: Sequence[str] = (),
        extra_hosts: Sequence[str] = (),
        domainname: str = "",
        links: Sequence[str] = (),
        host_users: bool = True,
    ) -> Sandbox: ...

    async def rename(self, container_id: str, name: str) -> None:
        """Others in its networks find a container by its new name."""

    async def detach(self, container_id: str) -> None:
        """Idempotent."""

    def settings(
        self,
        container_id: str,
        mode: str | None = None,
        endpoints: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """The API's NetworkSettings as they are now; of one that does not run, what they will be.

        `mode` and `endpoints` are what was asked for."""


class Volumes(Protocol):
    async def reserve(
        self,
        name: str,
        container_id: str,
        *,
        anonymous: bool,
        driver: str,
        labels: Mapping[str, str] | None,
        options: Mapping[str, str] | None,
    ) -> str:
        """The volume exists, made as told if need be, and the container uses it: its driver."""

    async def mount(self, name: str, container_id: str, part: str = "") -> str:
        """The host path of its data, or of `part` of it, while the container runs."""

    async def mount_layers(
        self,
        container_id: str,
        place: str,
        layers: Sequence[str],
        part: str = "",
        namespace: str = "",
    ) -> str:
        """The host path of the merged `layers` (top first), read-only, or of `part` of them.

        The files' ids are of the user `namespace` with that path.
        """

    async def unmount(self, container_id: str) -> None:
        """The container does not run any more. Idempotent."""

    def is_untouched(self, name: str) -> bool:
        """Whether `populate` may still copy something into the volume."""

    async def populate(
        self, name: str, layers: Sequence[str], path: str, maps: IdMaps | None = None
    ) -> bool:
        """Copy directory `path` of an image's `layers` (top first) into an empty volume."""

    async def remove(self, name: str) -> None: ...

    async def restore(self, containers: Iterable[str], running: Iterable[str]) -> None:
        """At start, with the ids of all containers: finish what a crash broke off."""

    def data_path(self, name: str) -> str:
        """Where the data of a volume is on the host; "" for one that is not known."""

    async def release(self, container_id: str) -> None:
        """The container uses no volume any more. Idempotent."""
