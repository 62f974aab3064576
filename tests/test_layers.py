"""Imports point down only: DESIGN's table of who may import whom, read from the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "barque"

MAY_IMPORT = {
    "oci": "",
    "linux": "",
    "runc": "oci linux",
    "shim": "oci linux runc",
    "registry": "oci",
    "registryd": "oci linux registry containerd",
    "network": "linux",
    "volume": "linux",
    "containerd": "oci linux shim registry",
    "api": "oci",
    "client": "api",
    "daemon": "oci api containerd network volume registry linux",
    "sdk": "api client",
    "cli": "oci api client",
}
# the kinds of failure; how one program starts another; its modules in one file; past which proxy
EVERYONE = {"archive", "errors", "program", "proxied"}

# Across a process boundary only its contract is imported.
ONLY = {
    ("shim", "runc"): "barque.runc.main",
    ("daemon", "containerd"): "barque.containerd.client",
    ("registryd", "containerd"): "barque.containerd.client",
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "barque":
                yield from (f"barque.{alias.name}" for alias in node.names)
            else:
                yield node.module or ""


def allowed(package: str, imported: str) -> bool:
    target = imported.split(".")[1]
    contract = ONLY.get((package, target))
    if contract is not None:
        return imported == contract or imported.startswith(f"{contract}.")
    return target in {package, "__version__", *EVERYONE, *MAY_IMPORT[package].split()}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_down(package: str) -> None:
    wrong = {
        f"{path.relative_to(SOURCE)} imports {name}"
        for path in (SOURCE / package).rglob("*.py")
        for name in imports(path)
        if name.startswith("barque.") and not allowed(package, name)
    }
    assert not wrong


def test_every_package_has_its_place() -> None:
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    assert packages == set(MAY_IMPORT)
