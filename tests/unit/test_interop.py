"""The page of pairs tells of all pairs, and all that it tells of was tried and passed."""

from pathlib import Path

from tools import interop

REPORT = """<testsuites><testsuite>
<testcase classname="tests.interop.containerd.test_client_tasks" name="test_a[all-theirs]"/>
<testcase classname="tests.interop.containerd.test_client_tasks" name="test_b[all-theirs]">
<failure/></testcase>
<testcase classname="tests.interop.containerd.test_client_tasks" name="test_a[their-shim]"/>
</testsuite></testsuites>"""


def test_the_page_is_up_to_date() -> None:
    assert interop.main(["--check"]) == 0


def test_every_pair_was_tried() -> None:
    """A page made from a run in which something failed, or was not there, is not for keeping."""
    text = interop.PAGE.read_text()
    for pair in interop.PAIRS:
        (line,) = [line for line in text.splitlines() if line.startswith(interop.row(pair))]
        passed = line.removeprefix(interop.row(pair)).strip(" |")
        assert int(passed) > 0


def test_results_are_told_by_pair(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    found = {pair.cases: outcome for pair, outcome in interop.outcomes(report).items()}
    assert found["[all-theirs"] == (1, 1)
    assert found["[their-shim"] == (1, 0)


def test_a_pair_more_makes_the_page_stale() -> None:
    text = interop.PAGE.read_text()
    first = interop.row(interop.PAIRS[0])
    assert interop.stale(text.replace(first, first.replace("| ", "| x", 1))) == [first]
