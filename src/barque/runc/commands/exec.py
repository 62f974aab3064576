"""`exec`: another process in a container. Exit code 255 is ours, others are the process's."""

from __future__ import annotations

import os

from barque.errors import InvalidArgument
from barque.oci.fields import LARGEST_ID, Fields, checked_number
from barque.oci.runtime import CAPABILITY_SETS, parse_process
from barque.runc.commands import read_document
from barque.runc.container import load
from barque.runc.create import MOST_PRESERVED, Options, check_preserved
from barque.runc.enter import container_spec, enter
from barque.runc.flags import LIST, SWITCH, VALUE, Arguments, Flag
from barque.runc.foreground import Foreground

TYPE_CHECKING = False
if TYPE_CHECKING:
    from barque.linux.cgroup import Cgroup
    from barque.oci.runtime import Process
    from barque.runc.container import Container
    from barque.runc.log import Log
    from barque.runc.paths import Paths

FLAGS = (
    Flag("console-socket", VALUE, "unix socket that gets the terminal's master"),
    Flag("pidfd-socket", VALUE, "unix socket that gets a descriptor of the process"),
    Flag("cwd", VALUE, "current working directory in the container"),
    Flag("env,e", LIST, "set environment variables"),
    Flag("tty,t", SWITCH, "allocate a pseudo-TTY"),
    Flag("user,u", VALUE, "UID (format: <uid>[:<gid>])"),
    Flag("additional-gids,g", LIST, "additional gids"),
    Flag("process,p", VALUE, "path to the process.json"),
    Flag("detach,d", SWITCH, "detach from the container's process"),
    Flag("pid-file", VALUE, "file to write the process id to"),
    Flag("process-label", VALUE, "SELinux label of the process"),
    Flag("apparmor", VALUE, "AppArmor profile of the process"),
    Flag("no-new-privs", SWITCH, "set the no new privileges value for the process"),
    Flag("cap,c", LIST, "add a capability to the bounding set for the process"),
    Flag("preserve-fds", VALUE, "number of descriptors from 3 on that the process gets"),
    Flag("cgroup", LIST, "cgroup below the container's, [controller,...:]path"),
    Flag("ignore-paused", SWITCH, "allow exec in a paused container"),
)
USAGE = "exec [command options] <container-id> <command> [command options] || -p process.json <id>"
WORDS = (1, None)


def run(given: Arguments, paths: Paths, log: Log) -> int:
    preserved = given.number("preserve-fds", 0, MOST_PRESERVED)
    groups = given.numbers("additional-gids", 0, LARGEST_ID)
    container = load(paths, given.words[0])
    process = process_of(given, container, groups)
    options = Options(container.bundle)
    options.console_socket = given.get("console-socket")
    options.pidfd_socket = given.get("pidfd-socket")
    options.pid_file = given.get("pid-file")
    options.cgroups = sub_cgroups(given.all("cgroup"), container.cgroup)
    options.preserved = check_preserved(preserved)
    paused = given.on("ignore-paused")
    if given.on("detach"):
        enter(container, process, options, log, ignore_paused=paused)
        return 0
    foreground = Foreground()
    taken: list[int] = []
    if not options.console_socket:
        options.terminal_taker = taken
    pid = enter(container, process, options, log, ignore_paused=paused)
    return foreground.wait(pid, taken[0] if taken else -1)


def process_of(given: Arguments, container: Container, groups: list[int]) -> Process:
    """The process of the file, or the container's own with what the flags change."""
    path = given.get("process")
    if path:
        return parse_process(Fields(read_document(path), "process"))
    process = container_spec(container).process
    if len(given.words) < 2:
        raise InvalidArgument("process args cannot be empty")
    process.args = tuple(given.words[1:])
    process.terminal = given.on("tty")
    process.cwd = given.get("cwd") or process.cwd
    process.env = (*process.env, *given.all("env"))
    process.no_new_privileges = process.no_new_privileges or given.on("no-new-privs")
    process.apparmor_profile = given.get("apparmor") or process.apparmor_profile
    process.selinux_label = given.get("process-label") or process.selinux_label
    if given.given("user"):
        process.uid, process.gid = parse_user(given.get("user"), process.gid)
    process.additional_gids = (*process.additional_gids, *groups)
    if given.all("cap"):
        sets = process.capabilities or dict.fromkeys(CAPABILITY_SETS, ())
        for name in ("bounding", "effective", "permitted"):
            sets[name] = (*sets[name], *given.all("cap"))
        process.capabilities = sets
    return process


def sub_cgroups(entries: list[str], cgroup: Cgroup) -> dict[str, str]:
    """The container's cgroup directories with what `--cgroup` says of them: a path below the
    container's cgroup, or (version 1) one for the controllers named before its colon."""
    directories = dict(cgroup.directories)
    for entry in entries:
        controllers, colon, path = entry.rpartition(":")
        if colon and cgroup.unified_only:
            raise InvalidArgument(f"bad --cgroup {entry}: controllers need cgroup version 1")
        below = os.path.normpath("/" + path.lstrip("/"))
        if ".." in path.split("/"):
            raise InvalidArgument(f"{path} is not a sub cgroup path")
        for name in controllers.split(",") if colon else tuple(directories):
            if name not in cgroup.directories:
                raise InvalidArgument(f"unknown controller {name} in --cgroup {entry}")
            directories[name] = cgroup.directories[name] + (below if below != "/" else "")
    return directories


def parse_user(text: str, gid: int) -> tuple[int, int]:
    user, colon, group = text.partition(":")
    return number(user), number(group) if colon else gid


def number(text: str) -> int:
    """Digits only: a sign, a space or another base is no id (CVE-2026-30892)."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise InvalidArgument(f"user {text!r} is not a number")
    return checked_number(int(text), 0, LARGEST_ID, "user")
