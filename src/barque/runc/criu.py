"""criu as a service of one request: `criu swrk 3`, spoken to over descriptor 3.

    runtime                                   criu
       |  request (DUMP, PRE_DUMP, RESTORE, VERSION)  |
       |--------------------------------------------->|
       |  NOTIFY with the name of a point reached     |
       |<---------------------------------------------|
       |  NOTIFY, success                             |
       |--------------------------------------------->|
       |  the answer, under the request's type        |
       |<---------------------------------------------|

Source: criu's images/rpc.proto. One packet is one protobuf message; only the fields that are asked
for or read here are known.
"""

from __future__ import annotations

import _socket
import os
import struct

from barque.errors import BarqueError, NotFound, Unsupported
from barque.linux import memfd
from barque.linux.fs import read_bounded
from barque.oci.varint import U64, read_varint, varint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

DUMP, RESTORE, PRE_DUMP, NOTIFY, FEATURE_CHECK, VERSION = 1, 2, 4, 6, 9, 10
NAMES = {DUMP: "DUMP", RESTORE: "RESTORE", PRE_DUMP: "PRE_DUMP", VERSION: "VERSION"}
# criu_opts: field number and kind
OPTIONS = {
    "images_dir_fd": (1, "number"),
    "pid": (2, "number"),
    "leave_running": (3, "flag"),
    "ext_unix_sk": (4, "flag"),
    "tcp_established": (5, "flag"),
    "evasive_devices": (6, "flag"),
    "shell_job": (7, "flag"),
    "file_locks": (8, "flag"),
    "log_level": (9, "number"),
    "log_file": (10, "text"),
    "page_server": (11, "message"),  # address, port
    "notify_scripts": (12, "flag"),
    "root": (13, "text"),
    "parent_img": (14, "text"),
    "track_mem": (15, "flag"),
    "auto_dedup": (16, "flag"),
    "work_dir_fd": (17, "number"),
    "link_remap": (18, "flag"),
    "ext_mnt": (23, "messages"),  # key, value
    "manage_cgroups": (24, "flag"),
    "cg_root": (25, "messages"),  # controller, path
    "rst_sibling": (26, "flag"),
    "inherit_fd": (27, "messages"),  # key, descriptor
    "manage_cgroups_mode": (34, "number"),
    "external": (37, "texts"),
    "empty_ns": (38, "number"),
    "join_ns": (39, "messages"),  # namespace, path
    "freeze_cgroup": (44, "text"),
    "tcp_skip_in_flight": (46, "flag"),
    "lazy_pages": (48, "flag"),
    "status_fd": (49, "number"),
    "orphan_pts_master": (50, "flag"),
    "config_file": (51, "text"),
    "lsm_profile": (53, "text"),
    "lsm_mount_context": (55, "text"),
}
CGROUP_MODES = {"": 6, "ignore": 0, "soft": 3, "full": 4, "strict": 5}
FIRST_FD = 4  # of those that criu inherits: before are its standard three and the socket
LONGEST_PACKET = 1 << 16  # bytes
LONGEST_LOG = 1 << 26
MOST_SHOWN = 3  # lines of the log that a failure quotes
SIGPIPE = 13


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value & U64)


def data(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def pair(first: object, second: object) -> bytes:
    """A message of the two fields 1 and 2."""
    parts = ((1, first), (2, second))
    return b"".join(
        number(field, value) if isinstance(value, int) else data(field, os.fsencode(str(value)))
        for field, value in parts
    )


def encode_options(options: dict[str, Any]) -> bytes:
    """criu_opts; what is None or false is left out."""
    out = []
    for name, value in options.items():
        field, kind = OPTIONS[name]
        if value is None or value is False:
            continue
        if kind == "number":
            out.append(number(field, value))
        elif kind == "flag":
            out.append(number(field, 1))
        elif kind == "text":
            out.append(data(field, os.fsencode(value)))
        elif kind == "texts":
            out += [data(field, os.fsencode(one)) for one in value]
        elif kind == "message":
            out.append(data(field, pair(*value)))
        else:
            out += [data(field, pair(*one)) for one in value]
    return b"".join(out)


def decode(packet: bytes) -> dict[int, Any]:
    """The fields of a message, the last value of each: numbers and bytes. Else ValueError."""
    fields: dict[int, Any] = {}
    at = 0
    while at < len(packet):
        key, at = read_varint(packet, at, len(packet))
        if key & 7 == 0:
            fields[key >> 3], at = read_varint(packet, at, len(packet))
        elif key & 7 == 2:
            length, at = read_varint(packet, at, len(packet))
            if at + length > len(packet):
                raise ValueError("cut off")
            fields[key >> 3] = packet[at : at + length]
            at += length
        else:
            raise ValueError(f"wire type {key & 7}")
    return fields


def find(path: str = "") -> str:
    """criu's program: the one named, or the first in PATH."""
    if path:
        return path
    for directory in os.environ.get("PATH", os.defpath).split(":"):
        candidate = f"{directory}/criu"
        if directory and os.access(candidate, os.X_OK):
            return candidate
    raise NotFound('exec: "criu": executable file not found in $PATH')


class Criu:
    """One criu process. A context manager: it has ended afterwards."""

    def __init__(
        self, program: str, descriptors: Sequence[int] = (), *, quiet: bool = True
    ) -> None:
        """`descriptors` are criu's from `FIRST_FD` on. `quiet`: what it writes to its standard
        output and error is kept for the text of a failure; else these are the caller's."""
        self.socket, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0)
        self.output = memfd.create("criu") if quiet else -1
        self.pid = -1
        try:
            self.pid = self._spawn(program, theirs.fileno(), descriptors)
        except OSError as error:
            self.close()
            raise NotFound(f"exec {program}: {os.strerror(error.errno or 0).lower()}") from None
        finally:
            theirs.close()

    def _spawn(self, program: str, socket: int, descriptors: Sequence[int]) -> int:
        """Numbers may cross, so all are first copied above those they go to."""
        above = FIRST_FD + len(descriptors) + 64
        wanted = {3: socket, **dict(enumerate(descriptors, FIRST_FD))}
        if self.output >= 0:
            null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            wanted |= {0: null, 1: self.output, 2: self.output}
        copies = {number: _copy_above(fd, above) for number, fd in wanted.items()}
        try:
            actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in copies.items()]
            environment = {"PATH": os.environ.get("PATH", os.defpath)}
            return os.posix_spawn(program, ["criu", "swrk", "3"], environment, file_actions=actions)
        finally:
            for fd in copies.values():
                os.close(fd)
            if self.output >= 0:
                os.close(null)

    def __enter__(self) -> Criu:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(
        self,
        kind: int,
        options: dict[str, Any] | None = None,
        reached: Callable[[str, int, int], None] | None = None,
        features: bytes = b"",
    ) -> dict[int, Any]:
        """One request and its answer. `reached` gets each notification: its name, a process's
        number or 0, a descriptor or -1."""
        request = number(1, kind)
        if options is not None:
            request += data(2, encode_options(options))
        if features:
            request += data(5, features)
        self._send(request)
        while True:
            answer, fd = self._receive()
            if not answer.get(2):
                code = answer.get(7, 0)
                text = f"criu failed: type {NAMES.get(kind, kind)} errno {code}"
                message = answer.get(9, b"").decode(errors="replace")
                raise BarqueError(f"{text}: {message}" if message else text)
            if answer[1] != NOTIFY:
                return answer
            notification = decode(answer.get(5, b""))
            name = notification.get(1, b"").decode(errors="replace")
            try:
                if reached is not None:
                    reached(name, notification.get(2, 0), fd)
            finally:
                if fd >= 0:
                    os.close(fd)
            self._send(number(1, NOTIFY) + number(3, 1))

    def _send(self, packet: bytes) -> None:
        try:
            self.socket.send(packet)
        except (BrokenPipeError, ConnectionResetError):
            raise BarqueError(self._gone()) from None

    def _receive(self) -> tuple[dict[int, Any], int]:
        try:
            packet, ancillary, _, _ = self.socket.recvmsg(
                LONGEST_PACKET, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionResetError:
            packet, ancillary = b"", []
        fd = -1
        for level, kind, content in ancillary:
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                fd = struct.unpack("i", content[:4])[0]
        if not packet:
            raise BarqueError(self._gone())
        try:
            return decode(packet), fd
        except ValueError as error:
            raise BarqueError(f"criu's answer is not readable: {error}") from None

    def _gone(self) -> str:
        self.close_socket()
        code = self.wait()
        shown = ""
        if self.output >= 0:
            shown = worst_lines(os.pread(self.output, 1 << 16, 0))
        ending = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return f"criu {ending}" + (f": {shown}" if shown else "")

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        if self.pid < 0:
            return 0
        status = os.waitpid(self.pid, 0)[1]
        self.pid = -1
        return os.waitstatus_to_exitcode(status)

    def close_socket(self) -> None:
        self.socket.close()

    def close(self) -> None:
        self.close_socket()
        if self.pid >= 0:
            self.wait()
        if self.output >= 0:
            os.close(self.output)
            self.output = -1


def _copy_above(fd: int, lowest: int) -> int:
    from fcntl import F_DUPFD_CLOEXEC, fcntl

    copy: int = fcntl(fd, F_DUPFD_CLOEXEC, lowest)
    return copy


def version(program: str) -> int:
    """As 31701 for 3.17.1. BarqueError with criu's own words when it does not run here."""
    with Criu(program) as criu:
        answer = decode(criu.call(VERSION).get(10, b""))
    return int(answer.get(1, 0)) * 10000 + int(answer.get(2, 0)) * 100 + int(answer.get(4, 0))


def require_feature(program: str, field: int, name: str) -> None:
    """Whether this criu and kernel have it: criu_features."""
    with Criu(program) as criu:
        found = decode(criu.call(FEATURE_CHECK, features=number(field, 1)).get(8, b""))
    if not found.get(field):
        raise Unsupported(f"criu is missing features: [{name}]")


def worst_lines(log: bytes) -> str:
    """The last lines of criu's log that tell errors, on one line."""
    lines = [line.strip() for line in log.decode(errors="replace").splitlines() if "Error" in line]
    return "; ".join(line for line in lines[-MOST_SHOWN:] if line)


def quoted_log(directory: str, name: str) -> str:
    """What a failure says of the log: its worst lines and where it is."""
    path = f"{directory}/{name}"
    try:
        shown = worst_lines(read_bounded(path, LONGEST_LOG))
    except OSError:
        return ""
    return f": {shown} (log: {path})" if shown else f" (log: {path})"
