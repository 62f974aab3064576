"""Whether labels are on: here they are not; where they are is in the virtual machine."""

from pathlib import Path

from barque.linux import selinux


def test_a_kernel_without_a_policy_has_none() -> None:
    policy = Path("/sys/fs/selinux/policy")
    assert selinux.enabled() == (policy.exists() and selinux.FILESYSTEM in _writable())


def _writable() -> list[str]:
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [place for _, place, _, options, *_ in lines if "rw" in options.split(",")]
