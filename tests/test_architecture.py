"""The layers of the package: imports point down, circles stay small, folders and modules too.

Imports that only type checkers see count as well: a reader follows them like any other. Below:
each module names what of QEMU it follows.
"""

from __future__ import annotations

import ast
import functools
import re
from collections import Counter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "fakeqemu"

#: package -> layer; a package may import its own layer only where named in BESIDE
LAYERS = {
    "__init__": 0,
    "dataclass": 0,
    "clock": 1,
    "journal": 1,
    "spare_fd": 1,
    "poll": 1,
    "guard": 3,
    "traits": 1,
    "proposals": 2,
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
    "explain_beside": 10,
    "check": 10,
    "testing": 10,
    "recorder": 10,
    "journal_kinds": 1,
    "cli": 11,
    "__main__": 12,
}
#: packages of one layer that may know each other
BESIDE = {("journal", "clock"), ("explain_beside", "explain"), ("check", "explain")}
#: what only the top layers may import
OUTSIDE = {"asyncio", "socket", "subprocess", "signal", "selectors", "threading", "time"}
TOP = {"io", "testing", "recorder", "cli"}

#: files that may know each other round about, whatever the imports are for; the number may only
#: shrink
LARGEST_CIRCLE = 5
LARGEST_FOLDER = 12
LONGEST_MODULE = 400
#: longer ones, with what they may have; may only shrink
STILL_LONGER = {
    "fakeqemu.migration.outgoing.outgoing": 450,
    "fakeqemu.testing.machine.fake": 435,
}

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


@functools.cache
def imports(path: Path) -> list[tuple[str, int]]:
    """Absolute names that a module imports, wherever and whyever, with their lines."""
    found: list[tuple[str, int]] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            assert node.module
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.append((inner if inner in MODULES else node.module, node.lineno))
    return found


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
        assert LAYERS[other] < LAYERS[package], (
            f"{path.name}:{line}: {package} imports {other}, which is not below it"
        )


def test_data_classes_are_ours() -> None:
    """Those of the standard library cost every start (see fakeqemu/dataclass.py)."""
    taken = {
        name
        for name, path in MODULES.items()
        # few name it: parsing all of them takes seconds
        if "dataclasses" in path.read_text()
        and ("dataclasses", "dataclass") in names_imported(path)
    }
    assert taken == set()


def names_imported(path: Path) -> set[tuple[str, str]]:
    """Pairs of module and name that a module imports with `from`."""
    return {
        (node.module, alias.name)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }


def test_every_package_has_a_layer() -> None:
    assert {package_of(name) for name in MODULES} <= set(LAYERS)


def test_circles_stay_small() -> None:
    largest = max(circles(), key=len)
    assert len(largest) <= LARGEST_CIRCLE, f"know each other round about: {', '.join(largest)}"


def test_parts_of_the_machine_do_not_take_the_machine() -> None:
    """What `model.machine` reaches is given what it uses, and does not know its maker."""
    machine = "fakeqemu.model.machine"
    reached: set[str] = set()
    waiting = [machine]
    while waiting:
        name = waiting.pop()
        below = {other for other, _ in imports(MODULES[name]) if other in MODULES}
        assert name == machine or machine not in below, f"{name} imports the machine it is part of"
        waiting += below - reached
        reached |= below
    assert len(reached) > 100


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
    most = STILL_LONGER.get(name, LONGEST_MODULE)
    assert length <= most, "ask whether it holds two things"
    assert name not in STILL_LONGER or length > LONGEST_MODULE, "it is no longer any more"


# A rule's source is named in one form, so that it can be searched and checked:
# `See block/qcow2.c: qcow2_do_open().`, or `See record NAME.` where only a record proves it.

#: where modules follow QEMU; the rest of the package is for testers and for us
FOLLOWING = (
    "boot",
    "commands",
    "configuration.py",
    "formats",
    "gdbstub",
    "io",
    "migration",
    "model",
    "qapi",
    "qmp",
)

#: modules with nothing of QEMU's in them: interfaces of ours, helpers, ways to drive the model
FOLLOW_NOTHING = {
    "boot/requests.py",
    "boot/state.py",
    "commands/index.py",
    "commands/lazy_registry.py",
    "formats/intervals.py",
    "formats/migration_stream/channels/feed_reader.py",
    "formats/migration_stream/events.py",
    "io/chardev/link_transport.py",
    "io/host.py",
    "io/host_facts.py",
    "io/link.py",
    "io/loop.py",
    "io/process/boot_driver.py",
    "io/process/exit_status.py",
    "io/process/late_imports.py",
    "io/process/launcher.py",
    "migration/parameters/early.py",  # of a version to come
    "migration/transfer/data.py",
    "model/guarded_stream.py",
    "model/host.py",
    "model/net/sockets/host_sockets.py",
    "model/null_host.py",
    "qapi/plainschema.py",
    "qapi/reads.py",
    "qapi/schema_facts.py",
    "qapi/validate.py",
    "qmp/checks.py",
    "qmp/hooks.py",
}

#: QEMU's directories and the files beside them
_DIRECTORIES = (
    "accel|audio|authz|backends|block|chardev|crypto|disas|docs|dump|fsdev|gdbstub|hw|include|io|migration"
    "|monitor|nbd|net|python|qapi|qga|qobject|qom|replay|scripts|scsi|softmmu|stats|system|target|tcg"
    "|tpm|trace|ui|util"
)
_TOP_FILES = {
    "block.c",
    "blockdev.c",
    "blockdev-nbd.c",
    "blockjob.c",
    "cpu-target.c",
    "hmp-commands.hx",
    "hmp-commands-info.hx",
    "iothread.c",
    "job.c",
    "job-qmp.c",
    "os-posix.c",
    "qemu-io-cmds.c",
    "qemu-options.hx",
}

_FILE = re.compile(r"(?<![\w./*-])[\w./+-]+\.(?:c|h|hx)\b")
_SOURCE = re.compile(
    rf"\b(?:{_DIRECTORIES})/[\w./+-]+\.(?:c|h|hx|json|py|rst|txt)\b"
    rf"|{'|'.join(map(re.escape, _TOP_FILES))}"
    r"|\brecord [\w-]+"
)
#: headers of the system, and files of libslirp
_OUTSIDE_QEMU = re.compile(r"(?:linux|src)/[\w.]+")

SOURCED = [
    name
    for path in MODULES.values()
    if (name := path.relative_to(PACKAGE).as_posix()).split("/")[0] in FOLLOWING
    and path.name != "__init__.py"
]


def docstring(name: str) -> str:
    return ast.get_docstring(ast.parse((PACKAGE / name).read_text())) or ""


@pytest.mark.parametrize("name", SOURCED)
def test_a_module_names_its_source(name: str) -> None:
    if name not in FOLLOW_NOTHING:
        assert _SOURCE.search(docstring(name)), "which file and function of QEMU does it follow?"


def test_modules_that_follow_nothing_exist_and_name_no_source() -> None:
    assert set(SOURCED) >= FOLLOW_NOTHING
    assert not [name for name in sorted(FOLLOW_NOTHING) if _SOURCE.search(docstring(name))]


@pytest.mark.parametrize("name", SOURCED)
def test_files_are_named_as_in_qemus_tree(name: str) -> None:
    for line in (PACKAGE / name).read_text().splitlines():
        for file in _FILE.findall(line):
            assert (
                file in _TOP_FILES
                or re.match(rf"(?:\.\./)?(?:{_DIRECTORIES})/", file)
                or _OUTSIDE_QEMU.fullmatch(file)
            ), f"{file}: name it from the top of QEMU's tree"


def test_files_of_the_walks_exist() -> None:
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text()
    walks = text[text.index("## Walks") : text.index("## Fidelity")]
    named = set(re.findall(r"`((?:\w+/)+\w+\.py)`", walks))
    assert len(named) > 40
    assert not [name for name in sorted(named) if not (PACKAGE / name).is_file()]


def test_one_class_name_means_one_thing() -> None:
    """Whoever searches by name finds one class; what nests in a function is not meant."""
    found: dict[str, list[str]] = {}
    for path in MODULES.values():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(path.relative_to(PACKAGE).as_posix())
    assert len(found) > 500
    assert {name: files for name, files in found.items() if len(files) > 1} == {}
