"""The runtime's page names every command and flag of the code, and tests that exist."""

from tools import runtime


def test_the_page_is_up_to_date() -> None:
    assert runtime.main(["--check"]) == 0


def test_every_flag_has_its_row() -> None:
    assert runtime.flags_told() == runtime.flags_there()


def test_every_row_is_shown_or_says_why_not() -> None:
    for heading, rows in runtime.sections().items():
        assert rows, heading
        for row in rows:
            assert row.tests or row.note, f"{heading}: {row.item}"


def test_marks_tell_what_a_test_runs_on() -> None:
    known = runtime.known_tests()
    (one,) = known["test_what_a_state_forbids"]
    assert one.peers == {"runc", "v2"}
    (other,) = known["test_oom_score"]
    assert other.peers == {"runc", "crun"}
    assert not known["test_undo_runs_backwards_and_to_the_end"][0].peers
