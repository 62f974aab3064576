"""Who asks: the credentials of a user, and the tokens that registries hand out for them.

Docker's token protocol: a registry answers 401 with `Bearer realm=..., service=..., scope=...`; the
realm gives a token for it, to a user with basic authentication, an identity token, or nobody.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlencode

from barque import errors
from barque.proxied import is_loopback
from barque.registry import addresses
from barque.registry.addresses import Address
from barque.registry.challenge import Challenge
from barque.registry.transport import Transport

MAX_TOKEN_BYTES = 1 << 20
DEFAULT_LIFE_S = 60
EARLY_S = 10  # a token is not used in its last seconds
CLIENT_ID = "barque"


@dataclass(frozen=True, slots=True)
class Credentials:
    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    @property
    def anonymous(self) -> bool:
        return not (self.username or self.identity_token or self.registry_token)

    @property
    def basic(self) -> str:
        pair = f"{self.username}:{self.password}".encode()
        return "Basic " + base64.b64encode(pair).decode()


ANONYMOUS = Credentials()


def from_header(value: str) -> Credentials:
    """Reads `X-Registry-Auth`: base64url, or plain base64, of a JSON AuthConfig; "": anonymous."""
    if not value.strip():
        return ANONYMOUS
    text = value.strip().replace("+", "-").replace("/", "_").rstrip("=")
    try:
        document = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        raise errors.InvalidArgument("invalid X-Registry-Auth header: not base64 of JSON") from None
    if not isinstance(document, dict):
        raise errors.InvalidArgument("invalid X-Registry-Auth header: not a JSON object")
    return from_document(document)


def from_document(document: dict[str, object]) -> Credentials:
    """Reads an AuthConfig of the Engine API. Its keys are compared without case, as Go does."""
    lower = {key.lower(): value for key, value in document.items() if isinstance(value, str)}
    username, password = lower.get("username", ""), lower.get("password", "")
    if not username and lower.get("auth"):
        try:
            decoded = base64.b64decode(lower["auth"]).decode()
        except ValueError:
            raise errors.InvalidArgument("invalid auth: not base64") from None
        username, _, password = decoded.partition(":")
    return Credentials(
        username, password, lower.get("identitytoken", ""), lower.get("registrytoken", "")
    )


class Authorizer:
    """Answers the challenges of one registry for one user. Keeps tokens until they expire."""

    def __init__(
        self,
        transport: Transport,
        credentials: Credentials,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._credentials = credentials
        self._clock_s = clock_s
        self._tokens: dict[str, tuple[str, float]] = {}  # scope -> header, valid until
        self._basic = False
        self._asking = asyncio.Lock()

    def header(self, scope: str) -> str | None:
        """What to send with a request for `scope` at once; None: nothing is known yet."""
        if self._credentials.registry_token:
            return f"Bearer {self._credentials.registry_token}"
        if self._basic:
            return self._credentials.basic
        token, until = self._tokens.get(scope, ("", 0.0))
        return token if token and self._clock_s() < until else None

    async def answer(
        self, base: Address, challenge: Challenge | None, scope: str, sent: str | None = None
    ) -> str:
        """The Authorization header that the challenge wants, where `sent` was not enough.

        Several requests may be challenged at once: what one learns serves all. Raises Unauthorized.
        """
        if challenge is None or self._credentials.registry_token:
            raise errors.Unauthorized("unauthorized: authentication required")
        if challenge.scheme == "basic":
            if not self._credentials.username or sent == self._credentials.basic:
                raise errors.Unauthorized(_refusal(self._credentials))
            self._check_plain(base)
            self._basic = True
            return self._credentials.basic
        async with self._asking:
            known = self.header(scope)
            if known is not None and known != sent:
                return known
            token, life_s = await self._fetch(base, challenge, scope)
            self._tokens[scope] = (f"Bearer {token}", self._clock_s() + life_s - EARLY_S)
            return f"Bearer {token}"

    def _check_plain(self, address: Address) -> None:
        if address.scheme == "http" and not self._transport.policy.is_insecure(address.authority):
            raise errors.Forbidden(f"credentials are not sent in clear to {address.authority}")

    async def _fetch(self, base: Address, challenge: Challenge, scope: str) -> tuple[str, float]:
        realm = addresses.parse(challenge.parameters.get("realm", ""))
        self._check_plain(realm)
        if not self._credentials.anonymous and not akin(base.host, realm.host):
            raise errors.Forbidden(
                f"registry {base.authority} asks to send its credentials to {realm.authority}"
            )
        query = [("service", challenge.parameters.get("service", ""))]
        query += [("scope", one) for one in scope.split()]  # each by itself, as Docker does
        if self._credentials.identity_token:
            return await self._post(realm, query)
        return await self._get(realm, query)

    async def _get(self, realm: Address, query: list[tuple[str, str]]) -> tuple[str, float]:
        headers = {}
        if self._credentials.username:
            headers["Authorization"] = self._credentials.basic
            query = [("account", self._credentials.username), *query]
        pairs = urlencode([(key, value) for key, value in query if value])
        separator = "&" if "?" in realm.target else "?"
        asked = realm.at(realm.target + separator + pairs)
        return await self._token("GET", asked, headers, b"")

    async def _post(self, realm: Address, query: list[tuple[str, str]]) -> tuple[str, float]:
        scope = " ".join(value for key, value in query if key == "scope")
        form = {
            "grant_type": "refresh_token",
            "refresh_token": self._credentials.identity_token,
            "client_id": CLIENT_ID,
            **dict(query),
            "scope": scope,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return await self._token("POST", realm, headers, urlencode(form).encode())

    async def _token(
        self, method: str, address: Address, headers: dict[str, str], body: bytes
    ) -> tuple[str, float]:
        async with self._transport.exchange(method, address, headers, body) as answer:
            raw = await answer.read(MAX_TOKEN_BYTES)
            if answer.head.status in {401, 403}:
                raise errors.Unauthorized(_refusal(self._credentials))
            if answer.head.status != 200:
                raise errors.Unavailable(
                    f"token server {address.shown}: status {answer.head.status}"
                )
        return _read_token(address, raw)


def _refusal(credentials: Credentials) -> str:
    if credentials.anonymous:
        return "no basic auth credentials"
    return "unauthorized: incorrect username or password"


def _read_token(address: Address, raw: bytes) -> tuple[str, float]:
    try:
        document = json.loads(raw)
        token = document.get("token") or document["access_token"]
        life_s = float(document.get("expires_in") or DEFAULT_LIFE_S)
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        raise errors.Unavailable(f"token server {address.shown}: no token in its answer") from None
    if not isinstance(token, str):
        raise errors.Unavailable(f"token server {address.shown}: no token in its answer")
    return token, life_s


def akin(host: str, other: str) -> bool:
    """Whether `other` is the same host, or under the same parent domain (two labels at least)."""
    if host == other or (is_loopback(host) and is_loopback(other)):
        return True
    parent = host.partition(".")[2]
    if parent.count(".") < 1:
        parent = host
    elif parent.replace(".", "").isdigit():
        return False  # an IPv4 address has no parent
    return other == parent or other.endswith("." + parent)
