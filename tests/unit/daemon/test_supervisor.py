"""The keeper of containerd, while containerd does not stay."""

import asyncio
from pathlib import Path

from barque.daemon.containerd_process import ContainerdProcess
from barque.daemon.paths import Paths
from barque.daemon.supervisor import Supervisor
from barque.errors import Unavailable


class Failing(ContainerdProcess):
    """Its containerd ends at each start."""

    def __init__(self, directory: Path) -> None:
        super().__init__(Paths(directory, directory), "info")
        self.starts = 0

    def spawn(self) -> None:
        self.starts += 1
        raise Unavailable("barque-containerd ended at start")


def test_nothing_is_started_after_stop(tmp_path: Path) -> None:
    """Not even by the one that waits before it tries again."""

    async def run() -> None:
        process = Failing(tmp_path)
        keeper = Supervisor(process)
        keeper._watch = asyncio.ensure_future(keeper._keep())
        while process.starts < 2:
            await asyncio.sleep(0.01)
        await keeper.stop()
        starts = process.starts
        await asyncio.wait_for(keeper._watch, 30)
        assert process.starts == starts

    asyncio.run(run())
