"""What images take on the disk: each layer counted once. API: SystemDataUsage, images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from barque import errors
from barque.daemon.images import listing
from barque.daemon.images.listing import Listing, Summary
from barque.daemon.images.naming import Naming
from barque.daemon.images.remove import Users
from barque.daemon.images.store import Store
from barque.oci import digest as digests


async def disk_usage(
    lister: Listing, naming: Naming, store: Store, users: Users
) -> tuple[list[dict[str, Any]], int]:
    """Every image with what it shares with others, and the size of all layers together."""
    summaries = await lister.summaries()
    chains = {summary.id: await _chains(naming, summary) for summary in summaries}
    uses = Counter(chain for found in chains.values() for chain in found)
    sizes = {chain: await _size(store, chain) for chain in uses}
    documents = [
        listing.document(
            summary,
            len(users(summary.id)),
            sum(sizes[chain] for chain in chains[summary.id] if uses[chain] > 1),
        )
        for summary in summaries
    ]
    return documents, sum(sizes.values())


async def _chains(naming: Naming, summary: Summary) -> Sequence[str]:
    try:
        return digests.chain_ids((await naming.resolve(summary.id)).diff_ids)
    except errors.BarqueError:  # its documents are gone: it has nothing to count
        return ()


async def _size(store: Store, chain: str) -> int:
    try:
        return await store.snapshot_size(chain)
    except errors.NotFound:  # not unpacked
        return 0
