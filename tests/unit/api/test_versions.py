from __future__ import annotations

import pytest

from barque.api.versions import API_VERSION, MIN_API_VERSION, version_tuple


def test_versions_compare_as_numbers() -> None:
    assert version_tuple("1.9") < version_tuple("1.10")
    assert version_tuple(MIN_API_VERSION) < version_tuple(API_VERSION)


@pytest.mark.parametrize("text", ["", "1", "a.b", "1.2.3"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        version_tuple(text)
