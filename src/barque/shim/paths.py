"""Every path the shim makes.

    <directory of containerd's socket>/
        s/<random>                the shim's ttrpc socket, mode 0600
        s/<hash>                  that of a group's shim: of its namespace and name
        s/<random>.pty            where the runtime sends a terminal to
        runc/<namespace>          the runtime's --root, unless the task's options name one
    <bundle>/                     the shim's working directory, made by containerd
        config.json rootfs/       from containerd
        address                   the URL of the ttrpc socket
        shim.pid                  the shim
        log                       the shim's log; containerd may have made it a fifo
        options.json              how the runtime is called: what `delete` needs after a crash
        init.pid  <exec>.pid      pid-files of the runtime
        log-<n>.json              the log of one call to the runtime
        <exec>-process.json       the process of an exec, for the runtime
        criu-work/                criu's log of a checkpoint
        pause-root/               the root of a sandbox whose spec names no program

The ids of execs come from clients: they are checked before they become part of a name.
"""

from __future__ import annotations

import os

from barque.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

SOCKET_PATH_BYTES_MAX: Final = 107
FALLBACK_DIRECTORY: Final = "/run/barque"
ID_LENGTH_MAX: Final = 200
ID_ALPHABET: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")

ADDRESS: Final = "address"
CONFIG: Final = "config.json"
SHIM_PID: Final = "shim.pid"
LOG: Final = "log"
OPTIONS: Final = "options.json"
INIT_PID: Final = "init.pid"
ROOTFS: Final = "rootfs"
RESOURCES: Final = "resources.json"
CRIU_WORK: Final = "criu-work"
PAUSE: Final = "pause-root"


def check_id(what: str, value: str) -> str:
    """`value`, when it is safe as part of a file's name. Raises InvalidArgument."""
    if not value or len(value) > ID_LENGTH_MAX or not ID_ALPHABET.issuperset(value):
        raise InvalidArgument(f"{what} {value!r} is not valid")
    if value[0] in ".-":
        raise InvalidArgument(f"{what} {value!r} is not valid")
    return value


def home(address: str) -> str:
    """The directory of containerd's socket: scope of everything that is made outside a bundle."""
    path = address.removeprefix("unix://")
    directory = os.path.dirname(path)
    return directory if path.startswith("/") and directory != "/" else FALLBACK_DIRECTORY


def sockets(address: str) -> str:
    """The directory for sockets."""
    directory = f"{home(address)}/s"
    if len(directory) + 40 > SOCKET_PATH_BYTES_MAX:
        return f"{FALLBACK_DIRECTORY}/s"
    return directory


def group_socket(directory: str, name: str) -> str:
    """The socket of a group's shim."""
    return f"{directory}/{name}"


def socket(directory: str, suffix: str = "") -> str:
    """A new path for a socket; nobody can guess it or have made it before."""
    return f"{directory}/{os.urandom(12).hex()}{suffix}"


def runtime_root(address: str, namespace: str, root: str) -> str:
    """The runtime's --root: `root` of the task's options, or one of our own; by namespace."""
    check_id("namespace", namespace)
    return f"{root or home(address) + '/runc'}/{namespace}"


def bundle_file(bundle: str, name: str) -> str:
    return f"{bundle}/{name}"


def runtime_log(bundle: str, number: int) -> str:
    return f"{bundle}/log-{number}.json"


def exec_pid(bundle: str, exec_id: str) -> str:
    return f"{bundle}/{check_id('exec id', exec_id)}.pid"


def exec_process(bundle: str, exec_id: str) -> str:
    return f"{bundle}/{check_id('exec id', exec_id)}-process.json"


def packed(log: str) -> str:
    """The name of a rotated log file that was packed by gzip."""
    return f"{log}.gz"


def rotated(log: str, number: int) -> str:
    """The name of a log file that was rotated `number` times."""
    return f"{log}.{number}"
