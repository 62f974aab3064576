"""containerd's suite: Go tests of its client, which start the `containerd` of `PATH`.

It runs in namespaces of its own, where the registries that it pulls from are `image_server`; what
a case leaves running ends with them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tools.certificates import make_certificates
from tools.suites.commands import go_environment, run_reported
from tools.suites.image_server import HOSTS
from tools.suites.sources import BIN, ROOT, fetch
from tools.suites.tap import FAILED, PASSED, SKIPPED

PACKAGE = PEER = "containerd"
OURS = str(Path(__file__).with_name("as_containerd"))
OUR_RUNTIME = "io.containerd.barque.v2"  # instead of the client's own choice
INSIDE = "integration/client"
PROGRAM = "client.test"
# Eight cases at once, as in containerd's Makefile. The cases of criu fail where it cannot dump, and
# what they leave behind fails others.
FLAGS = ("-test.v", "-test.root", "-test.parallel", "8", "-no-criu")
TIMEOUT_S = 900
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = re.compile(r"testing|testing-Test.*|containerd|n{76}|\d{5,9}")
RUNC_ROOT = Path("/tmp/runc-test")  # of a case that may leave its container there
LINE = re.compile(r"\s*--- (PASS|FAIL|SKIP): (\S+) \(")
# It asks for a shell's child as soon as the shell is started: on either it may not be there yet.
BY_CHANCE = ("TestContainerPids",)
VERDICTS = {"PASS": PASSED, "FAIL": FAILED, "SKIP": SKIPPED}
# The shell stays: it reaps whom nobody else waits for.
PREPARED = """
mount -t tmpfs none /run
mount --bind "$0/lib" /var/lib
mount --bind "$0/hosts" /etc/hosts
ip link set lo up
"$1" -m tools.suites.image_server "$0" &
while [ ! -e "$0/ready" ] && kill -0 $!; do sleep 0.1; done
shift
"$@"; exit $?
"""
NAMESPACES = ("--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")


def prepare(cache: Path) -> Path:
    """The directory with the tests as one program, built with Debian's packages of Go libraries.

    The library that is tested is Debian's too, with its patches: the suite is built apart from the
    tree that it came in.
    """
    fetched = fetch(PACKAGE, cache)
    tree = cache / "go" / "src" / "containerd-suite"
    shutil.rmtree(tree, ignore_errors=True)
    tree.parent.mkdir(parents=True, exist_ok=True)
    (fetched / INSIDE).rename(tree)
    (tree / "go.mod").write_text("module suite\n")  # without it `/v3` in an import is a directory
    command = ["go", "test", "-c", "-o", PROGRAM, "."]
    subprocess.run(command, check=True, cwd=tree, env=go_environment(cache / "go"))
    return tree


def run(tree: Path, program: str, place: Path) -> dict[str, str]:
    """The verdicts; what the suite prints stays in `place`."""
    make_certificates(place, ",".join(f"DNS:{host}" for host in HOSTS))
    (place / "hosts").write_text(f"127.0.0.1 localhost {' '.join(HOSTS)}\n")
    (place / "lib").mkdir()
    (place / "bin").mkdir()
    (place / "bin" / "containerd").symlink_to(program)
    environment = {
        **os.environ,
        "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
        "SSL_CERT_FILE": str(place / "ca.pem"),
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(place),
    }
    if program == OURS:
        (place / "bin" / "runc").symlink_to(BIN / "barque-runc")  # a case calls it by itself
        environment["BARQUE_CONTAINERD"] = str(BIN / "barque-containerd")  # for as_containerd
        environment["TEST_RUNTIME"] = OUR_RUNTIME
    prepared = ["unshare", *NAMESPACES, "sh", "-c", PREPARED, str(place), sys.executable]
    command = [*prepared, f"./{PROGRAM}", *FLAGS]
    report = place / "report.tap"
    before = set(CGROUPS.glob("*/*/"))
    run_reported(command, report, directory=tree, environment=environment, limit_s=TIMEOUT_S)
    _remove_cgroups(before)
    shutil.rmtree(RUNC_ROOT, ignore_errors=True)
    return verdicts(report.read_text(errors="replace")) | dict.fromkeys(BY_CHANCE, SKIPPED)


def verdicts(text: str) -> dict[str, str]:
    """The verdict on each test of a report, and on each of its parts."""
    found = (LINE.match(line) for line in text.splitlines())
    return {match[2]: VERDICTS[match[1]] for match in found if match}


def _remove_cgroups(before: set[Path]) -> None:
    """The suite leaves most of its own; what is in use is not removed."""
    for place in set(CGROUPS.glob("*/*/")) - before:
        if OWN_CGROUP.fullmatch(place.name):
            for directory, _, _ in os.walk(place, topdown=False):
                with suppress(OSError):
                    os.rmdir(directory)
