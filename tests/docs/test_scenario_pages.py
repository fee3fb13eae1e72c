"""docs/scenarios: every snippet is run, and no page has one that nobody runs."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.profile import Profile
from fakeqemu.testing.fleet.file import FleetFile
from fakeqemu.testing.scenarios.file import ScenarioFile

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "scenarios").glob("*.md"))
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
#: who runs the blocks of a page, by their language
RUN = {
    "README.md": {"python"},
    "testing.md": {"python"},
    "index.md": {"python"},  # by test_site.py, as the pages of howto/
    "early-parameters.md": {"console"},
    "proposals.md": {"console"},
    "states.md": {"mermaid"},  # drawn from the tables, and compared with them
}


def blocks(page: Path) -> list[tuple[str, str]]:
    return _BLOCK.findall(page.read_text())


SNIPPETS = [
    pytest.param(text, id=page.stem)
    for page in PAGES
    for language, text in blocks(page)
    if language == "python"
]


@pytest.mark.parametrize("text", SNIPPETS)
async def test_snippet(text: str, fakeqemu: Any) -> None:
    if "def test_" in text:
        names: dict[str, Any] = {}
        exec(compile(text, "docs/scenarios", "exec"), names)
        for name, test in names.items():
            if name.startswith("test_"):
                assert list(inspect.signature(test).parameters) == ["fakeqemu"]
                await test(fakeqemu)
        return
    machine = await fakeqemu("-machine", "none", profile="10.0", client=False, allow=["unused"])
    exec(compile(text, "docs/scenarios", "exec"), {"machine": machine, "faults": machine.faults})
    assert machine.faults.list()


def test_the_files_are_right(tmp_path: Path) -> None:
    page = blocks(ROOT / "docs" / "scenarios" / "README.md")
    files = [text for language, text in page if language == "toml"]
    assert len(files) > 1
    for text in files:
        file = tmp_path / "file.toml"
        file.write_text(text)
        if "[[machines]]" in text:
            assert len(FleetFile.load(file).members) == 1000
        else:
            ScenarioFile.load(file).check(Profile.load("10.0"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.stem))
def test_the_command_line_names_a_scenario(page: Path) -> None:
    for name in re.findall(r"--scenario ([a-z-]+) --", page.read_text()):
        assert name == page.stem
        ScenarioFile.load(name)


def test_no_block_is_left_out() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        languages = {language for language, _ in blocks(page)}
        assert languages <= RUN.get(page.name, set()), page.name
    for page in PAGES:
        assert {language for language, _ in blocks(page)} <= {"python", "toml"}, page.name
