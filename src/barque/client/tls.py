"""TLS to a daemon: imported only when asked for, `ssl` costs as much as the whole command."""

from __future__ import annotations

import socket
import ssl

from barque.client.connection import Tls


def connect(address: tuple[str, int], options: Tls) -> ssl.SSLSocket:
    """Raises OSError (ssl.SSLError is one)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not options.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif options.ca:
        context.load_verify_locations(options.ca)
    else:
        context.load_default_certs()
    if options.cert:
        context.load_cert_chain(options.cert, options.key or None)
    plain = socket.create_connection(address)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(plain, server_hostname=address[0])
