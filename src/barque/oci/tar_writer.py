"""Writing tar archives without output: facts in, the bytes of a header out.

Source: POSIX.1-2017, pax and ustar. What fits a ustar header is written as one; anything else gets
an extended header of exactly the records that do not fit.
"""

from __future__ import annotations

import os

from barque.oci.tar import BLOCK, XATTR_PREFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

END_OF_ARCHIVE = bytes(2 * BLOCK)
NAME_BYTES = 100
PREFIX_BYTES = 155
ID_LIMIT = 1 << 21  # seven octal digits
SIZE_LIMIT = 1 << 33  # eleven
_DEVICE_ZERO = b"0000000\x00"
_TAIL = b"\0" * 12


def header(
    name: bytes,
    kind: int,
    *,
    mode: int,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime_s: int = 0,
    link: bytes = b"",
    major: int = 0,
    minor: int = 0,
    xattrs: Mapping[bytes, bytes] | None = None,
) -> bytes:
    """The header of one entry, with an extended one before it where it needs that.

    `kind` is one of `tar.REGULAR`...`tar.FIFO`; the data of a regular file (`size` bytes, then
    `padding(size)`) is the caller's to write.
    """
    records: dict[bytes, bytes] = {}
    prefix = b""
    if len(name) > NAME_BYTES or not name.isascii():
        prefix, name = _split(name, records)
    if len(link) > NAME_BYTES or not link.isascii():
        records[b"linkpath"], link = link, link[:NAME_BYTES]
    if uid >= ID_LIMIT:
        records[b"uid"], uid = b"%d" % uid, 0
    if gid >= ID_LIMIT:
        records[b"gid"], gid = b"%d" % gid, 0
    if size >= SIZE_LIMIT:
        records[b"size"], size = b"%d" % size, 0
    if not 0 <= mtime_s < SIZE_LIMIT:
        records[b"mtime"], mtime_s = b"%d" % mtime_s, 0
    for key, value in (xattrs or {}).items():
        records[XATTR_PREFIX + key] = value
    made = _block(name, kind, mode, uid, gid, size, mtime_s, link, major, minor, prefix)
    return _extended(records) + made if records else made


def header_of(
    name: bytes,
    kind: int,
    facts: os.stat_result,
    *,
    size: int = 0,
    link: bytes = b"",
    device: int = 0,
    xattrs: Mapping[bytes, bytes] | None = None,
    owner: tuple[int, int] | None = None,
    latest_s: int | None = None,
) -> bytes:
    """`header` with the mode, the owner and the time (in whole seconds) of a file's `facts`.

    `owner` (user and group) is there for another than who has the file here, `latest_s` for what
    is younger.
    """
    changed_s = facts.st_mtime_ns // 1_000_000_000
    return header(
        name,
        kind,
        mode=facts.st_mode & 0o7777,
        uid=facts.st_uid if owner is None else owner[0],
        gid=facts.st_gid if owner is None else owner[1],
        size=size,
        mtime_s=changed_s if latest_s is None else min(changed_s, latest_s),
        link=link,
        major=os.major(device) if device else 0,
        minor=os.minor(device) if device else 0,
        xattrs=xattrs,
    )


def padding(size: int) -> bytes:
    """What follows `size` bytes of data up to the next block."""
    return bytes(-size % BLOCK)


def _split(name: bytes, records: dict[bytes, bytes]) -> tuple[bytes, bytes]:
    """A long name as prefix and name, or as a record."""
    if name.isascii() and len(name) <= NAME_BYTES + 1 + PREFIX_BYTES:
        slash = name.find(b"/", max(0, len(name) - NAME_BYTES - 1), PREFIX_BYTES + 1)
        if 0 < slash < len(name) - 1:
            return name[:slash], name[slash + 1 :]
    records[b"path"] = name
    return b"", name[:NAME_BYTES]


def _block(
    name: bytes,
    kind: int,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime_s: int,
    link: bytes,
    major: int,
    minor: int,
    prefix: bytes = b"",
) -> bytes:
    devices = b"%07o\0%07o\0" % (major, minor) if major or minor else _DEVICE_ZERO * 2
    start = b"%b%07o\0%07o\0%07o\0%011o\0%011o\0" % (
        name.ljust(100, b"\0"),
        mode,
        uid,
        gid,
        size,
        mtime_s,
    )
    rest = b"%c%bustar\x0000%b%b%b%b" % (
        kind,
        link.ljust(100, b"\0"),
        bytes(64),
        devices,
        prefix.ljust(155, b"\0"),
        _TAIL,
    )
    checksum = sum(start) + sum(rest) + 8 * 0x20
    return b"%b%06o\0 %b" % (start, checksum, rest)


def _extended(records: Mapping[bytes, bytes]) -> bytes:
    body = b"".join(_record(key, value) for key, value in records.items())
    head = _block(b"PaxHeaders.0/entry", ord("x"), 0o644, 0, 0, len(body), 0, b"", 0, 0)
    return head + body + padding(len(body))


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH KEY=VALUE\\n`, where the length counts its own digits."""
    rest = b" %b=%b\n" % (key, value)
    length = len(rest) + 1
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d%b" % (length, rest)
