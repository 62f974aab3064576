"""Several registries for one repository."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from barque import errors
from barque.registry.mirrors import Mirrored


class Place:
    """A registry that has these tags, or fails."""

    def __init__(self, *answer: str, fails: errors.BarqueError | None = None) -> None:
        self.answer, self.fails = list(answer), fails

    async def tags(self) -> list[str]:
        if self.fails is not None:
            raise self.fails
        return self.answer


AWAY = Place(fails=errors.Unavailable("away"))


def tags(origin: Place, *mirrors: Place) -> list[str]:
    return asyncio.run(Mirrored(cast(Any, mirrors), cast(Any, origin)).tags())


def test_tags_are_the_registrys_own() -> None:
    assert tags(Place("a", "b"), Place("a")) == ["a", "b"]


def test_tags_of_a_registry_that_is_away_are_a_mirrors() -> None:
    assert tags(AWAY, AWAY, Place(fails=errors.NotFound("not here")), Place("a")) == ["a"]


def test_tags_are_nobodys_guess() -> None:
    with pytest.raises(errors.Unavailable, match="away"):
        tags(AWAY, AWAY)
    with pytest.raises(errors.NotFound):
        tags(Place(fails=errors.NotFound("no such repository")), Place("a"))
