"""The shim: one process that is the parent of a container's processes, until it is told to end.

This is where its parts are put together. It needs nothing of the process that started it.
"""

from __future__ import annotations

import os
import time

from barque import __version__
from barque.linux.process import set_child_subreaper, set_name
from barque.oci import document
from barque.shim import paths
from barque.shim.container import Host
from barque.shim.events import Publisher
from barque.shim.jsonlines import stamp
from barque.shim.loop import Loop
from barque.shim.server import Server
from barque.shim.service import Tasks
from barque.shim.sockets import Listener

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Final

    from barque.shim.runtime import Entry

PROCESS_NAME: Final = "barque-shim"
FAREWELL_S: Final = 5.0  # for containerd to take the last events
LINGER_S: Final = 30.0  # for slow clients to take the last output


class Config:
    """What `start` was told."""

    def __init__(
        self,
        *,
        namespace: str,
        identity: str,
        address: str,
        events_address: str,
        bundle: str,
        debug: bool,
    ) -> None:
        self.namespace = namespace
        self.identity = identity
        self.address = address
        self.events_address = events_address
        self.bundle = bundle
        self.debug = debug


class Log:
    """JSON lines in the working directory's `log`, which may be a fifo that containerd reads."""

    def __init__(self, path: str, identity: str) -> None:
        self._path = path
        self._identity = identity
        self._fd = -1

    def move(self, bundle: str) -> None:
        """The bundle that it was in is going: write to the log of this one."""
        os.chdir(bundle)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def warn(self, text: str) -> None:
        self._write("warning", text)

    def failed(self, what: str, error: BaseException) -> None:
        """A bug or a system error: where it came from is worth a line."""
        where = ""
        trace = error.__traceback__
        while trace is not None:
            code = trace.tb_frame.f_code
            where = f"{code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}"
            trace = trace.tb_next
        self._write("error", f"{what}: {type(error).__name__}: {error} at {where}")

    def _write(self, level: str, text: str) -> None:
        entry = {"level": level, "msg": text, "time": stamp(time.time_ns()), "id": self._identity}
        line = document.dump(entry) + b"\n"
        for _ in range(2):
            try:
                if self._fd < 0:
                    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
                    self._fd = os.open(self._path, flags, 0o600)
                os.write(self._fd, line)
                return
            except BlockingIOError:
                return
            except OSError:  # nobody reads the fifo, or its reader has gone: once more
                if self._fd < 0:
                    return
                os.close(self._fd)
                self._fd = -1


def serve(
    config: Config,
    socket_path: str,
    server: _socket.socket,
    entry: Entry | None,
) -> None:
    """Be the shim that listens on `server`, until Shutdown."""
    set_name(PROCESS_NAME)
    set_child_subreaper()
    log = Log(paths.LOG, config.identity)
    loop = Loop()
    publisher = Publisher(loop, config.events_address, config.namespace, log.warn)
    host = Host(
        loop,
        config.address,
        config.namespace,
        __version__,
        entry,
        log.warn,
        publisher.publish,
        log.move,
    )

    def shutdown() -> None:
        listener.close()
        remove(socket_path)
        rpc.close()
        loop.after(FAREWELL_S, publisher.close)
        publisher.when_empty(linger)

    def linger() -> None:
        loop.after(LINGER_S, loop.stop)
        loop.when_idle(loop.stop)

    tasks = Tasks(loop, publisher, host, shutdown)
    rpc = Server(loop, tasks.methods(), log.failed)
    rpc.connected = publisher.hurry
    listener = Listener(loop, server, rpc.accept)
    loop.run()
    remove(socket_path)


def remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
