"""Loop devices: a file as a block device. loop(4)."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

CONTROL = "/dev/loop-control"
LOOP_CTL_GET_FREE = 0x4C82
LOOP_CONFIGURE = 0x4C0A  # Linux 5.8
LO_FLAGS_READ_ONLY = 1
LO_FLAGS_AUTOCLEAR = 4
NAME_BYTES = 64
# struct loop_config: fd, block size, struct loop_info64, eight reserved numbers. Of loop_info64:
# device, inode, rdevice, offset, size limit; number, two of encryption, flags; names, key, init.
CONFIG = struct.Struct("=II QQQQQ IIII 64s 64s 32s 16s 64s")
ATTEMPTS = 100


def attach(path: str, *, read_only: bool) -> tuple[int, str]:
    """A loop device of the file `path`: a descriptor of it, and its name.

    It goes when nothing uses it any more: neither the descriptor nor a mount. Raises OSError.
    """
    access = os.O_RDONLY if read_only else os.O_RDWR
    flags = LO_FLAGS_AUTOCLEAR | (LO_FLAGS_READ_ONLY if read_only else 0)
    file = os.open(path, access | os.O_CLOEXEC)
    try:
        name = os.fsencode(path)[: NAME_BYTES - 1]
        config = CONFIG.pack(file, 0, *[0] * 8, flags, name, b"", b"", b"", b"")
        control = os.open(CONTROL, os.O_RDWR | os.O_CLOEXEC)
        try:
            return _configure(control, access, config)
        finally:
            os.close(control)
    finally:
        os.close(file)


def _configure(control: int, access: int, config: bytes) -> tuple[int, str]:
    for _ in range(ATTEMPTS):
        device = f"/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}"
        fd = os.open(device, access | os.O_CLOEXEC)
        try:
            fcntl.ioctl(fd, LOOP_CONFIGURE, config)
            return fd, device
        except OSError as error:
            os.close(fd)
            if error.errno != errno.EBUSY:  # another was faster
                raise
    raise OSError(errno.EBUSY, "no loop device is free")
