"""The program of a sandbox that names none."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
from pathlib import Path

import pytest

from barque.errors import Unsupported
from barque.shim import pause


@pytest.mark.parametrize(("machine", "number"), [("x86_64", 62), ("aarch64", 183)])
def test_a_file_of_each_machine(machine: str, number: int) -> None:
    data = pause.program(machine)
    assert data[:7] == b"\x7fELF\x02\x01\x01"
    kind, found, version, entry, headers = struct.unpack_from("<HHIQQ", data, 16)
    assert (kind, found, version) == (2, number, 1)
    load, flags, offset, address, _, in_file, in_memory, page = struct.unpack_from(
        "<IIQQQQQQ", data, headers
    )
    assert (load, flags, offset, in_file, in_memory) == (1, 5, 0, len(data), len(data))
    assert entry == address + 120
    assert address % page == 0


def test_another_machine_is_refused() -> None:
    with pytest.raises(Unsupported, match="is not supported on riscv64"):
        pause.program("riscv64")


@pytest.mark.skipif(os.uname().machine not in pause.PROGRAMS, reason="no program for it")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_waits_until_it_is_asked_to_end(tmp_path: Path, number: int) -> None:
    pause.write(str(tmp_path / "root"))
    with subprocess.Popen([tmp_path / "root/pause"]) as running:
        running.send_signal(signal.SIGCHLD)
        with pytest.raises(subprocess.TimeoutExpired):
            running.wait(0.1)
        running.send_signal(number)
        # a signal that comes before the program has blocked it ends it the usual way
        assert running.wait(20) in (0, -number)
