"""Requests to one repository: authorized when it asks for that, retried while that may help."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from barque import errors
from barque.registry import failures
from barque.registry.addresses import Address
from barque.registry.auth import Authorizer, Credentials
from barque.registry.challenge import choose
from barque.registry.connection import Broken
from barque.registry.transport import Exchange, Transport

FIRST_DELAY_S = 0.2
MAX_DELAY_S = 10.0
MAX_ASKED_DELAY_S = 60.0  # a server that wants more patience than this is told of instead
RETRIED = frozenset({408, 429, 500, 502, 503, 504})

Sleep = Callable[[float], Awaitable[None]]


class Session:
    """`domain` and `path` of a full reference: `docker.io`, `library/busybox`."""

    def __init__(
        self,
        transport: Transport,
        domain: str,
        path: str,
        name: str,
        credentials: Credentials,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._transport = transport
        self._domain, self._path, self._name = domain, path, name
        self._anonymous = credentials.anonymous
        self._authorizer = Authorizer(transport, credentials)
        self._sleep = sleep

    @asynccontextmanager
    async def ask(
        self,
        method: str,
        target: str | Address,
        headers: Mapping[str, str],
        body: AsyncIterator[bytes] | bytes = b"",
        *,
        push: bool = False,
        source: str = "",
    ) -> AsyncIterator[Exchange]:
        """One answer, whatever its status. `target` is below `/v2/<path>/`, or begins with `/`.

        A body that is an iterator is sent once: its failure is the caller's to repeat. `source` is
        another repository there that the request reads from. An address of another origin is asked
        without credentials, whatever it says.
        """
        async with AsyncExitStack() as stack:
            scope = ""
            if self._path:
                scope = f"repository:{self._path}:{'pull,push' if push else 'pull'}"
                scope += f" repository:{source}:pull" if source else ""
            yield await self._answer(stack, method, target, headers, body, scope, push)

    async def _answer(
        self,
        stack: AsyncExitStack,
        method: str,
        target: str | Address,
        headers: Mapping[str, str],
        body: AsyncIterator[bytes] | bytes,
        scope: str,
        push: bool,
    ) -> Exchange:
        base = await self._transport.base(self._domain)
        if isinstance(target, Address):
            address = target
        else:
            address = base.at(target if target.startswith("/") else f"/v2/{self._path}/{target}")
        known = address.origin == base.origin
        attempts = self.attempts if isinstance(body, bytes) else 1
        attempt, challenged = 0, not known
        while True:
            attempt += 1
            authorization = self._authorizer.header(scope) if known else None
            sent = {**headers, "Authorization": authorization} if authorization else dict(headers)
            try:
                answer = await stack.enter_async_context(
                    self._transport.exchange(method, address, sent, body)
                )
            except Broken:
                if attempt >= attempts:
                    raise
                await self.pause(attempt)
                continue
            if answer.head.status == 401 and not challenged and isinstance(body, bytes):
                challenged = True
                attempt -= 1
                await self._authorize(base, answer, scope, push, authorization)
            elif (
                answer.head.status in RETRIED
                and attempt < attempts
                and (delay_s := _wanted(answer.head.headers.get("retry-after", "")))
                <= MAX_ASKED_DELAY_S
            ):
                await self.pause(attempt, delay_s)
            else:
                return answer
            await answer.drain()
            await stack.aclose()

    async def _authorize(
        self, base: Address, answer: Exchange, scope: str, push: bool, sent: str | None
    ) -> None:
        challenge = choose(answer.head.headers.get("www-authenticate", ""))
        try:
            await self._authorizer.answer(base, challenge, scope, sent)
        except errors.Unauthorized as error:
            if push or not self._anonymous:
                raise
            raise failures.access_denied(self._name, str(error)) from error

    def led(self, answer: Exchange) -> Address:
        """Where the `Location` of an answer leads. Raises Forbidden where it may not lead us."""
        found = answer.address.join(answer.head.headers.get("location", ""))
        if found.origin != answer.address.origin:
            self._transport.check_led(answer.address, found)
        return found

    @property
    def attempts(self) -> int:
        """How often what may succeed later is tried."""
        return self._transport.policy.attempts

    async def pause(self, attempt: int, at_least_s: float = 0.0) -> None:
        """Waits before the next attempt: twice as long each time, and as long as was asked for."""
        delay_s = min(FIRST_DELAY_S * 2 ** min(attempt - 1, 16), MAX_DELAY_S)
        await self._sleep(max(delay_s, at_least_s))


def _wanted(retry_after: str, clock_s: Callable[[], float] = time.time) -> float:
    """Seconds of a `Retry-After`, as a number or as a date; 0 for none. RFC 9110, 10.2.3."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    from email.utils import parsedate_to_datetime  # here: few registries send dates

    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - clock_s())
    except (ValueError, TypeError, OverflowError):
        return 0.0
