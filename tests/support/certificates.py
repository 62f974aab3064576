"""Servers that ask for certificates: `tools.certificates` makes them."""

from __future__ import annotations

import ssl
from pathlib import Path


def server_context(files: Path) -> ssl.SSLContext:
    """For a server that wants its clients' certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files / "cert.pem", files / "key.pem")
    context.load_verify_locations(files / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context
