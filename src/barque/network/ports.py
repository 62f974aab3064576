"""Published ports: what is asked for, and the host ports that a socket of ours holds."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from barque import errors

FALLBACK_RANGE = (49153, 65535)
LOCAL_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
MAX_PORT = 65535
BACKLOG = 1024
SOCKET_KINDS = {
    "tcp": (socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp": (socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "sctp": (socket.SOCK_STREAM, socket.IPPROTO_SCTP),
}
IPAddress = IPv4Address | IPv6Address

_PORT = re.compile(r"[0-9]{1,5}\Z")


@dataclass(frozen=True, slots=True)
class PortRequest:
    """One binding of a container's port; `first` 0 means any host port."""

    protocol: str
    container_port: int
    host_ip: IPAddress
    first: int
    last: int
    anywhere: bool = False  # no address was named: of IPv6 too, where the container has one


@dataclass(frozen=True, slots=True)
class HostPort:
    protocol: str
    host_ip: IPAddress
    port: int

    def __str__(self) -> str:
        if self.host_ip.version == 6:
            return f"[{self.host_ip}]:{self.port}"
        return f"{self.host_ip}:{self.port}"


def parse_port(text: str) -> int:
    """1 to 65535. Raises InvalidArgument."""
    if not _PORT.match(text) or not 0 < int(text) <= MAX_PORT:
        raise errors.InvalidArgument(f"invalid port specification: {text!r}")
    return int(text)


def parse_container_port(text: str) -> tuple[int, str]:
    """A key of PortBindings and ExposedPorts: "80/tcp", "53/udp", "80"."""
    number, _, protocol = text.partition("/")
    protocol = protocol.lower() or "tcp"
    if protocol not in SOCKET_KINDS:
        raise errors.InvalidArgument(f"invalid port specification: {text!r}")
    return parse_port(number), protocol


def _host_range(text: str) -> tuple[int, int]:
    """A HostPort: "", "0", "8080" or "8000-8010"."""
    if text in {"", "0"}:
        return 0, 0
    low, dash, high = text.partition("-")
    first = parse_port(low)
    last = parse_port(high) if dash else first
    if last < first:
        raise errors.InvalidArgument(f"invalid port specification: {text!r}")
    return first, last


def _host_ip(text: str, default: IPAddress) -> IPAddress:
    if not text:
        return default
    try:
        return ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise errors.InvalidArgument(f"invalid IP address: {text}") from None


def parse_bindings(
    bindings: Mapping[str, Sequence[Mapping[str, str]] | None], default_ip: IPAddress
) -> list[PortRequest]:
    """HostConfig.PortBindings as requests. Raises InvalidArgument, Unsupported."""
    found: list[PortRequest] = []
    for key, entries in bindings.items():
        port, protocol = parse_container_port(key)
        for entry in entries or ():
            first, last = _host_range(entry.get("HostPort") or "")
            host_ip = _host_ip(entry.get("HostIp") or "", default_ip)
            anywhere = not entry.get("HostIp") and not int(host_ip)
            found.append(PortRequest(protocol, port, host_ip, first, last, anywhere))
    return found


def local_port_range(path: Path = LOCAL_PORT_RANGE) -> tuple[int, int]:
    """Where ports come from that nobody chose: the kernel's own range, as Docker does."""
    with suppress(OSError, ValueError):
        first, last = (int(word) for word in path.read_text().split())
        if 0 < first <= last <= MAX_PORT:
            return first, last
    return FALLBACK_RANGE


class HostPorts:
    """The host ports that are ours. Each is held by a socket, so that no other program takes it."""

    def __init__(self, dynamic_range: tuple[int, int], served: Collection[int] = ()) -> None:
        """Sockets of the IP versions `served` are ready for callers: see `barque.network.proxy`."""
        self._served = served
        self._held: dict[tuple[str, int], dict[IPAddress, socket.socket | None]] = {}
        self._range = dynamic_range
        self._next = dynamic_range[0]

    def reserve(self, request: PortRequest, *, sixth: bool = False) -> list[HostPort]:
        """A port of the request's range, held from now on: the same number on each address.

        With `sixth`, a request that names no address holds it of IPv6 too.

        Raises BarqueError with Docker's words when it is taken, by a container of ours or by
        another program.
        """
        addresses: list[IPAddress] = [request.host_ip]
        if sixth and request.anywhere:
            addresses.append(IPv6Address(0))
        failure: errors.BarqueError | None = None
        for number in self._candidates(request):
            ports = [HostPort(request.protocol, address, number) for address in addresses]
            try:
                self._hold_all(ports)
            except errors.BarqueError as error:
                failure = failure or error
                continue
            if not request.first:
                self._next = number + 1
            return ports
        if request.first and request.first == request.last and failure is not None:
            raise failure
        raise errors.BarqueError("all ports are allocated")

    def _hold_all(self, ports: Sequence[HostPort]) -> None:
        held: list[HostPort] = []
        try:
            for port in ports:
                self.hold(port)
                held.append(port)
        except BaseException:
            for port in held:
                self.release(port)
            raise

    def _candidates(self, request: PortRequest) -> Iterator[int]:
        if request.first:
            yield from range(request.first, request.last + 1)
            return
        first, last = self._range
        start = self._next if first <= self._next <= last else first
        yield from range(start, last + 1)
        yield from range(first, start)

    def hold(self, port: HostPort) -> None:
        """Hold exactly this port. Raises as `reserve`."""
        held = self._held.get((port.protocol, port.port), {})
        holders = [address for address in held if address.version == port.host_ip.version]
        anywhere = not int(port.host_ip)
        if holders and (anywhere or port.host_ip in holders or not all(map(int, holders))):
            raise errors.BarqueError(f"Bind for {port} failed: port is already allocated")
        opened = _bind(port, BACKLOG if port.host_ip.version in self._served else 0)
        self._held.setdefault((port.protocol, port.port), {})[port.host_ip] = opened

    def adopt(self, port: HostPort, opened: socket.socket | None = None) -> bool:
        """Hold a port that a running container has; False when another program got it meanwhile.

        `opened` is the socket that has held it all the time.
        """
        if opened is not None:
            self._held.setdefault((port.protocol, port.port), {})[port.host_ip] = opened
            return True
        try:
            self.hold(port)
        except errors.BarqueError:
            self._held.setdefault((port.protocol, port.port), {})[port.host_ip] = None
            return False
        return True

    def socket_of(self, port: HostPort) -> socket.socket | None:
        """What holds the port, if anything does."""
        return self._held.get((port.protocol, port.port), {}).get(port.host_ip)

    def release(self, port: HostPort) -> None:
        """Let go of the port; one that is not held is left alone."""
        holders = self._held.get((port.protocol, port.port), {})
        opened = holders.pop(port.host_ip, None)
        if opened is not None:
            opened.close()
        if not holders:
            self._held.pop((port.protocol, port.port), None)

    def close(self) -> None:
        for holders in self._held.values():
            for opened in holders.values():
                if opened is not None:
                    opened.close()
        self._held.clear()


def _bind(port: HostPort, backlog: int) -> socket.socket | None:
    """A socket that holds `port`; None of a protocol that this kernel has no sockets of.

    Of tcp it listens, or else another listener could share the port; not so of IPv6 that nobody
    serves (no `backlog`), whose loopback is not redirected: there a caller is refused instead of
    left waiting.
    """
    kind, protocol = SOCKET_KINDS[port.protocol]
    sixth = port.host_ip.version == 6
    listens = port.protocol != "udp" and (backlog > 0 or not sixth)
    try:
        opened = socket.socket(
            socket.AF_INET6 if sixth else socket.AF_INET, kind | socket.SOCK_CLOEXEC, protocol
        )
    except OSError as error:
        if error.errno in {errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.EAFNOSUPPORT}:
            return None
        raise
    try:
        if sixth:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if listens:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((str(port.host_ip), port.port))
        if listens:
            opened.listen(backlog)
    except OSError as error:
        opened.close()
        words = os.strerror(error.errno or 0).lower()
        family_name = f"{port.protocol}{port.host_ip.version}"
        raise errors.BarqueError(f"listen {family_name} {port}: bind: {words}") from None
    return opened
