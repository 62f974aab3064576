"""Certificates for servers of a test, made by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path


def make_certificates(directory: Path, names: str = "IP:127.0.0.1") -> Path:
    """ca.pem, and cert.pem with key.pem that it signed for `names` (openssl's subjectAltName),
    server's or client's."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)

    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl(*new, "-x509", "-keyout", "cakey.pem", "-out", "ca.pem", "-subj", "/CN=ca")
    openssl(*new, "-keyout", "key.pem", "-out", "csr.pem", "-subj", "/CN=x")
    (directory / "san").write_text(f"subjectAltName={names}\n")
    sign = ["x509", "-req", "-in", "csr.pem", "-CA", "ca.pem", "-CAkey", "cakey.pem"]
    openssl(*sign, "-CAcreateserial", "-extfile", "san", "-out", "cert.pem")
    return directory
