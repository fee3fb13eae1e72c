"""The layers of the package: imports point down, circles stay small, folders and modules too.

Imports that only type checkers see count as well: a reader follows them like any other.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "fakeqemu"

#: package -> layer; a package may import its own layer only where named in BESIDE
LAYERS = {
    "__init__": 0,
    "clock": 1,
    "journal": 1,
    "guard": 3,
    "traits": 1,
    "qapi": 2,
    "formats": 3,
    "profile": 3,
    "configuration": 3,
    "model": 4,
    "migration": 5,
    "boot": 6,
    "commands": 7,
    "gdbstub": 8,
    "qmp": 8,
    "io": 9,
    "explain": 10,
    "testing": 10,
    "cli": 11,
    "__main__": 12,
}
#: packages of one layer that may know each other
BESIDE = {("journal", "clock")}
#: what only the top layers may import
OUTSIDE = {"asyncio", "socket", "subprocess", "signal", "selectors", "threading", "time"}
TOP = {"io", "testing", "cli"}

#: files that know each other round about, mostly through the type of the machine that they are
#: part of; the number may only shrink
LARGEST_CIRCLE = 115
#: type-only imports that point up, each of which stands for a part that is not yet given what it
#: uses; the set may only shrink
UPWARD = {
    ("model.machine", "migration"),
}
LARGEST_FOLDER = 13
LONGEST_MODULE = 450

MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(
        ".__init__"
    ): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def package_of(name: str) -> str:
    """The package of the layers table that a module belongs to."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Absolute names that a module imports, wherever and whyever, with their lines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            assert node.module
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner if inner in MODULES else node.module), node.lineno


def circles() -> list[list[str]]:
    """Groups of modules that import each other, directly or round about (Tarjan's components)."""
    arrows = {
        name: {other for other, _ in imports(path) if other in MODULES and other != name}
        for name, path in MODULES.items()
    }
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(arrows[name]):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            circle = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(circle) > 1:
                found.append(sorted(circle))

    for name in MODULES:
        if name not in index:
            visit(name)
    return found


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down(name: str) -> None:
    package, path = package_of(name), MODULES[name]
    for imported, line in imports(path):
        top = imported.split(".")[0]
        if top in OUTSIDE and package not in TOP:
            pytest.fail(f"{path.name}:{line}: package {package} must not import {imported}")
        if top == "qemu" and package not in ("testing", "cli"):
            pytest.fail(f"{path.name}:{line}: qemu.qmp is for the client side only")
        if top != "fakeqemu":
            continue
        other = package_of(imported)
        if other == package or (package, other) in BESIDE:
            continue
        if (name.removeprefix("fakeqemu."), other) in UPWARD:
            continue
        assert LAYERS[other] < LAYERS[package], (
            f"{path.name}:{line}: {package} imports {other}, which is not below it"
        )


def test_every_package_has_a_layer() -> None:
    assert {package_of(name) for name in MODULES} <= set(LAYERS)


def test_circles_do_not_grow() -> None:
    largest = max(circles(), key=len)
    assert len(largest) <= LARGEST_CIRCLE, f"import each other: {', '.join(largest)}"


def test_folders_stay_small() -> None:
    sizes = Counter(
        path.parent.relative_to(PACKAGE)
        for path in MODULES.values()
        if path.name != "__init__.py"
    )
    assert max(sizes.values()) <= LARGEST_FOLDER, sizes.most_common(5)


@pytest.mark.parametrize("name", MODULES)
def test_modules_stay_small(name: str) -> None:
    length = len(MODULES[name].read_text().splitlines())
    assert length <= LONGEST_MODULE, "ask whether it holds two things"
