"""The images of an engine as a registry, straight from containerd's content: nothing is copied.

`shelves` says what is where, `reading` answers pulls, `pushing` takes pushes where it may.
"""

from __future__ import annotations

from contextlib import AsyncExitStack

from barque.containerd.client import Containerd
from barque.registryd.access import Access
from barque.registryd.answers import Endpoints
from barque.registryd.engine.held import Held
from barque.registryd.engine.pushing import Pushing
from barque.registryd.engine.reading import Reading
from barque.registryd.engine.shelves import Shelves, check_domain
from barque.registryd.writing import Writing


async def open_engine(
    address: str, namespace: str, domain: str, access: Access, stack: AsyncExitStack
) -> Endpoints:
    """`domain`: what names of pushed images begin with; "" takes no pushes.

    Raises Unavailable where no containerd answers there, InvalidArgument.
    """
    if domain:
        check_domain(domain)
    containerd = await Containerd.connect(address.removeprefix("unix://"), namespace)
    stack.callback(containerd.close)
    await containerd.version()
    held = Held(containerd)
    shelves = Shelves(containerd, held, domain)
    endpoints = dict(Reading(containerd, shelves).endpoints())
    if domain:
        await held.recover()
        pushing = Pushing(containerd, shelves, held, domain)
        stack.push_async_callback(pushing.close)
        endpoints |= Writing(pushing, access).endpoints()
    return endpoints
