"""The shim: the parent of a container's processes, until it is told to end.

This is where the parts of its worker are put together; what stays when there is nothing to do is
its keeper. It needs nothing of the process that started it.
"""

from __future__ import annotations

import marshal
import os
import time

from barque import __version__
from barque.oci import document
from barque.shim import keeper, paths
from barque.shim.container import Host
from barque.shim.events import Publisher
from barque.shim.ground import NOBODY, read_state, write_state
from barque.shim.jsonlines import stamp
from barque.shim.loop import Loop
from barque.shim.sandbox import Sandbox
from barque.shim.server import Server
from barque.shim.service import Tasks
from barque.shim.sockets import Listener

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from typing import Any, Final

    from barque.shim.ground import Ground
    from barque.shim.runtime import Entry

APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
REPEATABLE: Final = ("Wait", "WaitSandbox")  # calls that a worker may leave under way
QUIET_S: Final = 1.5  # before a worker leaves
SOON_S: Final = 5.0  # a worker that is needed again within this time has left too early,
QUIET_MAX_S: Final = 48.0  # and the next one stays twice as long
DESERTED_S: Final = 60.0  # for a containerd that started this shim and died to come back
FAREWELL_S: Final = 5.0  # for containerd to take the last events
LINGER_S: Final = 30.0  # for slow clients to take the last output
LAST_S: Final = 0.05  # then: the end of a process takes 2 ms, which who was answered can use now


class Config:
    """What `start` was told."""

    def __init__(
        self,
        *,
        namespace: str,
        identity: str,
        address: str,
        events_address: str,
        env: dict[str, str],
        options: bytes,
    ) -> None:
        """`env`: what the request for the shim added to the zygote's environment. `options`: the
        runtime's, an encoded Any, as `start` reads them from its standard input."""
        self.namespace = namespace
        self.identity = identity
        self.address = address
        self.events_address = events_address
        self.env = env
        self.options = options

    def save(self) -> dict[str, Any]:
        return {
            "namespace": self.namespace,
            "identity": self.identity,
            "address": self.address,
            "events_address": self.events_address,
            "env": self.env,
            "options": self.options,
        }


class Log:
    """JSON lines in the working directory's `log`, which may be a fifo that containerd reads.

    It is opened for each: there are few, and a process that writes a container's log has none of
    our descriptors.
    """

    def __init__(self, path: str, identity: str) -> None:
        self._path = path
        self._identity = identity

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
        try:
            fd = os.open(self._path, APPEND, 0o600)
        except OSError:  # nobody reads the fifo
            return
        try:
            os.write(fd, document.dump(entry) + b"\n")
        except OSError:
            pass
        finally:
            os.close(fd)


class Shim:
    """One worker's life. The first makes the shim; each later one goes on with what `_leave` left
    when all was quiet (see `barque.shim.keeper`)."""

    def __init__(
        self, config: Config, socket_path: str, entry: Entry | None, ground: Ground
    ) -> None:
        self._config = config
        self._socket_path = socket_path
        self._ground = ground
        self._left = False
        self._ends = False
        self._began = time.monotonic()
        self._log = Log(paths.LOG, config.identity)
        self._loop = Loop(ground)
        warn, events = self._log.warn, config.events_address
        self._loop.failed = self._log.failed
        self._publisher = Publisher(self._loop, events, config.namespace, warn)
        host = Host(
            self._loop,
            config.address,
            config.namespace,
            __version__,
            entry,
            warn,
            self._publisher.publish,
            self._move,
        )
        self._tasks = Tasks(self._loop, host, self._tasks_gone)
        self._sandbox = Sandbox(self._loop, host, self._tasks, config.options, self._shut_down)
        methods = {**self._tasks.methods(), **self._sandbox.methods()}
        self._rpc = Server(self._loop, methods, self._log.failed)
        self._rpc.connected = self._publisher.hurry
        if ground.keeper:
            self._loop.quiet_s = named_s("BARQUE_SHIM_QUIET_MS", QUIET_S)
            self._loop.quiet = self._leave

    def listen(self, server: _socket.socket, connection: int) -> None:
        """`connection`: a descriptor to serve as if it had been accepted, or -1."""
        self._listener = Listener(self._loop, server, self._rpc.accept)
        if connection >= 0:
            self._rpc.accept(connection)

    def restore(self, state: dict[str, Any]) -> None:
        """Have what another worker left. One that was called soon leaves later the next time."""
        if self._began - state["left"] < SOON_S:
            self._loop.quiet_s = min(state["quiet_s"] * 2, QUIET_MAX_S)
        self._listener = Listener.restored(self._loop, state["listener"], self._rpc.accept)
        self._tasks.restore(state["tasks"])
        self._sandbox.restore(state["sandbox"])
        self._rpc.restore(state["connections"])

    def run(self) -> int:
        """Until Shutdown, or until all is quiet: the exit code of the worker."""
        self._loop.run()
        if self._left:
            return keeper.PARKED
        remove(self._socket_path)
        return 0

    def _leave(self) -> None:
        """Nothing happens: leave all to who comes when something does. If something is under way,
        stay."""
        if not self._loop.at_rest():
            return
        if self._is_deserted():
            deserted_s = named_s("BARQUE_SHIM_DESERTED_MS", DESERTED_S)
            self._loop.after(deserted_s, self._end_if_deserted)
            return
        tasks, sandbox = self._tasks.save(), self._sandbox.save()
        connections = self._rpc.save(REPEATABLE)
        if None in (tasks, sandbox, connections) or not self._publisher.rest():
            return
        state = {
            "config": self._config.save(),
            "socket": self._socket_path,
            "listener": self._listener.save(),
            "tasks": tasks,
            "sandbox": sandbox,
            "connections": connections,
            "left": time.monotonic(),
            "quiet_s": self._loop.quiet_s,
        }
        if (network := self._ground.take_network()) != NOBODY:
            os.close(network)  # nobody came for it
        write_state(self._ground, marshal.dumps(state))
        self._left = True
        self._loop.stop()

    def _is_deserted(self) -> bool:
        """Whether it has nothing to keep, and nobody is there to give it something."""
        return not (self._tasks.any_here or self._sandbox.id or self._rpc.any_connected)

    def _end_if_deserted(self) -> None:
        if self._is_deserted():
            self._shut_down()

    def _move(self, bundle: str) -> None:
        """Live in another bundle, as the first one is going; a sandbox's stays."""
        if not self._sandbox.id:
            os.chdir(bundle)

    def _tasks_gone(self) -> None:
        if not self._sandbox.id:
            self._shut_down()

    def _shut_down(self) -> None:
        if self._ends:
            return
        self._ends = True
        self._listener.close()
        remove(self._socket_path)
        self._rpc.close()
        self._loop.after(FAREWELL_S, self._publisher.close)
        self._publisher.when_empty(self._linger)

    def _linger(self) -> None:
        self._loop.after(LINGER_S, self._loop.stop)
        self._loop.when_idle(self._end)

    def _end(self) -> None:
        self._loop.after(LAST_S, self._loop.stop)


def named_s(variable: str, usual_s: float) -> float:
    """How long something takes. Tests name another time in the environment, in milliseconds."""
    named = os.environ.get(variable, "")
    return int(named) / 1000 if named.isdecimal() else usual_s


def serve(
    config: Config,
    socket_path: str,
    server: _socket.socket,
    entry: Entry | None,
    ground: Ground,
    connection: int,
) -> int:
    """Be the first worker of the shim that listens on `server`; its exit code."""
    shim = Shim(config, socket_path, entry, ground)
    shim.listen(server, connection)
    return shim.run()


def resume(entry: Entry | None, ground: Ground) -> int:
    """Be a later worker."""
    state = marshal.loads(read_state(ground))
    config = Config(**state["config"])
    os.environ.update(config.env)
    shim = Shim(config, state["socket"], entry, ground)
    shim.restore(state)
    return shim.run()


def remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
