"""One HTTP/2 connection, of either end: frames in and out, windows, settings, its streams.

    bytes --> data_received --> _take_<frame> --> Stream
    Stream.send --> send_data --> [coalesced until the loop's next turn] --> transport

RFC 9113. A peer that breaks the protocol is told why by GOAWAY, and its connection ends.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from barque.containerd.http2 import frames
from barque.containerd.http2.frames import ConnectionFault, frame
from barque.containerd.http2.headers import MOST_HEADER_BYTES, HeaderReader
from barque.containerd.http2.stream import WINDOW_BYTES, Stream, StreamEnded

if TYPE_CHECKING:
    from barque.containerd.http2.headers import Headers

LARGEST_FRAME = 1 << 20  # bytes that we take in one
CONNECTION_WINDOW = 64 << 20
MOST_CONTROL_BYTES = 1 << 20  # answers to pings and settings that the peer does not read
# Clients ping with every answer that they get, to learn how much may be under way, and once at a
# time: one that is answered late is one instead of many. Where there is much to send it is not.
PING_S = 0.05
BULK_BYTES = 1 << 14
LINGER_S = 1.0  # for a peer to read why its connection ends
MOST_RESETS = 10_000  # by the peer, beyond those of streams that were answered


class Connection(asyncio.Protocol):
    """What both ends share; `_begin` and `_take_new` are theirs."""

    def __init__(self) -> None:
        self.streams: dict[int, Stream] = {}
        self.waiting: set[Stream] = set()  # those that want to send and have no room
        self.paused = False
        self.closed = False
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._out: list[bytes] = []
        self._pongs: list[bytes] = []  # answers to pings
        self._scheduled = False
        self._receiving = False  # what is written now is sent when all that came is handled
        self._waiting = False  # answers to pings are sent soon
        self._drained: list[asyncio.Future[None]] = []
        self._reader = HeaderReader()
        self._block: tuple[int, int, bytearray] | None = None  # stream, flags, header block so far
        self._send_window = frames.DEFAULT_WINDOW
        self._peer_window = frames.DEFAULT_WINDOW  # of a new stream
        self._peer_frame = frames.DEFAULT_FRAME
        self._received = 0  # bytes since the connection's window was last opened
        self._last = 0  # the highest stream that the peer opened
        self._resets = 0
        self._unread_control = 0  # bytes of answers since the peer last read all there was
        self._table_update = b""
        self._settings_came = False

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=1 << 20)
        ours = {
            frames.INITIAL_WINDOW_SIZE: WINDOW_BYTES,
            frames.MAX_FRAME_SIZE: LARGEST_FRAME,
            frames.MAX_HEADER_LIST_SIZE: MOST_HEADER_BYTES,
            **self._own_settings(),
        }
        window = (CONNECTION_WINDOW - frames.DEFAULT_WINDOW).to_bytes(4, "big")
        transport.write(
            self._preface() + frames.settings(ours) + frame(frames.WINDOW_UPDATE, 0, 0, window)
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        for stream in list(self.streams.values()):
            stream.take_reset(frames.CANCEL)
        self.streams.clear()
        self.resume_writing()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self._unread_control = 0
        for future in self._drained:
            if not future.done():
                future.set_result(None)
        self._drained.clear()

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        self._receiving = True
        try:
            self._rest = self._take(data)
        except ConnectionFault as fault:
            self._receiving, self._rest = False, b""
            self.fail(fault)
        finally:
            self._receiving = False
        if self._out:
            self.flush()

    # Frames in

    def _take(self, data: bytes) -> bytes:
        """Handle the whole frames in `data`; returns the rest."""
        at, end = self._start(data), len(data)
        view = memoryview(data)
        while end - at >= frames.HEADER_BYTES and not self.closed:
            length = int.from_bytes(data[at : at + 3], "big")
            if length > LARGEST_FRAME:
                raise ConnectionFault(frames.FRAME_SIZE_ERROR, "a frame is too large")
            after = at + frames.HEADER_BYTES + length
            if after > end:
                break
            kind, flags = data[at + 3], data[at + 4]
            stream = int.from_bytes(data[at + 5 : at + 9], "big") & frames.LARGEST_WINDOW
            payload = view[at + frames.HEADER_BYTES : after]
            if kind == frames.DATA and self._block is None and self._settings_came:
                self._take_data(flags, stream, payload)  # most of all bytes: not copied here
            else:
                self._frame(kind, flags, stream, bytes(payload))
            at = after
        return data[at:]

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if self._block is not None and (kind, stream) != (frames.CONTINUATION, self._block[0]):
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a header block is not finished")
        if not self._settings_came and kind != frames.SETTINGS:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if kind == frames.HEADERS:
            self._take_headers(flags, stream, frames.unpadded(flags, payload))
        elif kind == frames.CONTINUATION:
            self._take_continuation(flags, payload)
        elif kind == frames.SETTINGS:
            self._take_settings(flags, stream, payload)
        elif kind == frames.WINDOW_UPDATE:
            self._take_window(stream, frames.number(payload) & frames.LARGEST_WINDOW)
        elif kind == frames.RST_STREAM:
            self._take_reset(stream, frames.number(payload))
        elif kind == frames.PING:
            self._take_ping(flags, stream, payload)
        elif kind == frames.GOAWAY:
            self._take_goaway(payload)
        elif kind == frames.PUSH_PROMISE:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a push that nobody asked for")
        # PRIORITY, and kinds that are not known, mean nothing (section 5.5).

    def _take_data(self, flags: int, number: int, payload: memoryview) -> None:
        if not number:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "data outside a stream")
        self._received += len(payload)
        if self._received >= CONNECTION_WINDOW // 4:
            self.open_window(0, self._received)
            self._received = 0
        stream = self.streams.get(number)
        if stream is None:
            if self._is_idle(number):
                raise ConnectionFault(frames.PROTOCOL_ERROR, "data on a stream that is not open")
            return  # it was reset or answered meanwhile
        if stream.received_end:
            raise ConnectionFault(frames.STREAM_CLOSED, "data after the end of a stream")
        if flags & frames.PADDED:
            payload = memoryview(frames.unpadded(frames.PADDED, bytes(payload)))
        stream.take_data(payload)
        if flags & frames.END_STREAM:
            self._ended(stream)

    def _take_headers(self, flags: int, number: int, block: bytes) -> None:
        if not number:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "headers outside a stream")
        if flags & frames.END_HEADERS:
            self._headers(flags, number, block)
        else:
            self._block = (number, flags, bytearray(block))

    def _take_continuation(self, flags: int, payload: bytes) -> None:
        if self._block is None:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a continuation of nothing")
        number, began, block = self._block
        block += payload
        if len(block) > MOST_HEADER_BYTES or not payload:
            raise ConnectionFault(frames.ENHANCE_YOUR_CALM, "a header block is too long")
        if flags & frames.END_HEADERS:
            self._block = None
            self._headers(began, number, bytes(block))

    def _headers(self, flags: int, number: int, block: bytes) -> None:
        headers = self._reader.read(block)  # also of streams that are gone: the table is shared
        stream = self.streams.get(number)
        if stream is None:
            stream = self._take_new(number, headers)
            if stream is None:
                return
        elif stream.received_end or (stream.headers and not flags & frames.END_STREAM):
            raise ConnectionFault(frames.PROTOCOL_ERROR, "headers in the middle of a stream")
        else:
            stream.take_headers(headers)
        if flags & frames.END_STREAM:
            self._ended(stream)

    def _take_settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream or (flags & frames.ACK and payload):
            raise ConnectionFault(frames.PROTOCOL_ERROR, "settings of a stream")
        self._settings_came = True
        if flags & frames.ACK:
            return
        for key, value in frames.settings_of(payload):
            self._set(key, value)
        self._count_control(0)
        self.write(frame(frames.SETTINGS, frames.ACK, 0))

    def _set(self, key: int, value: int) -> None:
        if key == frames.INITIAL_WINDOW_SIZE:
            if value > frames.LARGEST_WINDOW:
                raise ConnectionFault(frames.FLOW_CONTROL_ERROR, "a window is too large")
            more, self._peer_window = value - self._peer_window, value
            for stream in self.streams.values():
                stream.send_window += more
            self._wake_senders()
        elif key == frames.MAX_FRAME_SIZE:
            if not frames.DEFAULT_FRAME <= value <= frames.LARGEST_FRAME:
                raise ConnectionFault(frames.PROTOCOL_ERROR, "a frame size out of range")
            self._peer_frame = value
        elif key == frames.HEADER_TABLE_SIZE and value < frames.DEFAULT_TABLE:
            from barque.containerd.http2.headers import TABLE_IS_EMPTY

            self._table_update = TABLE_IS_EMPTY

    def _take_window(self, number: int, more: int) -> None:
        if not more:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a window opened by nothing")
        if not number:
            self._send_window += more
            if self._send_window > frames.LARGEST_WINDOW:
                raise ConnectionFault(frames.FLOW_CONTROL_ERROR, "a window is too large")
            self._wake_senders()
        elif (stream := self.streams.get(number)) is not None:
            stream.send_window += more
            if stream.send_window > frames.LARGEST_WINDOW:
                raise ConnectionFault(frames.FLOW_CONTROL_ERROR, "a window is too large")
            stream.wake_sender()
        elif self._is_idle(number):
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a window of a stream that is not open")

    def _take_reset(self, number: int, code: int) -> None:
        if not number or self._is_idle(number):
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a reset of a stream that is not open")
        stream = self.streams.pop(number, None)
        if stream is None:
            return
        self._resets += 1
        if self._resets > MOST_RESETS:
            raise ConnectionFault(frames.ENHANCE_YOUR_CALM, "streams are reset too often")
        stream.take_reset(code)
        self._was_reset(stream)

    def _take_ping(self, flags: int, stream: int, payload: bytes) -> None:
        if stream or len(payload) != 8:
            raise ConnectionFault(frames.PROTOCOL_ERROR, "a broken ping")
        if not flags & frames.ACK:
            self._count_control(len(payload))
            self._pongs.append(frame(frames.PING, frames.ACK, 0, payload))
            if not self._waiting:
                self._waiting = True
                asyncio.get_running_loop().call_later(PING_S, self._waited)

    def _take_goaway(self, payload: bytes) -> None:
        """Streams above the last that it names are not answered any more."""
        last = int.from_bytes(payload[:4], "big") & frames.LARGEST_WINDOW
        self.closed = True
        for number in [number for number in self.streams if number > last]:
            self.streams.pop(number).take_reset(frames.REFUSED_STREAM)

    def _ended(self, stream: Stream) -> None:
        """The peer sends no more on it."""
        stream.take_end()
        if stream.sent_end:
            self._forget(stream)

    # Frames out

    def room(self, stream: Stream) -> int:
        """How many bytes may be sent now. Raises StreamEnded when none ever will."""
        if stream.sent_end or self._transport is None or self._transport.is_closing():
            raise StreamEnded("the stream takes no more")
        return min(stream.send_window, self._send_window, self._peer_frame)

    def send_data(self, stream: Stream, data: bytes, end: bool) -> None:
        """One DATA frame, for which there is room."""
        stream.send_window -= len(data)
        self._send_window -= len(data)
        if len(data) >= BULK_BYTES:
            self._answer_pings()
        self.write(frame(frames.DATA, frames.END_STREAM if end else 0, stream.number, data))
        if end:
            self.sending_ended(stream)

    def headers_frame(self, stream: Stream, block: bytes, *, end: bool = False) -> bytes:
        """The HEADERS frame of a block, in several where the peer's frames are small."""
        if self._table_update:
            block, self._table_update = self._table_update + block, b""
        flags = frames.END_STREAM if end else 0
        size = self._peer_frame
        if len(block) <= size:
            return frame(frames.HEADERS, flags | frames.END_HEADERS, stream.number, block)
        parts = [block[at : at + size] for at in range(0, len(block), size)]
        return (
            frame(frames.HEADERS, flags, stream.number, parts[0])
            + b"".join(frame(frames.CONTINUATION, 0, stream.number, part) for part in parts[1:-1])
            + frame(frames.CONTINUATION, frames.END_HEADERS, stream.number, parts[-1])
        )

    def sending_ended(self, stream: Stream) -> None:
        """We send no more on it."""
        stream.sent_end = True
        if stream.received_end:
            self._forget(stream)

    def reset(self, stream: Stream, code: int) -> None:
        self._forget(stream)
        stream.take_reset(code)
        self.write(frame(frames.RST_STREAM, 0, stream.number, code.to_bytes(4, "big")))

    def open_window(self, number: int, count: int) -> None:
        """Let the peer send `count` bytes more on a stream, or with 0 on the connection."""
        self.write(frame(frames.WINDOW_UPDATE, 0, number, count.to_bytes(4, "big")))

    def write(self, data: bytes) -> None:
        """Sent with whatever else is written in this turn of the loop."""
        self._out.append(data)
        if not (self._scheduled or self._receiving):
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        if self._receiving:
            return
        self._scheduled = False
        if self._out and self._transport is not None:
            data, self._out = b"".join(self._out), []
            self._transport.write(data)

    async def drained(self) -> None:
        """Returns when the peer has read enough of what is queued."""
        self.flush()
        if self.paused:
            future = asyncio.get_running_loop().create_future()
            self._drained.append(future)
            await future

    def fail(self, fault: ConnectionFault) -> None:
        """End the connection and say why."""
        payload = self._last.to_bytes(4, "big") + fault.code.to_bytes(4, "big")
        self.write(frame(frames.GOAWAY, 0, 0, payload + str(fault).encode()))
        self.close()
        if self._transport is not None:  # a peer that does not read would keep it open
            asyncio.get_running_loop().call_later(LINGER_S, self._transport.abort)

    def close(self) -> None:
        self.closed = True
        self.flush()
        if self._transport is not None:
            self._transport.close()

    def _waited(self) -> None:
        self._waiting = False
        self._answer_pings()
        self.flush()

    def _answer_pings(self) -> None:
        self._out += self._pongs
        self._pongs.clear()

    def _count_control(self, count: int) -> None:
        """An answer that the peer can ask for at no cost; it must read them."""
        assert self._transport is not None
        if not (self._out or self._pongs or self._transport.get_write_buffer_size()):
            self._unread_control = 0
        self._unread_control += frames.HEADER_BYTES + count
        if self._unread_control > MOST_CONTROL_BYTES:
            raise ConnectionFault(frames.ENHANCE_YOUR_CALM, "answers are not read")

    def _wake_senders(self) -> None:
        for stream in list(self.waiting):
            stream.wake_sender()

    def _forget(self, stream: Stream) -> None:
        self.streams.pop(stream.number, None)
        self._resets = max(0, self._resets - 1)

    # What the two ends do differently

    def _preface(self) -> bytes:
        return b""

    def _own_settings(self) -> dict[int, int]:
        return {}

    def _start(self, data: bytes) -> int:
        """Where the frames in `data` begin."""
        return 0

    def _is_idle(self, number: int) -> bool:
        """Whether nobody has opened this stream yet."""
        return number > self._last

    def _take_new(self, number: int, headers: Headers) -> Stream | None:
        """Headers of a stream that is not open."""
        raise NotImplementedError

    def _was_reset(self, stream: Stream) -> None:
        """The peer has given `stream` up."""
