"""What is made of the reports of the peers' suites."""

import json
from pathlib import Path

import pytest

from tools.suites import containerd, page
from tools.suites.image_server import EVERYWHERE, Shelf
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


GO_REPORT = """=== RUN   TestOne
    one_test.go:87: words
--- PASS: TestOne (0.05s)
--- FAIL: TestMany (1.00s)
    --- PASS: TestMany/first (0.50s)
    --- SKIP: TestMany/second (0.00s)
FAIL
"""


def test_images_are_whole_and_share_no_layer_of_their_own() -> None:
    shelf = Shelf()
    for name in ("a:1", "b:1"):
        shelf.add_image(name, EVERYWHERE, [b"layer"])
    kept = {digest: json.loads(blob) for digest, blob in shelf.blobs.items() if blob[:1] == b"{"}
    layers = []
    for digest in shelf.names.values():
        assert len(kept[digest]["manifests"]) == len(EVERYWHERE)
        for manifest in (kept[one["digest"]] for one in kept[digest]["manifests"]):
            assert manifest["config"]["digest"] in kept
            layers += [layer["digest"] for layer in manifest["layers"]]
    assert set(layers) <= set(shelf.blobs)
    assert len(set(layers)) == 1 + 2 * len(EVERYWHERE)


def test_verdicts_of_go() -> None:
    assert containerd.verdicts(GO_REPORT) == {
        "TestOne": PASSED,
        "TestMany": FAILED,
        "TestMany/first": PASSED,
        "TestMany/second": SKIPPED,
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


def test_suites_that_were_not_run_keep_their_sections() -> None:
    others = [page.Results(name, "1.0", {"a": PASSED}, {}) for name in ("w", "y")]
    before = page.page([*others, results(a=PASSED)])
    assert page.page([], before) == before
    assert page.page([results(a=PASSED)], before) == before
    assert page.page([results()], before) == page.page([*others, results()])
    assert page.page([], page.PAGE.read_text()) == page.PAGE.read_text()


def test_every_reason_is_of_a_case_that_the_page_tells() -> None:
    told = page.PAGE.read_text()
    for reason in page.reasons():
        assert f"| {reason.case} |" in told, reason
        assert f"| {reason.text} |" in told, reason
