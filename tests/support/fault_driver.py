"""The warm driver with failpoints: one kernel call of one command fails, or is the last.

A request of `warm_driver` may have `"fault": {"at": N, "kill": bool, "log": path}`: the N-th kernel
call of the command, counted over the runtime and the processes it makes, fails with EIO without
being made, or kills who makes it. The names of the calls are written to the log at the end. With
`"at_once": true` the command is done in the calling process first, if that can do it.

Every call of `barque.linux` goes through `libc.prototype` and `libc.system_call`; those of the
interpreter's own modules are wrapped by name.
"""

# ruff: noqa: E402
from __future__ import annotations

import os
import sys

sys.path[:0] = [sys.argv[1], os.path.abspath(f"{__file__}/../../..")]

from barque.linux.memfd import forget_library_path, reexec_sealed

reexec_sealed()
forget_library_path()

import ctypes
import errno
import mmap
import struct

from barque.linux import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OS_CALLS = (
    *("access", "chdir", "chmod", "chown", "close", "dup2", "execve", "fchdir", "fchmod", "fchown"),
    *("fstat", "lseek", "lstat", "link", "listdir", "mkdir", "mkfifo", "mknod", "open"),
    *("pidfd_open", "pipe2", "pread", "read", "readlink", "rename", "rmdir", "scandir", "sendfile"),
    *("setgroups", "setresgid", "setresuid", "setsid", "stat", "symlink", "unlink", "utime"),
    *("waitpid", "write", "chroot", "ftruncate", "memfd_create", "fork", "set_inheritable"),
    *("set_blocking", "getxattr", "setxattr", "listxattr", "sched_setaffinity", "kill"),
)
SOCKET_CALLS = ("sendmsg", "recvmsg", "send", "recv", "connect")
NEVER_FAIL = (
    "close",
    "waitpid",
    "kill",
)  # the kernel's do not either, of what a process has made itself
KILL = 9
HEAD, RECORD, MOST_CALLS = 8, 24, 4096


class Failpoints:
    """The counter, and the calls' names, are in memory that all processes of the command share."""

    def __init__(self) -> None:
        self.shared = mmap.mmap(-1, HEAD + RECORD * MOST_CALLS)
        self.at = 0
        self.kill = False

    def arm(self, at: int, kill: bool) -> None:
        self.shared[:HEAD] = bytes(HEAD)
        self.at, self.kill = at, kill

    def meet(self, name: str) -> bool:
        """Whether this call is to fail."""
        if not self.at:
            return False
        count = struct.unpack("q", self.shared[:HEAD])[0]
        self.shared[:HEAD] = struct.pack("q", count + 1)
        place = HEAD + RECORD * min(count, MOST_CALLS - 1)
        self.shared[place : place + RECORD] = name.encode()[:RECORD].ljust(RECORD)
        if count + 1 != self.at or (name in NEVER_FAIL and not self.kill):
            return False
        if self.kill:
            os.kill(os.getpid(), KILL)
            os._exit(128 + KILL)  # the first process of a pid namespace, whom its own do not kill
        return True

    def names(self) -> list[str]:
        count = struct.unpack("q", self.shared[:HEAD])[0]
        text = self.shared[HEAD : HEAD + RECORD * min(count, MOST_CALLS)].decode()
        return [text[n : n + RECORD].strip() for n in range(0, len(text), RECORD)]


points = Failpoints()
real_prototype, real_system_call = libc.prototype, libc.system_call


def wrapped(name: str, call: Any) -> Any:
    def failing(*arguments: Any) -> Any:
        if points.meet(name):
            ctypes.set_errno(errno.EIO)
            return -1
        return call(*arguments)

    return failing


def wrapped_os(name: str, call: Any) -> Any:
    def failing(*arguments: Any, **keywords: Any) -> Any:
        if points.meet(name):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return call(*arguments, **keywords)

    return failing


libc.prototype = lambda name, *types: wrapped(name, real_prototype(name, *types))
libc.system_call = lambda number, *types: wrapped(
    f"call {number}", real_system_call(number, *types)
)
for module in [name for name in sys.modules if name.startswith("barque.linux.")]:
    if module != "barque.linux.libc":
        del sys.modules[module]  # loaded again, with the wrapped calls

import _socket
import fcntl
import gc
import json
import resource

import barque.runc.main
from tests.support.driver_packets import receive, take_places

# Only the runtime's own: the interpreter's import system has references of its own.
for call in OS_CALLS:
    setattr(os, call, wrapped_os(call, getattr(os, call)))
os.supports_follow_symlinks.update((os.stat, os.chown, os.utime))
os.supports_dir_fd.update((os.stat, os.open, os.mkdir, os.rmdir, os.unlink, os.symlink))
os.supports_fd.update((os.stat, os.listdir, os.scandir))
resource.setrlimit = wrapped_os("setrlimit", resource.setrlimit)
fcntl.ioctl = wrapped_os("ioctl", fcntl.ioctl)
fcntl.flock = wrapped_os("flock", fcntl.flock)


class Socket(_socket.socket):
    """One whose calls may fail."""


for call in SOCKET_CALLS:
    setattr(Socket, call, wrapped_os(call, getattr(_socket.socket, call)))


def socketpair(*arguments: int) -> tuple[Socket, Socket]:
    one, other = real_socketpair(*arguments)
    return Socket(fileno=one.detach()), Socket(fileno=other.detach())


real_socketpair = _socket.socketpair
_socket.socketpair = wrapped_os("socketpair", socketpair)
_socket.socket = Socket  # type: ignore[misc]

LOG = 900  # beyond the descriptors that the runtime has


def child(request: dict[str, object], fds: list[int], argv: list[str]) -> None:
    code = 99
    try:
        take_places(fds)
        os.chdir(str(request["cwd"]))
        fault = request.get("fault")
        if isinstance(fault, dict):
            log = os.open(str(fault["log"]), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.dup2(log, LOG, inheritable=False)
            os.close(log)
            points.arm(int(fault["at"]), bool(fault["kill"]))
        if request.get("at_once") and barque.runc.main.at_once(argv):
            code = 0
        else:  # as a shim does it
            code = barque.runc.main.main(argv)
        points.at = 0
        if isinstance(fault, dict):
            os.write(LOG, "\n".join(points.names()).encode())
    finally:
        os._exit(code)


def main() -> None:
    socket = _socket.socket(fileno=int(sys.argv[2]))
    barque.runc.main.preload()
    gc.collect()
    gc.disable()
    gc.freeze()
    while True:
        data, fds = receive(socket)
        if not data:
            return
        request = json.loads(data)
        pid = os.fork()
        if pid == 0:
            child(request, fds, request["argv"])
        for fd in fds:
            os.close(fd)
        _, status = os.waitpid(pid, 0)
        socket.send(str(os.waitstatus_to_exitcode(status)).encode())


main()
