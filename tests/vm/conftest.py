"""What is in `inside` needs the kernel of the virtual machine and is collected only there."""

from pathlib import Path

import pytest

from tests.support.vm import INSIDE

collect_ignore_glob = [] if Path(INSIDE, "agent").exists() else ["inside/*"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "runtimes(names): the runtimes of this test, not all four")
