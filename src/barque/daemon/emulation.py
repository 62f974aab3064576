"""What else than its own programs this machine runs: emulators registered with binfmt_misc.

Source: the kernel's Documentation/admin-guide/binfmt-misc.rst; an ELF header has its machine at
byte 18 (elf(5)).
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from barque.oci import image as oci
from barque.oci.image import Platform

DIRECTORY = "/proc/sys/fs/binfmt_misc"
MACHINE_OFFSET = 18
ELF = b"\x7fELF"
BITS_32, BITS_64 = 1, 2
# (class, e_machine) in little-endian order, as the magic has it
_MACHINES = {
    (BITS_32, b"\x03\x00"): "386",
    (BITS_64, b"\x3e\x00"): "amd64",
    (BITS_32, b"\x28\x00"): "arm",
    (BITS_64, b"\xb7\x00"): "arm64",
    (BITS_64, b"\xf3\x00"): "riscv64",
    (BITS_64, b"\x15\x00"): "ppc64le",
    (BITS_64, b"\x00\x16"): "s390x",
    (BITS_64, b"\x02\x01"): "loong64",
}


def emulated(directory: str = DIRECTORY) -> frozenset[str]:
    """The architectures, in Go's words, whose programs an emulator takes."""
    if not _is_enabled(f"{directory}/status"):
        return frozenset()
    found = (_architecture(f"{directory}/{name}") for name in sorted(os.listdir(directory)))
    return frozenset(filter(None, found))


def _is_enabled(path: str) -> bool:
    return next(iter(_lines(path)), "") == "enabled"


def _architecture(path: str) -> str:
    if path.endswith(("/status", "/register")) or not _is_enabled(path):
        return ""
    fields = dict(line.partition(" ")[::2] for line in _lines(path))
    try:
        magic = bytes.fromhex(fields.get("magic", ""))
    except ValueError:
        return ""
    if fields.get("offset", "0") != "0" or not magic.startswith(ELF) or len(magic) < 20:
        return ""
    return _MACHINES.get((magic[4], magic[MACHINE_OFFSET : MACHINE_OFFSET + 2]), "")


def _lines(path: str) -> Iterable[str]:
    try:
        with open(path, encoding="latin-1") as file:
            return file.read(65536).splitlines()
    except OSError:
        return ()


def warnings(platform: str, machine: str, directory: str = DIRECTORY) -> list[str]:
    """What the maker of a container is told of an image for other machines than this one.

    `platform` is the image's, whatever that says; `machine` as uname(2) has it. The first line is
    in Docker's words.
    """
    system, _, rest = platform.partition("/")
    architecture, _, variant = rest.partition("/")
    image, host = Platform(system, architecture, variant), oci.host_platform(machine)
    if not architecture or any(oci.matches(one, image) for one in oci.runnable(host)):
        return []
    found = [
        f"The requested image's platform ({platform}) does not match the detected host platform "
        f"({host}) and no specific platform was requested"
    ]
    if architecture not in emulated(directory):
        found.append(f"Nothing on this machine runs {platform}: binfmt_misc has no emulator for it")
    return found
