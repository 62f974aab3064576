"""What is made of the reports of the peers' suites."""

from pathlib import Path

import pytest

from tools.suites import page
from tools.suites.tap import FAILED, PASSED, SKIPPED, verdicts

REPORT = """1..4
ok 1 one of bats # skip needs another kernel
ok 2 - one of crun
# words of a failure
not ok 3 two: with words
ok 4 - three #SKIP
"""


def test_verdicts_of_both_forms() -> None:
    assert verdicts(REPORT) == {
        "one of bats": SKIPPED,
        "one of crun": PASSED,
        "two: with words": FAILED,
        "three": SKIPPED,
    }


def results(**ours: str) -> page.Results:
    return page.Results("x", "1.0", {"a": PASSED, "b": FAILED, "c": SKIPPED}, ours)


def test_a_case_without_a_verdict_has_failed() -> None:
    assert list(results(a=PASSED).differences()) == []
    assert list(results(b=PASSED).differences()) == [("a", FAILED)]
    assert list(results(a=SKIPPED).differences()) == [("a", SKIPPED)]


def test_reasons_belong_to_their_suite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "reasons.txt").write_text("# a comment\nx | a | because\ny | a | no\n")
    monkeypatch.setattr(page, "REASONS", tmp_path / "reasons.txt")
    known = page.reasons()
    assert page.unexplained(results(), known) == []
    assert page.unexplained(results(), known[1:]) == ["a"]
    assert "| a | failed | because |" in page.page([results()])


def test_every_reason_is_of_a_case_that_the_page_tells() -> None:
    told = page.PAGE.read_text()
    for reason in page.reasons():
        assert f"| {reason.case} |" in told, reason
        assert f"| {reason.text} |" in told, reason
