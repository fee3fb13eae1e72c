"""What a start imports: no more than it uses. Time is measured by scripts/benchmark, not here."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.support.scripts import load_script

benchmark = load_script("benchmark")

#: what no start needs: packages and modules below `fakeqemu`, and modules of others that are slow
#: to import; `asyncio` brings some of its own
NEVER = {
    "boot.cmdline.help", "boot.cmdline.readconfig", "boot.gdbserver", "boot.qtest",
    "commands.block", "commands.char", "commands.control", "commands.hmp", "commands.index",
    "commands.machine", "commands.migration", "commands.ui", "explain", "formats.image",
    "formats.migration_stream", "formats.nbd", "formats.qcow2", "formats.rfb", "gdbstub",
    "io.migration", "io.net.sockets", "io.servers", "migration.channels", "migration.incoming",
    "migration.outgoing", "migration.phases", "migration.transfer", "model.block.jobs",
    "model.block.operations", "model.block.qemu_io", "model.dump.dump", "model.guest",
    "model.hw.chips", "model.hw.ioport", "model.net.backends", "model.net.slirp", "model.trace",
    "model.ui.vnc", "profile.overlay", "proposals", "qmp.checks", "qmp.hmp", "qmp.hooks",
    "qmp.qtest", "testing",
}  # fmt: skip
OTHERS = {
    "_ssl", "argparse", "ctypes", "dataclasses", "datetime", "difflib", "gzip", "hashlib",
    "importlib.util", "ipaddress", "pathlib", "pkgutil", "platform", "pprint", "qemu", "random",
    "resource", "runpy", "site", "ssl", "tempfile", "unittest", "urllib", "uuid", "zipfile",
}  # fmt: skip
#: of fakeqemu's own modules; may only shrink
MOST_OF_NONE = 192
MOST_OF_Q35 = 233
MOST_OF_TESTING = 223
#: in versions whose monitors are objects, these are made
OF_MONITOR_OBJECTS = 4


def below(modules: Iterable[str], packages: Iterable[str]) -> set[str]:
    """Those of the modules that are one of the packages, or in one."""
    return {
        module
        for module in modules
        for package in packages
        if module == package or module.startswith(f"{package}.")
    }


def own(modules: Iterable[str]) -> list[str]:
    return [module for module in modules if benchmark.is_ours(module)]


def never(*but: str) -> set[str]:
    return {f"fakeqemu.{name}" for name in NEVER.difference(but)} | OTHERS


@pytest.mark.parametrize(("profile", "more"), [("7.2", 0), ("11.1", OF_MONITOR_OBJECTS)])
def test_a_machine_without_a_board(profile: str, more: int) -> None:
    modules = benchmark.modules_of_start(benchmark.NONE, profile)
    assert "fakeqemu.qmp.monitor" in modules
    of_boards = {"fakeqemu.model.block.graph", "fakeqemu.model.block.drivers"}
    assert below(modules, never() | of_boards) == set()
    assert len(own(modules)) <= MOST_OF_NONE + more


@pytest.mark.parametrize("profile", ["7.2", "11.1"])
def test_a_client_is_greeted_before_asyncio_is_imported(profile: str) -> None:
    modules = benchmark.modules_of_start(benchmark.NONE, profile, at="qmp.session.QmpSession.start")
    assert "fakeqemu.qmp.monitor" in modules
    assert below(modules, {"asyncio", "concurrent", "inspect", "logging", "subprocess"}) == set()


def test_a_q35_as_libvirt_starts_it(tmp_path: Path) -> None:
    modules = benchmark.modules_of_start(benchmark.libvirt_q35(str(tmp_path)), "7.2")
    assert "fakeqemu.model.block.drivers.driver" in modules
    assert below(modules, never("model.block.jobs")) == set()
    assert len(own(modules)) <= MOST_OF_Q35


def test_testing() -> None:
    assert own(benchmark.modules_of("import fakeqemu.testing")) == ["fakeqemu", "fakeqemu.testing"]
    modules = benchmark.modules_of("import fakeqemu.testing; fakeqemu.testing.FakeQemu")
    assert "fakeqemu.boot.sequence" in modules
    faulty = {"qmp.checks", "qmp.hooks", "model.guest"}
    for_testers = {"_ssl", "ipaddress", "pathlib", "random", "ssl", "urllib", "urllib.parse"}
    assert below(modules, never("testing", *faulty) - for_testers) == set()
    assert len(own(modules)) <= MOST_OF_TESTING


def test_help_needs_no_machine() -> None:
    code = "sys.stdout = sys.stderr; from fakeqemu.cli import main; main(['--help'])"
    modules = benchmark.modules_of(f"{code}; sys.stdout = sys.__stdout__")
    assert set(own(modules)) == {
        *("fakeqemu", "fakeqemu.clock", "fakeqemu.dataclass", "fakeqemu.journal"),
        *("fakeqemu.cli", "fakeqemu.cli.help", "fakeqemu.cli.options", "fakeqemu.cli.table"),
    }
