"""The zygote: one warm process that shims are forked from. docs/boundaries.md section 3.

    containerd                    zygote                        child
      connect, one packet  ->     sees that it is there
                                  fork  ------------------->    reads it, does it, answers, and
                                                                is the shim from there on (`start`)
                                                                or ends (`delete`)

The zygote accepts, a second process forks (`Forker`). They read nothing themselves, so there is
nothing of a request in the memory that all shims share. Once there was a request, one child is
forked ahead (`Spare`) and gets the next connection. The zygote's executable is a sealed file
(`barque.linux.executable`): so is that of all that are forked from it.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the module without its enums
import _socket
import errno
import gc
import os
import select
import struct
import sys

from barque.errors import BarqueError, InvalidArgument
from barque.linux import bare, executable, process
from barque.linux.fs import write_atomic
from barque.oci import document
from barque.shim import binary, keeper, oom, paths
from barque.shim.ground import IGNORED_SIGNALS, Ground
from barque.shim.main import NAME, Invocation
from barque.shim.runtime import load_entry
from barque.shim.sockets import listen, trusted
from barque.shim.warm import Warm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, NoReturn

    from barque.shim.runtime import Entry


REQUEST_BYTES_MAX: Final = 1 << 17
WAITING_MAX: Final = 256
SPARE_NAME: Final = "barque-spare"
SPARE_AFTER_MS: Final = 30  # of quiet: what was started goes first
STDIN: Final = 0
SIGCHLD: Final = 17
SIGKILL: Final = 9
ASKED: Final = struct.Struct("ii")  # a descriptor, whether it is of a spare


def run(socket_path: str) -> int:
    """Be the zygote until standard input ends."""
    executable.run_sealed()
    oom.raise_score()
    process.set_name("barque-zygote")
    if os.path.lexists(socket_path):
        os.unlink(socket_path)
    server = listen(socket_path, _socket.SOCK_SEQPACKET)
    entry = load_entry()
    assert process.threads() == 1  # `process.fork` is for such alone
    os.chdir("/")
    zygote = Zygote(server, entry)
    gc.collect()
    gc.disable()
    gc.freeze()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    zygote.run()
    os.unlink(socket_path)
    return 0


class Zygote:
    """The loop: connections that have a packet are handed to the forker, and become shims."""

    def __init__(self, server: _socket.socket, entry: Entry | None) -> None:
        self._server = server
        self._waiting: set[int] = set()
        self._forker = Forker(entry)
        self._spare: Spare | None = None
        self._poll = select.poll()

    def run(self) -> None:
        """Until standard input ends, or the forker."""
        self._poll.register(self._server.fileno(), select.POLLIN)
        self._poll.register(STDIN, select.POLLIN)
        while True:
            wanted = self._spare is None and self._forker.pidfd >= 0
            happened = self._poll.poll(SPARE_AFTER_MS if wanted else None)
            if not happened:
                self._spare = self._forker.spare()
            for fd, _ in happened:
                if fd == STDIN:
                    if not os.read(STDIN, 4096):
                        return
                elif fd == self._server.fileno():
                    self._accept()
                elif fd == self._forker.pidfd:
                    return
                elif fd in self._waiting:  # not let go a moment ago
                    self._serve(fd)

    def _accept(self) -> None:
        try:
            fd, _ = self._server._accept()  # type: ignore[attr-defined]
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                self._shed()
            return
        if len(self._waiting) >= WAITING_MAX:
            self._shed()
        if not trusted(fd):
            os.close(fd)
            return
        self._waiting.add(fd)
        self._poll.register(fd, select.POLLIN)

    def _shed(self) -> None:
        """Too many that connected and say nothing: let them go."""
        for fd in self._waiting:
            self._poll.unregister(fd)
            os.close(fd)
        self._waiting.clear()

    def _serve(self, fd: int) -> None:
        self._poll.unregister(fd)
        self._waiting.discard(fd)
        try:
            if self._forker.start():
                self._poll.register(self._forker.pidfd, select.POLLIN)
        except OSError as error:
            refuse(fd, error.strerror or "")
            os.close(fd)
            return
        spare, self._spare = self._spare, None
        if spare is None or not spare.give(fd):
            self._forker.ask(fd)


class Spare:
    """A shim that was forked before it is needed, and waits for the connection of its request; it
    ends when its socket's other end is closed, which is this process's alone."""

    def __init__(self, socket: _socket.socket) -> None:
        self._socket = socket

    def give(self, fd: int) -> bool:
        """Have it serve `fd`, which is its own from here on; False: it is gone."""
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fd.to_bytes(bare.INT_SIZE, "little"))]
        try:
            self._socket.sendmsg([b"."], rights)
        except OSError:
            return False
        finally:
            self._socket.close()
        os.close(fd)
        return True


def awaited(fd: int) -> int:
    """In a spare: the connection of its request; -1: it is not needed any more."""
    process.set_name(SPARE_NAME)
    connection = _socket.socket(fileno=fd)
    try:
        space, flags = _socket.CMSG_SPACE(bare.INT_SIZE), _socket.MSG_CMSG_CLOEXEC
        _, ancillary, _, _ = connection.recvmsg(1, space, flags)
    finally:
        connection.close()
    process.set_name(keeper.NAME)
    return received(ancillary)


class Forker:
    """The process that shims are forked from; the zygote's descriptors are its own.

    What the process they come from writes to after the fork is each shim's alone from there on. The
    zygote's loop is 0.3 MB of such pages, and this one's, in bare calls, 0.1.
    """

    def __init__(self, entry: Entry | None) -> None:
        self._entry = entry
        self._ground = Ground()
        self._ground.share()
        self._keeper = keeper.Keeper(self._ground, self._first, self._later)
        self._requests, self._to_ask = os.pipe2(os.O_CLOEXEC)
        self._asked = bare.Numbers(2)  # see `ask`
        self._warm = Warm()
        self.pidfd = -1
        _signal.set_wakeup_fd(-1)
        for number in IGNORED_SIGNALS:
            _signal.signal(number, _signal.SIG_DFL)
        _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)  # children are reaped by the kernel

    def start(self) -> bool:
        """Have it run; False: it did. Not before the first request: until then its limits are
        those of the zygote's start."""
        if self.pidfd >= 0:
            return False
        zygote = os.getpid()
        pid = process.fork(share=True)
        if pid == 0:
            self._run(zygote)
        self.pidfd = os.pidfd_open(pid)
        return True

    def ask(self, fd: int, *, ahead: bool = False) -> None:
        """Have a shim forked for the request that `fd` brings, or, `ahead`, brings the connection
        of; the descriptor is the forker's."""
        os.write(self._to_ask, ASKED.pack(fd, ahead))

    def spare(self) -> Spare | None:
        """Have a shim forked that waits; None: there are no descriptors for it."""
        try:
            kind = _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
            ours, theirs = _socket.socketpair(_socket.AF_UNIX, kind, 0)
        except OSError:
            return None
        self.ask(theirs.detach(), ahead=True)
        return Spare(ours)

    def _run(self, zygote: int) -> NoReturn:
        """In the forker: until the zygote ends."""
        try:
            process.set_parent_death_signal(SIGKILL)
            alive = os.getppid() == zygote
            call, asked, size = bare.call, self._asked, ASKED.size
            while alive and call(bare.READ, self._requests, asked.address, size, 0, 0, 0) == size:
                pid = call(bare.CLONE, SIGCHLD, 0, 0, 0, 0, 0)
                if pid == 0:
                    self._keeper.keep()
                if pid < 0:
                    refuse(asked.cells[0], "no process to be had")
                call(bare.CLOSE, asked.cells[0], 0, 0, 0, 0, 0)
        finally:
            os._exit(1)

    def _first(self, ground: Ground) -> int:
        """A shim's first worker. Its keeper has the same descriptors: what is the zygote's goes."""
        fd, ahead = self._asked.cells
        close_all_but({fd, *ground.descriptors()})
        ground.forked = self._warm.up
        if ahead:
            self._warm.up()
            ground.network = self._warm.network()
            if (fd := awaited(fd)) < 0:
                return 0
        return handle(fd, self._entry, ground, self._warm)

    def _later(self, ground: Ground) -> int:
        return binary.resume(self._entry, ground)


def close_all_but(keep: set[int]) -> None:
    """Close every descriptor above 2 that is not named."""
    first = 3
    for fd in sorted(keep):
        if fd > first:
            process.close_range(first, fd - 1)
        first = fd + 1
    process.close_range(first)


def refuse(fd: int, reason: str) -> None:
    reply(fd, 1, "", f"{NAME}: fork: {reason}\n")


def handle(fd: int, entry: Entry | None, ground: Ground, warm: Warm) -> int:
    """One request, in a process of its own, to its answer and beyond: its exit code. What has been
    a shim tells `warm` of itself."""
    try:
        request = Request(fd)
        invocation = request.invocation
        if invocation.action == "start":
            socket_path, server = binary.prepare(invocation)
            if server is None:
                reply(fd, 0, binary.answer(socket_path), "")
                return 0
            write_atomic(paths.SHIM_PID, b"%d" % ground.keeper, binary.PUBLIC)
            told = reply(fd, 0, binary.answer(socket_path), "", taken=request.connection >= 0)
            os.close(fd)
            if not told and binary.leaves(socket_path):
                return 0
            code = binary.serve(
                invocation,
                socket_path,
                server,
                entry,
                ground,
                request.env,
                request.stdin,
                request.connection,
            )
            warm.note(network=ground.new_network)
            return code
        if invocation.action != "delete":
            raise InvalidArgument(f"unknown command {invocation.action!r}: start or delete")
        response = binary.clean_up(invocation, entry)
    except (BarqueError, OSError) as error:
        reply(fd, 1, "", f"{NAME}: {error}\n")
        return 1
    except Exception as error:
        reply(fd, 1, "", f"{NAME}: {type(error).__name__}: {error}\n")
        return 1
    reply(fd, 0, response.decode("latin-1"), "")
    return 0


class Request:
    """What waits on a connection. Environment and working directory are made ours.

    `connection` is a descriptor that came with it, or -1. Raises InvalidArgument for a packet that
    is none.
    """

    __slots__ = ("connection", "env", "invocation", "stdin")

    def __init__(self, fd: int) -> None:
        data, self.connection = receive(fd)
        argv, self.env, cwd, self.stdin = parse(data)
        try:
            os.environ.update(self.env)
            os.chdir(cwd)
        except ValueError as error:
            raise InvalidArgument(f"request is malformed: {error}") from error
        self.invocation = Invocation(argv)


def receive(fd: int) -> tuple[bytes, int]:
    """A packet, and the descriptor that came with it."""
    client = _socket.socket(fileno=fd)
    try:
        data, ancillary, flags, _ = client.recvmsg(
            REQUEST_BYTES_MAX, _socket.CMSG_SPACE(bare.INT_SIZE), _socket.MSG_CMSG_CLOEXEC
        )
    finally:
        client.detach()
    if flags & (_socket.MSG_TRUNC | _socket.MSG_CTRUNC):
        raise InvalidArgument("request is too long")
    return data, received(ancillary)


def received(ancillary: list[tuple[int, int, bytes]]) -> int:
    """The one descriptor that came with a message, or -1."""
    return int.from_bytes(ancillary[0][2], "little") if ancillary else -1


def parse(data: bytes) -> tuple[list[str], dict[str, str], str, bytes]:
    """Argv, environment, working directory and standard input."""
    try:
        request: Any = document.parse(data)
        argv, env, cwd = request["argv"], request["env"], request["cwd"]
        stdin = request.get("stdin", "").encode("latin-1")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidArgument("request is not an object with argv, env and cwd") from error
    texts = isinstance(argv, list) and isinstance(env, dict) and isinstance(cwd, str)
    if not texts or not all(isinstance(text, str) for text in (*argv, *env, *env.values())):
        raise InvalidArgument("request has argv, env or cwd of the wrong type")
    return argv, env, cwd, stdin


def reply(fd: int, code: int, stdout: str, stderr: str, *, taken: bool = False) -> bool:
    """Answer; False: the client has gone."""
    answer = {"code": code, "stdout": stdout, "stderr": stderr, "taken": taken}
    try:
        os.write(fd, document.dump(answer))
    except OSError:
        return False
    return True
