"""Results in the Test Anything Protocol: one line a case."""

from __future__ import annotations

import re

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"
LINE = re.compile(r"(not )?ok \d+ (?:- )?(.*?)\s*(#\s*skip.*)?$", re.IGNORECASE)


def verdicts(text: str) -> dict[str, str]:
    """The verdict on each case of a report."""
    found = {}
    for line in text.splitlines():
        if match := LINE.match(line):
            failed, name, skipped = match.groups()
            found[name] = FAILED if failed else SKIPPED if skipped else PASSED
    return found
