"""What the kernel counts for a control group: its files, read and never written.

A file that the kernel does not have, or that is gone with its group, counts nothing.
"""

from __future__ import annotations

import errno
import os

from barque.linux.fs import read_bounded, write_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

UNLIMITED: Final = (1 << 64) - 1  # as containerd's metrics say "max"
EFD_FLAGS: Final = os.EFD_CLOEXEC | os.EFD_NONBLOCK
ABSENT: Final = (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP, errno.EINVAL)


def text(directory: str, name: str) -> str:
    """The contents of one file, empty when there is none."""
    try:
        return read_bounded(f"{directory}/{name}").decode()
    except OSError as error:
        if error.errno in ABSENT:
            return ""
        raise


def number(directory: str, name: str) -> int:
    """A file with one number; "max" is `UNLIMITED`, nothing is 0."""
    value = text(directory, name).strip()
    if value == "max":
        return UNLIMITED
    return max(0, int(value)) if value.lstrip("-").isdigit() else 0


def numbers(directory: str, name: str) -> list[int]:
    """A file with numbers in a row."""
    return [int(word) for word in text(directory, name).split() if word.isdigit()]


def table(directory: str, name: str) -> dict[str, int]:
    """A file of lines "key value"."""
    found = {}
    for line in text(directory, name).splitlines():
        key, _, value = line.partition(" ")
        if value.isdigit():
            found[key] = int(value)
    return found


def devices(directory: str, name: str) -> list[tuple[int, int, str, int]]:
    """A blkio file (version 1): major, minor, operation (empty when it has none), value."""
    found = []
    for line in text(directory, name).splitlines():
        words = line.split()
        major, colon, minor = words[0].partition(":") if words else ("", "", "")
        if colon and len(words) in (2, 3) and words[-1].isdigit():
            operation = words[1] if len(words) == 3 else ""
            found.append((int(major), int(minor), operation, int(words[-1])))
    return found


def io_table(directory: str) -> list[tuple[int, int, dict[str, int]]]:
    """io.stat (version 2): major, minor, counters by name."""
    found = []
    for line in text(directory, "io.stat").splitlines():
        device, *pairs = line.split()
        major, colon, minor = device.partition(":")
        if colon:
            split = [pair.partition("=") for pair in pairs]
            counters = {key: int(value) for key, _, value in split if value.isdigit()}
            found.append((int(major), int(minor), counters))
    return found


def oom_kills(directory: str, unified: bool) -> int:
    """How many processes of the group the kernel has killed for want of memory."""
    name = "memory.events" if unified else "memory.oom_control"
    return table(directory, name).get("oom_kill", 0)


def open_oom_events(directory: str, unified: bool) -> int:
    """A descriptor that becomes ready when the group is out of memory.

    Version 2: memory.events, ready with POLLPRI, to be read again from its start. Version 1: an
    event descriptor (memory.oom_control through cgroup.event_control), ready for reading.
    """
    if unified:
        return os.open(f"{directory}/memory.events", os.O_RDONLY | os.O_CLOEXEC)
    event = os.eventfd(0, EFD_FLAGS)
    try:
        control = os.open(f"{directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        try:
            write_file(f"{directory}/cgroup.event_control", f"{event} {control}")
        finally:
            os.close(control)
    except OSError:
        os.close(event)
        raise
    return event
