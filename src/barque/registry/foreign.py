"""Blobs that a manifest says are elsewhere: fetched from its URLs, by nobody in particular.

image-spec, descriptor.md, "urls". No credential ever goes there (CVE-2020-15157).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from barque import errors
from barque.registry import addresses, ranges
from barque.registry.transport import Transport


async def foreign_blob(
    transport: Transport, domain: str, urls: Sequence[str], digest: str, size: int, offset: int = 0
) -> AsyncGenerator[bytes, None]:
    """The bytes from `offset` on, from the first of `urls` that has them.

    Who takes them compares them with the digest. A URL may lead where a redirect of the registry
    `domain` might. Raises DataLoss for more bytes than `size`, NotFound where no URL has it.
    """
    base = await transport.base(domain)
    failure: errors.BarqueError = errors.NotFound(f"blob {digest}: no URL says where it is")
    for url in urls:
        begun = False
        try:
            address = addresses.parse(url)
            transport.check_led(base, address)
            async for chunk in _from(transport, address, digest, size, offset):
                begun = True
                yield chunk
            return
        except errors.BarqueError as error:
            if begun:
                raise
            failure = error
    raise failure


async def _from(
    transport: Transport, address: addresses.Address, digest: str, size: int, offset: int
) -> AsyncGenerator[bytes, None]:
    headers = {"Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    async with transport.exchange("GET", address, headers) as answer:
        status = answer.head.status
        if status not in {200, 206}:
            raise errors.NotFound(f"blob {digest} at {address.shown}: status {status}")
        async for chunk in ranges.part(f"blob {digest} at {address.shown}", answer, offset, size):
            yield chunk
