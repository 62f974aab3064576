"""Writing an erofs image of a tree: uncompressed, each file's data in blocks of its own.

    block 0              the superblock, at byte 1024
    blocks 1..           data: files, then directories
    from `meta_block`    inodes, 32 bytes a unit ("nid"), the root's first; with each its extended
                         attributes, then a link's target or the block numbers of a file with holes

Source: Linux, Documentation/filesystems/erofs.rst and fs/erofs/erofs_fs.h (the on-disk format).
Data is written as the tree is walked, the rest when all is known; nothing is read into memory but
names and attributes.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Iterable

from barque.errors import Unsupported
from barque.linux.fs import write_all

BLOCK_BITS = 12
BLOCK = 1 << BLOCK_BITS
UNIT = 32  # of node numbers, bytes
SUPER_OFFSET = 1024
MAGIC = 0xE0F5E1E2
INCOMPAT_CHUNKED_FILE = 4
PLAIN, INLINE, CHUNKS = 0, 2, 4  # how data lies
EXTENDED = 1
HOLE = 0xFFFFFFFF
CHUNKS_MAX = 1 << 16  # of one file with holes; larger ones have larger chunks
COPY_BYTES = 1 << 20
XATTR_VALUE_MAX = 0xFFFF
# magic, checksum, compat; block bits, slots, root; inodes, time, its ns; blocks, meta, xattr block;
# uuid, volume; incompat, three of compression and devices; directory's block bits, prefixes.
SUPER = struct.Struct("<III BBH QQI III 16s16s I HHH BBI Q 24x")
INODE = struct.Struct("<HHHHQIIIIQII16x")
DIRENT = struct.Struct("<QHBx")
XATTR_HEADER = struct.Struct("<IB7x")
XATTR_ENTRY = struct.Struct("<BBH")
PREFIXES = (
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"security.", 6),
)
# What overlay notes for itself in an upper directory; a lower one has no use for it.
BOOKKEEPING = frozenset(
    f"{space}.overlay.{name}"
    for space in ("trusted", "user")
    for name in ("impure", "nlink", "origin", "upper", "uuid")
)
KINDS = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFCHR: 3,
    stat.S_IFBLK: 4,
    stat.S_IFIFO: 5,
    stat.S_IFSOCK: 6,
    stat.S_IFLNK: 7,
}
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Node:
    """One inode. `special` is its block, its device, or the format of its chunks."""

    __slots__ = ("children", "facts", "layout", "links", "nid", "size", "special", "tail", "xattrs")

    def __init__(self, facts: os.stat_result, xattrs: bytes) -> None:
        self.facts = facts
        self.xattrs = xattrs
        self.layout = PLAIN
        self.size = 0
        self.special = 0
        self.tail = b""  # what follows the inode and its attributes
        self.links = 1
        self.nid = 0
        self.children: list[tuple[bytes, Node]] = []


def write_image(directory: str, target: str) -> int:
    """Make the file `target` an image of all below `directory`, durable; how many inodes it has.

    Nobody changes the tree meanwhile. Raises OSError, and Unsupported for what the format has not.
    """
    fd = os.open(target, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        root = os.open(directory, _DIRECTORY)
        try:
            writer = _Writer(fd)
            writer.finish(writer.tree(root))
        finally:
            os.close(root)
        os.fsync(fd)
        return len(writer.nodes)
    finally:
        os.close(fd)


class _Writer:
    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._block = 1  # the next free one
        self.nodes: list[Node] = []
        self._linked: dict[tuple[int, int], Node] = {}
        self._chunked = False

    def tree(self, root: int) -> Node:
        """Walks it without recursion: how deep it is does not matter."""
        top = self._node(os.fstat(root), root)
        pending = [(top, os.dup(root))]
        try:
            while pending:
                node, fd = pending.pop()
                try:
                    for name in sorted(map(os.fsencode, os.listdir(fd))):
                        child = self._entry(fd, name)
                        node.children.append((name, child))
                        if stat.S_ISDIR(child.facts.st_mode):
                            pending.append((child, os.open(name, _DIRECTORY, dir_fd=fd)))
                finally:
                    os.close(fd)
        finally:
            for _, fd in pending:
                os.close(fd)
        return top

    def _node(self, facts: os.stat_result, place: int | bytes) -> Node:
        node = Node(facts, _xattrs(place))
        self.nodes.append(node)
        return node

    def _entry(self, directory: int, name: bytes) -> Node:
        facts = os.lstat(name, dir_fd=directory)
        kind = stat.S_IFMT(facts.st_mode)
        if facts.st_nlink > 1 and kind != stat.S_IFDIR:
            known = self._linked.get((facts.st_dev, facts.st_ino))
            if known is not None:
                known.links += 1
                return known
        node = self._node(facts, b"/proc/self/fd/%d/%s" % (directory, name))
        if facts.st_nlink > 1:
            self._linked[facts.st_dev, facts.st_ino] = node
        if kind == stat.S_IFREG:
            self._file(node, directory, name)
        elif kind == stat.S_IFLNK:
            self._keep(node, os.readlink(name, dir_fd=directory))
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            node.special = _device(facts.st_rdev)
        return node

    def _keep(self, node: Node, data: bytes) -> None:
        """Small data: with the inode where both fit a block."""
        node.size = len(data)
        if INODE.size + len(node.xattrs) + len(data) <= BLOCK and data:
            node.layout, node.tail = INLINE, data
        else:
            node.special = self._write(data)

    def _write(self, data: bytes) -> int:
        """Data in blocks of its own; the number of the first."""
        first = self._take(len(data))
        view, at = memoryview(data), first << BLOCK_BITS
        while view:
            done = os.pwrite(self._fd, view, at)
            view, at = view[done:], at + done
        return first

    def _take(self, size: int) -> int:
        first = self._block
        self._block += -(-size // BLOCK)
        if self._block >= HOLE:
            raise Unsupported("a layer is too large for an erofs image")
        return first

    def _file(self, node: Node, directory: int, name: bytes) -> None:
        node.size = node.facts.st_size
        if not node.size:
            return
        fd = os.open(name, _FILE, dir_fd=directory)
        try:
            if node.facts.st_blocks * 512 < node.size:
                self._chunks(node, fd)
            else:
                node.special = self._take(node.size)
                _copy(fd, 0, self._fd, node.special << BLOCK_BITS, node.size)
        finally:
            os.close(fd)

    def _chunks(self, node: Node, fd: int) -> None:
        """A file with holes: a block number a chunk, or that there is none."""
        bits = 0
        while -(-node.size >> (BLOCK_BITS + bits)) > CHUNKS_MAX:
            bits += 1
        chunk = BLOCK << bits
        count = -(-node.size // chunk)
        blocks = [HOLE] * count
        for start, end in _pieces(fd, node.size):
            for number in range(start // chunk, -(-end // chunk)):
                if blocks[number] == HOLE:
                    offset = number * chunk
                    length = min(chunk, node.size - offset)
                    blocks[number] = self._take(chunk)
                    _copy(fd, offset, self._fd, blocks[number] << BLOCK_BITS, length)
        node.layout, node.special = CHUNKS, bits
        node.tail = struct.pack(f"<{count}I", *blocks)
        self._chunked = True

    def finish(self, root: Node) -> None:
        """Directories, inodes and the superblock, once everything has its place."""
        at = 0
        for node in self.nodes:
            if stat.S_ISDIR(node.facts.st_mode):
                groups = _blocks(sorted([b".", b"..", *(name for name, _ in node.children)]))
                node.size = (len(groups) - 1) * BLOCK + _length(groups[-1])
                node.links = 2 + sum(stat.S_ISDIR(c.facts.st_mode) for _, c in node.children)
            length = INODE.size + len(node.xattrs)
            if node.layout == INLINE and at % BLOCK + length + len(node.tail) > BLOCK:
                at += -at % BLOCK  # inline data lies in the inode's last block, whole
            node.nid = at // UNIT
            at += length + len(node.tail)
            at += -at % UNIT
        parents = {root.nid: root.nid}
        for node in self.nodes:
            if stat.S_ISDIR(node.facts.st_mode):
                self._directory(node, parents)
        self._inodes(at)
        self._superblock(root)

    def _directory(self, node: Node, parents: dict[int, int]) -> None:
        entries = {b".": (node.nid, 2), b"..": (parents[node.nid], 2)}
        for name, child in node.children:
            kind = stat.S_IFMT(child.facts.st_mode)
            entries[name] = (child.nid, KINDS[kind])
            if kind == stat.S_IFDIR:
                parents[child.nid] = node.nid
        data = bytearray()
        for names in _blocks(sorted(entries)):
            data += bytes(-len(data) % BLOCK)
            offset = DIRENT.size * len(names)
            for name in names:
                data += DIRENT.pack(entries[name][0], offset, entries[name][1])
                offset += len(name)
            data += b"".join(names)
        node.special = self._write(bytes(data))

    def _inodes(self, size: int) -> None:
        self._meta = self._take(size + BLOCK)
        os.lseek(self._fd, self._meta << BLOCK_BITS, os.SEEK_SET)
        buffer, at = bytearray(), 0
        for number, node in enumerate(self.nodes, start=1):
            buffer += bytes(node.nid * UNIT - at - len(buffer))
            buffer += _inode(node, number) + node.xattrs + node.tail
            if len(buffer) >= COPY_BYTES:
                write_all(self._fd, bytes(buffer))
                at += len(buffer)
                buffer.clear()
        write_all(self._fd, bytes(buffer))
        os.ftruncate(self._fd, self._block << BLOCK_BITS)

    def _superblock(self, root: Node) -> None:
        incompatible = INCOMPAT_CHUNKED_FILE if self._chunked else 0
        value = SUPER.pack(
            *(MAGIC, 0, 0, BLOCK_BITS, 0, root.nid, len(self.nodes), 0, 0),
            *(self._block, self._meta, 0, b"", b"", incompatible),
            *(0, 0, 0, 0, 0, 0, 0),
        )
        os.pwrite(self._fd, value, SUPER_OFFSET)


def _blocks(names: list[bytes]) -> list[list[bytes]]:
    """The sorted names of a directory, as they share its blocks."""
    groups: list[list[bytes]] = []
    size = BLOCK
    for name in names:
        needed = DIRENT.size + len(name)
        if size + needed > BLOCK:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += needed
    return groups


def _length(names: list[bytes]) -> int:
    return DIRENT.size * len(names) + sum(map(len, names))


def _inode(node: Node, number: int) -> bytes:
    facts = node.facts
    units = (len(node.xattrs) - XATTR_HEADER.size) // 4 + 1 if node.xattrs else 0
    seconds, nanoseconds = divmod(facts.st_mtime_ns, 10**9)
    return INODE.pack(
        *(node.layout << 1 | EXTENDED, units, facts.st_mode, 0, node.size, node.special, number),
        *(facts.st_uid, facts.st_gid, seconds & (1 << 64) - 1, nanoseconds, node.links),
    )


def _xattrs(place: int | bytes) -> bytes:
    """The inline area of a file's extended attributes; b"" for none."""
    follow = isinstance(place, int)
    found = bytearray()
    try:
        names = sorted(os.listxattr(place, follow_symlinks=follow))
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return b""
        raise
    for name in names:
        if name in BOOKKEEPING:
            continue
        value = os.getxattr(place, name, follow_symlinks=follow)
        found += _xattr(os.fsencode(name), value)
    return XATTR_HEADER.pack(0, 0) + found if found else b""


def _xattr(name: bytes, value: bytes) -> bytes:
    if len(value) > XATTR_VALUE_MAX:
        raise Unsupported(f"an extended attribute of {len(value)} bytes: erofs takes fewer")
    for prefix, index in PREFIXES:
        if name.startswith(prefix):
            rest = name[len(prefix) :]
            entry = XATTR_ENTRY.pack(len(rest), index, len(value)) + rest + value
            return entry + bytes(-len(entry) % 4)
    return b""  # another kind of system.*: the file system makes these itself


def _device(number: int) -> int:
    major, minor = os.major(number), os.minor(number)
    return minor & 0xFF | major << 8 | (minor & ~0xFF) << 12


def _pieces(fd: int, size: int) -> Iterable[tuple[int, int]]:
    """Where a file has data: (start, end)."""
    at = 0
    while at < size:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = min(os.lseek(fd, at, os.SEEK_HOLE), size)
        yield at, end
        at = end


def _copy(source: int, offset: int, target: int, place: int, size: int) -> None:
    """Within the kernel; shared, not copied, where the file system can."""
    while size:
        try:
            done = os.copy_file_range(source, target, min(size, 1 << 30), offset, place)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            done = os.pwrite(target, os.pread(source, min(size, COPY_BYTES), offset), place)
        if not done:
            return  # it was cut short meanwhile: the rest is zeros
        size, offset, place = size - done, offset + done, place + done
