"""docs/commands.md tells of the commands that are tried, and says which are refused."""

from pathlib import Path

from tools import commands

REPORT = """<testsuite>
{cases}
</testsuite>"""


def report(path: Path, failing: str) -> Path:
    cases = [
        f'<testcase name="test_a_command[{engine}-{command}]">'
        f"{'<failure/>' if command == failing else ''}</testcase>"
        for engine in commands.ENGINES
        for command in commands.commands()
    ]
    path.write_text(REPORT.format(cases="\n".join(cases)))
    return path


def test_the_page_has_every_command() -> None:
    assert commands.main(["--check"]) == 0
    assert "| no |" not in commands.PAGE.read_text()


def test_a_row_says_what_came_of_it(tmp_path: Path) -> None:
    text = commands.page(commands.results(report(tmp_path / "r.xml", "diff")))
    assert "| diff | no | no |" in text
    assert "| update | yes | refused |" in text
    assert "| history | yes | yes |" in text
