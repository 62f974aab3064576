"""docs/suites.md: what the peers' suites say of the peers and of ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from tools.suites.tap import FAILED, PASSED

REASONS = Path(__file__).with_name("reasons.txt")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "suites.md"
SECTION = "\n## "
HEAD = """# The peers' own suites, on ours

Made by `make suites`; do not edit. The suites are those of Debian's source packages, run on this
kernel first on Debian's program and then on ours. A case that fails on the peer too, or is skipped
there, says nothing; one that passes there and not on ours is listed with its reason, which
`tools/suites/reasons.txt` has.

To add a suite: a module in `tools/suites` with `PACKAGE` (Debian's source package), `PEER`,
`OURS`, `prepare(cache)` (fetch, build; returns the tree) and `run(tree, program, place)` (returns
the verdict on each case), named in `SUITES` of `tools/suites/__main__.py`; what it needs
installed goes into `SUITE_PACKAGES` of `tools/setup.sh`.
"""


class Results(NamedTuple):
    """The verdicts of one suite, by case."""

    suite: str
    version: str  # of the peer
    peer: Mapping[str, str]
    ours: Mapping[str, str]

    def differences(self) -> Iterator[tuple[str, str]]:
        """The cases that pass on the peer alone, with our verdict."""
        for case, verdict in self.peer.items():
            if verdict == PASSED and self.ours.get(case) != PASSED:
                yield case, self.ours.get(case, FAILED)


class Reason(NamedTuple):
    suite: str
    case: str
    text: str


def reasons() -> list[Reason]:
    lines = REASONS.read_text().splitlines()
    rows = (line for line in lines if line and not line.startswith("#"))
    return [Reason(*(cell.strip() for cell in row.split("|"))) for row in rows]


def unexplained(results: Results, known: Iterable[Reason]) -> list[str]:
    """The differences that no reason tells of."""
    told = {(reason.suite, reason.case) for reason in known}
    return [case for case, _ in results.differences() if (results.suite, case) not in told]


def page(all_results: Iterable[Results], before: str = "") -> str:
    """The page. Suites without results have what the page `before` says of them."""
    known = reasons()
    told = {text.split()[0]: text for text in before.split(SECTION)[1:]}
    for one in all_results:
        told[one.suite] = "\n".join(section(one, known)).removeprefix(SECTION.lstrip())
    return HEAD + "".join(f"{SECTION}{told[suite]}" for suite in sorted(told))


def section(results: Results, known: Iterable[Reason]) -> Iterator[str]:
    texts = {reason.case: reason.text for reason in known if reason.suite == results.suite}
    both = set(results.peer) & set(results.ours)
    passed = [case for case, verdict in results.peer.items() if verdict == PASSED]
    ours = [case for case, verdict in results.ours.items() if verdict == PASSED]
    more = len([case for case in ours if results.peer.get(case) == FAILED])
    yield f"## {results.suite} {results.version}"
    yield f"{len(both)} cases: {len(passed)} pass on the peer, {len(ours)} on ours;"
    yield f"{more} that fail on the peer here pass on ours."
    yield ""
    rows = list(results.differences())
    if rows:
        yield "| passes on the peer alone | ours | why |"
        yield "| --- | --- | --- |"
    for case, verdict in rows:
        yield f"| {case} | {verdict} | {texts.get(case, '')} |"
    yield ""
