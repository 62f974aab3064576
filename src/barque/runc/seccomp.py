"""`linux.seccomp` as a compiled filter, kept on disk: compiling takes longer than all the rest.

config-linux.md, "Seccomp". The cache lies in the runtime's own root, which only root may enter; a
file in it is used only when it and its directory belong to this user and nobody else may write.
"""

from __future__ import annotations

import os
import stat

try:  # without OpenSSL: one small hash
    from _sha256 import sha256  # type: ignore[import-not-found]
except ImportError:  # its name from Python 3.12 on
    from _sha2 import sha256  # type: ignore[import-not-found]

from barque.errors import BarqueError, InvalidArgument, Unsupported
from barque.linux import libseccomp
from barque.linux.fs import read_fd_bounded, write_atomic
from barque.linux.libc import MACHINE
from barque.linux.process import pidfd_getfd
from barque.linux.seccomp import (
    INSTRUCTION_BYTES,
    MOST_INSTRUCTIONS,
    SECCOMP_FILTER_FLAG_LOG,
    SECCOMP_FILTER_FLAG_NEW_LISTENER,
    SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
)
from barque.oci.document import dump
from barque.oci.fields import UINT32, UINT64, Fields
from barque.oci.runtime import SPEC_VERSION
from barque.runc.channel import send_descriptor

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from barque.runc.paths import Paths

VERSION = "3"  # of this translation: a new one makes old files unused
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 0,  # there is one thread
    "SECCOMP_FILTER_FLAG_LOG": SECCOMP_FILTER_FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
}
WITH_ERRNO = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
NOTIFY = "SCMP_ACT_NOTIFY"
EPERM = 1
ENOSYS = 38
# defaults that let a call pass, or be answered by a tracer, which may know it
PERMISSIVE = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")
LARGEST_ERRNO = 0xFFFF
ARGUMENTS_OF_A_CALL = 6


def key_of(profile: dict[str, Any]) -> str:
    """The name of the compiled form of `profile`."""
    text = f"{VERSION} {MACHINE} ".encode() + dump(profile)
    digest: str = sha256(text).hexdigest()
    return digest


def filter_flags(profile: dict[str, Any]) -> int:
    """The flags for seccomp(2); SECCOMP_FILTER_FLAG_NEW_LISTENER is among them when calls are
    decided on by the process that listens at `listenerPath`."""
    fields = Fields(profile, "linux.seccomp")
    bits = 0
    for name in fields.texts("flags"):
        if name not in FLAGS:
            raise Unsupported(f"linux.seccomp.flags: {name} is not supported")
        bits |= FLAGS[name]
    if fields.text("listenerPath"):
        if any(rule.get("action") == NOTIFY for rule in profile.get("syscalls") or ()):
            return bits | SECCOMP_FILTER_FLAG_NEW_LISTENER
    elif fields.text("listenerMetadata"):
        raise InvalidArgument("linux.seccomp: listenerMetadata needs a listenerPath")
    return bits & ~SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV  # nobody to wait for


def hand_on_listener(profile: dict[str, Any], pid: int, number: int, state: dict[str, Any]) -> None:
    """Send the listener of process `pid`, its descriptor `number`, to the profile's listenerPath.

    config-linux.md, "The Container Process State".
    """
    path = profile["listenerPath"]
    message: dict[str, Any] = {"ociVersion": SPEC_VERSION, "fds": ["seccompFd"], "pid": pid}
    if profile.get("listenerMetadata"):
        message["metadata"] = profile["listenerMetadata"]
    message["state"] = state
    pidfd = os.pidfd_open(pid)
    try:
        listener = pidfd_getfd(pidfd, number)
        try:
            send_descriptor(path, dump(message).decode(), listener)
        except OSError as error:
            text = os.strerror(error.errno or 0).lower()
            raise BarqueError(f"failed to connect with seccomp agent {path}: {text}") from error
        finally:
            os.close(listener)
    finally:
        os.close(pidfd)


def program(paths: Paths, profile: dict[str, Any], key: str) -> bytes:
    """The filter of `profile`: from the cache, or compiled and put there. Empty: allows all."""
    cached = _read(paths, key)
    if cached is None:
        cached = compile_profile(profile)
        os.makedirs(paths.filters, 0o700, exist_ok=True)
        write_atomic(paths.filter(key), cached)
    return cached


def stored(paths: Paths, key: str) -> bytes | None:
    """The filter a container was made with; None: it is no longer there."""
    return _read(paths, key)


def _read(paths: Paths, key: str) -> bytes | None:
    try:
        directory = os.open(paths.filters, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        if not _ours(os.fstat(directory)):
            return None
        try:
            fd = os.open(key, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        except FileNotFoundError:
            return None
        try:
            if not _ours(os.fstat(fd)):
                return None
            data = read_fd_bounded(fd, MOST_INSTRUCTIONS * INSTRUCTION_BYTES)
            return None if len(data) % INSTRUCTION_BYTES else data
        finally:
            os.close(fd)
    finally:
        os.close(directory)


def _ours(found: os.stat_result) -> bool:
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def compile_profile(profile: dict[str, Any]) -> bytes:
    """The BPF program of a profile."""
    fields = Fields(profile, "linux.seccomp")
    default = _action(fields, "defaultAction", "defaultErrnoRet")
    if fields.text("defaultAction") == NOTIFY:
        raise InvalidArgument("SCMP_ACT_NOTIFY cannot be used as default action")
    listens = bool(fields.text("listenerPath"))
    compiler = libseccomp.Compiler(default)
    try:
        for name in fields.texts("architectures"):
            if name not in libseccomp.ARCHITECTURES:
                raise InvalidArgument(f"string {name} is not a valid arch for seccomp")
            compiler.add_architecture(name)
        for rule in fields.sections("syscalls"):
            _check_notify(rule, listens)
            _add(compiler, rule, default)
        return _beginning(compiler, fields) + compiler.export()
    finally:
        compiler.close()


def _beginning(compiler: libseccomp.Compiler, fields: Fields) -> bytes:
    """Calls that are newer than all that the profile names do not exist, as runc has it."""
    default = fields.text("defaultAction")
    if default in PERMISSIVE or fields.members.get("defaultErrnoRet") == ENOSYS:
        return b""
    from barque.linux.newer_calls import refuse_newer

    names = [name for rule in fields.sections("syscalls") for name in rule.texts("names")]
    found = (compiler.newest_call(arch, names) for arch in ("", *fields.texts("architectures")))
    return refuse_newer({token: number for token, number in found if number >= 0})


def _check_notify(rule: Fields, listens: bool) -> None:
    """The new process tells of its listener by write(2), before anybody could decide on it."""
    if rule.text("action") != NOTIFY:
        return
    if not listens:
        raise InvalidArgument("linux.seccomp: SCMP_ACT_NOTIFY needs a listenerPath")
    if "write" in rule.texts("names"):
        raise InvalidArgument("SCMP_ACT_NOTIFY cannot be used for the write syscall")


def _add(compiler: libseccomp.Compiler, rule: Fields, default: int) -> None:
    action = _action(rule, "action", "errnoRet")
    if action == default:
        return
    arguments = [_argument(fields) for fields in rule.sections("args")]
    indexes = [argument.index for argument in arguments]
    # libseccomp takes one comparison an argument: several on one are alternatives, as in runc
    groups = [[one] for one in arguments] if len(set(indexes)) < len(indexes) else [arguments]
    for name in rule.texts("names"):
        for group in groups:
            compiler.add_rule(action, name, group)


def _action(fields: Fields, name: str, errno_name: str) -> int:
    text = fields.text(name)
    if text not in libseccomp.ACTIONS:
        raise InvalidArgument(f"string {text} is not a valid action for seccomp")
    number = fields.number(errno_name, 0, LARGEST_ERRNO)
    if text not in WITH_ERRNO:
        if number is not None:
            raise InvalidArgument(f"{fields.path(errno_name)}: {text} takes no errno")
        return libseccomp.ACTIONS[text]
    return libseccomp.ACTIONS[text] | (EPERM if number is None else number)


def _argument(fields: Fields) -> libseccomp.Argument:
    operator = fields.text("op")
    if operator not in libseccomp.OPERATORS:
        raise InvalidArgument(f"string {operator} is not a valid operator for seccomp")
    index = fields.required_number("index", 0, UINT32)
    if index >= ARGUMENTS_OF_A_CALL:
        raise InvalidArgument(f"{fields.path('index')}: {index} is not in the range 0 to 5")
    value = fields.required_number("value", 0, UINT64)
    second = fields.number("valueTwo", 0, UINT64) or 0
    return libseccomp.Argument(index, libseccomp.OPERATORS[operator], value, second)
