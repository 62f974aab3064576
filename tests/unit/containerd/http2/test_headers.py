"""Header blocks: ours read by the library, the library's read by us, and broken ones."""

import pytest
from hpack import Decoder, Encoder
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
