"""The tar reader, against archives of the standard library and of hand-made headers."""

import io
import random
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from barque.errors import BarqueError, InvalidArgument, Unsupported
from barque.oci import tar

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


def read(archive: bytes, piece: int = 1 << 20) -> list[tuple[tar.Entry, bytes]]:
    """All entries with their files whole, holes filled with zeros."""
    reader = tar.Reader()
    found: list[tuple[tar.Entry, bytearray]] = []
    ended = False

    def take() -> None:
        nonlocal ended
        while (event := reader.next_event()) is not None:
            if isinstance(event, tar.Entry):
                found.append((event, bytearray(event.size)))
            elif isinstance(event, tar.Data):
                found[-1][1][event.offset : event.offset + len(event.payload)] = event.payload
            else:
                ended = True

    for at in range(0, len(archive), piece):
        reader.feed(archive[at : at + piece])
        take()
    reader.end()
    take()
    assert ended
    return [(entry, bytes(content)) for entry, content in found]


def archive(format: int, *members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as made:
        for info, content in members:
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return out.getvalue()


def member(name: str, content: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("piece", [1, 7, 511, 512, 513, 1 << 20])
def test_all_kinds_in_all_formats_in_any_pieces(format: int, piece: int) -> None:
    data = archive(
        format,
        member("d/", type=tarfile.DIRTYPE, mode=0o1755),
        member("d/file", b"x" * 1000, uid=12, gid=34, mtime=1_600_000_000, mode=0o4755),
        member("d/empty"),
        member("d/exact", b"y" * 1024),
        member("d/sym", type=tarfile.SYMTYPE, linkname="../target"),
        member("d/hard", type=tarfile.LNKTYPE, linkname="d/file"),
        member("d/chr", type=tarfile.CHRTYPE, devmajor=5, devminor=1),
        member("d/blk", type=tarfile.BLKTYPE, devmajor=8, devminor=0),
        member("d/fifo", type=tarfile.FIFOTYPE),
    )
    entries = {entry.name: (entry, content) for entry, content in read(data, piece)}
    assert [entry.kind for entry, _ in entries.values()] == [
        *(tar.DIRECTORY, tar.REGULAR, tar.REGULAR, tar.REGULAR, tar.SYMLINK),
        *(tar.LINK, tar.CHARACTER, tar.BLOCK_DEVICE, tar.FIFO),
    ]
    file, content = entries[b"d/file"]
    assert content == b"x" * 1000
    assert (file.uid, file.gid, file.mode) == (12, 34, 0o4755)
    assert file.mtime_ns == 1_600_000_000 * 10**9
    assert entries[b"d/exact"][1] == b"y" * 1024
    assert entries[b"d/sym"][0].link == b"../target"
    assert entries[b"d/hard"][0].link == b"d/file"
    assert (entries[b"d/chr"][0].major, entries[b"d/chr"][0].minor) == (5, 1)


@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_and_links(format: int) -> None:
    name, link = "n" * 100 + "/" + "m" * 150, "l" * 3000
    ((entry, _),) = read(archive(format, member(name, type=tarfile.SYMTYPE, linkname=link)))
    assert entry.name == name.encode()
    assert entry.link == link.encode()


def test_the_prefix_of_ustar() -> None:
    name = "p" * 120 + "/" + "q" * 90
    ((entry, content),) = read(archive(tarfile.USTAR_FORMAT, member(name, b"z")))
    assert (entry.name, content) == (name.encode(), b"z")


def test_what_pax_headers_say() -> None:
    info, content = member("name", b"abc", uid=3_000_000, mtime=1.25)
    info.pax_headers = {
        "SCHILY.xattr.user.k": "v=1\nw",
        "SCHILY.xattr.security.capability": "\x01\x02",
        "comment": "ignored",
    }
    entry, read_content = read(archive(tarfile.PAX_FORMAT, (info, content)))[0]
    assert entry.uid == 3_000_000
    assert entry.mtime_ns == 1_250_000_000
    assert entry.xattrs == {b"user.k": b"v=1\nw", b"security.capability": b"\x01\x02"}
    assert read_content == b"abc"


def test_big_numbers_of_gnu() -> None:
    info, content = member("n", b"x", uid=2**31, gid=2**32 - 2)
    ((entry, _),) = read(archive(tarfile.GNU_FORMAT, (info, content)))
    assert (entry.uid, entry.gid) == (2**31, 2**32 - 2)


def pax(*records: tuple[bytes, bytes]) -> bytes:
    body = b""
    for key, value in records:
        rest = b" " + key + b"=" + value + b"\n"
        length = len(rest) + 1
        while len(b"%d" % length) + len(rest) != length:
            length = len(b"%d" % length) + len(rest)
        body += b"%d" % length + rest
    return header(b"pax", kind=b"x", size=len(body)) + body + bytes(-len(body) % 512)


def header(name: bytes, *, kind: bytes = b"0", size: int = 0, **fields: bytes) -> bytes:
    raw = bytearray(512)
    raw[: len(name)] = name
    raw[100:108] = fields.get("mode", b"0000644\0")
    raw[108:116] = fields.get("uid", b"0000000\0")
    raw[116:124] = fields.get("gid", b"0000000\0")
    raw[124:136] = b"%011o\0" % size
    raw[136:148] = fields.get("mtime", b"00000000000\0")
    raw[156:157] = kind
    link = fields.get("link", b"")
    raw[157 : 157 + len(link)] = link
    raw[257:265] = fields.get("magic", b"ustar\x0000")
    extra = fields.get("extra", b"")
    raw[386 : 386 + len(extra)] = extra
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


END = bytes(1024)


def test_sparse_files_of_all_formats() -> None:
    holes = bytes(1000) + b"A" * 512 + bytes(3000) + b"B" * 10 + bytes(5)
    stored = b"A" * 512 + b"B" * 10
    data = stored + bytes(-len(stored) % 512)
    size = b"%d" % len(holes)
    octal = b"%011o\0%011o\0%011o\0%011o\0" % (1000, 512, 4512, 10)
    old = header(
        b"s",
        kind=b"S",
        size=len(stored),
        extra=octal + bytes(49) + b"%011o\0" % len(holes),
        magic=b"ustar  \0",
    )
    first = pax(
        (b"GNU.sparse.size", size),
        (b"GNU.sparse.offset", b"1000"),
        (b"GNU.sparse.numbytes", b"512"),
        (b"GNU.sparse.offset", b"4512"),
        (b"GNU.sparse.numbytes", b"10"),
    )
    second = pax((b"GNU.sparse.size", size), (b"GNU.sparse.map", b"1000,512,4512,10"))
    third = pax(
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", b"s"),
        (b"GNU.sparse.realsize", size),
    )
    text = b"2\n1000\n512\n4512\n10\n"
    text += bytes(-len(text) % 512)
    plain = header(b"s", size=len(stored))
    for made in (
        old + data,
        first + plain + data,
        second + plain + data,
        third + header(b"GNUSparseFile.0/s", size=len(text + stored)) + text + data,
    ):
        for piece in (1, 600, 1 << 20):
            (entry, content), (after, _) = read(made + header(b"after") + END, piece)
            assert (entry.name, content) == (b"s", holes)
            assert after.name == b"after"


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(header(b"x", size=10), id="file cut"),
        pytest.param(header(b"x")[:300], id="header cut"),
        pytest.param(header(b"x", kind=b"x", size=100), id="pax header cut"),
        pytest.param(header(b"x")[:-1] + b"\x01" + END, id="checksum"),
        pytest.param(header(b"") + END, id="no name"),
        pytest.param(header(b"x", kind=b"Z") + END, id="unknown type"),
        pytest.param(header(b"x", kind=b"V") + END, id="volume label"),
        pytest.param(header(b"x", uid=b"888\0\0\0\0\0") + END, id="number not octal"),
        pytest.param(header(b"x", uid=b"\xff" * 8) + END, id="negative number"),
        pytest.param(header(b"x", uid=b"\x80\0\0\1\0\0\0\0") + END, id="uid beyond 2^32"),
        pytest.param(header(b"x", kind=b"x", size=1 << 21) + END, id="pax header too big"),
        pytest.param(header(b"x", kind=b"L", size=1 << 21) + END, id="long name too big"),
        pytest.param(header(b"x", kind=b"2") + END, id="link to nothing"),
        pytest.param(pax((b"path", b"a\0b")) + header(b"x") + END, id="NUL in pax path"),
        pytest.param(pax((b"path", b"a" * 5000)) + header(b"x") + END, id="path too long"),
        pytest.param(pax((b"size", b"-1")) + header(b"x") + END, id="pax size negative"),
        pytest.param(pax((b"size", b"9" * 19)) + header(b"x") + END, id="pax size too big"),
        pytest.param(pax((b"uid", b"4294967295")) + header(b"x") + END, id="pax uid -1"),
        pytest.param(pax((b"uid", b"0x0")) + header(b"x") + END, id="pax uid hexadecimal"),
        pytest.param(pax((b"uid", b" 0")) + header(b"x") + END, id="pax uid with space"),
        pytest.param(header(b"x") + bytes(512) + header(b"y") + END, id="lone zero block"),
        pytest.param(
            header(b"p", kind=b"x", size=9) + b"99 a=b\n12".ljust(512, b"\0"), id="pax length"
        ),
        pytest.param(
            header(b"p", kind=b"x", size=6) + b"6 abc\n".ljust(512, b"\0"), id="pax no equals"
        ),
        pytest.param(
            pax((b"GNU.sparse.size", b"10"), (b"GNU.sparse.map", b"5,10"))
            + header(b"x", size=10)
            + bytes(512)
            + END,
            id="sparse map beyond the end",
        ),
        pytest.param(
            pax((b"GNU.sparse.size", b"100"), (b"GNU.sparse.map", b"50,1,10,1"))
            + header(b"x", size=2)
            + bytes(512)
            + END,
            id="sparse map backwards",
        ),
        pytest.param(
            pax((b"GNU.sparse.size", b"100"), (b"GNU.sparse.map", b"0,1"))
            + header(b"x", size=512)
            + bytes(512)
            + END,
            id="sparse map not what is stored",
        ),
        pytest.param(
            pax((b"GNU.sparse.major", b"1"), (b"GNU.sparse.realsize", b"10"))
            + header(b"x", size=512)
            + b"9999999999\n".ljust(512, b"1")
            + END,
            id="sparse map of too many pieces",
        ),
    ],
)
def test_malformed_archives_are_refused(made: bytes) -> None:
    for piece in (100, 1 << 20):
        with pytest.raises((InvalidArgument, Unsupported)):
            read(made, piece)


def test_an_archive_may_just_stop() -> None:
    assert read(b"") == []
    assert [entry.name for entry, _ in read(header(b"x"))] == [b"x"]
    assert read(header(b"x", size=3) + b"abc")[0][1] == b"abc"  # without its padding


def test_what_follows_the_end_is_not_read() -> None:
    assert len(read(header(b"x") + END + header(b"y"))) == 1


def test_a_name_ending_in_a_slash_is_a_directory() -> None:
    assert read(header(b"old/", magic=bytes(8)) + END)[0][0].kind == tar.DIRECTORY


def test_sizes_of_kinds_without_data_mean_nothing() -> None:
    made = header(b"d", kind=b"5", size=512) + header(b"x") + END
    assert [entry.name for entry, _ in read(made)] == [b"d", b"x"]


@given(st.binary(max_size=4096))
def test_noise_is_refused_or_read(data: bytes) -> None:
    try:
        read(data)
    except BarqueError:
        pass


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from(FORMATS))
def test_damaged_archives_never_surprise(seed: int, format: int) -> None:
    chance = random.Random(seed)
    info, content = member("f" * chance.choice((5, 90, 99, 90)), b"c" * chance.randrange(2000))
    info.pax_headers = {"SCHILY.xattr.user.a": "b"}
    data = bytearray(archive(format, (info, content), member("g", b"d")))
    for _ in range(chance.randrange(1, 6)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    if chance.random() < 0.5:  # with the checksum made right, so that the damage is looked at
        data[148:156] = b" " * 8
        data[148:156] = b"%06o\0 " % sum(data[:512])
    try:
        whole = read(bytes(data))
    except BarqueError:
        with pytest.raises(BarqueError):
            read(bytes(data), 333)
    else:
        again = read(bytes(data), 333)
        assert [(e.name, e.size, c) for e, c in whole] == [(e.name, e.size, c) for e, c in again]
