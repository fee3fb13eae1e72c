"""What was written into guest memory is there after a migration, and nothing else travels."""

from __future__ import annotations

import pytest

from fakeqemu.formats.migration_stream.channels import return_path as returnpath
from fakeqemu.profile import Profile
from fakeqemu.testing import FakeQemu

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


@pytest.mark.parametrize("version", ["10.0", "11.1"])
@pytest.mark.parametrize("capability", ["mapped-ram", "background-snapshot"])
async def test_pages_in_a_file(version, capability, tmp_path):
    options = ("-machine", "q35", "-nodefaults", "-m", "64")
    uri = f"file:{tmp_path / 'state'}"

    async def switch(vm, name):
        wanted = [{"capability": name, "state": True}]
        await vm.qmp("migrate-set-capabilities", {"capabilities": wanted})

    async with FakeQemu(*options, profile=version) as src:
        await switch(src, capability)
        src.guest.write_memory(address=0x5008, data=b"below")
        src.guest.write_memory(address=0x3FFF000, data=b"the last page")
        await src.qmp("migrate", {"uri": uri})
        await src.wait_for("migration", "completed")
    async with FakeQemu(*options, "-incoming", "defer", profile=version) as dst:
        if capability == "mapped-ram":
            await switch(dst, capability)
        await dst.qmp("migrate-incoming", {"uri": uri})
        await dst.wait_for("migration", "completed")
        for address, size, text in ((0x5008, 5, "below"), (0x3FFF000, 13, "the last page")):
            read = {"val": address, "size": size, "filename": str(tmp_path / "memory")}
            await dst.qmp("pmemsave", read)
            assert (tmp_path / "memory").read_text() == text


@pytest.mark.parametrize("version", ["7.2", "10.0", "11.1"])
def test_postcopy_sends_pages_that_nobody_asks_for(version, make, clock):
    dst = make(version, inmigrate=True, machine_type="q35")
    src = make(version, machine_type="q35")
    for vm in (src, dst):
        vm.switch("postcopy-ram")
    src.set(max_bandwidth=1 << 20)
    src.machine.guest_memory.store("pc.ram", 5 * PAGE, b"from the source")
    dst.command("migrate-incoming", uri="unix:/m")
    src.machine.lifecycle.cont()
    src.command("migrate", uri="unix:/m")
    while src.status != "active":
        clock.advance(1_000_000)
    src.command("migrate-start-postcopy")
    while not dst.machine.runstate.running:
        clock.advance(1_000_000)
    clock.advance(1_000_000)
    assert src.status == "postcopy-active"
    memory = dst.machine.guest_memory
    assert memory.load("pc.ram", 5 * PAGE, 15) == b"from the source"
    # the guest runs there now: what it writes is not replaced by a page that comes again
    memory.store("pc.ram", 5 * PAGE, b"FROM")
    outgoing = src.migration.outgoing
    outgoing.save_vm._given.clear()
    for piece in outgoing.save_vm.rest():
        outgoing.channel.write(piece.data)
    clock.run_until_idle()
    assert src.status == dst.status == "completed"
    assert memory.load("pc.ram", 5 * PAGE, 15) == b"FROM the source"


def test_received_pages_are_told():
    data = returnpath.received_bitmap("pc.ram", 1 << 30, (3, 64, 200_000))
    (answer,) = returnpath.ReturnPathReader(Profile.load("11.1").traits).feed(data)
    assert (answer.received, list(answer.numbers())) == (3, [3, 64, 200_000])
