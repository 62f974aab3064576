"""How a shim is started, and cleaned up after: by argv, through the zygote or as a binary.

Source: containerd, core/runtime/v2/README.md ("Commands"), and docs/boundaries.md section 3.

    runtime io.containerd.barque.v2   the zygote does what `containerd-shim-barque-v2 ARGV` would do
    runtime io.containerd.NAME.VN     containerd-shim-NAME-VN from PATH
    runtime /absolute/path            that binary
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError

from barque.containerd.proto.shim_pb2 import DeleteResponse
from barque.containerd.shims.bundle import Bundle
from barque.containerd.shims.zygote import Answer, Zygote
from barque.errors import BarqueError, InvalidArgument, NotFound, Unsupported
from barque.shim import info

OURS = "io.containerd.barque.v2"
START_TIMEOUT_S = 30.0
DELETE_TIMEOUT_S = 10.0
INFO_TIMEOUT_S = 10.0
OUTPUT_BYTES_MAX = 1 << 16
FOR_BINARIES = {"GOMAXPROCS": "4", "MAX_SHIM_VERSION": "2"}  # containerd's own words
TTRPC, GRPC = "ttrpc", "grpc"
VERSIONS = {TTRPC: (2, 3), GRPC: (3,)}  # of the bootstrap parameters, by protocol
TASK_SERVICES = {2: "containerd.task.v2.Task", 3: "containerd.task.v3.Task"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a shim listens, and which Task service it has there."""

    url: str
    version: int
    protocol: str = TTRPC

    @property
    def endpoint(self) -> str:
        """As clients of the sandbox API are told it."""
        return f"{self.protocol}+{self.url}"


@dataclass(frozen=True, slots=True)
class Started:
    """A shim that listens. `connected`: it has the connection that it was to have."""

    address: Address
    connected: bool = False


class Launcher:
    """Starts the shims of one containerd and runs their `delete`."""

    def __init__(
        self,
        zygote: Zygote,
        address: str,
        publish_binary: str,
        debug: bool,
        descriptors: tuple[int, int] | None = None,
    ) -> None:
        """`descriptors`: the limit that binaries have, where it is not ours."""
        self._descriptors = descriptors
        self._zygote = zygote
        self._address = address
        self._publish_binary = publish_binary
        self._debug = debug

    def check(self, runtime: str) -> None:
        """Raises NotFound or InvalidArgument when no shim of this name can be started."""
        if runtime != OURS:
            find_binary(runtime)

    async def start(
        self, bundle: Bundle, runtime: str, options: AnyMessage | None, connection: int = -1
    ) -> Started:
        """Start the shim of `bundle`; it listens when this returns. `options` go to its stdin.

        `connection`: a descriptor that one of ours serves like a connection that it has accepted.
        """
        stdin = b"" if options is None else options.SerializeToString()
        argv = [*self._flags(bundle), "-id", bundle.id, *["-debug"][: self._debug], "start"]
        answer = await self._run(bundle, runtime, argv, stdin, START_TIMEOUT_S, connection)
        if answer.code != 0:
            raise BarqueError(f"failed to start shim: {said(answer)}")
        return Started(parse_address(answer.stdout), answer.taken)

    async def delete(self, bundle: Bundle, runtime: str) -> DeleteResponse:
        """Kill what a dead shim left and free it; how the task ended as far as it can be told."""
        argv = [*self._flags(bundle), "-id", bundle.id, "-bundle", str(bundle.path), "delete"]
        answer = await self._run(bundle, runtime, argv, b"", DELETE_TIMEOUT_S)
        if answer.code != 0:
            raise BarqueError(f"failed to clean up after shim of {bundle.id}: {said(answer)}")
        if answer.stderr:
            log.warning("shim delete of %s: %s", bundle.id, answer.stderr.strip())
        try:
            return DeleteResponse.FromString(answer.stdout.encode("latin-1"))
        except (DecodeError, UnicodeEncodeError) as error:
            raise BarqueError(f"shim delete of {bundle.id} gave no DeleteResponse") from error

    def _flags(self, bundle: Bundle) -> list[str]:
        return [
            "-namespace",
            bundle.namespace,
            "-address",
            self._address,
            "-publish-binary",
            self._publish_binary,
        ]

    async def _run(
        self,
        bundle: Bundle,
        runtime: str,
        argv: list[str],
        stdin: bytes,
        timeout_s: float,
        connection: int = -1,
    ) -> Answer:
        environment = {
            "TTRPC_ADDRESS": f"{self._address}.ttrpc",
            "GRPC_ADDRESS": self._address,
            "NAMESPACE": bundle.namespace,
        }
        try:
            async with asyncio.timeout(timeout_s):
                if runtime == OURS:
                    cwd = str(bundle.path)
                    return await self._zygote.request(argv, environment, cwd, stdin, connection)
                binary = find_binary(runtime)
                return await run_binary(
                    binary, argv, environment, str(bundle.path), stdin, self._descriptors
                )
        except TimeoutError as error:
            raise BarqueError(f"shim {argv[-1]} of {bundle.id} took over {timeout_s} s") from error


async def runtime_info(runtime: str, options: AnyMessage | None) -> bytes:
    """What the shim of this name says of itself: an encoded RuntimeInfo.

    Source: containerd, core/runtime/v2/README.md; the flag is `-info`, the options its input.
    """
    if runtime == OURS:
        return info.describe()
    binary = find_binary(runtime)
    stdin = b"" if options is None else options.SerializeToString()
    try:
        async with asyncio.timeout(INFO_TIMEOUT_S):
            answer = await run_binary(binary, ["-info"], {}, "/", stdin)
    except TimeoutError as error:
        raise BarqueError(f"{binary} -info took over {INFO_TIMEOUT_S} s") from error
    if answer.code != 0:
        raise BarqueError(f"failed to run {binary} -info: {said(answer)}")
    return answer.stdout.encode("latin-1")


def find_binary(runtime: str) -> str:
    """The shim binary of a runtime's name. Raises InvalidArgument or NotFound."""
    if os.path.isabs(runtime):
        if not os.access(runtime, os.X_OK):
            raise NotFound(f"invalid custom binary path {runtime!r}: not executable")
        return runtime
    parts = runtime.split(".")
    if len(parts) < 2 or not all(parts[-2:]) or "/" in runtime:
        raise InvalidArgument(
            f"invalid runtime name {runtime}, correct runtime name should be either format like "
            "`io.containerd.runc.v2` or a full path to the binary"
        )
    name = f"containerd-shim-{parts[-2]}-{parts[-1]}"
    found = shutil.which(name)
    if found is None:
        raise NotFound(
            f'failed to start shim: failed to resolve runtime path: runtime "{runtime}" binary not '
            f'installed "{name}": file does not exist'
        )
    return os.path.abspath(found)


async def run_binary(
    binary: str,
    argv: list[str],
    environment: Mapping[str, str],
    cwd: str,
    stdin: bytes,
    descriptors: tuple[int, int] | None = None,
) -> Answer:
    """Run a shim binary to its end; killed when the caller is cancelled."""
    process = await asyncio.create_subprocess_exec(
        binary,
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment, **FOR_BINARIES},
        cwd=cwd if os.path.isdir(cwd) else "/",
        start_new_session=True,
    )
    if descriptors is not None:
        with suppress(ProcessLookupError):
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, descriptors)
    try:
        stdout, stderr = await process.communicate(stdin)
    except BaseException:
        if process.returncode is None:
            process.kill()
        raise
    code = await process.wait()
    return Answer(code, _text(stdout), _text(stderr))


def _text(output: bytes) -> str:
    return output[:OUTPUT_BYTES_MAX].decode("latin-1")


def said(answer: Answer) -> str:
    """What a failed program wrote, in one line."""
    text = (answer.stderr or answer.stdout).strip().encode("latin-1").decode(errors="replace")
    return f"{text or 'no message'}: exit status {answer.code}"


def parse_address(output: str) -> Address:
    """The address that `start` printed: plain, or the JSON of bootstrap protocol 2 and 3."""
    text = output.strip()
    if not text.startswith("{"):
        return Address(text, 2)
    try:
        parameters = json.loads(text)
        version, protocol = int(parameters["version"]), str(parameters["protocol"]).lower()
        address = str(parameters["address"])
    except (ValueError, KeyError, TypeError) as error:
        raise BarqueError(f"shim printed no bootstrap parameters: {text[:200]!r}") from error
    if protocol not in VERSIONS:
        raise Unsupported(f"shim wants protocol {protocol!r}; known are ttrpc and grpc")
    if version not in VERSIONS[protocol]:
        known = " and ".join(map(str, VERSIONS[protocol]))
        raise Unsupported(f"shim wants bootstrap version {version} of {protocol}; known: {known}")
    return Address(address, version, protocol)
