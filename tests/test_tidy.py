"""What is never a matter of taste: STYLE as tests over the source."""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "barque"
MODULES = [path for path in sorted(SOURCE.rglob("*.py")) if not path.name.endswith(("_pb2.py",))]
STATE_PATH = re.compile(r"^/(var/lib|run|var/run)/barque\b")
# Where a state path may be written: the one module a package that joins them, and the defaults that
# a person sees in --help.
PATH_MODULES = {"paths.py", "config.py", "versions.py"}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
STDLIB_ONLY = {"oci", "linux", "runc", "shim", "cli", "client", "api"}
HOT_FORBIDDEN = {
    "argparse", "asyncio", "dataclasses", "enum", "inspect", "logging", "multiprocessing",
    "pathlib", "shutil", "socket", "subprocess", "tempfile", "threading", "typing",
}  # fmt: skip


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(tree(path))


def package(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0]


def imported(statements: Iterable[ast.AST]) -> set[str]:
    """The first parts of the names of modules."""
    names: set[str] = set()
    for node in statements:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


def offenders(found: Callable[[Path], Iterable[str]]) -> list[str]:
    """What a rule finds in each module, "" for the module itself."""
    return [
        f"{path.relative_to(SOURCE)} {what}" for path in MODULES for what in sorted(found(path))
    ]


def test_ctypes_lives_in_linux() -> None:
    assert not offenders(
        lambda path: set() if package(path) == "linux" else imported(nodes(path)) & {"ctypes"}
    )


def state_paths(path: Path) -> set[str]:
    if path.name in PATH_MODULES:
        return set()
    strings = {n.value for n in nodes(path) if isinstance(n, ast.Constant)}
    docs = {ast.get_docstring(n, clean=False) for n in nodes(path) if isinstance(n, DOCUMENTED)}
    return {s for s in strings - docs if isinstance(s, str) and STATE_PATH.match(s)}


def test_state_paths_live_in_paths() -> None:
    assert not offenders(state_paths)


def test_nothing_is_called_manager_or_utils() -> None:
    assert not [p for p in MODULES if re.search(r"(manager|helper|utils?)\.py$", p.name)]
    assert not offenders(
        lambda path: (
            node.name
            for node in nodes(path)
            if isinstance(node, ast.ClassDef) and re.search("Manager|Helper|Util", node.name)
        )
    )


def test_functions_are_annotated() -> None:
    assert not offenders(
        lambda path: (
            node.name
            for node in nodes(path)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.returns is None
        )
    )


def test_every_module_has_a_docstring() -> None:
    assert not [path for path in MODULES if not ast.get_docstring(tree(path))]


def test_the_maps_of_packages_name_what_is_there() -> None:
    """A word in backquotes, in the docstring of a package, is a module in it, or a command."""
    commands = {"barque", *(path.stem for path in (SOURCE / "cli" / "commands").iterdir())}
    for path in MODULES:
        if path.name == "__init__.py":
            named = re.findall(r"`([a-z_0-9]+)`", ast.get_docstring(tree(path)) or "")
            there = {entry.name.removesuffix(".py") for entry in path.parent.iterdir()}
            assert set(named) <= there | commands, path


def test_hot_programs_use_little_of_the_standard_library() -> None:
    hot = {path: imported(tree(path).body) for path in MODULES if package(path) in STDLIB_ONLY}
    assert not {
        str(path): names & HOT_FORBIDDEN for path, names in hot.items() if names & HOT_FORBIDDEN
    }


def test_requirements_name_no_registry() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text()
        assert "://" not in text, path
        assert text.count("==") <= text.count("--hash=sha256:"), path


def test_the_first_commands_of_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    commands = re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE)
    assert commands[:2] == ["make demo", "make test"]
