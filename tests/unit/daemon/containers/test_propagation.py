import pytest

from barque.daemon.containers.propagation import mount_of

MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:25 / /data rw - tmpfs tmpfs rw
31 30 0:26 / /data/with\040space rw shared:7 master:2 - tmpfs tmpfs rw
32 22 0:27 / /data/late rw master:3 - tmpfs tmpfs rw
33 22 0:28 / /data rw shared:9 - tmpfs tmpfs rw
""".strip().splitlines()


@pytest.mark.parametrize(
    ("path", "place", "shared"),
    [
        ("/", "/", True),
        ("/database", "/", True),
        ("/data", "/data", True),  # the later one
        ("/data/x", "/data", True),
        ("/data/with space/x", "/data/with space", True),
        ("/data/late", "/data/late", False),
        ("/data/later", "/data", True),
    ],
)
def test_the_mount_that_has_a_path(path: str, place: str, shared: bool) -> None:
    assert mount_of(path, MOUNTS) == (place, shared)
