"""The maker: a small single-threaded process that enters network namespaces for the daemon.

A daemon has threads, and a namespace belongs to a thread; so a process of its own makes namespaces
and opens sockets inside them. Between requests it is at home, so that it keeps no namespace alive;
it leaves when its socket's other end does.

    daemon                                maker
    "make /run/barque/netns/ID"  ->       unshare, lo up, sysctls, bind /proc/self/ns/net there
                                 <-       "ok", fds: the namespace, a netlink socket opened inside
    "make-host ..."              ->       the same, never with the user namespace of our argument
    "open /run/barque/netns/ID"  ->       setns
                                 <-       "ok", the same two fds
    "sysctl net.KEY=VALUE PATH"  ->       setns, write
                                 <-       "ok", the same two fds
                                 <-       "ERRNO text" for a request that failed

One request at a time over SOCK_SEQPACKET, standard input.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _socket
import array
import errno
import os
from collections.abc import Callable

from barque.linux.mount import MS_BIND, mount
from barque.linux.namespaces import CLONE_NEWNET, CLONE_NEWUSER, setns, unshare
from barque.linux.netlink import NETLINK_ROUTE, Netlink
from barque.linux.netlink_route import set_link

REQUEST_BYTES = 4096
LOOPBACK_INDEX = 1

# An interface that is made later gets no IPv6 address unless its network has IPv6 (CVE-2024-32473)
# and takes no router's word (CVE-2020-10749).
SYSCTLS = {
    "/proc/sys/net/ipv6/conf/default/disable_ipv6": b"1",
    "/proc/sys/net/ipv6/conf/default/accept_ra": b"0",
    "/proc/sys/net/ipv6/conf/all/accept_ra": b"0",
}


def main(arguments: list[str]) -> int:
    """Serve requests on standard input until its other end closes.

    An argument is the path of a user namespace: that which new network namespaces belong to.
    """
    if arguments:
        VERBS["make"] = lambda path: make(path, arguments[0])
    requests = _socket.socket(fileno=0)
    home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        while request := requests.recv(REQUEST_BYTES):
            _answer(requests, request.decode())
            setns(home, CLONE_NEWNET)
    except (ConnectionError, KeyboardInterrupt):
        pass
    return 0


def _answer(requests: _socket.socket, request: str) -> None:
    verb, _, path = request.partition(" ")
    try:
        netlink = VERBS[verb](path)
    except OSError as error:
        requests.send(f"{error.errno or 5} {error}".encode())
        return
    namespace = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    fds = array.array("i", (namespace, netlink.fileno()))
    try:
        requests.sendmsg([b"ok"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fds.tobytes())])
    finally:
        os.close(namespace)
        netlink.close()


def make(path: str, users: str = "") -> Netlink:
    """A new namespace bound at `path`, which must not exist, with its loopback interface up.

    `users` is the user namespace that it belongs to; "" for our own.
    """
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    try:
        if users:
            _enter_new_of(users)
        else:
            unshare(CLONE_NEWNET)
        netlink = Netlink(NETLINK_ROUTE)
        netlink.request(set_link(LOOPBACK_INDEX, up=True))
        for sysctl, value in SYSCTLS.items():
            _write(sysctl, value)
        mount("/proc/self/ns/net", path, flags=MS_BIND)
    except BaseException:
        os.unlink(path)
        raise
    return netlink


def _enter_new_of(users: str) -> None:
    """A new namespace is of its maker's user namespace, which no one leaves: a child makes it."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            setns(os.open(users, os.O_RDONLY | os.O_CLOEXEC), CLONE_NEWUSER)
            unshare(CLONE_NEWNET)
            os.write(writer, b"ok")
            _signal.pause()  # until it is killed
        except OSError as error:
            os.write(writer, str(error.errno).encode())
        finally:
            os._exit(1)
    os.close(writer)
    try:
        said = os.read(reader, 16)
        if said != b"ok":
            number = int(said or errno.EIO)
            raise OSError(number, f"user namespace {users}: {os.strerror(number)}")
        made = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(made, CLONE_NEWNET)
        finally:
            os.close(made)
    finally:
        os.close(reader)
        os.kill(pid, _signal.SIGKILL)
        os.waitpid(pid, 0)


def enter(path: str) -> Netlink:
    """Enter the namespace bound at `path`."""
    namespace = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(namespace, CLONE_NEWNET)
    finally:
        os.close(namespace)
    return Netlink(NETLINK_ROUTE)


def sysctl(request: str) -> Netlink:
    """Set `net.KEY=VALUE` in the namespace bound at the path that follows."""
    setting, _, path = request.partition(" ")
    key, _, value = setting.partition("=")
    parts = key.replace("/", "\0").replace(".", "/").replace("\0", ".").split("/")
    if parts[0] != "net" or ".." in parts or "" in parts:
        raise OSError(errno.EINVAL, f"no setting of a network namespace: {key}")
    netlink = enter(path)
    fd = os.open("/proc/sys/" + "/".join(parts), os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
    return netlink


VERBS: dict[str, Callable[[str], Netlink]] = {
    "make": make,
    "make-host": make,
    "open": enter,
    "sysctl": sysctl,
}


def _write(path: str, value: bytes) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # a kernel without IPv6
        return
    try:
        os.write(fd, value)
    finally:
        os.close(fd)
