"""A small policy of SELinux for the tests in the virtual machine, and labels of files.

`kernel_t` is what everything begins as and may do all; `container_t` may write what is labelled
`container_file_t` with no other categories than its own, and read the rest; nothing becomes
`unreachable_t`. The file `lxc_contexts` says which of them containers get, as distributions do.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from tests.support.vm import INSIDE

POLICY = Path(__file__).with_name("selinux.cil")
FILESYSTEM = Path("/sys/fs/selinux")
CONFIGURATION = Path("/etc/selinux")
NAME = "barque-test"
CATEGORIES = 1024
PROCESS = "system_u:system_r:container_t:s0"
FILE = "system_u:object_r:container_file_t:s0"
HOST = "system_u:object_r:host_t:s0"
CONTEXTS = f"""
process = "{PROCESS}"
content = "system_u:object_r:virt_var_lib_t:s0"
file = "{FILE}"
ro_file = "{FILE}"
"""


def load() -> None:
    """Give the machine its policy; once loaded it stays. Only for a machine of the tests' own."""
    assert Path(INSIDE, "agent").exists(), "this is no machine of the tests"
    if not (FILESYSTEM / "load").exists():
        subprocess.run(["mount", "-t", "selinuxfs", "selinuxfs", FILESYSTEM], check=True)
    version = (FILESYSTEM / "policyvers").read_text()
    with tempfile.TemporaryDirectory() as place:
        categories, compiled = Path(place, "categories.cil"), Path(place, "policy")
        names = [f"c{number}" for number in range(CATEGORIES)]
        each = "".join(f"(category {name})" for name in names)
        categories.write_text(f"{each}(categoryorder ({' '.join(names)}))")
        output = ("-o", compiled, "-f", os.devnull, "-c", version)
        subprocess.run(["secilc", *output, POLICY, categories], check=True, timeout=60)
        with (FILESYSTEM / "load").open("wb", buffering=0) as file:  # in one call
            file.write(compiled.read_bytes())
    contexts = CONFIGURATION / NAME / "contexts"
    contexts.mkdir(parents=True, exist_ok=True)
    (contexts / "lxc_contexts").write_text(CONTEXTS)
    (CONFIGURATION / "config").write_text(f"SELINUX=enforcing\nSELINUXTYPE={NAME}\n")


def label_of(path: Path | str) -> str:
    return os.getxattr(path, "security.selinux").rstrip(b"\0").decode()


def set_label(top: Path, label: str) -> None:
    """Label a file, or a directory and all in it."""
    paths = [str(top)]
    for directory, names, files in os.walk(top):
        paths += [os.path.join(directory, name) for name in (*names, *files)]
    for path in paths:
        os.setxattr(path, "security.selinux", label.encode(), follow_symlinks=False)
