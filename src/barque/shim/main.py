"""`containerd-shim-barque-v2`: the shim binary's argv. docs/boundaries.md section 3.

[flags] start      start a shim for the bundle in the working directory, print its address
[flags] delete     clean up after a shim that is dead, print a DeleteResponse
zygote SOCKET      be the warm process that does the above on request
-v, -version, -info  say what this is
"""

from __future__ import annotations

import os
import sys

from barque import __version__
from barque.errors import BarqueError, InvalidArgument
from barque.shim import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

NAME: Final = "containerd-shim-barque-v2"
VALUE_FLAGS: Final = ("namespace", "id", "address", "publish-binary", "socket", "bundle")
SWITCHES: Final = ("debug", "v", "version", "info")


class Invocation:
    """The parsed argv of a shim binary, and the environment containerd gives it."""

    def __init__(self, arguments: list[str]) -> None:
        """Raises InvalidArgument for a flag that is not known."""
        self.values = dict.fromkeys(VALUE_FLAGS, "")
        self.switches: set[str] = set()
        self.rest: list[str] = []
        self._parse(arguments)
        self.action = self.rest[0] if self.rest else ""

    def _parse(self, arguments: list[str]) -> None:
        """Go's flags: one dash or two, value in the next word or after `=`; they end at the first
        word that is none."""
        words = iter(arguments)
        for word in words:
            if not word.startswith("-") or word == "-":
                self.rest = [word, *words]
                return
            name, equals, value = word.lstrip("-").partition("=")
            if name in SWITCHES:
                if value not in ("", "true", "1"):
                    raise InvalidArgument(f"flag -{name} takes no value")
                self.switches.add(name)
            elif name in VALUE_FLAGS:
                given = value if equals else next(words, None)
                if given is None:
                    raise InvalidArgument(f"flag needs an argument: -{name}")
                self.values[name] = given
            else:
                raise InvalidArgument(f"flag provided but not defined: -{name}")

    @property
    def namespace(self) -> str:
        return paths.check_id("namespace", self.values["namespace"])

    @property
    def id(self) -> str:
        return paths.check_id("id", self.values["id"])

    @property
    def address(self) -> str:
        return self.values["address"] or os.environ.get("GRPC_ADDRESS", "")


def main(arguments: list[str]) -> int:
    """Returns the exit code; what failed is one line on standard error."""
    os.environ.pop("NOTIFY_SOCKET", None)  # containerd's own: a runtime would tell of containers
    try:
        return run(Invocation(arguments), arguments)
    except (BarqueError, OSError) as error:
        sys.stderr.write(f"{NAME}: {error}\n")
        return 1


def run(invocation: Invocation, arguments: list[str]) -> int:
    if invocation.switches & {"v", "version"}:
        sys.stdout.write(f"{NAME}:\n  Version:  {__version__}\n")
        return 0
    if "info" in invocation.switches:
        from barque.shim import info

        sys.stdout.buffer.write(info.describe())
        return 0
    if invocation.action == "zygote":
        from barque.shim import zygote

        if len(invocation.rest) != 2:
            raise InvalidArgument("usage: zygote SOCKET")
        return zygote.run(invocation.rest[1])
    from barque.shim import binary

    if invocation.values["bundle"]:
        os.chdir(invocation.values["bundle"])
    if invocation.action == "start":
        from barque.shim import oom

        oom.raise_score()
        return binary.start(invocation)
    if invocation.action == "delete":
        return binary.delete(invocation)
    raise InvalidArgument(f"unknown command {invocation.action!r}: start, delete or zygote")
