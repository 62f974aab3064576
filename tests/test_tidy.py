"""What is never a matter of taste: STYLE as tests over the source."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

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


def package(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0]


def nodes(path: Path) -> Iterator[ast.AST]:
    return ast.walk(ast.parse(path.read_text()))


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


def top_level_imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
class TestModule:
    def test_ctypes_lives_in_linux(self, path: Path) -> None:
        assert package(path) == "linux" or "ctypes" not in imported(path)

    def test_state_paths_live_in_paths(self, path: Path) -> None:
        if path.name in PATH_MODULES:
            return
        strings = [n.value for n in nodes(path) if isinstance(n, ast.Constant)]
        docs = {ast.get_docstring(n, clean=False) for n in nodes(path) if isinstance(n, DOCUMENTED)}
        found = [s for s in strings if isinstance(s, str) and STATE_PATH.match(s) and s not in docs]
        assert not found

    def test_nothing_is_called_manager_or_utils(self, path: Path) -> None:
        assert not re.search(r"(manager|helper|utils?)\.py$", path.name)
        classes = [n.name for n in nodes(path) if isinstance(n, ast.ClassDef)]
        assert not [name for name in classes if re.search("Manager|Helper|Util", name)]

    def test_functions_are_annotated(self, path: Path) -> None:
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.returns is not None, f"{node.name} has no return annotation"

    def test_has_a_docstring(self, path: Path) -> None:
        if path.stat().st_size > 1:
            assert ast.get_docstring(ast.parse(path.read_text())), "no module docstring"

    def test_hot_programs_use_little_of_the_standard_library(self, path: Path) -> None:
        if package(path) in STDLIB_ONLY:
            assert not top_level_imported(path) & HOT_FORBIDDEN


def test_requirements_name_no_registry() -> None:
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text()
        assert "://" not in text, path
        assert text.count("==") <= text.count("--hash=sha256:"), path


def test_the_first_commands_of_the_readme() -> None:
    text = (ROOT / "README.md").read_text()
    commands = re.findall(r"^ {4}(\S.*)$", text, re.MULTILINE)
    assert commands[:2] == ["make demo", "make test"]
