"""`start` and `delete`, as the binary itself and as the zygote does them."""

from __future__ import annotations

import os
import sys
import time

from barque.errors import BarqueError, InvalidArgument
from barque.linux.fs import write_atomic
from barque.linux.process import place_stdio
from barque.oci import document
from barque.shim import group, keeper, paths, rootfs, shim, wire
from barque.shim.ground import Ground
from barque.shim.loop import Loop, Pending
from barque.shim.messages import DELETE_RESPONSE, timestamp
from barque.shim.process import read_pid
from barque.shim.runtime import Runtime
from barque.shim.sockets import listen

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Final

    from barque.shim.main import Invocation
    from barque.shim.runtime import Entry


STDIN: Final = 0
PUBLIC: Final = 0o644  # of what containerd reads
OPTIONS_BYTES_MAX: Final = 1 << 16
KILLED: Final = 128 + 9
JSON_SINCE_VERSION: Final = 2


def start(invocation: Invocation) -> int:
    """Start a shim in a process of its own and print where it listens."""
    socket_path, server = prepare(invocation)
    options = given_options()
    if server is not None:
        listening = server
        pid = os.fork()
        if pid == 0:
            ground = Ground()
            ground.share()
            keeper.Keeper(
                ground,
                lambda ground: serve(
                    invocation, socket_path, listening, None, ground, options=options
                ),
                lambda ground: resume(None, ground),
            ).keep()
        write_atomic(paths.SHIM_PID, b"%d" % pid, PUBLIC)
        server.close()
    sys.stdout.write(answer(socket_path))
    sys.stdout.flush()
    return 0


def given_options() -> bytes:
    """The runtime's options, which containerd writes to our standard input."""
    if os.isatty(STDIN):
        return b""
    data = b""
    while len(data) <= OPTIONS_BYTES_MAX:
        more = os.read(STDIN, OPTIONS_BYTES_MAX)
        if not more:
            return data
        data += more
    raise InvalidArgument("the runtime's options are too long")


def answer(socket_path: str) -> str:
    """What `start` prints: the address, or bootstrap parameters where containerd knows them."""
    address = f"unix://{socket_path}"
    newest = os.environ.get("MAX_SHIM_VERSION", "")
    if newest.isdigit() and int(newest) >= JSON_SINCE_VERSION:
        return document.dump({"version": 2, "address": address, "protocol": "ttrpc"}).decode()
    return address


def prepare(invocation: Invocation) -> tuple[str, _socket.socket | None]:
    """Listen for containerd in the bundle that is the working directory; write `address`.

    None instead of a socket: the container's group has a shim, and it expects this one.
    """
    identity = invocation.namespace, invocation.id  # refused here rather than by the shim
    directory = paths.sockets(invocation.address)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    wanted = group.of_bundle(".")
    if wanted:
        return prepare_group(directory, *identity, wanted)
    path = paths.socket(directory)
    server = listen(path)
    write_atomic(paths.ADDRESS, f"unix://{path}".encode(), PUBLIC)
    return path, server


def prepare_group(
    directory: str, namespace: str, identity: str, wanted: str
) -> tuple[str, _socket.socket | None]:
    """`prepare` for a container of the group `wanted`."""
    path = paths.group_socket(directory, group.name(namespace, wanted))
    with group.Lock(directory):
        pid = group.join(path, identity)
        server = None
        if pid:
            write_atomic(paths.SHIM_PID, b"%d" % pid, PUBLIC)
        else:
            if os.path.lexists(path):
                os.unlink(path)
            server = listen(path)
        write_atomic(paths.ADDRESS, f"unix://{path}".encode(), PUBLIC)
    return path, server


def leaves(socket_path: str) -> bool:
    """Whether a shim that nobody waits for any more ends: who asked for it may have undone its
    start, and found no process yet. Not a group's, which others may have joined."""
    if group.of_bundle("."):
        return False
    os.unlink(socket_path)
    return True


def serve(
    invocation: Invocation,
    socket_path: str,
    server: _socket.socket,
    entry: Entry | None,
    ground: Ground,
    env: dict[str, str] | None = None,
    options: bytes = b"",
    connection: int = -1,
) -> int:
    """Be the first worker of the shim; its exit code. A bug is a line in the shim's log.

    `connection`: a descriptor to serve as if it had been accepted, or -1.
    """
    try:
        place_stdio(None)
        config = shim.Config(
            namespace=invocation.namespace,
            identity=invocation.id,
            address=invocation.address,
            events_address=os.environ.get("TTRPC_ADDRESS", ""),
            env=env or {},
            options=options,
        )
        return shim.serve(config, socket_path, server, entry, ground, connection)
    except BaseException as error:
        return failed(invocation.values["id"], error)


def resume(entry: Entry | None, ground: Ground) -> int:
    """Be a later worker of the shim; its exit code."""
    try:
        return shim.resume(entry, ground)
    except BaseException as error:
        return failed("", error)


def failed(identity: str, error: BaseException) -> int:
    shim.Log(paths.LOG, identity).failed("shim ends", error)
    return keeper.FAILED


def delete(invocation: Invocation, entry: Entry | None = None) -> int:
    """Clean up after a dead shim: its container, its mounts, its socket. Twice is fine."""
    sys.stdout.buffer.write(clean_up(invocation, entry))
    sys.stdout.flush()
    return 0


def clean_up(invocation: Invocation, entry: Entry | None) -> bytes:
    """The work of `delete`; an encoded DeleteResponse. The working directory is the bundle.

    Raises BarqueError when the runtime cannot delete the container: then its mounts stay too.
    """
    bundle = os.getcwd()
    problem = run_delete(bundle, invocation, entry)
    if problem is not None and "does not exist" not in str(problem):
        raise problem
    rootfs.unmount(paths.bundle_file(bundle, paths.ROOTFS))
    remove_socket(paths.bundle_file(bundle, paths.ADDRESS))
    try:
        pid = read_pid(paths.bundle_file(bundle, paths.INIT_PID))
    except BarqueError:
        pid = 0
    values = {"pid": pid, "exit_status": KILLED, "exited_at": timestamp(time.time_ns())}
    return wire.encode(DELETE_RESPONSE, values)


def run_delete(bundle: str, invocation: Invocation, entry: Entry | None) -> BaseException | None:
    """`delete --force` of the runtime the bundle's task was made with."""
    options = {"root": "", "binary": "", "systemd_cgroup": False}
    try:
        with open(paths.bundle_file(bundle, paths.OPTIONS), "rb") as file:
            options.update(document.parse(file.read()))
    except FileNotFoundError:
        return None  # the shim died before it made anything
    loop = Loop()
    runtime = Runtime(
        loop,
        bundle,
        str(options["root"]),
        str(options["binary"]),
        bool(options["systemd_cgroup"]),
        entry,
    )
    done: list[Pending] = []

    def ended(pending: Pending) -> None:
        done.append(pending)
        loop.stop()

    loop.spawn(runtime.call("delete", "delete", "--force", invocation.id)).then(ended)
    if not done:
        loop.run()
    loop.close()
    return done[0].error


def remove_socket(address_file: str) -> None:
    try:
        with open(address_file) as file:
            path = file.read().strip().removeprefix("unix://")
        if path.startswith("/") and not group.listens(path):  # the group's others may live
            os.unlink(path)
    except FileNotFoundError:
        pass
