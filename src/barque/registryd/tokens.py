"""Tokens of a token server: JSON Web Tokens (RFC 7519) signed by RS256 or ES256 (RFC 7518).

Only signatures are checked here, with public keys: nothing in this module is a secret. What a
token gives is Docker's `access` claim: `[{"type": "repository", "name": ..., "actions": [...]}]`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from barque import errors

MAX_TOKEN_CHARACTERS = 32 << 10
MAX_KNOWN = 4096
LEEWAY_S = 60
RSA_OID = bytes.fromhex("2a864886f70d010101")
P256_OID = bytes.fromhex("2a8648ce3d030107")
SHA256_INFO = bytes.fromhex("3031300d060960864801650304020105000420")  # RFC 8017, section 9.2
# The curve P-256: SEC 2, section 2.4.2.
P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
Point = tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class RsaKey:
    modulus: int
    exponent: int

    def good(self, message: bytes, signature: bytes) -> bool:
        """RSASSA-PKCS1-v1_5 with SHA-256: the whole encoded message is compared."""
        size = (self.modulus.bit_length() + 7) // 8
        if len(signature) != size:
            return False
        info = SHA256_INFO + hashlib.sha256(message).digest()
        wanted = b"\0\1" + b"\xff" * (size - len(info) - 3) + b"\0" + info
        found = pow(int.from_bytes(signature), self.exponent, self.modulus)
        return found.to_bytes(size) == wanted


@dataclass(frozen=True, slots=True)
class EcKey:
    point: tuple[int, int]

    def good(self, message: bytes, signature: bytes) -> bool:
        """ECDSA on P-256 with SHA-256: r and s, 32 bytes each."""
        if len(signature) != 64:
            return False
        r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
        if not (0 < r < N and 0 < s < N):
            return False
        z, w = int.from_bytes(hashlib.sha256(message).digest()), pow(s, -1, N)
        found = _add(_multiply(G, z * w % N), _multiply(self.point, r * w % N))
        return found is not None and found[0] % N == r


def _add(a: Point, b: Point) -> Point:
    if a is None or b is None:
        return a or b
    if a[0] == b[0]:
        if (a[1] + b[1]) % P == 0:
            return None
        slope = (3 * a[0] * a[0] - 3) * pow(2 * a[1], -1, P) % P
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, P) % P
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def _multiply(point: Point, times: int) -> Point:
    found: Point = None
    while times:
        if times & 1:
            found = _add(found, point)
        point = _add(point, point)
        times >>= 1
    return found


Key = RsaKey | EcKey


def read_keys(text: str) -> list[Key]:
    """Of all PEM blocks: certificates and public keys. Raises InvalidArgument."""
    keys: list[Key] = []
    for block in text.split("-----BEGIN ")[1:]:
        kind, _, rest = block.partition("-----")
        try:
            der = base64.b64decode("".join(rest.partition("-----END")[0].split()), validate=True)
            info = _certificate_key(der) if kind == "CERTIFICATE" else der
            keys.append(_key(info))
        except (ValueError, IndexError, binascii.Error):
            raise errors.InvalidArgument(f"token key: a {kind[:40]} that cannot be read") from None
    if not keys:
        raise errors.InvalidArgument("token key: no certificate and no public key in it")
    return keys


def _fields(der: bytes) -> list[tuple[int, bytes, bytes]]:
    """The elements of DER one after the other: tag, content, the whole. Raises ValueError."""
    found, at = [], 0
    while at < len(der):
        start, tag, size = at, der[at], der[at + 1]
        at += 2
        if size & 0x80:
            count = size & 0x7F
            size = int.from_bytes(der[at : at + count])
            at += count
        if at + size > len(der):
            raise ValueError("cut short")
        found.append((tag, der[at : at + size], der[start : at + size]))
        at += size
    return found


def _certificate_key(der: bytes) -> bytes:
    """SubjectPublicKeyInfo of a certificate. RFC 5280, section 4.1."""
    signed = _fields(_fields(_fields(der)[0][1])[0][1])
    if signed[0][0] == 0xA0:  # version
        signed = signed[1:]
    return signed[5][2]


def _key(der: bytes) -> Key:
    algorithm, bits = _fields(_fields(der)[0][1])
    names = _fields(algorithm[1])
    data = bits[1][1:]
    if names[0][1] == RSA_OID:
        modulus, exponent = (int.from_bytes(field[1]) for field in _fields(_fields(data)[0][1]))
        if modulus.bit_length() < 2048 or exponent < 3:
            raise ValueError("too short")
        return RsaKey(modulus, exponent)
    if len(names) > 1 and names[1][1] == P256_OID and len(data) == 65 and data[0] == 4:
        x, y = int.from_bytes(data[1:33]), int.from_bytes(data[33:])
        if not (x < P and y < P) or (y * y - (x * x * x - 3 * x + B)) % P:
            raise ValueError("not on the curve")
        return EcKey((x, y))
    raise ValueError("unknown algorithm")


class Tokens:
    """Those that `issuer` made for `service`, signed with one of `keys`."""

    def __init__(
        self,
        keys: Sequence[Key],
        issuer: str,
        service: str,
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        self._keys, self._issuer, self._service = keys, issuer, service
        self._clock_s = clock_s
        self._known: dict[str, dict[str, Any]] = {}

    def allows(self, token: str, name: str, action: str) -> bool | None:
        claims = self._known.get(token)
        if claims is None:
            claims = self._read(token)
            if claims is None:
                return None
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            self._known[token] = claims
        now_s = self._clock_s()
        if claims["exp"] + LEEWAY_S < now_s or claims.get("nbf", 0) - LEEWAY_S > now_s:
            return None
        return not name or _gives(claims.get("access"), name, action)

    def _read(self, token: str) -> dict[str, Any] | None:
        """Its claims when it is signed, and for us; None for anything else."""
        if len(token) > MAX_TOKEN_CHARACTERS or token.count(".") != 2 or not token.isascii():
            return None
        signed, _, signature = token.rpartition(".")
        head, _, payload = signed.partition(".")
        try:
            kind = json.loads(_decode(head)).get("alg")
            claims = json.loads(_decode(payload))
            raw = _decode(signature)
        except (ValueError, AttributeError, RecursionError):
            return None
        wanted = {"RS256": RsaKey, "ES256": EcKey}.get(kind)
        message = signed.encode()
        if wanted is None or not isinstance(claims, dict):
            return None
        if not any(isinstance(key, wanted) and key.good(message, raw) for key in self._keys):
            return None
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        times = (claims.get("exp"), claims.get("nbf", 0))
        good = all(isinstance(at, int | float) for at in times)
        if not good or claims.get("iss") != self._issuer or self._service not in audiences:
            return None
        return claims


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _gives(access: Any, name: str, action: str) -> bool:
    kind, resource = "repository", name
    if ":" in name:
        kind, resource, action = name.split(":", 2)
    for entry in access if isinstance(access, list) else ():
        if isinstance(entry, dict) and (entry.get("type"), entry.get("name")) == (kind, resource):
            actions = entry.get("actions")
            if isinstance(actions, list) and (action in actions or "*" in actions):
                return True
    return False
