"""Random kills among random operations, for a fixed seed: nothing is lost, nothing is left.

BARQUE_CRASH_ROUNDS=500 runs all of them (some minutes), BARQUE_CRASH_SEED another seed.
"""

import os

import pytest

from tests.support.barque import Stack
from tests.support.crash import Rounds

pytestmark = [pytest.mark.root, pytest.mark.peer]
ROUNDS = int(os.environ.get("BARQUE_CRASH_ROUNDS", "120"))
SEED = int(os.environ.get("BARQUE_CRASH_SEED", "20261121"))


@pytest.mark.timeout(300 + 10 * ROUNDS)
def test_whatever_dies_nothing_is_lost_and_nothing_is_left(own_barque: Stack) -> None:
    Rounds(own_barque, SEED).run(ROUNDS)
