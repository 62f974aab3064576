"""The driver syslog. Source: RFC 3164, RFC 5424, RFC 5425; the options are Docker's."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from barque import errors
from barque.daemon.forwarding.message import Message, Source
from barque.daemon.forwarding.wire import Address, Wire, parse

OPTIONS = frozenset(
    {
        "syslog-address",
        "syslog-facility",
        "syslog-format",
        "syslog-tls-ca-cert",
        "syslog-tls-cert",
        "syslog-tls-key",
        "syslog-tls-skip-verify",
    }
)
SCHEMES = ("udp", "tcp", "tcp+tls", "unix", "unixgram")
FORMATS = ("", "rfc3164", "rfc5424", "rfc5424micro")
LOCAL = Address("unixgram", "/dev/log")
PORT = 514
_NAMES = "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp"
FACILITIES = {
    **{name: number for number, name in enumerate(_NAMES.split())},
    **{f"local{number}": 16 + number for number in range(8)},
}


class Syslog:
    def __init__(self, options: Mapping[str, str], source: Source) -> None:
        """Raises InvalidArgument."""
        self._source = source
        self._facility = _facility(options.get("syslog-facility") or "daemon")
        self._format = options.get("syslog-format", "")
        if self._format not in FORMATS:
            raise errors.InvalidArgument("Invalid syslog format")
        text = options.get("syslog-address", "")
        address = parse(text, "syslog-address", SCHEMES, PORT) if text else LOCAL
        self._counted = address.scheme == "tcp+tls" and self._format.startswith("rfc5424")
        self.wire = Wire(address, _tls(options) if address.scheme == "tcp+tls" else None)

    async def send(self, messages: Sequence[Message]) -> None:
        packed = [self.pack(message) for message in messages]
        if self.wire.address.keeps_order:
            await self.wire.send(b"".join(packed))
            return
        for data in packed:
            await self.wire.send(data)

    def pack(self, message: Message) -> bytes:
        priority = self._facility * 8 + message.severity
        seconds, rest = divmod(message.time_ns, 1_000_000_000)
        at = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
        source, pid = self._source, os.getpid()
        if self._format.startswith("rfc5424"):
            digits = "microseconds" if self._format.endswith("micro") else "seconds"
            moment = at.isoformat(timespec=digits).replace("+00:00", "Z")
            head = f"<{priority}>1 {moment} {source.hostname} {source.tag} {pid} {source.tag} -"
        else:
            moment = f"{at:%b} {at.day:2d} {at:%H:%M:%S}"
            local = self.wire.address == LOCAL and not self._format
            host = "" if local else f"{source.hostname} "
            head = f"<{priority}>{moment} {host}{source.tag}[{pid}]:"
        line = f"{head} {message.text}\n".encode("utf-8", "replace")
        return b"%d %b" % (len(line), line) if self._counted else line


def _facility(text: str) -> int:
    if text in FACILITIES:
        return FACILITIES[text]
    if text.isascii() and text.isdigit() and len(text) < 3 and int(text) < 24:
        return int(text)
    raise errors.InvalidArgument("invalid syslog facility")


def _tls(options: Mapping[str, str]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.get("syslog-tls-ca-cert") or None)
        if certificate := options.get("syslog-tls-cert"):
            context.load_cert_chain(certificate, options.get("syslog-tls-key"))
    except (OSError, ssl.SSLError) as error:
        raise errors.InvalidArgument(f"syslog-tls files: {error}") from error
    if options.get("syslog-tls-skip-verify"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
