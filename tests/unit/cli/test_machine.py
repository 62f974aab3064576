"""What is said of a machine on which no daemon answers."""

from __future__ import annotations

from pathlib import Path

from barque.cli import machine


def tree(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return f"{root}/"


def test_a_machine_in_order(tmp_path: Path) -> None:
    nft = tmp_path / "bin/nft"
    root = tree(
        tmp_path,
        {
            "proc/filesystems": "nodev\tproc\nnodev\toverlay\n",
            "proc/sys/net/ipv4/ip_forward": "1\n",
            "sys/fs/cgroup/cgroup.controllers": "cpu\n",
            "proc/self/mountinfo": "1 2 0:1 / /proc rw - proc proc rw\n",
            "bin/nft": "",
        },
    )
    nft.chmod(0o755)
    assert machine.look(root, f"{tmp_path}/bin") == []


def test_a_machine_that_lacks_everything(tmp_path: Path) -> None:
    mounts = "1 2 0:1 / /run/barque/netns/a rw - nsfs nsfs rw\n"
    files = {"proc/sys/net/ipv4/ip_forward": "0\n", "proc/self/mountinfo": mounts}
    found = machine.look(tree(tmp_path, files), str(tmp_path))
    assert [line.split()[0].rstrip(":") for line in found] == [
        "kernel",
        "firewall",
        "forwarding",
        "cgroup",
        "mounts",
    ]
