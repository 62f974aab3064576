"""What the drivers put on the wire, byte by byte."""

import gzip
import json
import os
import struct
import zlib
from typing import Any

import msgspec
import pytest

from barque import errors
from barque.daemon.forwarding import fluentd, gelf, journald, syslog
from barque.daemon.forwarding.forwarder import Lines
from barque.daemon.forwarding.message import Message, Piece, Source

SOURCE = Source(
    id="f" * 64,
    name="web",
    image_id="sha256:1",
    image_name="busybox",
    command="sh -c x",
    created="2026-01-02T03:04:05Z",
    tag="ffffffffffff",
    hostname="host",
    attributes={"a.b": "1"},
)
OUT = Message("hello", "stdout", 1_767_323_045_123_456_789)
ERR = Message("bad", "stderr", 1_767_323_045_000_000_000)
PID = os.getpid()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({}, "<30>Jan  2 03:04:05 ffffffffffff[PID]: hello\n"),
        (
            {"syslog-address": "udp://127.0.0.1", "syslog-facility": "local3"},
            "<158>Jan  2 03:04:05 host ffffffffffff[PID]: hello\n",
        ),
        (
            {"syslog-address": "tcp://a:1", "syslog-format": "rfc5424"},
            "<30>1 2026-01-02T03:04:05Z host ffffffffffff PID ffffffffffff - hello\n",
        ),
        (
            {"syslog-address": "tcp://a:1", "syslog-format": "rfc5424micro"},
            "<30>1 2026-01-02T03:04:05.123456Z host ffffffffffff PID ffffffffffff - hello\n",
        ),
    ],
)
def test_syslog(options: dict[str, str], line: str) -> None:
    expected = line.replace("PID", str(PID))
    assert syslog.Syslog(options, SOURCE).pack(OUT) == expected.encode()


def test_syslog_counts_bytes_over_tls() -> None:
    options = {"syslog-address": "tcp+tls://a:1", "syslog-format": "rfc5424"}
    packed = syslog.Syslog(options, SOURCE).pack(ERR)
    count, _, rest = packed.partition(b" ")
    assert int(count) == len(rest)
    assert rest.startswith(b"<27>1 ")


def test_journald() -> None:
    packed = journald.Journald({}, SOURCE).pack(Message("two\nlines", "stderr", 5))
    assert packed.startswith(b"MESSAGE\n" + struct.pack("<Q", 9) + b"two\nlines\nPRIORITY=3\n")
    for line in (b"CONTAINER_ID=ffffffffffff\n", b"CONTAINER_NAME=web\n", b"A_B=1\n"):
        assert line in packed


def test_lines_that_were_cut_are_pieces() -> None:
    def line(stream: str, text: str) -> bytes:
        moment = "2026-01-02T03:04:05.5Z"
        return json.dumps({"log": text, "stream": stream, "time": moment}).encode() + b"\n"

    lines = Lines()
    first = lines.messages(line("stdout", "a") + line("stderr", "whole\n") + line("stdout", "b"))
    rest = lines.messages(line("stdout", "c\n") + line("stdout", "d\n"))
    pieces = [message.piece for message in (*first, *rest)]
    identifier = pieces[0].id if pieces[0] else ""
    assert pieces == [
        *(Piece(identifier, 1, last=False), None, Piece(identifier, 2, last=False)),
        *(Piece(identifier, 3, last=True), None),
    ]
    packed = journald.Journald({}, SOURCE)
    assert b"CONTAINER_PARTIAL_MESSAGE=true\n" in packed.pack(first[0])
    last = packed.pack(rest[0])
    assert b"CONTAINER_PARTIAL_LAST=true\n" in last
    assert b"CONTAINER_PARTIAL_MESSAGE" not in last
    assert b"\nSYSLOG_TIMESTAMP=2026-01-02T03:04:05.5Z\nCONTAINER_LOG_ORDINAL=2\n" in last
    record = msgspec.msgpack.decode(fluentd.Fluentd({}, SOURCE).pack(rest[0]))[2]
    told = {key: value for key, value in record.items() if key.startswith("partial_")}
    assert told == {
        "partial_message": "true",
        "partial_id": identifier,
        "partial_ordinal": "3",
        "partial_last": "true",
    }


def test_gelf() -> None:
    document = json.loads(gelf.Gelf({"gelf-address": "udp://a:1"}, SOURCE).document(ERR))
    assert document == {
        "version": "1.1",
        "host": "host",
        "short_message": "bad",
        "timestamp": 1767323045.0,
        "level": 3,
        "_command": "sh -c x",
        "_container_id": "f" * 64,
        "_container_name": "web",
        "_created": "2026-01-02T03:04:05Z",
        "_image_id": "sha256:1",
        "_image_name": "busybox",
        "_tag": "ffffffffffff",
        "_a.b": "1",
    }


@pytest.mark.parametrize(("kind", "undo"), [("gzip", gzip.decompress), ("zlib", zlib.decompress)])
def test_gelf_compresses_datagrams(kind: str, undo: Any) -> None:
    driver = gelf.Gelf({"gelf-address": "udp://a:1", "gelf-compression-type": kind}, SOURCE)
    assert undo(driver._compressed(b"x" * 100)) == b"x" * 100


def test_gelf_cuts_long_messages_into_chunks() -> None:
    data = os.urandom(5000)
    found = gelf.chunks(data)
    assert all(len(chunk) <= gelf.CHUNK_BYTES for chunk in found)
    assert b"".join(chunk[12:] for chunk in found) == data
    assert {chunk[:10] for chunk in found} == {found[0][:10]}
    assert [(chunk[10], chunk[11]) for chunk in found] == [(n, len(found)) for n in range(4)]
    assert len(gelf.chunks(bytes(1 << 20))) == gelf.CHUNKS_MAX


def test_fluentd() -> None:
    record = {
        "container_id": "f" * 64,
        "container_name": "/web",
        "a.b": "1",
        "source": "stdout",
        "log": "hello",
    }
    plain = msgspec.msgpack.decode(fluentd.Fluentd({}, SOURCE).pack(OUT))
    assert plain == ["ffffffffffff", 1767323045, record]
    options = {"fluentd-sub-second-precision": "true"}
    tag, moment, found = msgspec.msgpack.decode(fluentd.Fluentd(options, SOURCE).pack(OUT))
    assert (tag, found) == ("ffffffffffff", record)
    assert (moment.code, bytes(moment.data)) == (0, struct.pack(">II", 1767323045, 123456789))


@pytest.mark.parametrize(
    ("driver", "options"),
    [
        (syslog.Syslog, {"syslog-address": "ftp://a"}),
        (syslog.Syslog, {"syslog-address": "udp://"}),
        (syslog.Syslog, {"syslog-address": "udp://a:999999"}),
        (syslog.Syslog, {"syslog-address": "unix://"}),
        (syslog.Syslog, {"syslog-facility": "nosuch"}),
        (syslog.Syslog, {"syslog-format": "rfc1"}),
        (gelf.Gelf, {}),
        (gelf.Gelf, {"gelf-address": "http://a"}),
        (gelf.Gelf, {"gelf-address": "udp://a", "gelf-compression-type": "lz4"}),
        (gelf.Gelf, {"gelf-address": "udp://a", "gelf-compression-level": "99"}),
        (gelf.Gelf, {"gelf-address": "tcp://a:1", "gelf-compression-type": "none"}),
        (fluentd.Fluentd, {"fluentd-address": "udp://a"}),
        (fluentd.Fluentd, {"fluentd-async": "maybe"}),
    ],
)
def test_bad_options_are_refused(driver: Any, options: dict[str, str]) -> None:
    with pytest.raises(errors.InvalidArgument):
        driver(options, SOURCE)
