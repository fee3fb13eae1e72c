"""docs/testing.md's snippets are run as they stand there."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def functions() -> list[Any]:
    """Every test function of the page."""
    found = []
    for snippet in SNIPPETS:
        names: dict[str, Any] = {}
        exec(compile(snippet, "docs/testing.md", "exec"), names)
        found += [each for name, each in names.items() if name.startswith("test_")]
    return found


def test_each_snippet_is_a_test() -> None:
    assert len(functions()) >= len(SNIPPETS) > 5


@pytest.mark.parametrize("function", functions(), ids=lambda each: str(each.__name__))
async def test_snippet(
    function: Any, fakeqemu: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    fixtures = {"fakeqemu": fakeqemu, "tmp_path": tmp_path}
    if "cassette" in inspect.signature(function).parameters:
        (mark,) = function.pytestmark
        settings = {**mark.kwargs, "name": function.__name__}
        request.node.add_marker(getattr(pytest.mark, mark.name)(*mark.args, **settings))
        fixtures["cassette"] = request.getfixturevalue("cassette")
    wanted = {name: fixtures[name] for name in inspect.signature(function).parameters}
    outcome = function(**wanted)
    if inspect.isawaitable(outcome):
        await outcome
