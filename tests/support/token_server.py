"""A token server as registries name one: JSON Web Tokens for a user, with what was asked for.

Source: distribution, "Token Authentication Specification"; RFC 7519, RFC 7515 (x5c).
"""

from __future__ import annotations

import base64
import http.server
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

ISSUER, SERVICE = "the issuer", "the registry"


def certificate(directory: Path, name: str, subject: str = "IP:127.0.0.1") -> tuple[Path, Path]:
    """One that only itself vouches for, and its key, both PEM."""
    made, key = directory / f"{name}.crt", directory / f"{name}.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", f"/CN={name}", "-keyout", str(key)),
            *("-addext", f"subjectAltName={subject}", "-out", str(made)),
        ],
        check=True,
        capture_output=True,
    )
    return made, key


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(key: Path, claims: dict[str, Any], kind: str = "ES256", **header: Any) -> str:
    """A JSON Web Token, signed by openssl."""
    parts = ({"alg": kind, "typ": "JWT", **header}, claims)
    text = ".".join(_base64url(json.dumps(part).encode()) for part in parts)
    done = subprocess.run(
        ["openssl", "dgst", "-sha256", "-sign", str(key)],
        input=text.encode(),
        capture_output=True,
        check=True,
    ).stdout
    if kind == "ES256":  # from DER to r and s
        first = done[4 : 4 + done[3]]
        second = done[6 + done[3] :]
        done = b"".join(part.lstrip(b"\0").rjust(32, b"\0") for part in (first, second))
    return f"{text}.{_base64url(done)}"


@dataclass
class TokenServer:
    """`asked` are the scopes of each token, with the user it was for."""

    realm: str
    certificate: Path
    key: Path
    asked: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)

    def token(self, user: str, scopes: tuple[str, ...]) -> str:
        """Nobody may only pull."""
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            may = actions.split(",") if user else ["pull"]
            access.append({"type": kind, "name": name, "actions": may})
        now = int(time.time())
        claims: dict[str, Any] = {"iss": ISSUER, "aud": SERVICE, "sub": user, "access": access}
        claims |= {"nbf": now - 60, "exp": now + 300, "jti": str(len(self.asked))}
        der = base64.b64encode(ssl.PEM_cert_to_DER_cert(self.certificate.read_text())).decode()
        return signed(self.key, claims, x5c=[der])


@contextmanager
def token_server(directory: Path, user: str, password: str) -> Iterator[TokenServer]:
    """`directory` gets the certificate that registries are to trust."""
    right = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    made = TokenServer("", *certificate(directory, "issuer"))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            given = self.headers.get("Authorization", "")
            scopes = tuple(query.get("scope", ()))
            good = given in {"", right} and query.get("service") == [SERVICE]
            body = b"{}"
            if good:
                name = user if given else ""
                made.asked.append((name, scopes))
                body = json.dumps({"token": made.token(name, scopes), "expires_in": 300}).encode()
            self.send_response(200 if good else 401)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.realm = f"http://127.0.0.1:{server.server_port}/token"
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield made
        finally:
            server.shutdown()
            serving.join()
