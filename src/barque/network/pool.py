"""Warm network namespaces: made before they are asked for, so that a container only takes one.

A namespace is bound at `<directory>/<id>`. A wired one has a veth pair: its host side is already a
port of the default bridge, its inner side is `eth0`, down and without address. One thread refills
the pool; it waits a moment first, so as not to work beside the start that has just taken one.
"""

from __future__ import annotations

import array
import contextlib
import errno
import logging
import os
import secrets
import socket
import subprocess
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from barque import errors
from barque.linux import netlink_route as route
from barque.linux.mount import MNT_DETACH, umount2
from barque.linux.netlink import NETLINK_ROUTE, Netlink

log = logging.getLogger(__name__)

DEFAULT_SIZE = 4
REFILL_DELAY_S = 0.02
RETRY_DELAY_S = 5.0
DESCRIPTORS = 2  # with each answer: the namespace, a netlink socket
ANSWER_BYTES = 4096
MAKER_TIMEOUT_S = 30.0
ID_BYTES = 32
SHORT_ID_LENGTH = 12
INNER_NAME = "eth0"


@dataclass(slots=True)
class Namespace:
    """A namespace we hold open: `fd` is the namespace, `netlink` a socket inside it."""

    id: str  # 64 hex digits
    path: Path
    fd: int
    netlink: Netlink
    host_link: str = ""  # the host side of the prepared veth pair, "" for none
    host_index: int = 0
    inner_index: int = 0
    bridge: int = 0  # which bridge the host side is a port of

    def close(self) -> None:
        """Let go of the descriptors; the namespace itself stays bound at `path`."""
        if self.fd >= 0:
            os.close(self.fd)
            self.netlink.close()
            self.fd = -1


def bound_name(namespace_id: str) -> str:
    return namespace_id[:SHORT_ID_LENGTH]


def host_link_name(namespace_id: str, number: int = 0) -> str:
    """The host side of a sandbox's veth pair: unique, at most 15 bytes."""
    return f"veth{namespace_id[:7]}" + (f"_{number}" if number else "")


def unbind(path: Path) -> None:
    """Drop the binding at `path`; the namespace dies with its last process. Safe to run twice."""
    with contextlib.suppress(FileNotFoundError):
        while _is_namespace(path):
            umount2(path, MNT_DETACH)
        path.unlink()


def _is_namespace(path: Path) -> bool:
    """Whether something is bound at `path`: it is then not of the directory's filesystem."""
    return path.stat().st_dev != path.parent.stat().st_dev


def sweep(directory: Path, keep: Iterable[str]) -> int:
    """Unbind every namespace but those in `keep` (ids): what a dead daemon left. Counts them."""
    kept = {bound_name(namespace_id) for namespace_id in keep}
    stale = [path for path in directory.iterdir() if path.name not in kept]
    for path in stale:
        unbind(path)
    return len(stale)


class Maker:
    """Our end of the maker process. Started at the first request, and again when it died."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = list(argv)
        self.keep: Sequence[int] = ()  # what the process holds open
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def remapped(self) -> bool:
        """Whether it was told of another user namespace than the machine's."""
        return not self._argv[-1].endswith("barque-netns")

    def start(self) -> None:
        """Spawn the process, so that it warms up before the first request."""
        with self._lock:
            if self._socket is None:
                self._spawn()

    def _spawn(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                self._argv, stdin=theirs.fileno(), start_new_session=True, pass_fds=self.keep
            )
        ours.settimeout(MAKER_TIMEOUT_S)
        self._socket = ours
        return ours

    def request(self, verb: str, path: Path) -> tuple[int, Netlink]:
        """The namespace at `path`, made or opened: its descriptor and a netlink socket inside.

        Raises OSError as the kernel says; Unavailable when the process does not answer.
        """
        with self._lock:
            try:
                answer, fds = self._exchange(f"{verb} {path}".encode())
            except OSError as error:
                self._drop()
                raise errors.Unavailable(f"network namespace {path}: {error}") from error
        if answer != b"ok":
            number, _, words = answer.decode(errors="replace").partition(" ")
            raise OSError(int(number), f"network namespace {path}: {words}")
        if len(fds) != DESCRIPTORS:  # the kernel gives what there is room for
            for fd in fds:
                os.close(fd)
            if verb.startswith("make"):
                unbind(path)
            raise OSError(errno.EMFILE, f"network namespace {path}: {os.strerror(errno.EMFILE)}")
        return fds[0], Netlink(NETLINK_ROUTE, fileno=fds[1])

    def _exchange(self, request: bytes) -> tuple[bytes, list[int]]:
        for attempt in (0, 1):
            link = self._socket or self._spawn()
            try:
                link.send(request)
                answer, ancillary, _, _ = link.recvmsg(ANSWER_BYTES, socket.CMSG_SPACE(8))
                if answer:
                    return answer, _descriptors(ancillary)
            except (BrokenPipeError, ConnectionError):
                if attempt:
                    raise
            self._drop()  # it died; whatever it had begun is found by the next sweep
        raise ConnectionResetError("the maker of namespaces left")

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def kill(self) -> None:
        """End the process; the next request starts another."""
        with self._lock:
            if self._process is not None:
                self._process.kill()

    def close(self) -> None:
        with self._lock:
            self._drop()


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    for fd in fds:
        os.set_inheritable(fd, False)
    return list(fds)


@dataclass
class Pool:
    """Wired namespaces in stock. `take` and `open` may be called from any thread."""

    directory: Path
    maker: Maker
    bridge: int = 0  # interface index of the bridge that prepared pairs are ports of
    mtu: int = 0
    size: int = DEFAULT_SIZE
    _stock: deque[Namespace] = field(default_factory=deque)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _closing: bool = False
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to fill the pool in the background."""
        self.maker.start()
        self._thread = threading.Thread(target=self._refill, name="netns-pool", daemon=True)
        self._thread.start()

    def warm(self) -> Namespace | None:
        """A wired namespace from the stock at once, or None when it is empty."""
        with self._changed:
            if not self._stock:
                return None
            self._changed.notify_all()
            return self._stock.popleft()

    def take(self) -> Namespace:
        """A wired namespace, from the stock or made now. It is the caller's."""
        return self.warm() or self.make(wired=True)

    @property
    def remapped(self) -> bool:
        """Whether the namespaces belong to another user namespace than the machine's."""
        return self.maker.remapped

    def make(self, *, wired: bool, host_users: bool = False) -> Namespace:
        """A new namespace: wired, or with its loopback only. It is the caller's.

        `host_users`: it belongs to the machine's user namespace, whatever others do.
        """
        namespace_id = secrets.token_hex(ID_BYTES)
        path = self.directory / bound_name(namespace_id)
        fd, netlink = self.maker.request("make-host" if host_users else "make", path)
        namespace = Namespace(namespace_id, path, fd, netlink)
        try:
            if wired:
                self._wire(namespace)
        except BaseException:
            namespace.close()
            unbind(path)
            raise
        return namespace

    def _wire(self, namespace: Namespace) -> None:
        host = Netlink(NETLINK_ROUTE)
        try:
            name = host_link_name(namespace.id)
            host.request(
                route.add_veth(name, INNER_NAME, namespace.fd, master=self.bridge, mtu=self.mtu)
            )
            outer = route.get_link(host, name)
            if outer is not None and self.bridge:
                host.request(route.set_port(outer.index))
        finally:
            host.close()
        inner = route.get_link(namespace.netlink, INNER_NAME)
        if outer is None or inner is None:
            raise errors.Unavailable(f"network namespace {namespace.path}: veth pair is gone")
        namespace.host_link, namespace.host_index = name, outer.index
        namespace.inner_index, namespace.bridge = inner.index, self.bridge

    def open(self, namespace_id: str) -> Namespace:
        """The namespace `namespace_id`, already in use, opened again."""
        path = self.directory / bound_name(namespace_id)
        fd, netlink = self.maker.request("open", path)
        return Namespace(namespace_id, path, fd, netlink)

    def wait_full(self, timeout_s: float) -> bool:
        """Wait until the stock is whole; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._stock) >= self.size, timeout_s)

    def close(self) -> None:
        """Stop refilling and remove the stock."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        while self._stock:
            namespace = self._stock.popleft()
            namespace.close()
            unbind(namespace.path)
        self.maker.close()

    def _refill(self) -> None:
        delay = 0.0
        while self._wait_for_need(delay):
            try:
                namespace = self.make(wired=True)
            except Exception as error:
                log.warning("cannot make a network namespace: %s", error)
                delay = RETRY_DELAY_S
                continue
            with self._changed:
                self._stock.append(namespace)
                self._changed.notify_all()
                delay = 0.0 if len(self._stock) < self.size else REFILL_DELAY_S

    def _wait_for_need(self, delay: float) -> bool:
        """Wait until the stock is short, then `delay` seconds more; False when closing."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or len(self._stock) < self.size)
            if delay:
                self._changed.wait_for(lambda: self._closing, delay)
            return not self._closing
