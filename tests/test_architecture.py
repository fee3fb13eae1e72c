"""The house has floors: imports point down only, and only the top rooms know the outside."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "fakeqemu"

#: room -> floor; a room may import its own floor only where named in BESIDE
FLOORS = {
    "qapi": 1,
    "clock": 1,
    "journal": 1,
    "guard": 2,
    "traits": 1,
    "profile": 2,
    "model": 3,
    "migration": 4,
    "boot": 5,
    "commands": 6,
    "qmp": 7,
    "io": 8,
    "explain": 9,
    "testing": 9,
    "cli": 10,
    "__main__": 11,
    "__init__": 0,
}
#: rooms of one floor that may know each other
BESIDE = {("journal", "clock")}
#: what only the top rooms may import
OUTSIDE = {"asyncio", "socket", "subprocess", "signal", "selectors", "threading", "time"}
TOP = {"io", "testing", "cli"}

MODULES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[tuple[str, int]]:
    """Absolute names imported at run time by the module, with their lines."""
    found: list[tuple[str, int]] = []

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                continue
            if isinstance(child, ast.Import):
                found.extend((alias.name, child.lineno) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}:{child.lineno}: relative import"
                assert child.module
                found.append((child.module, child.lineno))
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    room = room_of(path)
    for name, line in imports(path):
        parts = name.split(".")
        if parts[0] in OUTSIDE and room not in TOP:
            pytest.fail(f"{path.name}:{line}: room {room} must not import {name}")
        if parts[0] == "qemu" and room not in ("testing", "cli"):
            pytest.fail(f"{path.name}:{line}: qemu.qmp is for the client side only")
        if parts[0] != "fakeqemu" or len(parts) < 2:
            continue
        other = parts[1]
        if other == room or (room, other) in BESIDE:
            continue
        assert FLOORS[other] < FLOORS[room], f"{path.name}:{line}: {room} imports {other} above it"


def test_every_room_has_a_floor() -> None:
    assert {room_of(path) for path in MODULES} <= set(FLOORS)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 450, "ask whether it holds two things"
