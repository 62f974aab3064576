"""The fields of a tar archive's headers as values: names, numbers, times, pax records, maps.

Each raises InvalidArgument for what is none, or is out of bounds. Source: as `tar`.
"""

from __future__ import annotations

from barque.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

NAME_BYTES_MAX = 4096  # PATH_MAX
SIZE_MAX = 1 << 53
SPARSE_PIECES_MAX = 65536
SECOND_NS = 1_000_000_000
TIME_S_MAX = 1 << 33


def check_sum(header: bytes) -> None:
    said = number_of(header[148:156], "checksum")
    unsigned = sum(header) - sum(header[148:156]) + 8 * 0x20
    if said == unsigned:
        return
    # Old writers added signed characters.
    signed = unsigned - 256 * sum(byte > 127 for byte in (*header[:148], *header[156:]))
    if said != signed:
        raise InvalidArgument("archive has a header with a wrong checksum")


def name_of(header: bytes) -> bytes:
    name = text_of(header[:100])
    if header[257:263] == b"ustar\0":
        prefix = text_of(header[345:500])
        if prefix:
            return prefix + b"/" + name
    return name


def text_of(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def checked_name(name: bytes, what: str) -> bytes:
    if not name or b"\0" in name or len(name) > NAME_BYTES_MAX:
        raise InvalidArgument(f"archive has an entry with a bad {what}: {name[:100]!r}")
    return name


def number_of(field: bytes, what: str) -> int:
    """Octal text, or base 256 when the first bit is set (GNU)."""
    if field[0] & 0x80:
        value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        if field[0] & 0x40 or value > SIZE_MAX:  # negative, or more than anything can be
            raise InvalidArgument(f"archive has a header with a bad {what}")
        return value
    digits = field.strip(b" \0").partition(b"\0")[0]
    if not digits:
        return 0
    if digits.strip(b"01234567"):
        raise InvalidArgument(f"archive has a header with a bad {what}")
    return int(digits, 8)


def decimal(extended: dict[bytes, bytes], key: bytes, otherwise: int, limit: int) -> int:
    text = extended.get(key)
    value = otherwise
    if text:
        if not text.isdigit() or len(text) > 20:
            raise InvalidArgument(f"archive has a bad {key.decode()}: {text[:40]!r}")
        value = int(text)
    if value > limit:
        raise InvalidArgument(f"archive has a {key.decode()} out of range: {value}")
    return value


def time_ns(extended: bytes | None, field: bytes) -> int:
    """Nanoseconds. A time that is none, or out of what file systems keep, is the epoch."""
    if not extended:
        seconds = 0 if field[0] & 0x80 else number_of(field, "mtime")
        return seconds * SECOND_NS if seconds < TIME_S_MAX else 0
    whole, _, fraction = extended.partition(b".")
    if not whole.isdigit() or len(whole) > 12 or (fraction and not fraction.isdigit()):
        return 0
    nanoseconds = int(whole) * SECOND_NS + int(fraction[:9].ljust(9, b"0") or b"0")
    return nanoseconds if int(whole) < TIME_S_MAX else 0


def records(body: bytes) -> Iterator[tuple[bytes, bytes]]:
    """pax records: `LENGTH KEY=VALUE\\n`, the length counts all of it."""
    at = 0
    while at < len(body):
        space = body.find(b" ", at, at + 8)
        digits = body[at:space] if space > at else b""
        if not digits.isdigit():
            raise InvalidArgument("archive has a malformed pax header")
        end = at + int(digits)
        if end > len(body) or end <= space + 1 or body[end - 1] != 0x0A:
            raise InvalidArgument("archive has a malformed pax header")
        key, equals, value = body[space + 1 : end - 1].partition(b"=")
        if not equals or not key or b"\0" in key:
            raise InvalidArgument("archive has a malformed pax header")
        yield key, value
        at = end


def integers(texts: list[bytes]) -> list[int]:
    if texts == [b""]:
        return []
    if len(texts) > 2 * SPARSE_PIECES_MAX:
        raise InvalidArgument("archive has a sparse file of too many pieces")
    if not all(text.isdigit() and len(text) < 20 for text in texts):
        raise InvalidArgument("archive has a sparse file with a bad map")
    return [int(text) for text in texts]


def pairs(numbers: list[int]) -> list[tuple[int, int]]:
    if len(numbers) % 2:
        raise InvalidArgument("archive has a sparse file with a bad map")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def decimal_lines(buffer: bytes, at: int, limit: int) -> tuple[list[int], int] | None:
    """A count and twice as many numbers, a line each; None when more bytes are needed."""
    end = min(len(buffer), at + limit)
    first = buffer.find(b"\n", at, end)
    if first < 0:
        if end - at > 20 or end - at == limit:
            raise InvalidArgument("archive has a sparse file with a bad map")
        return None
    (count,) = integers([buffer[at:first]]) or [0]
    if count > SPARSE_PIECES_MAX:
        raise InvalidArgument("archive has a sparse file of too many pieces")
    texts = buffer[first + 1 : end].split(b"\n", 2 * count)
    if len(texts) <= 2 * count:
        if end - at == limit or end - first > 40 * count + 20:
            raise InvalidArgument("archive has a sparse file with a bad map")
        return None
    lines = texts[: 2 * count]
    used = first + 1 - at + sum(len(line) + 1 for line in lines)
    return integers(lines) if lines else [], used
