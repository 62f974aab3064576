"""Write docs/runtime.md: what runtime-spec, runc's command line and published holes ask of the
runtime, each with the tests that show it and the runtimes that these run on.

`python -m tools.runtime` writes it from `tools/runtime_rows.txt`; with `--check` it fails when the
page is out of date. A row is `item | tests | note`; a test that does not exist is an error.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from barque.runc import commands
from barque.runc.main import GLOBAL_FLAGS

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "runtime.md"
ROWS = Path(__file__).with_name("runtime_rows.txt")
PLACES = (
    *("tests/integration/runc", "tests/vm/inside", "tests/interop/runc", "tests/interop/shim"),
    *("tests/unit/runc", "tests/unit/oci", "tests/unit/linux", "tests/integration/linux"),
    *("tests/integration/containerd", "tests/interop/engine", "tests/interop/daemon"),
)
SPECIFICATION = "https://github.com/opencontainers/runtime-spec/blob/v1.3.0/config.md"
HEAD = f"""# The runtime, item by item

Made by `python -m tools.runtime` from `tools/runtime_rows.txt` and the tests; do not edit.

`barque-runc` against [runtime-spec 1.3]({SPECIFICATION}) and runc's command line. Each row names
the tests that show it. **runc**, **crun**: such a test runs on Debian's runc 1.1 and crun 1.8 too.
**v2**: such a test runs on pure cgroup version 2 as well, in the virtual machine of
`make test-vm BARQUE_VM=all` (with every other test of `tests/integration/runc`).
"""
COMMANDS = "Commands and flags"


class Row(NamedTuple):
    item: str
    tests: tuple[str, ...]
    note: str


class Known(NamedTuple):
    """A test function: its file below the root, and what it runs on beside ours."""

    file: str
    peers: frozenset[str]


def sections() -> dict[str, list[Row]]:
    """The headings of the rows' file, each with its rows."""
    found: dict[str, list[Row]] = {}
    for line in ROWS.read_text().splitlines():
        if line.startswith("## "):
            rows = found.setdefault(line[3:], [])
        else:
            item, tests, note = (*(cell.strip() for cell in line.split(" |")), "", "")[:3]
            names = tuple(name.strip() for name in tests.split(",") if name.strip())
            rows.append(Row(item, names, note))
    return found


def known_tests() -> dict[str, list[Known]]:
    found: dict[str, list[Known]] = {}
    for place in PLACES:
        for path in sorted((ROOT / place).glob("test_*.py")):
            for name, peers in tests_of(path):
                file = str(path.relative_to(ROOT))
                found.setdefault(name, []).append(Known(file, frozenset(peers)))
    return found


def tests_of(path: Path) -> Iterator[tuple[str, set[str]]]:
    """Names of a file's tests and what else they run on, by its marks."""
    tree = ast.parse(path.read_text())
    named = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    whole = marks([named["pytestmark"]], named) if "pytestmark" in named else {}
    if "inside" in path.parts:
        whole["version_2"] = ()
    for node in tree.body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        outer = whole | marks(getattr(node, "decorator_list", []), named)
        for function in inner:
            if isinstance(function, ast.FunctionDef) and function.name.startswith("test_"):
                found = outer | marks(function.decorator_list, named)
                uses = any(argument.arg in ("case", "runtime") for argument in function.args.args)
                yield function.name, peers_of(found) if uses else set()


def marks(nodes: list[ast.expr], named: dict[str, ast.expr]) -> dict[str, tuple[str, ...]]:
    """pytest's marks, with their arguments that are texts."""
    found: dict[str, tuple[str, ...]] = {}
    for node in nodes:
        if isinstance(node, ast.Name) and node.id in named:
            found |= marks([named[node.id]], named)
        elif isinstance(node, ast.List | ast.Tuple):
            found |= marks(node.elts, named)
        elif isinstance(node, ast.Starred):
            found |= marks([node.value], named)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            values = (one.value for one in node.args if isinstance(one, ast.Constant))
            found[node.func.attr] = tuple(value for value in values if isinstance(value, str))
        elif isinstance(node, ast.Attribute):
            found[node.attr] = ()
    return found


def peers_of(found: dict[str, tuple[str, ...]]) -> set[str]:
    runtimes = found.get("runtimes", ("runc", "crun"))
    return {*runtimes} & {"runc", "crun"} | ({"v2"} if "version_2" in found else set())


def cells(row: Row, known: dict[str, list[Known]]) -> str:
    """A row of the page; a test of a name that is nowhere is told."""
    missing = [name for name in row.tests if name not in known]
    if missing:
        raise SystemExit(f"{ROWS.name}: {row.item}: there is no {', '.join(missing)}")
    tests = ", ".join(f"`{name}`" for name in row.tests)
    peers = {peer for name in row.tests for one in known[name] for peer in one.peers}
    shown = ", ".join(peer for peer in ("runc", "crun", "v2") if peer in peers)
    told = "; ".join(text for text in (tests, row.note) if text)
    return f"| {row.item} | {told} | {shown} |"


def page() -> str:
    known = known_tests()
    lines = [HEAD]
    for heading, rows in sections().items():
        lines += [f"## {heading}", "| item | shown by | also on |", "| --- | --- | --- |"]
        lines += [*(cells(row, known) for row in rows), ""]
    return "\n".join(lines)


def flags_told() -> set[str]:
    """`command --flag` of each flag that the rows name, and each command alone."""
    told: set[str] = set()
    for row in sections()[COMMANDS]:
        names, *flags = row.item.split(" --")
        words = [flag.split()[0] for flag in flags]
        for name in names.split():
            told |= {name, *(f"{name} --{word}" for word in words)}
    return told


def flags_there() -> set[str]:
    """The same, from the tables of the code."""
    there = {f"global --{flag.names[0]}" for flag in GLOBAL_FLAGS} | {"global"}
    for name in commands.NAMES:
        there |= {name, *(f"{name} --{flag.names[0]}" for flag in commands.load(name).FLAGS)}
    return there


def main(arguments: list[str]) -> int:
    text = page()
    if arguments == ["--check"]:
        if not PAGE.exists() or PAGE.read_text() != text:
            print("docs/runtime.md is out of date: run `python -m tools.runtime`")
            return 1
        return 0
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
