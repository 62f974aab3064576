"""What all who make, watch and remove networks work on together."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from barque.daemon.networks.registry import Registry
from barque.daemon.networks.worker import Worker
from barque.daemon.sandboxes.service import Sandboxes
from barque.network.host import Host
from barque.network.options import NetworkOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """`changing` is held while a network is made or removed: one at a time."""

    registry: Registry
    sandboxes: Sandboxes
    host: Host
    worker: Worker
    options: NetworkOptions
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)
