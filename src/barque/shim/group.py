"""One shim for a group of containers, such as a pod: who starts another one joins it.

Source: containerd's shim for runc: the group is an annotation of the bundle's config.json. The
group's shim listens at a name that is computed from the namespace and the group.

    start                              shim of the group
      lock the directory of sockets
      connect  ---------------------->
      Join {id}  -------------------->  waits for the Create of `id` before it would end
                 <--------------------  {pid}
      unlock, print the same address
"""

from __future__ import annotations

import _socket
import fcntl
import os

try:
    from _sha256 import sha256  # type: ignore[import-not-found]
except ImportError:  # Python 3.12 and later
    from _sha2 import sha256  # type: ignore[import-not-found]

from barque.errors import BarqueError
from barque.linux.fs import read_bounded
from barque.oci import document
from barque.shim import paths, ttrpc
from barque.shim.wire import INT, STRING, Field, Table, decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

ANNOTATIONS: Final = ("io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id")
SERVICE: Final = "barque.shim.v1.Group"
JOIN_REQUEST: Final = Table("barque.shim.v1.JoinRequest", Field(1, "id", STRING))
JOIN_RESPONSE: Final = Table("barque.shim.v1.JoinResponse", Field(1, "pid", INT))
CONFIG_BYTES_MAX: Final = 16 << 20
ANSWER_S: Final = 10.0
READ_BYTES: Final = 4096
STREAM: Final = 1


def of_bundle(bundle: str) -> str:
    """The group that the bundle's container is in, or empty. What is no config.json has none: its
    Create will say so."""
    try:
        data = read_bounded(paths.bundle_file(bundle, paths.CONFIG), CONFIG_BYTES_MAX)
    except OSError:
        return ""
    if not any(name.encode() in data for name in ANNOTATIONS):
        return ""
    try:
        annotations: Any = document.parse(data).get("annotations")
    except (ValueError, AttributeError):
        return ""
    if not isinstance(annotations, dict):
        return ""
    groups = [annotations[name] for name in ANNOTATIONS if annotations.get(name)]
    return groups[0] if groups and isinstance(groups[0], str) else ""


def name(namespace: str, group: str) -> str:
    """What the group's socket is called: of the length of other sockets' names."""
    digest: str = sha256(f"{namespace}\0{group}".encode(errors="replace")).hexdigest()
    return digest[:24]


class Lock:
    """Held while a group's shim is looked for and, if there is none, made."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def __enter__(self) -> None:
        self._fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def join(path: str, identity: str) -> int:
    """Announce the container `identity` to the shim at `path`; its pid, 0 when there is none."""
    client = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        client.settimeout(ANSWER_S)
        client.connect(path)
        payload = encode(JOIN_REQUEST, {"id": identity})
        client.send(ttrpc.request(STREAM, SERVICE, "Join", payload))
        parser = ttrpc.Parser()
        while data := client.recv(READ_BYTES):
            for frame in parser.feed(data):
                answer = decode(JOIN_RESPONSE, ttrpc.parse_response(frame.data))
                pid: int = answer["pid"]
                return pid
    except TimeoutError as error:
        raise BarqueError(f"shim at {path} does not answer") from error
    except OSError:
        pass  # nobody listens, or it is about to leave
    finally:
        client.close()
    return 0


def listens(path: str) -> bool:
    """Whether a shim is at `path`."""
    client = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        client.settimeout(ANSWER_S)
        client.connect(path)
    except OSError:
        return False
    finally:
        client.close()
    return True
