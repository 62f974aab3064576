"""The runtime's modules in one file: used, made again when a source changes, checked when read."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "barque"
PARTS = ("__init__.py", "__main__.py", "archive.py", "errors.py", "program.py")
# says which class has loaded a module, and what a function of it answers
REPORT = """
import sys
sys.path.insert(0, {tree!r})
import os
leave, own = os._exit, os.getpid()
def report(code):
    if os.getpid() == own:  # not the process that makes the archive
        import barque.runc.paths as paths
        print(type(paths.__spec__.loader).__name__, paths.__file__, paths.DEFAULT_ROOT)
        here = "/proc/self/fd/"
        print([os.readlink(here + n) for n in os.listdir(here) if os.path.exists(here + n)])
        sys.stdout.flush()
    leave(code)
os._exit = report
from barque.__main__ import main
main("barque-runc", ["state", "nothing"])
"""


class Tree:
    """A copy of the runtime's sources."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.package = root / "barque"
        self.package.mkdir(parents=True)
        for name in PARTS:
            shutil.copy(SOURCE / name, self.package)
        for name in ("linux", "oci", "runc"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(SOURCE / name, self.package / name, ignore=ignored)
        self.paths = self.package / "runc/paths.py"

    @property
    def archive(self) -> Path:
        tag = sys.implementation.cache_tag
        return self.package / f"__pycache__/barque-runc.{tag}.archive"

    def run(self) -> list[str]:
        """What loaded a module, from where, its constant; then the descriptors that are open."""
        argv = [sys.executable, "-I", "-S", "-c", REPORT.format(tree=str(self.root))]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert "container does not exist" in done.stderr, done
        assert done.returncode == 1
        first, second = done.stdout.splitlines()
        assert ".archive" not in second  # it is closed before a command looks at its descriptors
        loader, path, constant = first.split()
        assert path == str(self.paths)
        return [loader, constant]


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path / "tree")


def test_made_once_then_used(tree: Tree) -> None:
    assert tree.run() == ["SourceFileLoader", "/run/barque/runc"]
    assert tree.archive.stat().st_size > 0
    made = tree.archive.stat().st_ino
    assert tree.run() == ["Finder", "/run/barque/runc"]
    assert tree.archive.stat().st_ino == made
    assert not list(tree.archive.parent.glob("*.archive.*"))


def test_a_changed_source_counts_at_once(tree: Tree) -> None:
    tree.run()
    text = tree.paths.read_text().replace("/run/barque/runc", "/run/elsewhere")
    tree.paths.write_text(text)
    assert tree.run() == ["SourceFileLoader", "/run/elsewhere"]
    assert not tree.archive.exists()
    tree.run()
    assert tree.run() == ["Finder", "/run/elsewhere"]


def test_a_changed_archive_module_counts_at_once(tree: Tree) -> None:
    tree.run()
    made = tree.archive.stat().st_ino
    source = tree.package / "archive.py"
    source.write_text(source.read_text() + "# another\n")
    assert tree.run()[0] == "SourceFileLoader"
    assert tree.archive.stat().st_ino != made
    assert tree.run()[0] == "Finder"


def test_a_copied_tree_has_its_own(tree: Tree, tmp_path: Path) -> None:
    tree.run()
    copy = Tree(tmp_path / "copy")
    shutil.copytree(tree.archive.parent, copy.archive.parent)
    assert copy.run()[0] == "SourceFileLoader"
    assert copy.run()[0] == "Finder"


@pytest.mark.parametrize("keep", [0, 4, 100, -1, -1000])
def test_a_broken_one_does_no_harm(tree: Tree, keep: int) -> None:
    tree.run()
    whole = tree.archive.read_bytes()
    tree.archive.write_bytes(whole[:keep] if keep >= 0 else whole[: len(whole) // 2])
    assert tree.run()[1] == "/run/barque/runc"
    tree.run()
    assert tree.run()[0] == "Finder"


def test_noise_instead_of_code(tree: Tree) -> None:
    tree.run()
    whole = tree.archive.read_bytes()
    head = 8 + int.from_bytes(whole[:8], "little")
    tree.archive.write_bytes(whole[:head] + b"\xff" * (len(whole) - head))
    assert tree.run() == ["SourceFileLoader", "/run/barque/runc"]


def test_where_it_cannot_be_written(tree: Tree) -> None:
    (tree.package / "__pycache__").mkdir()
    tree.archive.mkdir()  # what is there is no file: root may write everywhere
    assert tree.run() == ["SourceFileLoader", "/run/barque/runc"]
    assert os.listdir(tree.archive) == []
