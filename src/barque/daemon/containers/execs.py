"""Further processes in a running container: `exec`. They live in memory only, as Docker's do.

create -> start (once) -> running -> exited; gone with the container, or some minutes later
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from barque import errors
from barque.daemon.containers import apparmor, capabilities, security, streams
from barque.daemon.containers.attach import relay
from barque.daemon.containers.container import Container
from barque.daemon.containers.detach import parse_keys
from barque.daemon.containers.documents import ExecConfig
from barque.daemon.containers.engine import Engine
from barque.daemon.containers.outcome import (
    EXIT_FAILED,
    EXIT_NOT_EXECUTABLE,
    exit_code_of,
    start_error,
)
from barque.daemon.containers.rootfs import resolve_user, writable_rootfs
from barque.daemon.containers.spec import (
    capability_document,
    capability_set,
    environment,
    rlimits,
    user_document,
)
from barque.daemon.containers.state import Status
from barque.daemon.containers.stdio import Stdio, Wanted
from barque.daemon.containers.supervise import Stdio as StdioRequest
from barque.daemon.http.messages import Duplex

KEEP_AFTER_EXIT_S = 300.0
EXIT_KNOWN_WITHIN_S = 10.0
MAX_EXECS = 10_000


class Exec:
    """One exec. `ended` has its exit code once it is known."""

    def __init__(self, exec_id: str, container: Container, config: ExecConfig) -> None:
        self.id = exec_id
        self.container = container
        self.config = config
        self.pid = 0
        self.started = False
        self.running = False
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def exit_code(self) -> int | None:
        return self.ended.result() if self.ended.done() else None

    @property
    def command(self) -> str:
        return " ".join(self.config.cmd)

    def finish(self, code: int) -> None:
        self.running = False
        if not self.ended.done():
            self.ended.set_result(code)


def find(engine: Engine, exec_id: str) -> Exec:
    found = engine.execs.get(exec_id)
    if found is None:
        raise errors.NotFound(f"No such exec instance: {exec_id}")
    return found


def create(engine: Engine, container: Container, config: ExecConfig) -> Exec:
    """Raises Conflict unless the container runs, InvalidArgument for a command that is none."""
    check_running(container)
    if not config.cmd or not config.cmd[0]:
        raise errors.InvalidArgument("No exec command specified")
    if config.working_dir and not config.working_dir.startswith("/"):
        raise errors.InvalidArgument(
            f"the working directory '{config.working_dir}' is invalid, "
            "it needs to be an absolute path"
        )
    if any("\0" in text for text in (*config.cmd, *config.env, config.working_dir, config.user)):
        raise errors.InvalidArgument("invalid exec: it contains a NUL byte")
    if config.detach_keys:
        parse_keys(config.detach_keys)
    if len(engine.execs) >= MAX_EXECS:
        raise errors.ResourceExhausted(f"{MAX_EXECS} execs are there already: start or forget some")
    made = Exec(secrets.token_hex(32), container, config)
    engine.execs[made.id] = made
    container.execs.add(made.id)
    engine.publish(container, f"exec_create: {made.command}", execID=made.id)
    return made


def check_running(container: Container) -> None:
    status = container.state.status
    if status is Status.PAUSED:
        raise errors.Conflict(
            f"container {container.name} is paused, unpause the container before exec"
        )
    if status is Status.RESTARTING:
        raise errors.Conflict(
            f"container {container.name} is restarting, wait until the container is running"
        )
    if status is not Status.RUNNING:
        raise container.not_running()


async def _check_still_running(container: Container, pid: int, error: Exception) -> None:
    """Raises Conflict when the end of its process `pid`, or a pause, is why there is no exec."""
    check_running(container)
    told = isinstance(error, errors.Conflict)  # by its shim
    suspect = isinstance(error, OSError) or exit_code_of(str(error)) == EXIT_FAILED
    if told or (suspect and await container.has_ended(pid)):
        raise container.not_running() from error


async def start(
    engine: Engine, process: Exec, wanted: Wanted | None, console_size: list[int] | None = None
) -> Stdio | None:
    """Start it; its streams for `wanted`, connected before it runs. None for a detached one.

    Raises what the runtime refuses as `start_error`; the exec then has ended with 126 or 127, and
    with 126 where the runtime was not asked, as when there is no such user.
    """
    if process.started:
        state = "is already running" if process.running else "has already run"
        raise errors.Conflict(f"exec command {process.id} {state}")
    check_running(process.container)
    process.started, pid = True, process.container.state.pid
    stdio: Stdio | None = None
    document: dict[str, Any] | None = None
    try:
        document = await _process_document(engine, process, console_size)
        stdio = await _launch(engine, process, document, wanted)
    except BaseException as error:
        process.finish(exit_code_of(str(error)) if document else EXIT_NOT_EXECUTABLE)
        engine.spawn(_forget_process(engine, process))
        if isinstance(error, errors.BarqueError | OSError):
            await _check_still_running(process.container, pid, error)
        if isinstance(error, errors.BarqueError):
            raise start_error(error, "") from error
        raise
    engine.publish(process.container, f"exec_start: {process.command}", execID=process.id)
    return stdio


async def _launch(
    engine: Engine, process: Exec, document: dict[str, Any], wanted: Wanted | None
) -> Stdio | None:
    container = process.container
    socket = str(engine.paths.stdio_socket(process.id))
    takes_input = process.config.attach_stdin and wanted is not None
    options = {"stdin": "1", "stdin-once": "1"} if takes_input else {}
    relayed = engine.runtime_of(container).foreign
    await engine.supervisor.exec(
        container.id,
        process.id,
        document,
        StdioRequest(socket, process.config.tty, options, relayed),
    )
    stdio = await Stdio.connect(socket, wanted) if wanted else None
    try:
        process.running = True
        process.pid = await engine.supervisor.start_exec(container.id, process.id)
        if relayed and not process.config.tty:
            engine.spawn(engine.supervisor.release_input(container.id, process.id), lasting=True)
    except BaseException:
        if stdio is not None:
            stdio.close()
        raise
    return stdio


async def _process_document(
    engine: Engine, process: Exec, console_size: list[int] | None
) -> dict[str, Any]:
    """runtime-spec's process: the container's, with what the exec says otherwise."""
    config, record, machine = process.config, process.container.record, engine.machine
    mounts = await writable_rootfs(engine, process.container)
    user = await asyncio.to_thread(
        resolve_user,
        mounts,
        config.user or record.config.user,
        () if config.user else record.host.group_add or (),
    )
    names = capability_set(record, machine)
    if config.privileged:
        names = capabilities.resolve((), (), True, machine.capabilities)
    document: dict[str, Any] = {
        "terminal": config.tty,
        "user": user_document(user),
        "args": config.cmd,
        "env": environment(record, user.home, config.env, config.tty),
        "cwd": config.working_dir or record.config.working_dir or "/",
        "capabilities": capability_document(names),
        "noNewPrivileges": _no_new_privileges(engine, process),
        "oomScoreAdj": record.host.oom_score_adj,
    }
    if profile := apparmor.profile_of(record, machine):
        document["apparmorProfile"] = profile
    if record.process_label:
        document["selinuxLabel"] = record.process_label
    if limits := rlimits(record, engine.defaults):
        document["rlimits"] = limits
    size = console_size or config.console_size
    if config.tty and size and len(size) == 2 and all(size):
        document["consoleSize"] = {"height": size[0], "width": size[1]}
    return document


def _no_new_privileges(engine: Engine, process: Exec) -> bool:
    options = process.container.record.host.security_opt or ()
    chosen = security.parse(options, engine.machine).no_new_privileges
    return engine.defaults.no_new_privileges if chosen is None else chosen


async def serve(engine: Engine, process: Exec, stdio: Stdio, duplex: Duplex) -> None:
    """Relay one client to the end. Closes the connection when the exit code is known."""
    config = process.config
    wanted = Wanted(config.attach_stdin, config.attach_stdout, config.attach_stderr)
    keys = parse_keys(config.detach_keys) if config.tty else None
    try:
        detached = await relay(duplex, stdio, wanted, keys)
        if detached:
            engine.publish(process.container, "exec_detach", execID=process.id)
        else:
            with suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(process.ended), EXIT_KNOWN_WITHIN_S)
    finally:
        duplex.close()


async def resize(engine: Engine, process: Exec, width: int, height: int) -> None:
    if not process.running:
        raise errors.Conflict(f"exec {process.id} is not running")
    await engine.supervisor.resize(process.container.id, process.id, width, height)


async def exited(engine: Engine, exec_id: str, code: int) -> None:
    """containerd says that the process has ended."""
    process = engine.execs.get(exec_id)
    if process is None or process.ended.done():
        return
    await streams.drained(engine.paths.stdio_socket(exec_id))
    if process.ended.done():
        return
    process.finish(code)
    engine.publish(process.container, "exec_die", execID=exec_id, exitCode=str(code))
    await _forget_process(engine, process)
    asyncio.get_running_loop().call_later(KEEP_AFTER_EXIT_S, _forget, engine, process)


async def settle(engine: Engine, container: Container) -> None:
    """What ended while containerd was away, or as it died, is told of now."""
    for exec_id in tuple(container.execs):
        process = engine.execs.get(exec_id)
        if process is None or not process.running:
            continue
        code = await engine.supervisor.exec_ended(container.id, exec_id)
        if code is not None:
            engine.spawn(exited(engine, exec_id, code))


async def _forget_process(engine: Engine, process: Exec) -> None:
    """containerd's and our part of an exec that has ended; its result stays known for a while."""
    with suppress(errors.BarqueError):
        await engine.supervisor.delete_exec(process.container.id, process.id)
    streams.remove(engine.paths.stdio_socket(process.id))


def _forget(engine: Engine, process: Exec) -> None:
    process.container.execs.discard(process.id)
    engine.execs.pop(process.id, None)


async def forget_all(engine: Engine, container: Container) -> None:
    """The container has ended, so have they; one whose end was not told counts as killed."""
    for exec_id in tuple(container.execs):
        process = engine.execs.get(exec_id)
        if process is None:
            continue
        if process.running:
            process.finish(137)
        streams.remove(engine.paths.stdio_socket(exec_id))
        _forget(engine, process)


def unfinished(engine: Engine, container: Container) -> list[str]:
    """The ids of those that wait for their start or run: ExecIDs of a container."""
    known = ((exec_id, engine.execs.get(exec_id)) for exec_id in container.execs)
    return sorted(exec_id for exec_id, process in known if process and not process.ended.done())


def inspect(process: Exec) -> Mapping[str, Any]:
    """API: GET /exec/{id}/json."""
    config = process.config
    return {
        "ID": process.id,
        "Running": process.running,
        "ExitCode": process.exit_code,
        "ProcessConfig": {
            "tty": config.tty,
            "entrypoint": config.cmd[0],
            "arguments": config.cmd[1:],
            "privileged": config.privileged,
            "user": config.user,
        },
        "OpenStdin": config.attach_stdin,
        "OpenStderr": config.attach_stderr,
        "OpenStdout": config.attach_stdout,
        "CanRemove": False,
        "ContainerID": process.container.id,
        "DetachKeys": config.detach_keys,
        "Pid": process.pid if process.running else 0,
    }
