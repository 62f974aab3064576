"""Certificates for a test, made by openssl."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path


def make_certificates(directory: Path) -> Path:
    """ca.pem, and cert.pem with key.pem that it signed for 127.0.0.1, server's or client's."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl(*new, "-x509", "-keyout", "cakey.pem", "-out", "ca.pem", "-subj", "/CN=ca")
    openssl(*new, "-keyout", "key.pem", "-out", "csr.pem", "-subj", "/CN=x")
    (directory / "san").write_text("subjectAltName=IP:127.0.0.1\n")
    sign = ["x509", "-req", "-in", "csr.pem", "-CA", "ca.pem", "-CAkey", "cakey.pem"]
    openssl(*sign, "-CAcreateserial", "-extfile", "san", "-out", "cert.pem")
    return directory


def server_context(files: Path) -> ssl.SSLContext:
    """For a server that wants its clients' certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files / "cert.pem", files / "key.pem")
    context.load_verify_locations(files / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context
