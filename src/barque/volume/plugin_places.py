"""Where plugins are: sockets in a directory, and files that say an address. Synchronous.

A plugin NAME is found by a socket `NAME.sock` (or `NAME/NAME.sock`), or by its address in a file
NAME.spec or NAME.json. Source: Docker, "Docker Engine plugin API", plugin discovery.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from barque import errors

if TYPE_CHECKING:
    import ssl

SOCKETS = Path("/run/docker/plugins")
SPECS = (Path("/etc/docker/plugins"), Path("/usr/lib/docker/plugins"))
NAME = re.compile(r"[a-z0-9A-Z][a-zA-Z0-9_.-]{0,127}\Z")  # a path component: CVE-2021-20206
SCHEMES = frozenset({"unix", "tcp", "http", "https"})
_SUFFIX = re.compile(r"\.(sock|spec|json)\Z")


@dataclass(frozen=True, slots=True)
class Tls:
    """How to speak with a plugin at an https address; "" is what is not given.

    `verified`: by `ca`, else by the machine's authorities. As with Docker a plugin is not verified
    whose address is in a .spec file, or whose TLSConfig names no CAFile.
    """

    verified: bool = True
    ca: str = ""
    certificate: str = ""
    key: str = ""

    def context(self) -> ssl.SSLContext:
        """Raises OSError (ssl.SSLError is one) for files that cannot be used."""
        import ssl  # few plugins need it, and it takes a while to load

        made = ssl.create_default_context(cafile=self.ca or None)
        if not self.verified:
            made.check_hostname = False
            made.verify_mode = ssl.CERT_NONE
        if self.certificate or self.key:
            made.load_cert_chain(self.certificate, self.key or None)
        return made


@dataclass(frozen=True, slots=True)
class Address:
    """Of a plugin: `unix` and a path, or `tcp`, `http`, `https` and host and port."""

    scheme: str
    rest: str
    tls: Tls | None = None  # of https


def locate(name: str, sockets: Path = SOCKETS, specs: Sequence[Path] = SPECS) -> Address | None:
    """The address of the plugin `name`, None where there is none.

    Raises InvalidArgument, Unsupported for a file that does not say how to speak with it.
    """
    place = _place(name, sockets, specs)
    if place is None:
        return None
    if place.suffix == ".sock":
        return Address("unix", str(place))
    text = place.read_text(errors="replace").strip()
    if place.suffix == ".spec":
        return _address(name, text, Tls(verified=False))
    try:
        document = json.loads(text)
        address, config = str(document["Addr"]), document.get("TLSConfig")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise errors.InvalidArgument(f"plugin {name}: {place} has no address: {error}") from error
    found = _address(name, address, Tls() if config is None else _tls(name, place, config))
    if config and found.tls is None:
        raise errors.Unsupported(
            f"plugin {name}: TLSConfig of {place} needs an https address, not {address}"
        )
    return found


def known(name: str, sockets: Path = SOCKETS, specs: Sequence[Path] = SPECS) -> bool:
    """Whether there is a plugin of that name, whatever it is for; it is not asked."""
    return _place(name, sockets, specs) is not None


def names(sockets: Path = SOCKETS, specs: Sequence[Path] = SPECS) -> list[str]:
    """Every plugin there is, whatever it is for; none is asked."""
    found: set[str] = set()
    for directory in (sockets, *specs):
        with suppress(FileNotFoundError, NotADirectoryError):
            found.update(_SUFFIX.sub("", entry) for entry in os.listdir(directory))
    return sorted(name for name in found if known(name, sockets, specs))


def _place(name: str, sockets: Path, specs: Sequence[Path]) -> Path | None:
    """The socket, or the file that has the address."""
    if not NAME.match(name):
        return None
    for path in (sockets / f"{name}.sock", sockets / name / f"{name}.sock"):
        if path.is_socket():
            return path
    for directory in specs:
        for suffix in (".spec", ".json"):
            for path in (directory / f"{name}{suffix}", directory / name / f"{name}{suffix}"):
                if path.is_file():
                    return path
    return None


def _address(name: str, text: str, tls: Tls) -> Address:
    scheme, _, rest = text.partition("://")
    if scheme not in SCHEMES or not rest:
        raise errors.Unsupported(f"plugin {name}: address {text} is not supported")
    if scheme == "unix":
        return Address(scheme, rest)
    # Of a URL with a path the path is left out, as Docker does.
    return Address(scheme, rest.partition("/")[0], tls if scheme == "https" else None)


def _tls(name: str, place: Path, config: object) -> Tls:
    """go-connections: tlsconfig.Options."""
    known = {"CAFile": str, "CertFile": str, "KeyFile": str, "InsecureSkipVerify": bool}
    given: Mapping[str, Any] = config if isinstance(config, Mapping) else {"": config}
    for key, value in given.items():
        if not isinstance(value, known.get(key, ())):
            raise errors.Unsupported(f"plugin {name}: TLSConfig of {place}: {key!r} = {value!r}")
    authority = given.get("CAFile", "")
    return Tls(
        verified=bool(authority) and not given.get("InsecureSkipVerify"),
        ca=authority,
        certificate=given.get("CertFile", ""),
        key=given.get("KeyFile", ""),
    )
