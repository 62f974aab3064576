"""Device-mapper: block devices made of others. Linux, include/uapi/linux/dm-ioctl.h.

A device has a name, and a table of targets that takes effect when the device is resumed.
Documentation/admin-guide/device-mapper/thin-provisioning.rst has the targets `thin-pool`, `thin`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

CONTROL = "/dev/mapper/control"
# struct dm_ioctl: version, sizes of all and of the header, targets, opens, flags, event; the
# device, its name and uuid; then what belongs to the command.
HEADER = struct.Struct("=3I II I i I I I Q 128s 129s 7x")
TARGET = struct.Struct("=QQ i I 16s")
SECTOR = struct.Struct("=Q")
VERSION = (4, 0, 0)
BUFFER_BYTES = 16384
SECTOR_BYTES = 512
NAME_BYTES = 127
SUSPEND, HAS_TABLE = 1 << 1, 1 << 5
CREATE, REMOVE, RESUME, STATUS, LOAD, MESSAGE = 3, 4, 6, 7, 9, 14
TABLE_STATUS = 12
TARGET_VERSION = 17  # Linux 5.2; loads the target's module
BLKDISCARD = 0x1277
WRITE_READ = 0xC0000000 | HEADER.size << 16 | 0xFD << 8


def is_known(target: str) -> bool:
    """Whether this kernel has targets of that type."""
    try:
        _call(TARGET_VERSION, target)
    except OSError:
        return False
    return True


def create(name: str, sectors: int, target: str, parameters: str) -> int:
    """A device of one target; its device number. One that is there already is taken as it is."""
    if found := number_of(name):
        return found
    remove(name)  # one that was being made has no table
    _call(CREATE, name)
    try:
        words = parameters.encode() + b"\0"
        words += bytes(-len(words) % 8)
        spec = TARGET.pack(0, sectors, 0, TARGET.size + len(words), target.encode())
        _call(LOAD, name, targets=1, data=spec + words)
        return _call(RESUME, name)[0]
    except OSError:
        remove(name)
        raise


def number_of(name: str) -> int:
    """The device number; 0 where there is no such device, or none with a table."""
    try:
        number, flags = _call(STATUS, name)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return 0
    return number if flags & HAS_TABLE else 0


def remove(name: str) -> None:
    """Gone is done. Raises OSError EBUSY while somebody has it open."""
    try:
        _call(REMOVE, name)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise


def suspend(name: str) -> None:
    """What is under way ends, and a file system on it is as after a sync, until it is resumed."""
    _call(RESUME, name, flags=SUSPEND)


def resume(name: str) -> None:
    _call(RESUME, name)


def message(name: str, text: str) -> None:
    """Tell the device's target something."""
    _call(MESSAGE, name, data=SECTOR.pack(0) + text.encode() + b"\0")


def status(name: str) -> str:
    """What the device's one target says of itself."""
    buffer = _exchange(TABLE_STATUS, name)
    at = HEADER.unpack_from(buffer)[4] + TARGET.size
    return buffer[at:].partition(b"\0")[0].decode(errors="replace")


def discard(path: str) -> None:
    """Nothing that the block device at `path` has is needed. ioctl_blk BLKDISCARD."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(fd, BLKDISCARD, struct.pack("=QQ", 0, os.lseek(fd, 0, os.SEEK_END)))
    finally:
        os.close(fd)


def node(number: int) -> str:
    """The kernel's own file of a device of ours."""
    return f"/dev/dm-{os.minor(number)}"


def _call(
    command: int, name: str, *, flags: int = 0, targets: int = 0, data: bytes = b""
) -> tuple[int, int]:
    """The device's number and flags after it."""
    answer = HEADER.unpack_from(_exchange(command, name, flags=flags, targets=targets, data=data))
    return answer[10], answer[7]


def _exchange(
    command: int, name: str, *, flags: int = 0, targets: int = 0, data: bytes = b""
) -> bytearray:
    raw = name.encode()
    if len(raw) > NAME_BYTES:
        raise OSError(errno.ENAMETOOLONG, "the name of a device is too long", name)
    buffer = bytearray(BUFFER_BYTES)
    HEADER.pack_into(
        *(buffer, 0, *VERSION, BUFFER_BYTES, HEADER.size, targets, 0, flags, 0, 0, 0, raw, b"")
    )
    buffer[HEADER.size : HEADER.size + len(data)] = data
    control = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(control, WRITE_READ | command, buffer)
    except OSError as error:
        text = f"device-mapper: {os.strerror(error.errno or 0)}"
        raise OSError(error.errno, text, name) from None
    finally:
        os.close(control)
    return buffer
