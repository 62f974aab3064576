"""Proxies as the environment names them, as curl and Go read it. No I/O."""

from __future__ import annotations

import ipaddress
from binascii import b2a_base64
from urllib.parse import unquote, urlsplit

from barque.errors import InvalidArgument

DEFAULT_PORT = 80


def parse(text: str) -> tuple[str, int, str]:
    """Host, port, and the header that authorizes, "" for none, of `http://user:password@host:port`;
    the scheme may be missing. Raises InvalidArgument."""
    parts = urlsplit(text if "://" in text else f"http://{text}")
    try:
        port = parts.port or DEFAULT_PORT
    except ValueError:
        port = -1
    if parts.scheme != "http" or not parts.hostname or port < 0:
        raise InvalidArgument(f"proxy of scheme {parts.scheme!r}: only http:// is there")
    authorization = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + b2a_base64(pair.encode(), newline=False).decode()
    return parts.hostname, port, authorization


def is_loopback(host: str) -> bool:
    """Names and addresses that cannot leave this machine: 127.0.0.0/8, ::1, localhost."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_direct(host: str, port: int, none: str) -> bool:
    """Whether `host`, in lower case, is reached past the proxy: it is this machine, or listed.

    `none` is like "a.example,.only-below.example,10.0.0.0/8,c.example:5000", or "*" for all.
    """
    return is_loopback(host) or any(
        _matches(host, port, entry.strip().lower()) for entry in none.split(",")
    )


def _matches(host: str, port: int, entry: str) -> bool:
    if entry == "*":
        return True
    name, colon, number = entry.rpartition(":")
    if colon and number.isdigit() and ":" not in name:
        if int(number) != port:
            return False
        entry = name
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        below = entry.removeprefix("*").startswith(".")
        name = entry.removeprefix("*").lstrip(".")
        return bool(name) and (host.endswith(f".{name}") or (host == name and not below))
