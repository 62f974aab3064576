"""A runtime, a bundle and a container id for each test; whatever is left of them fails it."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import cgroups, rootfs
from tests.support.runtimes import RUNTIMES, Residue, Result, Runtime

counter = itertools.count()
OURS = ("ours", "warm")
REFERENCES = ("runc", "crun")
ALL = (*OURS, *REFERENCES)
ONLY = os.environ.get("BARQUE_RUNTIMES", "").split()  # of these, when it names some


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "runtimes(names): the runtimes of this test, not all four")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "runtime" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("runtimes")
        names = marker.args if marker else ALL
        chosen = [name for name in names if not ONLY or name in ONLY]
        metafunc.parametrize("runtime", chosen, indirect=True)


@pytest.fixture
def place() -> Iterator[Path]:
    with rootfs.temporary() as directory:
        yield directory


@pytest.fixture
def runtime(request: pytest.FixtureRequest, place: Path) -> Iterator[Runtime]:
    made = RUNTIMES[request.param](place / "root")
    yield made
    made.close()


class Case:
    """One container on one runtime."""

    def __init__(self, runtime: Runtime, place: Path) -> None:
        self.runtime = runtime
        self.place = place
        self.id = f"bq{os.getpid()}x{next(counter)}"
        self.bundle = place / "bundle"
        rootfs.write_bundle(self.bundle, rootfs.config("true"))

    @property
    def rootfs(self) -> Path:
        return self.bundle / "rootfs"

    def configure(self, *args: str, **process: Any) -> dict[str, Any]:
        """A config to change and hand to `write`."""
        spec = rootfs.config(*args, **process)
        spec["linux"]["cgroupsPath"] = f"/{self.id}"
        return spec

    def write(self, spec: dict[str, Any]) -> None:
        rootfs.write_config(self.bundle, spec)

    def run(self, *args: str, spec: dict[str, Any] | None = None, **process: Any) -> Result:
        """`run` in the foreground, with the container removed at the end."""
        self.write(spec if spec is not None else self.configure(*args, **process))
        return self.runtime.call("run", "--bundle", str(self.bundle), self.id)

    def create(self, *args: str, spec: dict[str, Any] | None = None, **process: Any) -> Result:
        self.write(spec if spec is not None else self.configure(*args, **process))
        return self.runtime.call("create", "--bundle", str(self.bundle), self.id)

    def started(self, *args: str, spec: dict[str, Any] | None = None, **process: Any) -> None:
        self.create(*args, spec=spec, **process).check()
        output, errors = self.runtime.last_output, self.runtime.last_errors
        self.call("start", self.id).check()
        self.output, self.errors = output, errors

    def call(self, *arguments: str) -> Result:
        return self.runtime.call(*arguments)


@pytest.fixture
def case(runtime: Runtime, place: Path) -> Iterator[Case]:
    made = Case(runtime, place)
    yield made
    runtime.call("delete", "--force", made.id)
    if runtime.name in REFERENCES:  # they give groups up that are busy for too long
        cgroups.remove(made.id)
    Residue([made.id]).check()
    left = (
        [name for name in os.listdir(runtime.root) if not name.startswith("@")]
        if (runtime.root.exists())
        else []
    )
    assert not left, left
