"""The documents of an image, parsed once from the bytes received: index, manifest, config.

Source: image-spec, image-index.md, manifest.md, config.md, descriptor.md; Docker's image manifest
version 2 schema 2 has the same members. A digest is over a document's bytes, so they are kept.

    index ──manifests──> manifest ──config──> config (rootfs.diff_ids: one a layer, base first)
                                  └─layers──> tar archives

A document that could be read both as index and as manifest is refused (CVE-2021-41190).
"""

from __future__ import annotations

from barque.errors import InvalidArgument
from barque.oci import digest as digests
from barque.oci import document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

INDEXES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
CONFIGS = frozenset({OCI_CONFIG, DOCKER_CONFIG})
LAYERS = frozenset(
    {
        OCI_LAYER,
        OCI_LAYER + "+gzip",
        OCI_LAYER + "+zstd",
        DOCKER_LAYER,
        DOCKER_LAYER + ".gzip",
        DOCKER_LAYER + ".zstd",
    }
)
# Layers that a registry need not have: their descriptors say where they are.
FOREIGN_PREFIXES = (
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
)

# The same bytes as a layer like any other.
FOREIGN_LAYERS = {
    **{FOREIGN_PREFIXES[0] + end: OCI_LAYER + end for end in ("", "+gzip", "+zstd")},
    **{FOREIGN_PREFIXES[1] + end: DOCKER_LAYER + end for end in ("", ".gzip", ".zstd")},
}

LAYERS_MAX = 1000
MANIFESTS_MAX = 1000
URLS_MAX = 8
SIZE_MAX = (1 << 63) - 1


class Descriptor:
    """Where a blob is and what it must be. `platform` is None unless an index gave one.

    `urls`: where else it may be had, in the words of whoever wrote the document.
    """

    __slots__ = ("annotations", "digest", "media_type", "platform", "size", "urls")

    def __init__(
        self,
        media_type: str,
        digest: str,
        size: int,
        platform: Platform | None = None,
        annotations: Mapping[str, str] | None = None,
        urls: tuple[str, ...] = (),
    ) -> None:
        self.urls = urls
        self.media_type = media_type
        self.digest = digest
        self.size = size
        self.platform = platform
        self.annotations: Mapping[str, str] = annotations or {}

    def document(self) -> dict[str, Any]:
        """The descriptor as image-spec writes it."""
        value: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": self.size,
        }
        if self.platform is not None:
            value["platform"] = self.platform.document()
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        if self.urls:
            value["urls"] = list(self.urls)
        return value

    def __repr__(self) -> str:
        return f"Descriptor({self.media_type}, {self.digest}, {self.size})"


class Platform:
    """What an image runs on, in Go's words: linux/amd64, linux/arm/v7."""

    __slots__ = ("architecture", "os", "variant")

    def __init__(self, os: str, architecture: str, variant: str = "") -> None:
        self.os, self.architecture, self.variant = os, architecture, variant

    def document(self) -> dict[str, str]:
        value = {"architecture": self.architecture, "os": self.os}
        return {**value, "variant": self.variant} if self.variant else value

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Platform) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


class Manifest:
    """One image for one platform. image-spec, manifest.md. `layers`: base first."""

    __slots__ = ("config", "layers", "media_type", "raw")

    def __init__(
        self, raw: bytes, media_type: str, config: Descriptor, layers: tuple[Descriptor, ...]
    ) -> None:
        self.raw, self.media_type, self.config, self.layers = raw, media_type, config, layers


class Index:
    """Manifests of one image for several platforms. image-spec, image-index.md."""

    __slots__ = ("manifests", "media_type", "raw")

    def __init__(self, raw: bytes, media_type: str, manifests: tuple[Descriptor, ...]) -> None:
        self.raw, self.media_type, self.manifests = raw, media_type, manifests


class Config:
    """What an image is made of and how it starts. image-spec, config.md.

    `document` is all of it; `defaults` its member "config", {} when absent.
    """

    __slots__ = ("defaults", "diff_ids", "document", "platform", "raw")

    def __init__(self, raw: bytes, document: dict[str, Any], diff_ids: tuple[str, ...]) -> None:
        self.raw, self.document, self.diff_ids = raw, document, diff_ids
        self.defaults: dict[str, Any] = _member(document, "config", dict) or {}
        self.platform = Platform(
            _member(document, "os", str) or "linux",
            _member(document, "architecture", str) or "",
            _member(document, "variant", str) or "",
        )


def parse(raw: bytes, media_type: str = "") -> Manifest | Index:
    """A manifest or an index, by what is in it. Raises InvalidArgument when it is neither or both,

    or is not what `media_type` (of the descriptor or the transfer, "" for unknown) says.
    """
    value = _object(raw, "manifest")
    has_layers = "layers" in value or "config" in value
    has_manifests = "manifests" in value
    if has_layers and has_manifests:
        raise InvalidArgument("invalid manifest: has both layers and manifests")
    own = _member(value, "mediaType", str) or ""
    if "fsLayers" in value or "signatures" in value or value.get("schemaVersion") == 1:
        raise InvalidArgument("invalid manifest: schema 1 is not supported")
    kind = own or media_type or (OCI_INDEX if has_manifests else OCI_MANIFEST)
    if has_manifests and kind in INDEXES and media_type not in MANIFESTS:
        entries = _descriptors(value, "manifests", MANIFESTS_MAX)
        return Index(raw, kind, entries)
    if has_layers and kind in MANIFESTS and media_type not in INDEXES:
        config = _descriptor(value.get("config"), "config")
        return Manifest(raw, kind, config, _descriptors(value, "layers", LAYERS_MAX))
    raise InvalidArgument(f"invalid manifest: {kind[:100]!r} does not fit what is in it")


def parse_config(raw: bytes) -> Config:
    """Raises InvalidArgument for what cannot be run: no object, or diff ids that are no digests."""
    value = _object(raw, "image config")
    rootfs = _member(value, "rootfs", dict) or {}
    diff_ids = rootfs.get("diff_ids") or []
    if not isinstance(diff_ids, list) or len(diff_ids) > LAYERS_MAX:
        raise InvalidArgument("invalid image config: rootfs.diff_ids")
    for diff_id in diff_ids:
        if not isinstance(diff_id, str) or not digests.is_valid(diff_id):
            raise InvalidArgument("invalid image config: rootfs.diff_ids")
    return Config(raw, value, tuple(diff_ids))


def parse_platform(text: str) -> Platform:
    """`linux/arm64/v8`, `linux/amd64`, or a system or an architecture alone.

    Raises InvalidArgument, in the words of containerd's platforms.Parse.
    """
    shown = f'"{text[:100]}"'
    parts = text.lower().split("/")
    for part in parts:
        if not part or not part.replace("-", "").replace("_", "").isalnum() or not part.isascii():
            raise InvalidArgument(
                f'"{part[:100]}" is an invalid component of {shown}: platform specifier component '
                'must match "^[A-Za-z0-9_-]+$": invalid argument'
            )
    if len(parts) > 3:
        raise InvalidArgument(f"{shown}: cannot parse platform specifier: invalid argument")
    if len(parts) == 1:
        if parts[0] not in _SYSTEMS | _GO_ARCHITECTURES | _ARCHITECTURES.keys():
            raise InvalidArgument(
                f"{shown}: unknown operating system or architecture: invalid argument"
            )
        parts = [parts[0], ""] if parts[0] in _SYSTEMS else ["linux", parts[0]]
    architecture, implied = _ARCHITECTURES.get(parts[1], (parts[1], ""))
    variant = parts[2] if len(parts) == 3 else implied
    if architecture == "arm64" and variant in {"8", "v8"}:
        variant = ""
    return Platform(parts[0], architecture, variant)


_SYSTEMS = frozenset(
    [
        "aix",
        "android",
        "darwin",
        "dragonfly",
        "freebsd",
        "hurd",
        "illumos",
        "ios",
        "js",
        "linux",
        "nacl",
        "netbsd",
        "openbsd",
        "plan9",
        "solaris",
        "windows",
        "zos",
    ]
)
_GO_ARCHITECTURES = frozenset(
    [
        "386",
        "amd64",
        "amd64p32",
        "arm",
        "armbe",
        "arm64",
        "arm64be",
        "loong64",
        "mips",
        "mipsle",
        "mips64",
        "mips64le",
        "mips64p32",
        "mips64p32le",
        "ppc",
        "ppc64",
        "ppc64le",
        "riscv",
        "riscv64",
        "s390",
        "s390x",
        "sparc",
        "sparc64",
        "wasm",
    ]
)
# The names that `uname -m` and others have for Go's architectures, with the variant they imply.
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i386": ("386", ""),
    "i686": ("386", ""),
}


def host_platform(machine: str) -> Platform:
    """`machine` as uname(2) has it."""
    return parse_platform(f"linux/{machine}")


def matches(wanted: Platform, offered: Platform) -> bool:
    """Whether an image for `offered` is what `wanted` asks for; an arm64 is v8 unless it says."""
    variant = "" if (offered.architecture, offered.variant) == ("arm64", "v8") else offered.variant
    same = (wanted.os, wanted.architecture) == (offered.os, offered.architecture)
    return same and (not wanted.variant or wanted.variant == variant)


# What runs on a processor beside its own code, best first; of Arm, older variants too.
_ALSO = {"amd64": ("386",), "arm64": ("arm/v8", "arm/v7", "arm/v6", "arm/v5")}
_ARM = ("v8", "v7", "v6", "v5")


def runnable(host: Platform) -> list[Platform]:
    """All that a machine of this platform runs by itself, best first.

    Source: containerd's platforms package, by which Docker chooses from an index.
    """
    found = [host]
    if host.architecture == "arm":
        older = _ARM[_ARM.index(host.variant) + 1 :] if host.variant in _ARM else ()
        found += [Platform(host.os, "arm", variant) for variant in older]
    for other in _ALSO.get(host.architecture, ()):
        architecture, _, variant = other.partition("/")
        found.append(Platform(host.os, architecture, variant))
    return found


def _object(raw: bytes, what: str) -> dict[str, Any]:
    try:
        value = document.parse(raw)
    except ValueError as error:  # of which UnicodeDecodeError is one
        raise InvalidArgument(f"invalid {what}: {error}") from None
    if not isinstance(value, dict):
        raise InvalidArgument(f"invalid {what}: not a JSON object")
    return value


def _member(value: dict[str, Any], name: str, kind: type) -> Any:
    """The member, None for absent or null. Raises InvalidArgument when it is of another type."""
    found = value.get(name)
    if found is not None and not isinstance(found, kind):
        raise InvalidArgument(f"invalid image document: {name} has the wrong type")
    return found


def _descriptors(value: dict[str, Any], name: str, limit: int) -> tuple[Descriptor, ...]:
    found = _member(value, name, list) or []
    if len(found) > limit:
        raise InvalidArgument(f"invalid manifest: more than {limit} {name}")
    return tuple(_descriptor(entry, name) for entry in found)


def _descriptor(value: Any, name: str) -> Descriptor:
    if not isinstance(value, dict):
        raise InvalidArgument(f"invalid manifest: {name} is not a descriptor")
    media_type, digest, size = (value.get(key) for key in ("mediaType", "digest", "size"))
    if not isinstance(media_type, str) or not isinstance(digest, str) or type(size) is not int:
        raise InvalidArgument(f"invalid manifest: {name} is not a descriptor")
    digests.parse(digest)
    if not 0 <= size <= SIZE_MAX:
        raise InvalidArgument(f"invalid manifest: size {size} of {digest}")
    platform = _member(value, "platform", dict)
    annotations = _member(value, "annotations", dict) or {}
    urls = _member(value, "urls", list) or []
    return Descriptor(
        media_type,
        digest,
        size,
        _platform(platform) if platform else None,
        {k: v for k, v in annotations.items() if isinstance(v, str)},
        tuple(url for url in urls[:URLS_MAX] if isinstance(url, str)),
    )


def _platform(value: dict[str, Any]) -> Platform:
    names = (_member(value, key, str) or "" for key in ("os", "architecture", "variant"))
    return Platform(*names)
