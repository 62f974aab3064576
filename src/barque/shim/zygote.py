"""The zygote: one warm process that shims are forked from. docs/boundaries.md section 3.

    containerd                    zygote                        child
      connect, one packet  ->     sees that it is there
                                  fork  ------------------->    reads it, does it, answers, and
                                                                is the shim from there on (`start`)
                                                                or ends (`delete`)

It reads nothing itself, so there is nothing of a request in the memory that all shims share. It
runs from a sealed copy of the interpreter: so do all that are forked from it.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the module without its enums
import _socket
import errno
import gc
import os
import select
import sys

from barque.errors import BarqueError, InvalidArgument
from barque.linux import memfd, process
from barque.oci import document
from barque.shim import binary, paths
from barque.shim.main import NAME, Invocation
from barque.shim.runtime import load_entry, place_stdio
from barque.shim.sockets import listen, trusted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from barque.shim.runtime import Entry


REQUEST_BYTES_MAX: Final = 1 << 17
WAITING_MAX: Final = 256
STDIN: Final = 0


def run(socket_path: str) -> int:
    """Be the zygote until standard input ends."""
    memfd.reexec_sealed()
    memfd.forget_library_path()
    process.set_name("barque-zygote")
    if os.path.lexists(socket_path):
        os.unlink(socket_path)
    server = listen(socket_path, _socket.SOCK_SEQPACKET)
    _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN)  # children are reaped by the kernel
    entry = load_entry()
    assert process.threads() == 1  # `process.fork` is for such alone
    os.chdir("/")
    gc.collect()
    gc.disable()
    gc.freeze()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    Zygote(server, entry).run()
    os.unlink(socket_path)
    return 0


class Zygote:
    """The loop: connections that have a packet become children."""

    def __init__(self, server: _socket.socket, entry: Entry | None) -> None:
        self._server = server
        self._entry = entry
        self._waiting: set[int] = set()
        self._poll = select.poll()

    def run(self) -> None:
        self._poll.register(self._server.fileno(), select.POLLIN)
        self._poll.register(STDIN, select.POLLIN)
        while True:
            for fd, _ in self._poll.poll():
                if fd == STDIN:
                    if not os.read(STDIN, 4096):
                        return
                elif fd == self._server.fileno():
                    self._accept()
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
            pid = process.fork()
        except OSError as error:
            reply(fd, 1, "", f"{NAME}: fork: {error.strerror}\n")
            os.close(fd)
            return
        if pid == 0:
            self._child(fd)
        os.close(fd)

    def _child(self, fd: int) -> None:
        """Never returns."""
        code = 1
        try:
            _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
            self._server.close()
            for other in self._waiting:
                os.close(other)
            place_stdio(None)
            code = handle(fd, self._entry)
        finally:
            os._exit(code)


def handle(fd: int, entry: Entry | None) -> int:
    """One request, in a process of its own, to its answer and beyond."""
    try:
        invocation = receive(fd)
        if invocation.action == "start":
            socket_path, server = binary.prepare(invocation)
            if server is None:
                reply(fd, 0, binary.answer(socket_path), "")
                return 0
            binary.write(paths.SHIM_PID, str(os.getpid()))
            reply(fd, 0, binary.answer(socket_path), "")
            os.close(fd)
            binary.become_shim(invocation, socket_path, server, entry)
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


def receive(fd: int) -> Invocation:
    """The request's argv, with its environment and working directory made ours.

    Raises InvalidArgument for a packet that is none.
    """
    connection = _socket.socket(fileno=fd)
    try:
        data, _, flags, _ = connection.recvmsg(REQUEST_BYTES_MAX)
    finally:
        connection.detach()
    if flags & _socket.MSG_TRUNC:
        raise InvalidArgument("request is too long")
    try:
        request: Any = document.parse(data)
        argv, env, cwd = request["argv"], request["env"], request["cwd"]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidArgument("request is not an object with argv, env and cwd") from error
    texts = isinstance(argv, list) and isinstance(env, dict) and isinstance(cwd, str)
    if not texts or not all(isinstance(text, str) for text in (*argv, *env, *env.values())):
        raise InvalidArgument("request has argv, env or cwd of the wrong type")
    try:
        os.environ.update(env)
        os.chdir(cwd)
    except ValueError as error:
        raise InvalidArgument(f"request is malformed: {error}") from error
    return Invocation(argv)


def reply(fd: int, code: int, stdout: str, stderr: str) -> None:
    """Answer; a client that has gone does not matter."""
    try:
        os.write(fd, document.dump({"code": code, "stdout": stdout, "stderr": stderr}))
    except OSError:
        pass
