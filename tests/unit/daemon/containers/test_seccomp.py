from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from barque import errors
from barque.daemon.containers import capabilities, seccomp

PUBLISHED = Path(__file__).parents[5] / "shared/schemas/seccomp-default.json"
NONE: frozenset[str] = frozenset()
KERNEL = (6, 1)


def _comparable(rule: dict[str, Any]) -> str:
    kept = {key: value for key, value in rule.items() if key != "comment"}
    return json.dumps({**kept, "names": sorted(rule["names"])}, sort_keys=True)


def _rules(resolved: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [rule for rule in resolved["syscalls"] if name in rule["names"]]


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published profile is not here")
def test_the_table_is_dockers_newest_default() -> None:
    published, ours = json.loads(PUBLISHED.read_text()), seccomp.default_profile()
    for key in ("defaultAction", "defaultErrnoRet"):
        assert ours[key] == published[key]
    assert {_comparable(rule) for rule in ours["syscalls"]} == {
        _comparable(rule) for rule in published["syscalls"]
    }
    theirs = {e["architecture"]: e["subArchitectures"] or [] for e in published["archMap"]}
    assert {e["architecture"]: e["subArchitectures"] for e in ours["archMap"]} == theirs


def test_conditions_on_capabilities() -> None:
    plain = seccomp.default(NONE, "x86_64", KERNEL)
    assert not _rules(plain, "mount")
    assert _rules(plain, "clone3")[0]["errnoRet"] == seccomp.ENOSYS
    assert _rules(plain, "clone")[0]["args"][0]["index"] == 0
    admin = seccomp.default(frozenset({"CAP_SYS_ADMIN"}), "x86_64", KERNEL)
    assert _rules(admin, "mount")
    assert [rule["action"] for rule in _rules(admin, "clone3")] == [seccomp.ALLOW]
    assert all("args" not in rule for rule in _rules(admin, "clone"))


def test_conditions_on_architecture_and_kernel() -> None:
    assert _rules(seccomp.default(NONE, "x86_64", KERNEL), "arch_prctl")
    assert not _rules(seccomp.default(NONE, "aarch64", KERNEL), "arch_prctl")
    assert _rules(seccomp.default(NONE, "s390x", KERNEL), "clone")[0]["args"][0]["index"] == 1
    assert not _rules(seccomp.default(NONE, "x86_64", (4, 4)), "ptrace")
    assert _rules(seccomp.default(NONE, "x86_64", (4, 8)), "ptrace")


def test_af_alg_and_vsock_are_not_for_containers() -> None:
    rules = _rules(seccomp.default(frozenset(capabilities.DEFAULT), "x86_64", KERNEL), "socket")
    allowed = {
        family
        for family in range(64)
        for rule in rules
        for item in rule["args"]
        if {
            "LT": family < item["value"],
            "EQ": family == item["value"],
            "GT": family > item["value"],
        }[item["op"].removeprefix("SCMP_CMP_")]
    }
    assert set(range(64)) - allowed == {38, 40}


def test_a_profile_of_the_users_own() -> None:
    text = json.dumps(
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "archMap": [
                {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}
            ],
            "syscalls": [{"name": "chmod", "action": "SCMP_ACT_ERRNO", "errnoRet": 5}],
        }
    )
    resolved = seccomp.custom(text, NONE, "x86_64", KERNEL)
    assert resolved["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert resolved["syscalls"] == [{"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5}]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"defaultAction": 1}', '{"defaultAction":"a","syscalls":[{}]}']
)
def test_what_is_no_profile_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="Decoding seccomp profile failed"):
        seccomp.custom(text, NONE, "x86_64", KERNEL)
