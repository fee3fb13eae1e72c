"""What was written into guest memory is there after a migration, and nothing else travels."""

from __future__ import annotations

import pytest

PAGE = 4096


@pytest.fixture
def migrated(make, clock):
    """Migrates a q35; `prepare` gets both machines before."""

    def migrated(version, names=(), prepare=lambda _src, _dst: None):
        dst = make(version, inmigrate=True, machine_type="q35")
        src = make(version, machine_type="q35")
        for vm in (src, dst):
            vm.switch("events", *names)
        prepare(src.machine.guest_memory, dst.machine.guest_memory)
        dst.command("migrate-incoming", uri="unix:/m")
        src.machine.lifecycle.cont()
        src.command("migrate", uri="unix:/m")
        clock.run_until_idle()
        assert (src.status, dst.status) == ("completed", "completed")
        return dst.machine.guest_memory

    return migrated


@pytest.mark.parametrize("version", ["7.2", "10.0", "11.1"])
@pytest.mark.parametrize("names", [(), ("multifd",), ("xbzrle",), ("return-path",)])
def test_written_pages_arrive(migrated, version, names):
    def prepare(src, _dst):
        src.store("pc.ram", 7 * PAGE - 3, b"two pages")
        src.store("pc.bios", 0, b"a ROM is a block too")

    memory = migrated(version, names, prepare)
    assert memory.load("pc.ram", 7 * PAGE - 3, 9) == b"two pages"
    assert memory.load("pc.bios", 0, 20) == b"a ROM is a block too"
    assert sorted(memory.pages("pc.ram")) == [6, 7]


def test_pages_replace_what_the_destination_had(migrated):
    def prepare(src, dst):
        src.store("pc.ram", 0, b"new")
        dst.store("pc.ram", 0, b"old and longer")

    assert migrated("11.1", (), prepare).load("pc.ram", 0, 14) == b"new" + bytes(11)
