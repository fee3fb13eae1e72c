"""The site: pages made from the code are current, snippets run, links lead somewhere."""

from __future__ import annotations

import importlib.util
import inspect
import re
import shlex
import shutil
import subprocess
import sys
import unittest
from pathlib import Path
from typing import Any

import pytest

from fakeqemu.cli.table import COMMANDS, HELP
from fakeqemu.testing import FakeQemu
from fakeqemu.testing.control.server import ControlServer, control_address

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [DOCS / "index.md", *sorted((DOCS / "howto").glob("*.md"))]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[Any]:
    return [
        pytest.param(text, id=page.stem)
        for page in PAGES
        for found, text in _BLOCK.findall(page.read_text())
        if found == language
    ]


def block(language: str) -> str:
    (one,) = blocks(language)
    return str(one.values[0])


def test_pages_from_the_code_are_current() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "make_catalogue", "--check"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_every_variable_is_on_the_page_of_options() -> None:
    used = set()
    for path in (ROOT / "fakeqemu").rglob("*.py"):
        used |= set(re.findall(r"\bFAKEQEMU_[A-Z_]+\b", path.read_text()))
    page = (DOCS / "options.md").read_text()
    assert {name for name in used if f"`{name}`" not in page} == set()


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "mkdocs.yml").read_text()
    named = set(re.findall(r"[\w/-]+\.md", text.partition("\nnav:")[2]))
    there = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    assert named <= there
    assert {page for page in there - named if not page.startswith("scenarios/")} == set()


@pytest.mark.parametrize("text", blocks("python"))
async def test_python(text: str, fakeqemu: Any) -> None:
    names: dict[str, Any] = {}
    exec(compile(text, "docs", "exec"), names)
    tests = [each for name, each in names.items() if name.startswith("test_")]
    for test in tests:
        outcome = test(fakeqemu)
        if inspect.isawaitable(outcome):
            await outcome
    cases = [
        each for each in names.values()
        if isinstance(each, type) and issubclass(each, unittest.TestCase)
    ]  # fmt: skip
    assert tests or cases


def test_unittest() -> None:
    (text,) = (str(each.values[0]) for each in blocks("python") if each.id == "unittest")
    names: dict[str, Any] = {"__name__": "snippet"}
    exec(compile(text, "docs", "exec"), names)
    suite = unittest.TestSuite(
        unittest.defaultTestLoader.loadTestsFromTestCase(each)
        for name, each in names.items() if name.endswith("Test")
    )  # fmt: skip
    result = unittest.TestResult()
    suite.run(result)
    assert (result.testsRun, result.failures, result.errors) == (2, [], [])


def shell_lines() -> list[str]:
    return [
        line.strip()
        for page in PAGES
        for line in page.read_text().splitlines()
        if line.startswith("    fakeqemu ")
    ]


@pytest.mark.parametrize("line", shell_lines())
def test_command_lines_have_options_that_there_are(line: str) -> None:
    command, *words = shlex.split(line)[1:]
    assert command in COMMANDS
    own = words[: words.index("--")] if "--" in words else words
    given = {word for word in own if word.startswith("--")}
    assert given <= {*COMMANDS[command].options, *HELP}


async def talk_of(program: Path, verb: str) -> str:
    """What a program says that drives a machine over its control socket."""
    import asyncio

    from fakeqemu.io.loop import Loop

    async with FakeQemu("-machine", "none", profile="10.0", clock="virtual") as vm:
        address = f"unix:{vm.directory / 'control'}"
        server = ControlServer(
            Loop(asyncio.get_running_loop()), control_address(address), {"machine": vm.vm}
        )
        try:
            process = await asyncio.create_subprocess_exec(
                program, str(vm.directory / "control"), stdout=asyncio.subprocess.PIPE
            )
            out, _ = await asyncio.wait_for(process.communicate(), 20)
            assert process.returncode == 0
            assert vm.journal.of(verb) or vm.faults.list()
            return out.decode()
        finally:
            server.close()


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
async def test_c(tmp_path: Path) -> None:
    (tmp_path / "client.c").write_text(block("c"))
    subprocess.run(
        ["cc", "-Wall", "-Werror", "-o", "client", "client.c"],
        cwd=tmp_path, check=True, timeout=60,
    )  # fmt: skip
    assert '"delay"' in await talk_of(tmp_path / "client", "fault")


@pytest.mark.skipif(shutil.which("rustc") is None, reason="no Rust compiler")
async def test_rust(tmp_path: Path) -> None:
    (tmp_path / "client.rs").write_text(block("rust"))
    subprocess.run(["rustc", "client.rs"], cwd=tmp_path, check=True, timeout=120)
    assert (await talk_of(tmp_path / "client", "event")).count('"return"') == 2


@pytest.mark.skipif(shutil.which("go") is None, reason="no Go compiler")
async def test_go(tmp_path: Path) -> None:
    (tmp_path / "client.go").write_text(block("go"))
    subprocess.run(["go", "build", "client.go"], cwd=tmp_path, check=True, timeout=120)
    assert (await talk_of(tmp_path / "client", "runstate")).count('"return"') == 2


def test_the_site_is_built() -> None:
    if importlib.util.find_spec("mkdocs") is None or not importlib.util.find_spec("material"):
        pytest.skip("mkdocs-material is not installed: pip install -e '.[docs]'")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for page in ("index", "catalogue/index", "api/index", "howto/libvirt/index"):
        assert (ROOT / "build" / "site" / f"{page}.html").is_file()
    assert "fakeqemu.testing.machine.fake.FakeQemu.wait_event" in (
        ROOT / "build" / "site" / "api" / "index.html"
    ).read_text()
