"""A subnet number that nothing else on this machine uses at the same time.

Two bridges with one subnet share one route: what is sent to the containers of the second goes to
the first. The number is held by an abstract socket's name, which the kernel gives back when the
holder ends, however it ends, and which is as wide as the network namespace that the subnet is in.
What a run that was killed left behind still has its route, and is passed by.
"""

from __future__ import annotations

import socket
import subprocess

NUMBERS = range(1, 120)


class Subnet:
    """10.213.N.0/24 and 10.214.N.0/24, and 198.18.0.0/15's N-th /22, are ours until `release`."""

    def __init__(self) -> None:
        routes = subprocess.run(["ip", "-4", "route"], capture_output=True, text=True, check=True)
        self._holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        for self.number in NUMBERS:
            if f"10.213.{self.number}." in routes.stdout:
                continue
            try:
                self._holder.bind(f"\0barque-test-subnet-{self.number}")
            except OSError:
                continue
            return
        raise AssertionError("no subnet is free")

    @property
    def pool(self) -> str:
        """For --default-address-pool: 64 networks of 14 addresses."""
        first = self.number * 4
        return f"base=198.{18 + first // 256}.{first % 256}.0/22,size=28"

    def release(self) -> None:
        self._holder.close()
