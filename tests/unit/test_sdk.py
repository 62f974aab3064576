"""What `import barque` gives to programs."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import barque
from barque.client.containers import Containers
from barque.client.execs import Execs
from barque.client.images import Images
from barque.client.networks import Networks
from barque.client.system import System
from barque.client.volumes import Volumes
from barque.sdk import asynchronous

# Those that end in raw streams or answers, for the command line, which pumps them itself.
RAW = ("_raw", "attach", "converse", "logs", "events", "archive", "load", "start")


@pytest.mark.parametrize("group", [Containers, Execs, Images, Networks, System, Volumes])
def test_whatever_can_be_called_can_be_awaited(group: type) -> None:
    twin = getattr(asynchronous, f"Async{group.__name__}")
    for name, method in inspect.getmembers(group, inspect.isfunction):
        raw = name.endswith(RAW) and not (group is Containers and name == "start")
        if name.startswith(("_", "begin_")) or raw:
            continue
        assert hasattr(twin, name), f"{group.__name__}.{name}"
        assert getattr(twin, name).__doc__ == method.__doc__


GROUPS = {
    "containers": Containers,
    "execs": Execs,
    "images": Images,
    "networks": Networks,
    "system": System,
    "volumes": Volumes,
}
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("page", ["README.md", "docs/sdk.md"])
def test_the_pages_call_what_is_there(page: str) -> None:
    """`client.GROUP.METHOD(...)` in every example, with arguments that the method takes."""
    called = 0
    for example in re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL):
        flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        for node in ast.walk(compile(example, page, "exec", flags)):
            match node:
                case ast.Call(ast.Attribute(ast.Attribute(ast.Name("client"), group), method)):
                    signature = inspect.signature(getattr(GROUPS[group], method))
                    named = {keyword.arg or "": None for keyword in node.keywords}
                    signature.bind(None, *node.args, **named)
                    called += 1
    assert called


def test_the_package_itself_loads_nothing() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import barque; "
        "print(len([name for name in sys.modules if name.startswith('barque')]))"
    )
    source = str(Path(barque.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, source], capture_output=True, check=True
    )
    assert done.stdout == b"1\n"


def test_every_name_that_is_offered_is_there() -> None:
    for name in barque.__all__:
        assert getattr(barque, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        barque.nothing  # noqa: B018
