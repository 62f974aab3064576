"""Header blocks: ours read by the library, the library's read by us, and broken ones."""

import pytest
from hpack import Decoder, Encoder, HPACKError
from hypothesis import given
from hypothesis import strategies as st

from barque.containerd.http2.frames import ConnectionFault
from barque.containerd.http2.headers import STATUS_200, HeaderReader, literal, literals
from barque.containerd.http2.status import Refused, Status, check, trailers

names = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=300)
values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=1000)
blocks = st.lists(st.tuples(names, values), max_size=8)


@given(blocks)
def test_what_we_write_the_library_reads(pairs: list[tuple[str, str]]) -> None:
    read = Decoder().decode(STATUS_200 + literals(pairs))
    assert [(str(name), str(value)) for name, value in read] == [(":status", "200"), *pairs]


@given(st.lists(blocks, max_size=5), st.booleans())
def test_what_the_library_writes_we_read(
    series: list[list[tuple[str, str]]], huffman: bool
) -> None:
    """Its table is shared by all the blocks of a connection; ours may come between them."""
    encoder, reader = Encoder(), HeaderReader()
    for pairs in series:
        assert reader.read(encoder.encode(pairs, huffman=huffman)) == dict(pairs)
        assert reader.read(literals(pairs)) == dict(pairs)


@given(st.binary(max_size=300))
def test_any_bytes_are_headers_or_a_fault(block: bytes) -> None:
    try:
        HeaderReader().read(block)
    except ConnectionFault:
        pass


@given(st.lists(blocks, min_size=1, max_size=5), st.integers(0, 4096), st.data())
def test_a_table_that_shrinks(
    series: list[list[tuple[str, str]]], size: int, data: st.DataObject
) -> None:
    encoder, reader = Encoder(), HeaderReader()
    for number, pairs in enumerate(series):
        if number:
            encoder.header_table_size = data.draw(st.integers(0, size))
        assert reader.read(encoder.encode(pairs, huffman=False)) == dict(pairs)


@given(st.lists(blocks, min_size=1, max_size=3), st.data())
def test_what_is_broken_is_broken_for_the_library_too(
    series: list[list[tuple[str, str]]], data: st.DataObject
) -> None:
    """Where both read a block that was tampered with, they read the same."""
    encoder, library, reader = Encoder(), Decoder(max_header_list_size=1 << 16), HeaderReader()
    for pairs in series:
        block = bytearray(encoder.encode(pairs))
        if block:
            block[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.integers(0, 255))
        try:
            theirs = dict(library.decode(bytes(block), raw=True))
        except (HPACKError, ValueError, IndexError):
            with pytest.raises(ConnectionFault):
                reader.read(bytes(block))
            return
        ours = reader.read(bytes(block))
        assert {
            name.encode("latin-1"): value.encode("latin-1") for name, value in ours.items()
        } == {bytes(name): bytes(value) for name, value in theirs.items()}


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # index 0
        b"\xff\xff\xff\xff\xff\x7f",  # an index of 35 bits
        b"\xbe",  # nothing is in the dynamic table
        b"\x00\x01a",  # no value
        b"\x00\x7f\x00",  # a name that is longer than the block
        b"\x82\x20",  # a size update after a header
        b"\x3f\xe2\x1f",  # a table of 4097 bytes
        b"\x00\x81\x1c\x00",  # a Huffman code with more than padding left
        b"\x00\x81\xff\x00",  # one of padding alone
    ],
)
def test_faults(block: bytes) -> None:
    with pytest.raises(ConnectionFault):
        HeaderReader().read(block)


def test_an_entry_that_is_too_large_empties_the_table() -> None:
    """RFC 7541, section 4.4: it is no error, and it is not kept."""
    encoder, reader = Encoder(), HeaderReader()
    assert reader.read(encoder.encode([("a", "b")], huffman=False)) == {"a": "b"}
    large = encoder.encode([("x", "y" * 5000)], huffman=False)
    assert reader.read(large) == {"x": "y" * 5000}
    with pytest.raises(ConnectionFault):
        reader.read(b"\xbe")


def test_a_bomb_is_refused() -> None:
    encoder = Encoder()
    block = encoder.encode([("x", "y" * 4000)], huffman=False) + b"\xbe" * 1000  # 4 MB of headers
    with pytest.raises(ConnectionFault):
        HeaderReader().read(block)


@given(st.text(max_size=200))
def test_a_failures_text_survives(text: str) -> None:
    told = HeaderReader().read(trailers(Status.NOT_FOUND, text))
    with pytest.raises(Refused) as caught:
        check({}, told)
    assert caught.value.status is Status.NOT_FOUND
    assert caught.value.text == text.encode("utf-8", "replace").decode()


def test_a_long_value_has_a_long_length() -> None:
    for length in (126, 127, 128, 254, 255, 300, 20_000):
        ((name, value),) = Decoder().decode(literal("a", "b" * length))
        assert (str(name), str(value)) == ("a", "b" * length)


def test_the_same_block_means_another_entry_when_the_table_has_changed() -> None:
    reader = HeaderReader()
    newest = b"\xbe"
    assert reader.read(b"\x40\x01a\x011") == {"a": "1"}  # kept by the table
    assert reader.read(newest) == reader.read(newest) == {"a": "1"}
    reader.read(b"\x40\x01b\x012")
    assert reader.read(newest) == {"b": "2"}
