"""Designs beside each other: what each does with a command line, row by row.

The rows are those of `explain`: the boot's steps in order, what ends the start, parameters and
capabilities. A design is a profile with its proposals; all get the same options, or each its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any, TextIO

from fakeqemu.explain import explain_boot, shown

if TYPE_CHECKING:
    from fakeqemu.profile import Profile

#: columns that a design has at most
_WIDTH = 46
_ABSENT = "-"
_SAME = "="

Design = tuple["Profile", Sequence[str]]


def designs_of(profiles: Sequence[Profile], words: Sequence[str]) -> list[Design]:
    """Each profile with its options: all have the same, or each its own, with `--` between.

    Raises ValueError for another number of them.
    """
    options: list[list[str]] = [[]]
    for word in words:
        if word == "--":
            options.append([])
        else:
            options[-1].append(word)
    if len(options) == 1:
        options *= len(profiles)
    if len(options) != len(profiles):
        raise ValueError(f"options for {len(options)} designs, but there are {len(profiles)}")
    return list(zip(profiles, options, strict=True))


def explain_beside(designs: Sequence[Design], *, json: bool, as_posted: bool, out: TextIO) -> int:
    """Print how each design boots; 0, or the exit status of the first that fails."""
    account = compare_boots(designs, as_posted=as_posted)
    if json:
        from json import dumps

        out.write(dumps(account, indent=2) + "\n")
    else:
        out.write(render_beside(account))
    return next((each["exit"] for each in account["designs"] if each["exit"]), 0)


def compare_boots(designs: Sequence[Design], *, as_posted: bool = False) -> dict[str, Any]:
    """How the designs boot, as JSON values.

    Members: `designs`, what `explain_boot` says of each, with its `options`; `differences`, the
    rows in which they are not all alike: `section`, `name`, and `values`, one of each design,
    None where it has no such row.
    """
    accounts = [
        {**explain_boot(options, profile, as_posted=as_posted), "options": list(options)}
        for profile, options in designs
    ]
    differences = [
        {"section": section, "name": name, "values": values}
        for section, name, values in _rows(accounts)
        if any(value != values[0] for value in values)
    ]
    return {"designs": accounts, "differences": differences}


def render_beside(account: dict[str, Any]) -> str:
    """The account as text for people: `=` is what the first design has, `-` is nothing."""
    accounts = account["designs"]
    marks = [chr(ord("A") + number) for number in range(len(accounts))]
    lines = [
        f"{mark}: {each['profile']}: {' '.join(each['options'])}"
        for mark, each in zip(marks, accounts, strict=True)
    ]
    section = ""
    rows = _rows(accounts)
    label = max(len(name) for _, name, _ in rows)
    for section_of_row, name, values in rows:
        if section_of_row in ("parameters", "capabilities") and all(
            value == values[0] for value in values
        ):
            continue
        if section_of_row != section:
            section = section_of_row
            lines += ["", _line(section, label + 2, marks)]
        cells = [shown(values[0]) if values[0] is not None else _ABSENT]
        for value in values[1:]:
            same = value == values[0] and value is not None
            cells.append(_SAME if same else _ABSENT if value is None else shown(value))
        lines += _wrapped(f"  {name}", label + 2, cells)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _rows(accounts: Sequence[dict[str, Any]]) -> list[tuple[str, str, list[Any]]]:
    """(section, name, the value of each account) in the order in which they are shown."""
    rows: list[tuple[str, str, list[Any]]] = []
    steps = [{step["step"]: _step(step) for step in each["steps"]} for each in accounts]
    rows += [("boot", name, [each.get(name) for each in steps]) for name in _merged(steps)]
    for name in ("error", "exit", "messages"):
        rows.append(("end of the start", name, [each[name] or None for each in accounts]))
    for section in ("parameters", "capabilities"):
        tables = [{entry["name"]: _entry(entry) for entry in each[section]} for each in accounts]
        rows += [(section, name, [each.get(name) for each in tables]) for name in _merged(tables)]
    return rows


def _step(step: dict[str, Any]) -> str:
    parts = [f"{name}={shown(value)}" for name, value in step["reads"].items()]
    parts += [
        f"(reads {each['name']} early: {shown(each['value'])})" for each in step["early-reads"]
    ]
    parts += [f"(event {name})" for name in step["events"]]
    if step["phase"]:
        parts.append(f"-> {step['phase']}")
    return " ".join(parts) or "walked"


def _entry(entry: dict[str, Any]) -> str:
    layers = entry["layers"].items()
    return " < ".join(f"{layer}: {shown(value)}" for layer, value in layers)


def _merged(tables: Sequence[dict[str, Any]]) -> list[str]:
    """Every name once: in the first table's order, others after what they follow."""
    names: list[str] = []
    for table in tables:
        at = 0
        for name in table:
            if name in names:
                at = names.index(name) + 1
            else:
                names.insert(at, name)
                at += 1
    return names


def _line(first: str, label: int, cells: Sequence[str]) -> str:
    return f"{first:<{label}}  " + "  ".join(f"{cell:<{_WIDTH}}" for cell in cells)


def _wrapped(first: str, label: int, cells: Sequence[str]) -> list[str]:
    columns = [wrap(cell, _WIDTH) or [""] for cell in cells]
    height = max(len(column) for column in columns)
    return [
        _line(first if row == 0 else "", label, [c[row] if row < len(c) else "" for c in columns])
        for row in range(height)
    ]
