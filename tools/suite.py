"""Run the tests; what failed beside others runs once more, alone, and both results are told.

docs/adr/tests-once-more-alone.md. The arguments are pytest's.
"""

import json
import subprocess
import sys
from pathlib import Path

TESTS_FAILED = 1  # pytest's exit code for that; others are for what is no verdict on a test
AGAIN_MAX = 3  # more than that is not luck
LAST_FAILED = Path(".pytest_cache/v/cache/lastfailed")


def main() -> int:
    pytest = [sys.executable, "-m", "pytest"]
    code = subprocess.call([*pytest, "--cache-clear", *sys.argv[1:]])
    if code != TESTS_FAILED:
        return code
    failed = sorted(json.loads(LAST_FAILED.read_text()))
    if len(failed) > AGAIN_MAX:
        return code
    print("\nonce more, alone:", *failed, sep="\n  ", flush=True)
    again = subprocess.call([*pytest, *failed])
    if again == 0:
        print("\nFAILED BESIDE OTHERS, passed alone (each is a bug to find):", *failed, sep="\n  ")
    return again


if __name__ == "__main__":
    sys.exit(main())
