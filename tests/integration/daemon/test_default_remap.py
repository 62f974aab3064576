"""`userns-remap=default` makes its user: on a copy of /etc, in a mount namespace of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root]
PRIVATE = """
set -e
cp -a /etc "$1/etc"
for file in passwd group; do grep -v '^dockremap:' /etc/$file >"$1/etc/$file"; done
for file in subuid subgid; do printf '%s' "$2" >"$1/etc/$file"; done
mount --bind "$1/etc" /etc
mount -t tmpfs none /var/log
for program in $3; do mount --bind /dev/null $program; done
exec "$4" -c "$5"
"""
RESOLVE_TWICE = """
from barque.daemon.remapping import resolve
for _ in range(2):
    found = resolve("default")
    print(found.text, *found.root, found.maps.uids.text, found.maps.gids.text)
"""


def resolved(root: Path, ranges: str, hidden: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *("unshare", "--mount", "sh", "-c", PRIVATE, "sh"),
            *(str(root), ranges, hidden, sys.executable, RESOLVE_TWICE),
        ],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("ranges", "first"),
    [
        ("", 100_000),
        ("somebody:100000:65536\nother:300000:1000\n", 301_000),
        ("dockremap:500000:65536\n", 500_000),
    ],
)
def test_the_user_is_made_with_a_range_of_its_own(tmp_path: Path, ranges: str, first: int) -> None:
    before = Path("/etc/passwd").read_text()
    done = resolved(tmp_path, ranges)
    mapped = f"0:{first}:65536"
    expected = f"dockremap:dockremap {first} {first} {mapped} {mapped}"
    assert (done.stdout.splitlines(), done.stderr) == ([expected] * 2, "")
    for name in ("subuid", "subgid"):
        kept = (tmp_path / "etc" / name).read_text()
        assert kept.startswith(ranges)
        assert kept.count("dockremap:") == 1
    made = (tmp_path / "etc/passwd").read_text()
    assert ":/nonexistent:/bin/false\n" in made[made.index("\ndockremap:") :]
    assert Path("/etc/passwd").read_text() == before


def test_a_machine_without_the_programs_is_told_what_to_make(tmp_path: Path) -> None:
    done = resolved(tmp_path, "", "/usr/sbin/useradd /usr/sbin/usermod")
    assert "useradd is not there to make the user dockremap" in done.stderr
