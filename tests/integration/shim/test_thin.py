from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import rootfs
from tests.support.shim import Attached, Shims, shims

pytestmark = pytest.mark.root


@pytest.fixture(params=["runc"])
def it(request: pytest.FixtureRequest) -> Iterator[Shims]:
    with shims(request.param) as it:
        yield it


def test_a_container_runs(it: Shims) -> None:
    shim = it.start("one", rootfs.config("sh", "-c", "echo out; echo err >&2; exit 7"))
    log = it.root / "log"
    path = it.root / "io"
    stdout = f"barque://{path}?log=json-file&path={log}"
    pid = shim.create(stdout=stdout)
    assert pid > 0
    attached = Attached(str(path), stdout=True, stderr=True)
    assert attached.answer == {"ok": True, "tty": False}
    assert shim.run_to_end() == 7
    assert attached.streams() == (b"out\n", b"err\n")
    assert b'{"log":"out\\n","stream":"stdout","time":"' in log.read_bytes()
    assert it.events.topics() == ["create", "start", "exit", "delete"]
