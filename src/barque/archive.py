"""The modules of a short program in one file: loading them then is not looking for each of them.

The import system looks for a module, finds its compiled file, opens it and compares it with the
source, in some hundred microseconds; a command of the runtime needs fifty. An archive has their
code side by side, beside the package's other compiled files and trusted as they are. It is made by
the first process that finds none; when a source has changed since, all is loaded as ever.
"""

from __future__ import annotations

import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any, TypeAlias

    # whether it is a package, its source, that one's time of change and size, where its code is
    Entry: TypeAlias = tuple[bool, str, int, int, int, int]

DIRECTORY = os.path.join(os.path.dirname(__file__), "__pycache__")
HEAD = 8  # bytes
LONGEST_INDEX = 1 << 20  # bytes
UNREADABLE = (OSError, EOFError, ValueError, TypeError)


class Finder:
    """Finds and loads what is in an archive. `sys.meta_path` has it before the others.

    The file is open until `close`: what replaces it meanwhile has its own offsets.
    """

    def __init__(self, path: str, fd: int, start: int, entries: dict[str, Entry]) -> None:
        self.path = path
        self.fd = fd
        self.start = start  # of the code
        self.entries = entries

    def close(self) -> None:
        """What is loaded from here on is looked for; no descriptor of ours is left."""
        sys.meta_path.remove(self)
        os.close(self.fd)

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        entry = self.entries.get(name)
        if entry is None:
            return None
        package, source, changed, size, offset, length = entry
        if stamp(source) != [changed, size]:
            self._discard()
            return None
        try:
            code = marshal.loads(os.pread(self.fd, length, self.start + offset))
        except UNREADABLE:
            self._discard()
            return None
        spec = type(sys.__spec__)(name, self, origin=source, loader_state=code, is_package=package)  # type: ignore[arg-type]
        spec.has_location = True
        if package:
            spec.submodule_search_locations = [os.path.dirname(source)]
        return spec

    def create_module(self, _: ModuleSpec) -> None:
        """As the import system makes it."""

    def exec_module(self, module: ModuleType) -> None:
        spec: Any = module.__spec__
        exec(spec.loader_state, module.__dict__)
        spec.loader_state = None

    def _discard(self) -> None:
        """It is of other sources: let the next process make another."""
        self.entries = {}
        try:
            os.unlink(self.path)
        except OSError:
            pass  # another process has, or it is not ours


def use(program: str, load: Callable[[], None]) -> Finder | None:
    """Load modules from the archive of `program`; `load` loads all that is to be in it."""
    path = f"{DIRECTORY}/{program}.{sys.implementation.cache_tag}.archive"
    finder = _open(path)
    if finder is not None:
        sys.meta_path.insert(0, finder)
    elif not sys.dont_write_bytecode and os.access(DIRECTORY, os.W_OK):
        _make(path, load)
    return finder


def _open(path: str) -> Finder | None:
    """The archive, when there is one and it is for this interpreter and this tree."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        length = int.from_bytes(os.pread(fd, HEAD, 0), "little")
        owner, entries = marshal.loads(os.pread(fd, min(length, LONGEST_INDEX), HEAD))
        if owner == OWNER:
            return Finder(path, fd, HEAD + length, entries)
    except UNREADABLE:
        pass  # it is made again
    os.close(fd)
    return None


def stamp(source: str) -> list[int]:
    """What changes with the file."""
    try:
        found = os.stat(source)
    except OSError:
        return []
    return [found.st_mtime_ns, found.st_size]


# whom an archive is for: a tree may be copied, and has its own of each kind of interpreter
OWNER = (sys.version, sys.base_prefix, DIRECTORY, stamp(__file__))


def _make(path: str, load: Callable[[], None]) -> None:
    """Write the archive, in a process of its own: this one is left as it is."""
    pid = os.fork()
    if pid == 0:
        try:
            load()
            _write(path, pack(collect()))
        finally:
            os._exit(0)
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # whoever started us ignores SIGCHLD: it has ended all the same


def collect() -> dict[str, tuple[bool, str, list[int], bytes]]:
    """The modules loaded from source files here, but the program's entry."""
    found = {}
    for name, module in sys.modules.items():
        spec: Any = module.__spec__
        if name == "__main__" or not hasattr(getattr(spec, "loader", None), "source_to_code"):
            continue
        known, code = stamp(spec.origin), spec.loader.get_code(name)
        if known:
            package = spec.submodule_search_locations is not None
            found[name] = (package, spec.origin, known, marshal.dumps(code))
    return found


def pack(modules: dict[str, tuple[bool, str, list[int], bytes]]) -> bytes:
    """The length of the index, the index, and the code of one after the other."""
    entries: dict[str, Entry] = {}
    offset = 0
    for name, (package, source, (changed, size), code) in modules.items():
        entries[name] = (package, source, changed, size, offset, len(code))
        offset += len(code)
    index = marshal.dumps((OWNER, entries))
    codes = (code for _, _, _, code in modules.values())
    return len(index).to_bytes(HEAD, "little") + index + b"".join(codes)


def _write(path: str, content: bytes) -> None:
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "xb", buffering=0) as file:
        file.write(content)
        os.fsync(file.fileno())
    os.rename(temporary, path)
