"""A warm process that calls the runtime as the shim does: `at_once(argv)` or `begin(argv)` in this
process, or, if that does not do it, fork, `main(argv)`, exit code. Its parent reaps, as a keeper.

Started as `python -I -S warm_driver.py SOURCE FD`: requests come over the SOCK_SEQPACKET socket FD,
each one packet `{"argv": [...], "cwd": "..."}` with descriptors 0, 1, 2 and any preserved ones; the
answer is the exit code in decimal.
"""

# ruff: noqa: E402
import os
import sys

sys.path[:0] = [sys.argv[1], os.path.abspath(f"{__file__}/../../..")]

from barque.linux.memfd import forget_library_path, reexec_sealed

reexec_sealed()
forget_library_path()

import _socket
import gc
import json

import barque.runc.main
from barque.errors import BarqueError
from barque.linux.process import fork, set_child_subreaper
from tests.support.driver_packets import receive, take_places


def child(request: dict[str, object], fds: list[int], argv: list[str]) -> None:
    code = 99
    try:
        take_places(fds)
        os.chdir(str(request["cwd"]))
        code = barque.runc.main.main(argv)
    finally:
        os._exit(code)


def in_place(argv: list[str], fds: list[int]) -> bool:
    """Whether it was done in this process."""
    if len(fds) != 3:
        return False
    if barque.runc.main.at_once(argv):
        return True
    streams = fds[0], fds[1], fds[2]
    begin = barque.runc.main.begin
    making = begin(argv, streams, parent_reaps=True, forked=lambda: None, network=-1)
    try:
        while making is not None and not making.step():
            pass
    except (BarqueError, OSError):
        return False
    return making is not None


def forked(request: dict[str, object], argv: list[str], fds: list[int]) -> int:
    pid = fork()
    if pid == 0:
        child(request, fds, argv)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def serve(socket: _socket.socket) -> None:
    while True:
        data, fds = receive(socket)
        if not data:
            return
        request = json.loads(data)
        argv = request["argv"]
        code = 0 if in_place(argv, fds) else forked(request, argv, fds)
        for fd in fds:
            os.close(fd)
        socket.send(str(code).encode())


def main() -> None:
    socket = _socket.socket(fileno=int(sys.argv[2]))
    barque.runc.main.preload()
    gc.collect()
    gc.disable()
    gc.freeze()
    set_child_subreaper()
    worker = fork()
    if worker == 0:
        serve(socket)
        os._exit(0)
    socket.close()
    while os.wait()[0] != worker:
        pass


main()
